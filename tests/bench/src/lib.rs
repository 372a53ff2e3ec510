//! What the benchmarks share: records as Adobe sends them and rows as the producer makes them.

pub mod batches;
pub mod helper;
pub mod machine;
pub mod pending;
pub mod stand_ins;
pub mod stream;
pub mod world;

use std::ops::Range;
use std::time::Duration;

use adobe::{Generator, Plan};
pub use counts::{FIVE, inflate, log_settings, protecting, schema, schema_of_75};
use producer::{HitId, Outcome, Transform};
use shared::schema::{Column, Schema};

/// Rows made by the producer's transform, and the identities of their hits.
#[derive(Debug, Default)]
pub struct Rows {
    /// The CSV lines.
    pub bytes: Vec<u8>,
    /// Where each line ends.
    pub ends: Vec<usize>,
    /// The identity of each.
    pub hits: Vec<HitId>,
}

impl Rows {
    /// Makes `count` rows of `schema` out of generated records.
    ///
    /// # Errors
    /// When the schema cannot be used.
    pub fn make(schema: &Schema, count: usize) -> anyhow::Result<Self> {
        let generator = Generator::new(Plan { hits: u64::MAX, ..Plan::default() });
        let mut rows = Self::default();
        let mut transform = Transform::new(schema, &[])?;
        for index in 0.. {
            if rows.hits.len() == count {
                break;
            }
            rows.push(&generator, &mut transform, index);
        }
        Ok(rows)
    }

    /// Makes rows of `schema` out of these hits.
    ///
    /// # Errors
    /// When the schema cannot be used.
    pub fn of(generator: &Generator, schema: &Schema, hits: Range<u64>) -> anyhow::Result<Self> {
        let mut rows = Self::default();
        let mut transform = Transform::new(schema, &[])?;
        hits.for_each(|index| rows.push(generator, &mut transform, index));
        Ok(rows)
    }

    fn push(&mut self, generator: &Generator, transform: &mut Transform, index: u64) {
        let mut record = Vec::new();
        generator.write_hit(index, &mut record);
        if let Outcome::Row { hit: Some(hit), .. } =
            transform.record(record.trim_ascii_end(), &mut self.bytes)
        {
            self.ends.push(self.bytes.len());
            self.hits.push(hit);
        }
    }

    /// These rows, one after the other.
    #[must_use]
    pub fn lines(&self, rows: Range<usize>) -> &[u8] {
        let at =
            |row: usize| row.checked_sub(1).and_then(|row| self.ends.get(row)).copied().unwrap_or_default();
        &self.bytes[at(rows.start)..at(rows.end)]
    }
}

/// 400 columns: all general ones but those whose numbers a `serde_json::Value` cannot print as they were sent, 200
/// eVars, all props, and 59 events.
///
/// # Errors
/// As [`schema`].
pub fn schema_of_400() -> anyhow::Result<Schema> {
    let mut columns = schema(67, 200, 75)?.columns;
    columns.retain(|column| column.name != "lat" && column.name != "lon");
    let rest = Schema::built_in(1..=52).columns;
    let events =
        ["revenue", "productviews", "carts", "checkouts", "cartadditions", "cartremovals", "cartviews"];
    columns.extend(rest.into_iter().filter(|column| {
        column.name == "site_section"
            || column.name.starts_with("event")
            || events.contains(&column.name.as_str())
    }));
    Ok(Schema::new(columns, "benchmark")?)
}

/// The schema as a file.
#[must_use]
pub fn schema_file(schema: &Schema) -> String {
    let column = |column: &Column| {
        let paths: Vec<String> = column.paths.iter().map(ToString::to_string).collect();
        let Column { name, kind, sql_type, rule, .. } = column;
        format!(
            "[[column]]\nname = {name:?}\nkind = \"{kind}\"\ntype = \"{sql_type}\"\nrule = \"{rule}\"\npaths = {paths:?}\n"
        )
    };
    schema.columns.iter().map(column).collect()
}

/// The middle of several measurements.
#[must_use]
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// By how much equal turns differ: the middle half of their times, in percent of the middle one. So noisy was the machine.
#[must_use]
pub fn spread(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let at =
        |quarters: usize| times.get(times.len() * quarters / 4).copied().unwrap_or_default().as_secs_f64();
    100.0 * (at(3) - at(1)) / at(2)
}

/// User and system time of this process so far, all threads, in steps of 10 ms.
#[must_use]
pub fn cpu_time() -> Duration {
    cpu_time_of("self")
}

/// The same of another process, by its id.
#[must_use]
pub fn cpu_time_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Fields 14 and 15; the name before them may hold blanks.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}
