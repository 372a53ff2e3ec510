//! What becomes of a record, why one cannot become a row, and what had to be altered, by column.

use shared::schema::{MAX_ROW_BYTES, Rule, Schema};
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
    /// A filter drops it.
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
    /// It is not JSON, or something follows the JSON.
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
    /// Every name.
    pub const NAMES: [&'static str; 5] = ["not_utf8", "not_json", "not_object", "misfit", "row_too_long"];

    /// Whether the record itself could not be read.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::NotUtf8 { .. } | Self::NotJson(_) | Self::NotObject)
    }

    /// The name in metrics, and the `code` of the reject in S3.
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

/// Values of one column that could not be stored as they were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColumnCounts {
    /// Texts cut to the column's bytes, lists of JSON cut at a whole element, strings within a SUPER cut.
    pub cut: u64,
    /// Values that have no form in the column's type: the cell is NULL.
    pub nulled: u64,
    /// Numbers and times rounded to the column's digits.
    pub rounded: u64,
    /// NUL characters left out, each one.
    pub nuls: u64,
    /// Halves of surrogate pairs replaced by U+FFFD, each one.
    pub replaced: u64,
    /// Bytes that were no UTF-8 replaced by U+FFFD, each one or the start of a character at once.
    pub invalid: u64,
    /// Lists joined by a comma, because their delimiter cannot be used.
    pub delimiters: u64,
    /// Records rejected by the rule of this column.
    pub rejected: u64,
}

impl ColumnCounts {
    pub fn add(&mut self, other: &Self) {
        self.cut += other.cut;
        self.nulled += other.nulled;
        self.rounded += other.rounded;
        self.nuls += other.nuls;
        self.replaced += other.replaced;
        self.invalid += other.invalid;
        self.delimiters += other.delimiters;
        self.rejected += other.rejected;
    }

    /// What was done to the values, in one word for each kind.
    pub(crate) fn words(&self) -> String {
        let Self { cut, nulled, rounded, nuls, replaced, invalid, delimiters, rejected } = *self;
        let kinds = [
            (cut, "cut"),
            (nulled, "null"),
            (rounded, "rounded"),
            (nuls, "nuls"),
            (replaced, "surrogates"),
            (invalid, "invalid"),
            (delimiters, "delimiter"),
            (rejected, "rejected"),
        ];
        let words: Vec<_> = kinds.into_iter().filter(|(count, _)| *count > 0).map(|(_, word)| word).collect();
        words.join(" ")
    }

    /// Whether everything was stored as it was sent.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// How long a text is that was stored whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Exactly 255 bytes, at which Adobe cuts.
    At255,
    /// Exactly what its column can hold, where that is not 255 bytes.
    Column,
}

/// Counts of the records that became rows, and of those that a rule rejected, since they were last drained.
#[derive(Debug, Clone)]
pub(super) struct Stats {
    pub(super) names: Vec<String>,
    pub(super) counts: Vec<ColumnCounts>,
    /// Those of the current record, or of the last one. They count when it becomes a row.
    pub(super) pending: Vec<(usize, ColumnCounts)>,
    /// Texts of the current record, or of the last one, that fill their column, or have the length at which Adobe cuts.
    pub(super) full: Vec<(usize, Full)>,
    /// Whether the current row is asked which columns it fills; and these.
    pub(super) asks_filled: bool,
    pub(super) filled: Vec<usize>,
    /// Rows whose record was no valid text.
    pub(super) mended: u64,
}

impl Stats {
    pub(super) fn new(schema: &Schema) -> Self {
        let names: Vec<_> = schema.in_row().map(|column| column.name.clone()).collect();
        Self {
            counts: vec![ColumnCounts::default(); names.len()],
            names,
            pending: Vec::new(),
            full: Vec::new(),
            asks_filled: false,
            filled: Vec::new(),
            mended: 0,
        }
    }

    /// The next record begins; it may be asked which columns it fills.
    pub(super) fn begin_record(&mut self, asks_filled: bool) {
        self.pending.clear();
        self.full.clear();
        self.filled.clear();
        self.asks_filled = asks_filled;
    }

    /// The cell of a column is written.
    pub(super) fn filled(&mut self, column: usize) {
        if self.asks_filled {
            self.filled.push(column);
        }
    }

    /// What was altered in the last record, by column.
    pub(super) fn last(&self) -> impl Iterator<Item = (&str, &ColumnCounts)> {
        self.pending.iter().filter_map(|(column, counts)| Some((self.names.get(*column)?.as_str(), counts)))
    }

    /// A value of the current record was stored altered.
    pub(super) fn altered(&mut self, column: usize, altered: ColumnCounts) {
        self.pending.push((column, altered));
    }

    /// A text of the current record is as long as it can be.
    pub(super) fn full(&mut self, column: usize, full: Full) {
        self.full.push((column, full));
    }

    /// A value of the current record cannot be stored.
    pub(super) fn misfit(&mut self, column: usize, rule: Rule) -> Result<(), Reject> {
        if rule != Rule::Reject {
            self.altered(column, ColumnCounts { nulled: 1, ..ColumnCounts::default() });
            return Ok(());
        }
        if let Some(counts) = self.counts.get_mut(column) {
            counts.rejected += 1;
        }
        Err(Reject::Misfit { column: self.names.get(column).cloned().unwrap_or_default() })
    }

    /// Ends the current record: it became a row or not, and was mended for that or not.
    pub(super) fn end_record(&mut self, is_row: bool, mended: bool) {
        self.mended += u64::from(is_row && mended);
        for (column, altered) in &self.pending {
            if let Some(counts) = self.counts.get_mut(*column).filter(|_| is_row) {
                counts.add(altered);
            }
        }
    }
}
