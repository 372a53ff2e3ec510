//! What became of one record while it was decoded.

use chrono::{DateTime, Utc};
use state::log::{HitId, KeptRecord};

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
        /// What is kept of it.
        record: KeptRecord,
        /// The kind of its reason, as metrics count it.
        code: &'static str,
        /// Why.
        reason: String,
    },
}
