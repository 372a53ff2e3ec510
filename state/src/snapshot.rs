//! What the owner of a database tells about it: plain data, the same whether it is asked over its socket or read
//! from its database. `state dump --json` prints these, so they are an interface: see docs/STATE.md.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::ids::{BatchId, Instance};
use shared::seal::Counts;

use crate::loads::Load;
use crate::log::{BatchStatus, Session};

/// Version of the JSON; it grows when a field changes its meaning or goes.
pub const SNAPSHOT_FORMAT: u32 = 1;

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
    /// Rejects waiting for their way to S3.
    pub rejects_waiting: u64,
    /// Batches that are filling, sealed, or were published lately; oldest first.
    pub batches: Vec<BatchSnapshot>,
    /// The latest connections to the stream; oldest first.
    pub sessions: Vec<Session>,
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

/// The ingester's bookkeeping at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IngesterSnapshot {
    /// Every load it remembers, oldest batch first.
    pub loads: Vec<Load>,
}
