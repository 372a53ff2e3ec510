//! Counts what the transform had to alter, by column.

use crate::transform::outcome::Reject;
use shared::schema::{Rule, Schema};

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

    /// Whether everything was stored as it was sent.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts of the records that became rows, and of those that a rule rejected, since they were last drained.
#[derive(Debug, Clone)]
pub(super) struct Stats {
    pub(super) names: Vec<String>,
    pub(super) counts: Vec<ColumnCounts>,
    /// Those of the current record. They count when it becomes a row.
    pending: Vec<(usize, ColumnCounts)>,
    /// Rows whose record was no valid text.
    pub(super) mended: u64,
}

impl Stats {
    pub(super) fn new(schema: &Schema) -> Self {
        let names: Vec<_> = schema.in_row().map(|column| column.name.clone()).collect();
        Self { counts: vec![ColumnCounts::default(); names.len()], names, pending: Vec::new(), mended: 0 }
    }

    /// A value of the current record was stored altered.
    pub(super) fn altered(&mut self, column: usize, altered: ColumnCounts) {
        self.pending.push((column, altered));
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
        for (column, altered) in self.pending.drain(..) {
            if let Some(counts) = self.counts.get_mut(column).filter(|_| is_row) {
                counts.add(&altered);
            }
        }
    }
}
