//! How much counters have grown lately: a bounded window of their earlier values.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use shared::clock::Steady;

/// Values of a counter are kept so far apart.
const APART: Duration = Duration::from_secs(30);
/// The longest window.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The earlier values of counters. Of each at most one for each [`APART`] of [`LONGEST`] is held, and one alone of a counter
/// that does not move.
#[derive(Debug, Default)]
pub struct Growth {
    /// Since when each value stood, oldest first.
    counters: HashMap<String, VecDeque<(Steady, u64)>>,
    begun: Option<Steady>,
    now: Option<Steady>,
    /// What counters stood at when the process before looked last.
    before: BTreeMap<String, u64>,
}

impl Growth {
    /// A window that goes on from what counters stood at when the process before looked last: what they have grown since is
    /// growth of the start.
    pub(crate) fn since(before: BTreeMap<String, u64>) -> Self {
        Self { before, ..Self::default() }
    }

    /// Takes the values of this moment. A counter that was not there before has grown from 0, except at the first call:
    /// what was counted before the start is no growth, unless it is known what it stood at.
    pub(crate) fn sample(&mut self, counters: impl IntoIterator<Item = (String, u64)>, now: Steady) {
        let first = self.begun.is_none();
        let begun = *self.begun.get_or_insert(now);
        self.now = Some(now);
        for (name, value) in counters {
            let known = self.before.get(&name).copied();
            let before = if first { known.unwrap_or(value) } else { 0 };
            let values = self.counters.entry(name).or_insert_with(|| VecDeque::from([(begun, before)]));
            let is_recent = values.len() > 1;
            match values.back_mut() {
                Some((_, last)) if *last == value => continue,
                Some((at, last)) if is_recent && at.until(now) < APART => *last = value,
                _ => values.push_back((now, value)),
            }
            // The newest of those before the window says what stood at its beginning.
            while values.get(1).is_some_and(|(at, _)| at.until(now) >= LONGEST) {
                values.pop_front();
            }
        }
    }

    /// How much a counter has grown within `window`, one hour at most.
    #[must_use]
    pub fn of(&self, counter: &str, window: Duration) -> u64 {
        let (Some(values), Some(now)) = (self.counters.get(counter), self.now) else { return 0 };
        let stood = values.iter().rev().find(|(at, _)| at.until(now) >= window).or(values.front());
        let last = values.back().map_or(0, |(_, value)| *value);
        last.saturating_sub(stood.map_or(0, |(_, value)| *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: i64) -> Steady {
        Steady::from_millis(seconds * 1_000)
    }

    #[test]
    fn what_was_counted_while_no_process_looked_is_growth_of_the_start() {
        let mut growth = Growth::since(BTreeMap::from([("gaps".to_owned(), 7)]));
        growth.sample([("gaps".to_owned(), 8), ("rows".to_owned(), 100)], at(0));
        assert_eq!((growth.of("gaps", 15 * MINUTE), growth.of("rows", 15 * MINUTE)), (1, 0));
        growth.sample([("gaps".to_owned(), 8)], at(901));
        assert_eq!(growth.of("gaps", 15 * MINUTE), 0);
    }

    #[test]
    fn what_was_counted_before_the_start_is_no_growth_and_growth_ends_with_its_window() {
        let mut growth = Growth::default();
        let mut sample = |value, seconds| {
            growth.sample([("gaps".to_owned(), value)], at(seconds));
            growth.of("gaps", 15 * MINUTE)
        };
        assert_eq!(sample(7, 0), 0);
        assert_eq!(sample(7, 5), 0);
        assert_eq!(sample(9, 10), 2);
        assert_eq!(sample(10, 300), 3);
        assert_eq!(sample(10, 905), 3);
        assert_eq!(sample(10, 911), 1, "the first two are older than the window");
        assert_eq!(sample(10, 1_201), 0);
        assert_eq!(growth.of("other", MINUTE), 0);
    }

    #[test]
    fn a_counter_that_appears_has_grown_from_nothing() {
        let mut growth = Growth::default();
        growth.sample([], at(0));
        growth.sample([("nulled".to_owned(), 4)], at(5));
        assert_eq!(growth.of("nulled", MINUTE), 4);
    }

    #[test]
    fn a_counter_that_always_moves_holds_a_bounded_number_of_values() {
        let mut growth = Growth::default();
        for second in 0..20_000 {
            growth.sample([("rows".to_owned(), u64::try_from(second).unwrap())], at(second));
        }
        let held = growth.counters["rows"].len();
        assert!(held <= 123, "{held} values");
        for window in [15 * MINUTE, 60 * MINUTE] {
            let (grown, seconds) = (growth.of("rows", window), window.as_secs());
            assert!(grown.abs_diff(seconds) <= APART.as_secs(), "{grown} in {seconds}");
        }
    }
}
