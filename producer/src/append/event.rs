//! What the thread receives: records and sessions of the stream, and reports of what S3 has confirmed.

use chrono::{DateTime, Utc};
use state::log::{Chosen, HitId, Upload};
use tokio::sync::oneshot;

/// What a connection sends, in the order of the stream. First the connection's number, from 0.
#[derive(Debug)]
pub enum ConnectionEvent {
    /// The connection of this number is about to be read.
    Started(u8),
    /// Records of it, decoded.
    Block(u8, Block),
    /// It is no longer read, and why.
    Ended(u8, String),
    /// Nothing more comes: the open file is closed and the batch sealed.
    Complete,
}

/// Decoded records, in the order they came.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The CSV lines of all rows.
    pub rows: Vec<u8>,
    /// What each record became.
    pub records: Vec<Decoded>,
}

/// What a record became.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A row: the bytes of `Block::rows` from where the last one ended.
    Row {
        /// Where it ends.
        end: usize,
        /// Its identity.
        hit: Option<HitId>,
        /// Its `receivedTimeGMT`.
        received: Option<DateTime<Utc>>,
    },
    /// Its hit is in the log: the rest of the record was not read.
    Known {
        /// Its identity.
        hit: HitId,
        /// Its `receivedTimeGMT`.
        received: Option<DateTime<Utc>>,
    },
    /// A filter dropped it.
    Filtered {
        /// The filter's position in the list.
        rule: usize,
        /// Its `receivedTimeGMT`: the stream is read so far.
        received: Option<DateTime<Utc>>,
    },
    /// It cannot become a row.
    Rejected {
        /// As received.
        record: Vec<u8>,
        /// The kind of its reason, as metrics count it.
        code: &'static str,
        /// Why.
        reason: String,
    },
}

/// What the uploader reports. Each report is answered when the log has noted it.
#[derive(Debug)]
pub enum UploadReport {
    /// S3 confirmed a file.
    FileUploaded(u64, Upload, oneshot::Sender<()>),
    /// S3 confirmed a seal.
    BatchPublished(u64, oneshot::Sender<()>),
    /// These rejects are uploaded next.
    RejectsChosen(Chosen, oneshot::Sender<()>),
    /// S3 confirmed these rejects.
    RejectsUploaded(Chosen, oneshot::Sender<()>),
}
