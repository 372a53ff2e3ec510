//! When a change is one. Pure: shares before and now come in. The limits leave room for chance, and for streams that are not
//! the same all day: visitors come in clusters, and nights are not as days. So what is told is also beyond all that whole
//! windows had before, and in several steps of the window, where one visitor is in few.

use serde::{Deserialize, Serialize};

/// How often something was met, of how many times that it could have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rate {
    pub(super) met: f64,
    pub(super) of: f64,
}

impl Rate {
    pub(super) fn new(met: u32, of: u32) -> Self {
        Self { met: met.into(), of: of.into() }
    }

    pub(super) fn share(self) -> f64 {
        if self.of > 0.0 { self.met / self.of } else { 0.0 }
    }

    pub(super) fn sum(rates: &[Self]) -> Self {
        let add = |sum: Self, rate: &Self| Self { met: sum.met + rate.met, of: sum.of + rate.of };
        rates.iter().fold(Self::default(), add)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.met += other.met;
        self.of += other.of;
    }

    /// Adds what left the window. Beyond `most` the older half is forgotten, so that slow changes are followed.
    pub(super) fn learn(&mut self, other: Self, most: f64) {
        self.add(other);
        if self.of > most {
            *self = Self { met: self.met / 2.0, of: self.of / 2.0 };
        }
    }
}

/// The lowest and the highest share that a whole window had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Range {
    pub(super) lowest: f64,
    pub(super) highest: f64,
}

impl Range {
    pub(super) fn of(share: f64) -> Self {
        Self { lowest: share, highest: share }
    }

    /// Takes the share of one more window. Both ends come nearer to it, but slowly: a range that is not met any more is
    /// forgotten within some thousand windows.
    pub(super) fn learn(&mut self, share: f64) {
        const FORGOTTEN: f64 = 1.0 / 1_024.0;
        self.lowest = share.min(self.lowest + (share - self.lowest) * FORGOTTEN);
        self.highest = share.max(self.highest + (share - self.highest) * FORGOTTEN);
    }

    /// Widens it: the share is as usual as any other.
    pub(super) fn include(&mut self, share: f64) {
        (self.lowest, self.highest) = (self.lowest.min(share), self.highest.max(share));
    }
}

/// A column that nearly every row fills, as a share.
const ALWAYS: f64 = 0.98;
/// How much less is less, of such a column.
const LESS: f64 = 0.05;
/// Of any other column less than this part of what was before.
const PART: f64 = 0.25;
/// Fewer samples say nothing.
const SAMPLES: f64 = 256.0;
/// Where fewer were expected, few may be chance.
const EXPECTED: f64 = 40.0;
/// So few more or less are chance, whatever was before.
const FEW: f64 = 5.0;
/// By how much a share must be below the lowest; of a column that was always filled, what is missing above the most.
const BELOW: f64 = 2.0;
/// By how much it must be above the highest.
const ABOVE: f64 = 3.0;
/// A change is in at least so many steps of the window.
const STEPS: usize = 5;
/// In all, if before it was not only rarely in a step at all.
const ALL_STEPS: usize = 8;
/// As a share of the steps.
const RARELY: f64 = 0.02;
/// Where so many steps with a value were expected since the last, none at all is no chance.
const DRY: f64 = 16.0;
/// By how much longer there must be none than ever before.
const LONGER: f64 = 2.0;

/// Whether a column is filled far less often than before. `steps` are those of the window.
pub(super) fn falls(before: Rate, range: Range, steps: &[Rate]) -> bool {
    let now = Rate::sum(steps);
    let (was, is) = (before.share(), now.share());
    let in_steps = steps.iter().filter(|step| step.of > 0.0 && step.share() < range.lowest).count();
    let always = was >= ALWAYS
        && is < was - LESS
        && now.of >= SAMPLES
        // What is missing is so much more.
        && 1.0 - is > (1.0 - range.lowest) * BELOW;
    let lowest = range.lowest * now.of;
    let part = was * now.of >= EXPECTED && is < was * PART && now.met + FEW < lowest / BELOW;
    in_steps >= STEPS && (always || part)
}

