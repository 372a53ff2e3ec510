//! What is usual of one share of the rows: on average, and at its lowest and highest.

use serde::{Deserialize, Serialize};

use crate::drift::judge::{Range, Rate, dries, falls, rises};

/// Steps of the window.
pub(super) const STEPS: usize = 8;
/// The steps of which it is remembered at most whether they had a value.
const REMEMBERED: f64 = 4_096.0;
/// What fewer steps have, a window may miss by chance: only that it dries up is told.
const OFTEN: f64 = 0.97;

/// What is usual of one column, or of one limit of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    /// What left the window.
    all: Rate,
    /// Of this, what is not yet a window.
    part: Rate,
    steps: usize,
    /// None until one window has left.
    range: Option<Range>,
    /// Steps until the window has nothing from before the change that was told. Then it is as usual as what was before: a
    /// change is told once, also if the stream goes to and fro.
    settling: usize,
    /// Of the steps, those that met it.
    in_steps: Rate,
    /// Steps since the last of these, and the most that ever were.
    dry: f64,
    longest: f64,
    is_dry: bool,
}

impl Usual {
    /// Of how many rows or samples it knows.
    pub(super) fn of(&self) -> f64 {
        self.all.of
    }

    /// Takes a step that left the window.
    pub(super) fn learn(&mut self, step: Rate, most: f64) {
        self.all.learn(step, most);
        self.in_steps.learn(Rate::new(u32::from(step.met > 0.0), 1), REMEMBERED);
        self.part.add(step);
        self.steps += 1;
        if self.steps >= STEPS {
            let share = std::mem::take(&mut self.part).share();
            self.steps = 0;
            match &mut self.range {
                Some(range) => range.learn(share),
                None => self.range = Some(Range::of(share)),
            }
        }
    }

    /// Whether it is met far less often than before, in the steps of the window, of which the last has just become full:
    /// before and now. It must know of `learned` samples.
    pub(super) fn falls(&mut self, steps: &[Rate], learned: f64) -> Option<(Rate, Rate)> {
        let is_dry = self.has_dried(steps);
        if self.settles(steps) || self.all.of < learned {
            return None;
        }
        let is_often = self.in_steps.share() >= OFTEN;
        if is_dry || (is_often && falls(self.all, self.range?, steps)) {
            self.is_dry |= is_dry;
            return Some(self.told(steps));
        }
        None
    }

    /// The same for far more often.
    pub(super) fn rises(&mut self, steps: &[Rate], learned: f64) -> Option<(Rate, Rate)> {
        if self.settles(steps) || self.all.of < learned {
            return None;
        }
        let is_told = rises(self.all, self.in_steps, self.range?, steps);
        is_told.then(|| self.told(steps))
    }

    /// Whether a change was told, and the window has something from before it.
    pub(super) fn is_settling(&self) -> bool {
        self.settling > 0
    }

    fn told(&mut self, steps: &[Rate]) -> (Rate, Rate) {
        self.settling = STEPS;
        (self.all, Rate::sum(steps))
    }

    fn settles(&mut self, steps: &[Rate]) -> bool {
        if self.settling == 0 {
            return false;
        }
        self.settling -= 1;
        if let (0, Some(range)) = (self.settling, &mut self.range) {
            range.include(Rate::sum(steps).share());
        }
        true
    }

