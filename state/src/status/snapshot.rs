//! What the owner of a database tells about it: plain data, the same whether it is asked over its socket or read
//! from its database. `state dump --json` prints these, so they are an interface: see docs/STATE.md.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::ids::{BatchId, Instance};
use shared::layout::Compression;
use shared::seal::Counts;

use crate::loads::{LedgerMark, Load, Paused, Sums};
use crate::log::{BatchStatus, GapTotals, Session, Upload};

/// Version of the JSON; it grows when a field changes its meaning or goes.
pub const SNAPSHOT_FORMAT: u32 = 2;

/// The producer's log at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProducerSnapshot {
    /// Whose log it is.
    pub instance: Instance,
    /// Sums since the log was created.
    pub totals: Counts,
    /// Rows that are durable here and not yet in S3.
    pub rows_to_upload: u64,
    /// Bytes the log takes on disk.
    pub disk_bytes: u64,
    /// Hit ids remembered.
    pub hits_remembered: u64,
    /// What else deduplication knows.
    #[serde(default)]
    pub dedup: DedupSnapshot,
    /// Rejects waiting for their way to S3.
    pub rejects_waiting: u64,
    /// Batches that are filling, sealed, or were published lately; oldest first.
    pub batches: Vec<BatchSnapshot>,
    /// Connections the stream is read with.
    #[serde(default)]
    pub connections: u64,
    /// The latest sessions of all connections; oldest first.
    pub sessions: Vec<Session>,
    /// Times in which the stream was not read.
    #[serde(default)]
    pub gaps: GapsSnapshot,
}

/// What deduplication knows besides the ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupSnapshot {
    /// Highest `receivedTimeGMT` ever seen.
    pub last_received: Option<DateTime<Utc>>,
    /// What the slowest connection has received.
    pub front: Option<DateTime<Utc>>,
    /// Every hit later than this that was accepted is known by its id; None while nothing was forgotten.
    pub horizon: Option<DateTime<Utc>>,
    /// Whether `log.dedup_hits` holds less of the stream than `log.dedup_window`.
    pub too_short: bool,
}

/// Gaps of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapsSnapshot {
    /// Sums since the log was created.
    #[serde(flatten)]
    pub totals: GapTotals,
    /// Those before one of the sessions that are kept; oldest session first.
    pub list: Vec<GapSnapshot>,
}

/// A gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapSnapshot {
    /// The session after it.
    pub session: u64,
    /// Its connection.
    pub connection: u8,
    /// The last `receivedTimeGMT` before it.
    pub from: DateTime<Utc>,
    /// The first after it.
    pub to: DateTime<Utc>,
    /// Its length.
    pub seconds: u64,
    /// Why the session before it ended.
    pub why: Option<String>,
}

impl GapSnapshot {
    /// The gap before a session, if there is one.
    #[must_use]
    pub fn before(session: &Session) -> Option<Self> {
        let gap = session.gap.as_ref()?;
        Some(Self {
            session: session.session,
            connection: session.connection,
            from: gap.from,
            to: gap.to,
            seconds: gap.seconds(),
            why: gap.why.clone(),
        })
    }
}

/// A batch in the producer's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchSnapshot {
    /// The batch.
    pub batch: BatchId,
    /// Where it stands.
    pub status: BatchStatus,
    /// Files so far.
    pub files: u32,
    /// Files that stand in S3.
    pub files_uploaded: u32,
    /// Rows so far.
    pub rows: u64,
    /// Bytes of its rows, uncompressed.
    pub bytes: u64,
    /// When it was opened.
    pub opened: DateTime<Utc>,
    /// When it was sealed.
    pub sealed: Option<DateTime<Utc>>,
    /// When its seal stood in S3.
    pub published: Option<DateTime<Utc>>,
}

/// The batches whose id begins as asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matching<T> {
    /// Which they are.
    pub ids: Vec<BatchId>,
    /// What is known of it, if it is one.
    pub batch: Option<T>,
}

/// All that the producer's log has of one batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchDetail {
    /// What every snapshot shows of it.
    #[serde(flatten)]
    pub summary: BatchSnapshot,
    /// The producer that makes it.
    pub instance: Instance,
    /// Fingerprint of the columns its rows were made for.
    pub schema: String,
    /// How its files are compressed.
    pub compression: Compression,
    /// Bucket and prefix its files go to.
    pub place: String,
    /// Lowest `receivedTimeGMT` of its hits.
    pub first_received: Option<DateTime<Utc>>,
    /// Highest `receivedTimeGMT` of its hits.
    pub last_received: Option<DateTime<Utc>>,
    /// What became of the records received since the batch before; None until it is sealed.
    pub counts: Option<Counts>,
    /// Its files in order; None once it is published: then batch.json in S3 tells of them.
    pub file_list: Option<Vec<FileDetail>>,
}

/// A file of a batch that is not published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileDetail {
    /// Its number within the batch, from 0.
    pub no: u32,
    /// `open`, `closed` or `uploaded`.
    pub status: String,
    /// Rows so far.
    pub rows: u64,
    /// Bytes of its rows, uncompressed.
    pub bytes: u64,
    /// When it was opened.
    pub opened: DateTime<Utc>,
    /// What S3 confirmed of it.
    pub uploaded: Option<Upload>,
}

/// The ingester's bookkeeping at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IngesterSnapshot {
    /// Every load it remembers, oldest batch first.
    pub loads: Vec<Load>,
    /// That it does not load now, and why; None while it does.
    #[serde(default)]
    pub paused: Option<Paused>,
    /// What it loaded the staged way, summed up since its bookkeeping was made.
    #[serde(default)]
    pub sums: Sums,
    /// What the mark of the ledger said last; None if it was never seen.
    #[serde(default)]
    pub ledger: Option<LedgerMark>,
}
