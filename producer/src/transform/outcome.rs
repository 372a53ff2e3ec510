//! What becomes of a record, and why one cannot become a row.

use shared::schema::MAX_ROW_BYTES;
use state::log::HitId;

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// One line was appended to the row buffer.
    Row {
        /// Its identity, if the record states one.
        hit: Option<HitId>,
        /// `receivedTimeGMT`: when Adobe received the hit, in seconds since 1970.
        received: Option<i64>,
    },
    /// A filter says that it is not wanted.
    Filtered {
        /// The filter's position in the list.
        rule: usize,
        /// As of a row.
        received: Option<i64>,
    },
    /// It cannot become a row.
    Rejected(Reject),
}

/// Why a record cannot become a row. Holds nothing of the record's contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// It is not UTF-8.
    #[error("not UTF-8 from byte {at}")]
    NotUtf8 {
        /// The first byte that is wrong.
        at: usize,
    },
    /// It is not JSON, or goes on after its end.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// It is JSON, but no object.
    #[error("not a JSON object")]
    NotObject,
    /// A value does not fit its column, whose rule is to reject the record.
    #[error("column {column} cannot hold the value as it was sent, and its rule is `reject`")]
    Misfit {
        /// The column.
        column: String,
    },
    /// Its row is longer than COPY accepts.
    #[error("its row has {bytes} bytes, COPY accepts {MAX_ROW_BYTES}")]
    RowTooLong {
        /// The row's bytes.
        bytes: usize,
    },
}

impl Reject {
    /// Every name there is.
    pub const NAMES: [&'static str; 5] = ["not_utf8", "not_json", "not_object", "misfit", "row_too_long"];

    /// Whether the record could not be read at all; a record whose row cannot be had could.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::NotUtf8 { .. } | Self::NotJson(_) | Self::NotObject)
    }

    /// A short name that stays the same, for counting.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } => "not_utf8",
            Self::NotJson(_) => "not_json",
            Self::NotObject => "not_object",
            Self::Misfit { .. } => "misfit",
            Self::RowTooLong { .. } => "row_too_long",
        }
    }
}