    /// Whether it is longer than ever that there was none, and that is not told yet.
    fn has_dried(&mut self, steps: &[Rate]) -> bool {
        let last = steps.last().copied().unwrap_or_default();
        if last.met > 0.0 {
            (self.longest, self.dry, self.is_dry) = (self.longest.max(self.dry), 0.0, false);
            return false;
        }
        self.dry += 1.0;
        // What a window tells needs no telling here.
        self.is_dry |= self.settling > 0;
        !self.is_dry && dries(self.in_steps, self.dry, self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEARNED: f64 = 24.0;
    const MOST: f64 = 512.0;

    /// One column as the window has it, without the window.
    #[derive(Default)]
    struct Line {
        filled: Usual,
        met: Usual,
        steps: Vec<Rate>,
    }

    impl Line {
        /// How often a fall and a rise are told at a step of `of` rows.
        fn step(&mut self, met: u32, of: u32) -> (u32, u32) {
            let most = f64::from(of);
            if self.steps.len() == STEPS {
                let left = self.steps.remove(0);
                self.filled.learn(left, MOST * most);
                self.met.learn(left, MOST * most);
            }
            self.steps.push(Rate::new(met, of));
            let falls = self.filled.falls(&self.steps, LEARNED * most).is_some();
            let rises = self.met.rises(&self.steps, LEARNED * most).is_some();
            (u32::from(falls), u32::from(rises))
        }
    }

    /// How often falls, and rises, are told of columns whose values of each step `met` gives: of so many rows.
    fn told(
        columns: u64,
        steps: u32,
        of: u32,
        met: impl Fn(&mut fastrand::Rng, u32, u64) -> u32,
    ) -> (u32, u32) {
        let mut told = (0, 0);
        for column in 0..columns {
            let (mut line, mut rng) = (Line::default(), fastrand::Rng::with_seed(column));
            for step in 0..steps {
                let (falls, rises) = line.step(met(&mut rng, step, column).min(of), of);
                told = (told.0 + falls, told.1 + rises);
            }
        }
        told
    }

    /// So many of `of` rows, each by chance.
    fn chance(rng: &mut fastrand::Rng, share: f64, of: u32) -> u32 {
        (0..of).filter(|_| rng.f64() < share).count() as u32
    }

    #[test]
    #[allow(clippy::cast_sign_loss, reason = "the logarithm is of at most 1")]
    fn visitors_that_come_in_clusters_raise_nothing() {
        let clusters = |rng: &mut fastrand::Rng, _, column: u64| {
            // From one visitor in fifty steps to two in each; of 20 hits on average.
            let visitors = [0.02, 0.1, 0.5, 2.0].get((column % 4) as usize).copied().unwrap_or(0.1);
            let come = chance(rng, visitors / 4.0, 4);
            (0..come).map(|_| 1 + (-20.0 * (1.0 - rng.f64()).ln()) as u32).sum()
        };
        assert_eq!(told(400, 2_000, 1_024, clusters), (0, 0));
        // Of samples, one hit in eight.
        let sampled = |rng: &mut fastrand::Rng, step, column| {
            let met = clusters(rng, step, column);
            chance(rng, 0.125, met)
        };
        assert_eq!(told(400, 2_000, 128, sampled), (0, 0));
    }

    #[test]
    fn days_and_nights_raise_nothing() {
        for (period, low) in [(100.0, 0.15), (400.0, 0.05)] {
            let share = |step: u32, low: f64, high: f64| {
                let sine = (f64::from(step) / period * std::f64::consts::TAU).sin();
                low + (high - low) * (1.0 + sine) / 2.0
            };
            let filled = |rng: &mut fastrand::Rng, step, _| chance(rng, share(step, low, 0.5), 128);
            assert_eq!(told(40, 1_200, 128, filled), (0, 0), "{period}");
            let limits = |rng: &mut fastrand::Rng, step, _| chance(rng, share(step, 0.000_5, 0.004), 1_024);
            assert_eq!(told(20, 1_200, 1_024, limits), (0, 0), "{period}");
        }
    }

    #[test]
    fn what_goes_to_and_fro_is_told_once() {
        // Of each 200 steps the second half has next to none.
        let told =
            told(20, 2_000, 128, |rng, step, _| chance(rng, if step % 200 < 100 { 0.5 } else { 0.01 }, 128));
        assert!((20..=24).contains(&told.0), "{told:?}");
    }

    #[test]
    fn a_change_is_told_once_and_the_steps_around_it_do_not_tell_it_again() {
        let falls = |rng: &mut fastrand::Rng, step, _| chance(rng, if step < 60 { 1.0 } else { 0.75 }, 128);
        assert_eq!(told(50, 1_000, 128, falls).0, 50);
        let rises = |rng: &mut fastrand::Rng, step, _| chance(rng, if step < 60 { 0.0 } else { 0.02 }, 1_024);
        assert_eq!(told(50, 1_000, 1_024, rises).1, 50);
        // A rare column that dries up.
        let dries = |rng: &mut fastrand::Rng, step, _| chance(rng, if step < 400 { 0.01 } else { 0.0 }, 128);
        assert_eq!(told(50, 1_000, 128, dries).0, 50);
    }
}