/// Whether something is met that was not, or several times as often: more often by a factor of three than even a bad guess of
/// what was before, and by five. `had_some` is of the steps before.
pub(super) fn rises(before: Rate, had_some: Rate, range: Range, steps: &[Rate]) -> bool {
    let now = Rate::sum(steps);
    if now.of <= 0.0 || before.of <= 0.0 {
        return false;
    }
    let in_steps = steps.iter().filter(|step| step.share() > range.highest).count();
    let at_most = before.met + 3.0 * before.met.sqrt() + 3.0;
    in_steps >= if had_some.share() < RARELY { STEPS } else { ALL_STEPS }
        && now.met >= FEW + 3.0 * at_most * now.of / before.of
        && now.share() >= range.highest * ABOVE
}

/// Whether a column dries up, of which a window has too few values to say so. `before` is of the steps that had one, since a
/// visitor may bring many in one step. There is none in the last `dry` steps; before, there never were more than `longest`
/// without one.
pub(super) fn dries(before: Rate, dry: f64, longest: f64) -> bool {
    before.share() * dry >= DRY && dry > longest * LONGER
}

/// How often something must be met before it is told that it came.
const TIMES: u64 = 8;
/// By how much it must be more frequent than anything that can have been missed until then.
const MISSED: u64 = 24;

