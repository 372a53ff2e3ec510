//! The producer's log at one moment.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::ids::Instance;
use shared::seal::Counts;

use super::batch::BatchSnapshot;
use crate::log::{BatchStatus, Dedup, Figures, Gap, GapTotals, LogError, LogReader, Session};

/// Sessions a snapshot shows.
const SESSIONS_SHOWN: usize = 20;

/// The producer's log at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ProducerSnapshot {
    pub instance: Instance,
    /// Sums since the log was created.
    pub totals: Counts,
    /// Rows that are durable here and not yet in S3.
    pub rows_to_upload: u64,
    pub disk_bytes: u64,
    pub hits_remembered: u64,
    #[serde(default)]
    pub dedup: Dedup,
    /// Rejects that are not yet in S3.
    pub rejects_waiting: u64,
    /// Batches that are filling, sealed, or were published lately; oldest first.
    pub batches: Vec<BatchSnapshot>,
    #[serde(default)]
    pub connections: u64,
    /// The latest sessions of all connections; oldest first.
    pub sessions: Vec<Session>,
    /// Times in which the stream was not read.
    #[serde(default)]
    pub gaps: GapsSnapshot,
}

/// Gaps of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapsSnapshot {
    /// Sums since the log was created.
    #[serde(flatten)]
    pub totals: GapTotals,
    /// Those before a session that is kept; oldest session first.
    pub list: Vec<GapSnapshot>,
}

/// Time in which the stream was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct GapSnapshot {
    pub session: u64,
    pub connection: u8,
    /// The last `receivedTimeGMT` before it.
    pub from: DateTime<Utc>,
    /// The first after it.
    pub to: DateTime<Utc>,
    pub seconds: u64,
    pub why: Option<String>,
}

impl GapSnapshot {
    /// The gap before a session, if there is one.
    fn before(session: &Session) -> Option<Self> {
        let gap = session.gap.clone()?;
        let (seconds, Gap { from, to, why }) = (gap.seconds(), gap);
        Some(Self { session: session.session, connection: session.connection, from, to, seconds, why })
    }
}

impl LogReader {
    /// The log at this moment, for people and programs.
    pub fn snapshot(&self) -> Result<ProducerSnapshot, LogError> {
        let Figures { instance, totals, disk_bytes, hits, dedup, rejects, connections, gaps } =
            self.figures()?;
        let known = self.batches_with_uploads()?;
        let waiting = known.iter().filter(|(record, _)| record.status != BatchStatus::Published);
        let rows_to_upload = waiting.map(|(record, done)| record.rows.saturating_sub(done.rows)).sum();
        let sessions = self.sessions(SESSIONS_SHOWN)?;
        let list = sessions.iter().filter_map(GapSnapshot::before).collect();
        Ok(ProducerSnapshot {
            instance,
            totals,
            rows_to_upload,
            disk_bytes,
            hits_remembered: hits,
            dedup,
            rejects_waiting: rejects,
            batches: known.iter().map(|(record, done)| BatchSnapshot::new(record, done.files)).collect(),
            connections,
            gaps: GapsSnapshot { totals: gaps, list },
            sessions,
        })
    }
}
