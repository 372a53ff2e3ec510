//! From a JSON record to a CSV row, in one pass.
//!
//! ```text
//! bytes ─UTF-8?─► text ─walk─► spans of the values the schema wants ─filters─► convert, column by column ─► row
//!   └─ not UTF-8, or raw control characters: a mended copy takes its place ─┘
//! ```
//! The walk validates the whole record and remembers only where each wanted value lies; the values are then
//! converted from there straight into the row. Nothing is copied in between, and no record allocates once the
//! buffers have grown to the size of what comes.
//!
//! What Redshift stores is what Adobe sent, except where the column's type makes that impossible. The column's rule
//! then says what happens, and each such value is counted by column: see [`ColumnCounts`]. Of a key that occurs twice in an object the last value that is not empty
//! counts, as in most JSON readers.

mod cell;
mod convert;
mod event;
mod explain;
mod filter;
mod identity;
mod keys;
mod list;
mod mend;
mod number;
mod plan;
mod row;
mod scan;
mod semi;
mod stats;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod value;
mod walk;

pub use state::log::HitId;

pub(crate) use explain::Explained;
pub use filter::{Filter, FilterTest};
pub(crate) use identity::Identity;
pub use identity::identity;
pub(crate) use plan::TransformError;
pub(crate) use stats::{ColumnCounts, Stats};

use convert::Converter;
use mend::Mended;
use plan::Plan;
use shared::config::InvalidText;
use shared::schema::{MAX_ROW_BYTES, Schema};
use walk::Spans;

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

/// Whether all of a record is JSON as it stands, with nothing mended.
#[must_use]
pub(crate) fn is_json(record: &[u8]) -> bool {
    let Ok(text) = simdutf8::basic::from_utf8(record) else { return false };
    let mut scanner = scan::Scanner::new(text);
    scanner.blanks();
    let valid = scanner.value().is_ok();
    scanner.blanks();
    valid && scanner.peek().is_none()
}

/// Turns records into rows of one schema. Owns buffers: one for each thread.
#[derive(Debug, Clone)]
pub struct Transform {
    plan: Plan,
    spans: Spans,
    converter: Converter,
    stats: Stats,
    filter_names: Vec<String>,
    invalid_text: InvalidText,
    mended: Mended,
}

impl Transform {
    /// For rows of this schema, without the records that one of these filters matches.
    pub fn new(schema: &Schema, filters: &[Filter]) -> Result<Self, TransformError> {
        let plan = Plan::new(schema, filters)?;
        let spans = Spans::new(plan.targets(), plan.constants());
        let filter_names = filters.iter().map(|filter| filter.name.clone()).collect();
        Ok(Self {
            spans,
            converter: Converter::default(),
            stats: Stats::new(schema),
            filter_names,
            invalid_text: InvalidText::Replace,
            mended: Mended::default(),
            plan,
        })
    }

    /// With this decision on bytes that are no UTF-8 and on raw control characters; without it, they are replaced.
    #[must_use]
    pub fn with_invalid_text(mut self, invalid_text: InvalidText) -> Self {
        self.invalid_text = invalid_text;
        self
    }

    /// With this name in columns of kind `instance`.
    #[must_use]
    pub fn with_instance(mut self, name: &str) -> Self {
        name.clone_into(&mut self.converter.instance);
        self
    }

    /// With this text in columns of kind `batch`. It has the length of a batch id: when the log knows which batch a
    /// row goes to, it puts the id in its place.
    #[must_use]
    pub fn with_batch_mark(mut self, mark: &str) -> Self {
        mark.clone_into(&mut self.converter.batch_mark);
        self
    }

    /// Appends the record's row, one CSV line with its LF, to `row`; or nothing, if the outcome is another.
    pub fn record(&mut self, line: &[u8], row: &mut Vec<u8>) -> Outcome {
        let read = read(&self.plan, line, self.invalid_text, &mut self.spans, &mut self.mended);
        let text = match read {
            Ok(text) => text,
            Err(reject) => return Outcome::Rejected(reject),
        };
        if let Some(rule) = self.plan.filtered(text, &self.spans, &mut self.converter) {
            let (_, received) = self.plan.identity(text, &self.spans, &mut self.converter);
            return Outcome::Filtered { rule, received };
        }
        let start = row.len();
        let written = row::emit(&self.plan, text, &self.spans, &mut self.converter, &mut self.stats, row);
        let bytes = row.len() - start;
        let written =
            written.and(if bytes > MAX_ROW_BYTES { Err(Reject::RowTooLong { bytes }) } else { Ok(()) });
        self.stats.settle(written.is_ok(), self.spans.is_mended());
        if let Err(reject) = written {
            row.truncate(start);
            return Outcome::Rejected(reject);
        }
        let (hit, received) = self.plan.identity(text, &self.spans, &mut self.converter);
        Outcome::Row { hit, received }
    }

    /// The names of the filters; `Outcome::Filtered` counts positions in this list.
    pub fn filter_names(&self) -> &[String] {
        &self.filter_names
    }

    /// Hands over what was altered or dropped since the last call, by column, and counts from zero.
    pub fn take_altered(&mut self, each: impl FnMut(&str, ColumnCounts)) {
        self.stats.take(each);
    }

    /// How many records became rows since the last call that were no valid text, and counts from zero.
    pub fn take_mended(&mut self) -> u64 {
        self.stats.take_mended()
    }

    /// What was altered or dropped since it was taken because a column's type could not hold it, by column.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// Fills `spans` with those of the record; its text, which is that of `line` itself unless it had to be mended.
fn read<'t>(
    plan: &Plan,
    line: &'t [u8],
    invalid_text: InvalidText,
    spans: &mut Spans,
    mended: &'t mut Mended,
) -> Result<&'t str, Reject> {
    let reject = match utf8(line).and_then(|text| walk::walk(plan, text, spans).map(|()| text)) {
        Ok(text) => return Ok(text),
        Err(reject) => reject,
    };
    if invalid_text == InvalidText::Reject || !mended.mend(line) {
        return Err(reject);
    }
    // If that does not help, the reason is told of the record as it came.
    if walk::walk(plan, mended.text(), spans).is_err() {
        return Err(reject);
    }
    spans.mended_at(mended.replaced());
    Ok(mended.text())
}

fn utf8(line: &[u8]) -> Result<&str, Reject> {
    simdutf8::basic::from_utf8(line).map_err(|_| {
        // The quick check does not say where.
        let at = simdutf8::compat::from_utf8(line).map_or_else(|error| error.valid_up_to(), str::len);
        Reject::NotUtf8 { at }
    })
}
