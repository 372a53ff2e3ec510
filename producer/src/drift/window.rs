//! The latest rows in steps, and what was before them, by column.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::drift::judge::Rate;
use crate::drift::usual::{STEPS, Usual};
use crate::transform::{Columns, Limit, Limits, Taken};

/// Rows of a step: so often it is judged.
pub(super) const STEP: u32 = 1_024;
/// A baseline of fewer rows tells nothing.
pub(super) const LEARNED: f64 = 24.0 * STEP as f64;
/// The rows that a baseline remembers at most: beyond it the older half goes.
const REMEMBERED: f64 = 512.0 * STEP as f64;
/// Samples are so many rows apart, on average, unless every row is one.
const APART: f64 = 8.0;

/// What is usual in one column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct UsualColumn {
    /// Of the samples.
    filled: Usual,
    /// Of the rows, in the order of [`Limit::ALL`].
    limits: [Usual; Limit::ALL.len()],
}

impl UsualColumn {
    /// Takes what one step that left the window has of the column.
    fn learn(&mut self, step: &Step, column: usize) {
        self.filled.learn(step.filled(column), REMEMBERED / APART);
        for (limit, usual) in Limit::ALL.into_iter().zip(&mut self.limits) {
            usual.learn(step.met(column, limit), REMEMBERED);
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Step {
    rows: u32,
    samples: u32,
    filled: Vec<u32>,
    limits: Vec<Limits>,
}

impl Step {
    fn filled(&self, column: usize) -> Rate {
        Rate::new(self.filled.get(column).copied().unwrap_or(0), self.samples)
    }

    fn met(&self, column: usize, limit: Limit) -> Rate {
        let met = self.limits.get(column).and_then(|limits| limits.get(limit as usize));
        Rate::new(met.copied().unwrap_or(0), self.rows)
    }
}

/// Something about a column that is not as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    FilledLess,
    Met(Limit),
}

#[derive(Debug, Default)]
pub(super) struct Window {
    columns: Option<Arc<Columns>>,
    /// The latest last; it may be filling.
    steps: VecDeque<Step>,
    /// The sums of the steps: most columns never meet a limit, and need no look at each step.
    met: Vec<Limits>,
    usual: Vec<UsualColumn>,
    /// What is known of columns that this schema does not have, or that were not met since the start.
    others: BTreeMap<String, UsualColumn>,
    pub(super) rows: u64,
}

impl Window {
    /// Goes on from what was known by another process.
    pub(super) fn known(others: BTreeMap<String, UsualColumn>) -> Self {
        Self { others, ..Self::default() }
    }

    /// Knows nothing from now on.
    pub(super) fn forget(&mut self) {
        *self = Self { rows: self.rows, ..Self::default() };
    }

    /// What is known, by column. While too little is known, also what is in the window: otherwise runs that are short would
    /// never learn. Later it is left out, since it may have a change that is not told yet.
    pub(super) fn known_columns(&self) -> BTreeMap<String, UsualColumn> {
        let mut known = self.others.clone();
        let mut usual = self.usual.clone();
        if self.is_learning() {
            for (number, usual) in usual.iter_mut().enumerate() {
                self.steps.iter().filter(|step| step.rows >= STEP).for_each(|step| usual.learn(step, number));
            }
        }
        let keys = self.columns.iter().flat_map(|columns| &columns.keys);
        known.extend(keys.cloned().zip(usual));
        known.retain(|_, usual| *usual != UsualColumn::default());
        known
    }

    /// The columns of now. Those of another schema are put aside; what is the same in both goes on.
    pub(super) fn begin(&mut self, columns: &Arc<Columns>) {
        let same = self.columns.as_ref().is_some_and(|known| Arc::ptr_eq(known, columns) || known == columns);
        if same {
            return;
        }
        let mut known = self.known_columns();
        self.usual = columns.keys.iter().map(|key| known.remove(key).unwrap_or_default()).collect();
        // Not more than one schema has: a producer that changes its schema again and again keeps no list of them all.
        self.others = if known.len() <= columns.keys.len() { known } else { BTreeMap::new() };
        self.steps.clear();
        self.met = vec![Limits::default(); columns.names.len()];
        self.columns = Some(columns.clone());
    }

    /// Counts rows. True when a step is full: [judge](Self::judge) it.
    pub(super) fn add(&mut self, taken: &Taken<'_>) -> bool {
        self.begin(taken.columns);
        self.rows += u64::from(taken.rows);
        let width = taken.columns.names.len();
        if self.steps.back().is_none_or(|step| step.rows >= STEP) {
            self.make_room();
            let (filled, limits) = (vec![0; width], vec![Limits::default(); width]);
            self.steps.push_back(Step { filled, limits, ..Step::default() });
        }
        let Some(step) = self.steps.back_mut() else { return false };
        step.rows += taken.rows;
        step.samples += taken.samples;
        for (sum, count) in step.filled.iter_mut().zip(taken.filled) {
            *sum += count;
        }
        for ((sums, all), counts) in step.limits.iter_mut().zip(&mut self.met).zip(taken.limits) {
            for ((sum, all), count) in sums.iter_mut().zip(all).zip(counts) {
                *sum += count;
                *all += count;
            }
        }
        step.rows >= STEP
    }

    /// What leaves the window is what was before.
    fn make_room(&mut self) {
        if self.steps.len() < STEPS {
            return;
        }
        let Some(step) = self.steps.pop_front() else { return };
        for (number, usual) in self.usual.iter_mut().enumerate() {
            usual.learn(&step, number);
        }
        for (all, counts) in self.met.iter_mut().zip(&step.limits) {
            for (all, count) in all.iter_mut().zip(counts) {
                *all -= count;
            }
        }
    }

    /// Whether too little is known to tell a change of anything.
    pub(super) fn is_learning(&self) -> bool {
        let rows =
            self.usual.iter().flat_map(|usual| usual.limits.map(|usual| usual.of())).fold(0.0, f64::max);
        rows < LEARNED
    }

    /// Compares the window with what was before, column by column: the name, the change, before and now.
    pub(super) fn judge(&mut self, mut told: impl FnMut(&str, Change, Rate, Rate)) {
        let Some(columns) = self.columns.clone() else { return };
        let mut of_column = [Rate::default(); STEPS];
        let columns = columns.names.iter().enumerate().zip(&self.met).zip(&mut self.usual);
        for (((number, name), met), usual) in columns {
            let filled = rates(&self.steps, &mut of_column, |step| step.filled(number));
            if let Some((before, now)) = usual.filled.falls(filled, LEARNED / APART) {
                told(name, Change::FilledLess, before, now);
            }
            for ((limit, met), usual) in Limit::ALL.into_iter().zip(met).zip(&mut usual.limits) {
                if *met == 0 && !usual.is_settling() {
                    continue;
                }
                let met = rates(&self.steps, &mut of_column, |step| step.met(number, limit));
                if let Some((before, now)) = usual.rises(met, LEARNED) {
                    told(name, Change::Met(limit), before, now);
                }
            }
        }
    }
}

/// One share of each step.
fn rates<'r>(steps: &VecDeque<Step>, into: &'r mut [Rate; STEPS], of: impl Fn(&Step) -> Rate) -> &'r [Rate] {
    into.iter_mut().zip(steps).for_each(|(rate, step)| *rate = of(step));
    into.get(..steps.len()).unwrap_or(into)
}
