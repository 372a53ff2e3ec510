//! What the thread is told: records and sessions of the stream, and what S3 has confirmed.

use chrono::{DateTime, Utc};
use state::log::{Chosen, HitId, Upload};
use tokio::sync::oneshot;

/// What a connection sends, in the order it happened there. First the connection's number, from 0.
#[derive(Debug)]
pub enum FromStream {
    /// The connection of this number is about to be read.
    Started(u8),
    /// Records of it, decoded.
    Block(u8, Block),
    /// It is no longer read, and why.
    Ended(u8, String),
    /// Nothing more will come: what is open is closed and sealed.
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
    /// Its hit is in the log already: nothing else of it was looked at.
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
        /// Its `receivedTimeGMT`: the stream was read so far.
        received: Option<DateTime<Utc>>,
    },
    /// It cannot become a row.
    Rejected {
        /// As received.
        record: Vec<u8>,
        /// Why.
        reason: String,
    },
}

/// What the shipping side reports, each answered when it is noted.
#[derive(Debug)]
pub enum Shipped {
    /// S3 confirmed a file.
    File(u64, Upload, oneshot::Sender<()>),
    /// S3 confirmed a seal.
    Batch(u64, oneshot::Sender<()>),
    /// These rejects go up next.
    ToReject(Chosen, oneshot::Sender<()>),
    /// S3 confirmed these rejects.
    Rejects(Chosen, oneshot::Sender<()>),
}
