//! What the rows of one thread are like, counted until somebody takes it: of every row which values met a limit, of a few
//! which columns they fill, and of fewer still the record as it was sent. Bounded, and a row allocates nothing for it.
//!
//! Which rows are sampled is drawn, not counted off: a stream that repeats itself must not always show the same side.

use std::sync::Arc;

use shared::schema::{Column, JsonPath, Schema};

use crate::transform::outcome::{ColumnCounts, Full, Stats};
use crate::transform::plan::Plan;
use crate::transform::survey::{Sighting, survey};

/// One row in so many, on average, is asked which columns it fills.
const SAMPLED: u32 = 8;
/// One of those in so many has its record kept for a look at every field.
const LOOKED_AT: u32 = 16;
/// One record in so many has every field looked at, on average.
pub(crate) const LOOK_INTERVAL: u32 = SAMPLED * LOOKED_AT;
/// Records are kept until they are looked at: at most so many, and so many bytes of all together.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 4 << 20;
/// The room that stays when they were taken.
const KEPT_LONG: usize = 256 << 10;

/// How a value met the limit of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// It was cut.
    Cut,
    /// The type has no form for it.
    Nulled,
    Rounded,
    /// A text of exactly 255 bytes, at which Adobe cuts.
    At255,
    /// A text that is exactly as long as the column allows, where that is not 255.
    Full,
}

impl Limit {
    pub(crate) const ALL: [Self; 5] = [Self::Cut, Self::Nulled, Self::Rounded, Self::At255, Self::Full];
}

/// How many values of one column met each limit, in the order of [`Limit::ALL`].
pub(crate) type Limits = [u32; Limit::ALL.len()];

/// The columns that rows are counted by.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) names: Vec<String>,
    /// Name, kind, type, rule, paths and protection: of another one nothing is known.
    pub(crate) keys: Vec<String>,
    /// The column and the path of each target.
    pub(crate) targets: Vec<(usize, String)>,
    /// The paths that are protected.
    pub(crate) protected: Vec<JsonPath>,
    /// Of the filters, a hash: other ones let other rows through.
    pub(crate) filters: u32,
}

