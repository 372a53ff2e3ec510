//! What the transform had to alter, by column.

use shared::schema::Schema;

/// Values of one column that could not be stored as they were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ColumnCounts {
    /// Text cut to the column's bytes.
    pub cut: u64,
    /// Values that have no form in the column's type: the cell is NULL.
    pub nulled: u64,
    /// Numbers rounded to the column's scale.
    pub rounded: u64,
    /// NUL characters left out, each one.
    pub nuls: u64,
    /// Halves of surrogate pairs replaced by U+FFFD, each one.
    pub replaced: u64,
}

impl ColumnCounts {
    fn add(&mut self, other: &Self) {
        self.cut += other.cut;
        self.nulled += other.nulled;
        self.rounded += other.rounded;
        self.nuls += other.nuls;
        self.replaced += other.replaced;
    }

    /// Whether everything was stored as it was sent.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts since the transform was made.
#[derive(Debug, Clone)]
pub struct Stats {
    names: Vec<String>,
    counts: Vec<ColumnCounts>,
    /// Takes what belongs to no column; never read.
    spare: ColumnCounts,
}

impl Stats {
    pub(super) fn new(schema: &Schema) -> Self {
        let names: Vec<_> = schema.columns.iter().map(|column| column.name.clone()).collect();
        Self { counts: vec![ColumnCounts::default(); names.len()], names, spare: ColumnCounts::default() }
    }

    pub(super) fn column(&mut self, number: usize) -> &mut ColumnCounts {
        self.counts.get_mut(number).unwrap_or(&mut self.spare)
    }

    /// The columns with anything to report.
    pub fn columns(&self) -> impl Iterator<Item = (&str, ColumnCounts)> {
        let all = self.names.iter().map(String::as_str).zip(self.counts.iter().copied());
        all.filter(|(_, counts)| !counts.is_zero())
    }

    /// The sum over all columns.
    pub fn totals(&self) -> ColumnCounts {
        let mut total = ColumnCounts::default();
        for counts in &self.counts {
            total.add(counts);
        }
        total
    }
}
