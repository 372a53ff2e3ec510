//! What another schema costs or saves, measured on records.

use std::time::Duration;

use shared::clock::Clock;
use shared::human::count;
use shared::schema::Schema;

use crate::transform::Transform;

/// Passes over the records; the quickest counts.
const PASSES: usize = 3;

/// What rows of a schema take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) columns: usize,
    /// Bytes of a row on average.
    pub(super) row: usize,
    /// Time to make one.
    pub(super) time: Duration,
}

impl Cost {
    /// None without records, or for a schema that cannot be used.
    pub(super) fn of(schema: &Schema, records: &[Vec<u8>], clock: &Clock) -> Option<Self> {
        let number = u32::try_from(records.len()).ok().filter(|number| *number > 0)?;
        let mut transform = Transform::new(schema, &[]).ok()?;
        let (mut rows, mut quickest) = (Vec::new(), Duration::MAX);
        // The first pass lets the buffers grow.
        for _ in 0..=PASSES {
            rows.clear();
            let begun = clock.steady();
            for record in records {
                transform.record(record, &mut rows);
            }
            quickest = quickest.min(begun.until(clock.steady()));
        }
        let (columns, row) = (schema.columns.len(), rows.len() / number as usize);
        Some(Self { columns, row, time: quickest / number })
    }

    /// The line of a table.
    pub(super) fn line(&self, name: &str) -> String {
        let (columns, row) = (count(self.columns as u64), count(self.row as u64));
        let micros = self.time.as_secs_f64() * 1e6;
        format!("{name:<36}{columns:>8} columns {row:>9} bytes a row {micros:>8.1} µs a row")
    }
}