impl Columns {
    /// In the order of the plan's columns and targets.
    pub(crate) fn of(schema: &Schema) -> Self {
        let (mut names, mut keys, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for (number, column) in schema.in_row().enumerate() {
            names.push(column.name.clone());
            let paths: Vec<_> = column.paths.iter().map(ToString::to_string).collect();
            let Column { name, kind, sql_type, rule, .. } = column;
            keys.push(format!("{name} {kind} {sql_type} {rule} {}", paths.join("|")));
            targets.extend(column.paths.iter().map(|path| (number, path.to_string())));
            if column.paths.is_empty() {
                targets.push((number, String::new()));
            }
        }
        Self { names, keys, targets, ..Self::default() }
    }

    /// With what a transform does beside: how each column is protected, which paths are, and the filters.
    pub(super) fn with(
        mut self,
        protections: impl Iterator<Item = Option<&'static str>>,
        protected: Vec<JsonPath>,
        filters: u32,
    ) -> Self {
        for (key, protection) in self.keys.iter_mut().zip(protections) {
            if let Some(protection) = protection {
                *key += &format!(" {protection}");
            }
        }
        Self { protected, filters, ..self }
    }

    /// The column of a target.
    pub(crate) fn column(&self, target: usize) -> Option<&str> {
        self.names.get(self.targets.get(target)?.0).map(String::as_str)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Tally {
    columns: Arc<Columns>,
    /// Every row is sampled, and every record looked at.
    every: bool,
    rows: u32,
    samples: u32,
    until_sample: u32,
    /// Zero until the first row: each thread draws its own.
    random: u64,
    /// By column, of the samples.
    filled: Vec<u32>,
    limits: Vec<Limits>,
    /// The records that are kept, one after the other, and where each ends.
    kept: String,
    ends: Vec<usize>,
}

/// What was counted since it was last taken.
pub(crate) struct Taken<'t> {
    pub(crate) columns: &'t Arc<Columns>,
    pub(crate) rows: u32,
    /// Rows of which `filled` tells.
    pub(crate) samples: u32,
    /// By column.
    pub(crate) filled: &'t [u32],
    pub(crate) limits: &'t [Limits],
    records: &'t str,
    ends: &'t [usize],
    plan: &'t Plan,
}

impl Taken<'_> {
    /// Calls `record` for each record that is looked at, and then `each` for every field of it.
    pub(crate) fn look<S>(
        &self,
        state: &mut S,
        mut record: impl FnMut(&mut S),
        mut each: impl FnMut(&mut S, &Sighting<'_>),
    ) {
        let mut start = 0;
        for end in self.ends {
            let text = self.records.get(start..*end).unwrap_or_default();
            record(state);
            survey(self.plan, text, &mut |sighting: &Sighting<'_>| each(state, sighting));
            start = *end;
        }
    }
}

impl Tally {
    /// With `every` nothing is sampled: every row counts, and every record is looked at.
    pub(super) fn new(columns: Columns, every: bool) -> Self {
        let count = columns.names.len();
        Self {
            columns: Arc::new(columns),
            every,
            rows: 0,
            samples: 0,
            until_sample: 0,
            random: 0,
            filled: vec![0; count],
            limits: vec![Limits::default(); count],
            kept: String::new(),
            ends: Vec::new(),
        }
    }

    pub(super) fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }

    /// Whether the next row is a sample.
    pub(super) fn samples_next(&mut self) -> bool {
        if self.random == 0 {
            self.random = fastrand::u64(1..);
            self.draw();
        }
        self.every || self.until_sample <= 1
    }

    /// Counts a row that was written. If it is a sample, `stats` say which columns it fills.
    pub(super) fn row(&mut self, text: &str, stats: &Stats) {
        self.rows += 1;
        for (column, altered) in &stats.pending {
            self.altered(*column, altered);
        }
        for (column, full) in &stats.full {
            let limit = match full {
                Full::At255 => Limit::At255,
                Full::Column => Limit::Full,
            };
            self.met(*column, limit);
        }
        self.until_sample = self.until_sample.saturating_sub(1);
        if self.until_sample == 0 || self.every {
            self.sample(text, &stats.filled);
        }
    }

    fn altered(&mut self, column: usize, altered: &ColumnCounts) {
        let ColumnCounts { cut, nulled, rounded, .. } = *altered;
        for (count, limit) in [(cut, Limit::Cut), (nulled, Limit::Nulled), (rounded, Limit::Rounded)] {
            if count > 0 {
                self.met(column, limit);
            }
        }
    }

    fn met(&mut self, column: usize, limit: Limit) {
        if let Some(count) = self.limits.get_mut(column).and_then(|limits| limits.get_mut(limit as usize)) {
            *count += 1;
        }
    }

    /// Draws how far the next sample is; the number says more.
    fn draw(&mut self) -> u32 {
        // xorshift64*
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let drawn = (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32;
        self.until_sample = 1 + drawn % (2 * SAMPLED - 1);
        drawn
    }

    #[inline(never)]
    fn sample(&mut self, text: &str, filled: &[usize]) {
        let drawn = self.draw();
        self.samples += 1;
        for column in filled {
            if let Some(count) = self.filled.get_mut(*column) {
                *count += 1;
            }
        }
        let has_room = self.ends.len() < KEPT && self.kept.len() + text.len() <= KEPT_BYTES;
        if has_room && (self.every || (drawn >> 16).is_multiple_of(LOOKED_AT)) {
            self.kept.push_str(text);
            self.ends.push(self.kept.len());
        }
    }

    /// Hands over what was counted, if that are so many rows, and counts from zero.
    pub(super) fn drain(&mut self, at_least: u32, plan: &Plan, take: impl FnOnce(&Taken<'_>)) {
        if self.rows < at_least.max(1) {
            return;
        }
        take(&Taken {
            columns: &self.columns,
            rows: self.rows,
            samples: self.samples,
            filled: &self.filled,
            limits: &self.limits,
            records: &self.kept,
            ends: &self.ends,
            plan,
        });
        self.reset();
    }

    fn reset(&mut self) {
        (self.rows, self.samples) = (0, 0);
        self.filled.fill(0);
        self.limits.fill(Limits::default());
        self.kept.clear();
        // A burst of large records does not stay.
        self.kept.shrink_to(KEPT_LONG);
        self.ends.clear();
    }
}