/// Whether what was met first after so many looks has come, and was not only seldom there before. `times` within the `since`
/// looks from the first on.
pub(super) fn is_new(before: u64, times: u64, since: u64) -> bool {
    times >= TIMES && times.saturating_mul(before) >= since.saturating_mul(MISSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(met: f64, of: f64) -> Rate {
        Rate { met, of }
    }

    /// Spread evenly over the steps of a window that are there.
    fn steps(met: f64, of: f64, steps: u32) -> Vec<Rate> {
        let parts = f64::from(steps);
        std::iter::repeat_n(rate(met / parts, of / parts), steps as usize).collect()
    }

    #[test]
    fn a_column_falls_when_it_was_always_filled_and_is_not_or_nearly_dries_up() {
        for (before, now, expected) in [
            // Always there, and then in three of four.
            ((4_000.0, 4_000.0), (768.0, 1_024.0), true),
            ((3_990.0, 4_000.0), (980.0, 1_024.0), false),
            ((3_990.0, 4_000.0), (960.0, 1_024.0), true),
            ((4_000.0, 4_000.0), (0.0, 512.0), true),
            ((4_000.0, 4_000.0), (0.0, 30.0), false),
            // Sometimes there: half of it may be the hour of the day.
            ((2_000.0, 4_000.0), (256.0, 1_024.0), false),
            ((2_000.0, 4_000.0), (100.0, 1_024.0), true),
            ((400.0, 4_000.0), (0.0, 1_024.0), true),
            ((100.0, 4_000.0), (0.0, 1_024.0), false),
            ((0.0, 4_000.0), (0.0, 1_024.0), false),
            ((0.0, 0.0), (0.0, 1_024.0), false),
            ((400.0, 4_000.0), (1_024.0, 1_024.0), false),
        ] {
            let (before, now) = (rate(before.0, before.1), steps(now.0, now.1, 8));
            let range = Range::of(before.share());
            assert_eq!(falls(before, range, &now), expected, "{before:?} {now:?}");
        }
        let before = rate(2_000.0, 4_000.0);
        for (lowest, now, steps_of, expected) in [
            (0.5, 100.0, 8, true),
            // A night had as little, or nearly.
            (0.1, 100.0, 8, false),
            (0.19, 100.0, 8, false),
            (0.21, 100.0, 8, true),
            (0.001, 0.0, 8, false),
            // Not yet long enough.
            (0.5, 0.0, 3, false),
        ] {
            let now = steps(now, 1_024.0, steps_of);
            assert_eq!(falls(before, Range { lowest, highest: 0.9 }, &now), expected, "{lowest} {now:?}");
        }
        // One of four had none before, and told once it is not told again.
        let always = rate(3_960.0, 4_000.0);
        assert!(falls(always, Range { lowest: 0.9, highest: 1.0 }, &steps(768.0, 1_024.0, 8)));
        assert!(!falls(always, Range { lowest: 0.75, highest: 1.0 }, &steps(760.0, 1_024.0, 8)));
    }

    #[test]
    fn something_rises_when_it_was_rare_and_is_met_several_times_as_often() {
        for (before, now, expected) in [
            // Never in 24,576 rows.
            ((0.0, 24_576.0), (7.0, 8_192.0), false),
            ((0.0, 24_576.0), (8.0, 8_192.0), true),
            ((0.0, 500_000.0), (5.0, 8_192.0), false),
            ((0.0, 500_000.0), (6.0, 8_192.0), true),
            // One in 1,500 rows is 5 of 8,192: 20 may be chance, hundreds are not.
            ((16.0, 24_576.0), (20.0, 8_192.0), false),
            ((16.0, 24_576.0), (300.0, 8_192.0), true),
            // Half of all rows, and then all.
            ((12_000.0, 24_576.0), (8_192.0, 8_192.0), false),
            ((0.0, 0.0), (9_000.0, 8_192.0), false),
            ((0.0, 24_576.0), (0.0, 0.0), false),
        ] {
            let (before, now) = (rate(before.0, before.1), steps(now.0, now.1, 8));
            let range = Range::of(before.share());
            assert_eq!(rises(before, Rate::default(), range, &now), expected, "{before:?} {now:?}");
        }
        let before = rate(16.0, 24_576.0);
        for (highest, expected) in [(0.01, true), (0.012, true), (0.013, false)] {
            assert_eq!(
                rises(before, Rate::default(), Range { lowest: 0.0, highest }, &steps(300.0, 8_192.0, 8)),
                expected
            );
        }
        // A visitor of 300 hits in a row.
        let mut now = steps(0.0, 8_192.0, 8);
        (now[3].met, now[4].met, now[5].met) = (100.0, 150.0, 50.0);
        now[2].met = 20.0;
        assert!(!rises(before, Rate::default(), Range::of(0.001), &now));
        now[6].met = 50.0;
        assert!(rises(before, Rate::default(), Range::of(0.001), &now));
        assert!(!rises(before, rate(9.0, 24.0), Range::of(0.001), &now));
    }

    #[test]
    fn a_rare_column_dries_up_when_there_is_none_for_far_longer_than_ever() {
        for (share, dry, longest, expected) in [
            (0.9, 18.0, 2.0, true),
            (0.9, 17.0, 2.0, false),
            (0.9, 18.0, 9.0, false),
            (0.1, 160.0, 70.0, true),
            (0.1, 150.0, 70.0, false),
            (0.0, 100_000.0, 0.0, false),
        ] {
            assert_eq!(dries(rate(share * 4_000.0, 4_000.0), dry, longest), expected, "{share} {dry}");
        }
    }

    #[test]
    fn a_range_is_of_all_windows_and_forgets_within_some_thousand() {
        let mut range = Range::of(0.5);
        for share in [0.2, 0.7, 0.4] {
            range.learn(share);
        }
        assert!(range.lowest < 0.21 && range.highest > 0.69, "{range:?}");
        for _ in 0..10_000 {
            range.learn(0.5);
        }
        assert!(range.lowest > 0.49 && range.highest < 0.51, "{range:?}");
    }

    #[test]
    fn what_comes_is_new_when_it_cannot_have_been_missed_before() {
        // In every hit from the 512th look on; in one of ten; in one of 320, as rare fields of the stand-in are.
        assert!(is_new(512, 8, 8) && is_new(512, 8, 80) && is_new(512, 20, 300));
        assert!(!is_new(512, 7, 7) && !is_new(512, 8, 2_560) && !is_new(30, 8, 60) && !is_new(0, 99, 99));
        assert!(is_new(12_000, 8, 2_560), "it was not in 12,000 looks, and then in one of 320");
    }

    #[test]
    fn a_baseline_follows_slow_changes() {
        let mut before = Rate::default();
        for _ in 0..1_000 {
            before.learn(rate(1_024.0, 1_024.0), 65_536.0);
        }
        assert!(before.of <= 65_536.0 && before.share() == 1.0);
        for _ in 0..500 {
            before.learn(rate(512.0, 1_024.0), 65_536.0);
        }
        assert!(before.share() < 0.51, "{before:?}");
    }
}
