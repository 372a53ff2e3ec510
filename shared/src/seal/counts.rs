//! What became of the records that were received.

use serde::{Deserialize, Serialize};

/// What became of the records received, since the batch before: they add up to `received`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub received: u64,
    /// Rows made durable.
    pub rows: u64,
    pub duplicates: u64,
    pub filtered: u64,
    /// Records that could not become a row; kept with their reason.
    pub rejected: u64,
    /// Of the rows, those without hit id: they cannot be compared.
    #[serde(default)]
    pub without_id: u64,
}

impl Counts {
    /// Whether every record received is accounted for.
    pub fn add_up(&self) -> bool {
        // A seal may name any numbers: their sum need not fit.
        let sum =
            [self.duplicates, self.filtered, self.rejected].into_iter().try_fold(self.rows, u64::checked_add);
        sum == Some(self.received) && self.without_id <= self.rows
    }

    /// Counts these too.
    pub fn add(&mut self, more: Self) {
        *self = self.with(more, |a, b| a + b);
    }

    /// What came between `earlier` and now.
    pub fn since(&self, earlier: &Self) -> Self {
        self.with(*earlier, |now, before| now - before)
    }

    fn with(self, other: Self, count: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            received: count(self.received, other.received),
            rows: count(self.rows, other.rows),
            duplicates: count(self.duplicates, other.duplicates),
            filtered: count(self.filtered, other.filtered),
            rejected: count(self.rejected, other.rejected),
            without_id: count(self.without_id, other.without_id),
        }
    }
}
