//! The times of the stream at which not everything was read. Hits come somewhat out of order, so a hole reaches
//! further than what was surely missed, by `log.lateness` on both sides: within it only a hit's id can tell whether it
//! is known, and the log keeps the ids for as long as it remembers the hole. Outside, everything was read.

use serde::{Deserialize, Serialize};

/// Holes remembered at most: their record fits a value of the database.
const MOST: usize = 128;

/// A time of the stream: milliseconds since 1970.
pub(super) type StreamTime = i64;

/// Holes in order of time, apart from each other: first and last time of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Holes {
    list: Vec<(StreamTime, StreamTime)>,
    /// Whether they have changed since they were last written.
    #[serde(skip)]
    changed: bool,
}

impl Holes {
    /// Adds a hole, unless it ends before it begins; those that meet become one. Of too many the oldest is forgotten.
    pub(super) fn add(&mut self, mut first: StreamTime, mut last: StreamTime) {
        self.changed = true;
        if first > last {
            return;
        }
        self.list.retain(|(from, to)| {
            let meets = *from <= last.saturating_add(1) && first <= to.saturating_add(1);
            if meets {
                (first, last) = (first.min(*from), last.max(*to));
            }
            !meets
        });
        let at = self.list.partition_point(|(from, _)| *from < first);
        self.list.insert(at, (first, last));
        if self.list.len() > MOST {
            self.list.remove(0);
        }
    }

    /// Whether a hole reaches into this span of time.
    pub(super) fn touch(&self, first: StreamTime, last: StreamTime) -> bool {
        self.list.iter().any(|(from, to)| *from <= last && first <= *to)
    }

    /// Takes everything up to `time` as read; true when a hole is gone for it.
    pub(super) fn close_up_to(&mut self, time: StreamTime) -> bool {
        let before = self.list.len();
        self.list.retain_mut(|(from, to)| {
            self.changed |= *from <= time;
            *from = (*from).max(time.saturating_add(1));
            from <= to
        });
        self.list.len() < before
    }

    /// Forgets the holes that end before `time`; true when there was one.
    pub(super) fn forget_before(&mut self, time: StreamTime) -> bool {
        let before = self.list.len();
        self.list.retain(|(_, to)| *to >= time);
        self.changed |= self.list.len() < before;
        self.list.len() < before
    }

    /// Whether they have changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_sound(&self) -> bool {
        self.list.iter().all(|(from, to)| from <= to)
            && self.list.windows(2).all(|pair| pair[0].1 < pair[1].0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holes_that_meet_become_one_and_others_stay_apart() {
        let mut holes = Holes::default();
        holes.add(50, 60);
        holes.add(10, 20);
        holes.add(61, 70);
        holes.add(i64::MIN, 5);
        assert_eq!(holes.list, [(i64::MIN, 5), (10, 20), (50, 70)]);
        holes.add(15, 55);
        assert_eq!(holes.list, [(i64::MIN, 5), (10, 70)]);
        assert!(holes.touch(70, 80) && holes.touch(0, 1) && !holes.touch(6, 9) && !holes.touch(71, i64::MAX));
        assert!(!holes.close_up_to(4) && holes.close_up_to(5));
        assert!(!holes.close_up_to(30) && !holes.touch(0, 30) && holes.touch(31, 31));
        assert!(!holes.forget_before(70) && holes.forget_before(71) && holes.len() == 0);
    }

    #[test]
    fn of_too_many_the_oldest_is_forgotten_and_the_record_fits_a_value() {
        let mut holes = Holes::default();
        for n in 0..200 {
            holes.add(1_800_000_000_000 + n * 10, 1_800_000_000_005 + n * 10);
        }
        assert_eq!(holes.len(), MOST);
        assert!(
            !holes.touch(1_800_000_000_710, 1_800_000_000_715) && holes.touch(1_800_000_000_720, i64::MAX)
        );
        assert!(serde_json::to_vec(&holes).unwrap().len() < 6_000);
    }

    proptest! {
        #[test]
        fn a_time_is_in_a_hole_if_one_that_was_added_holds_it(
            added in prop::collection::vec((0_i64..300, 0_i64..20), 1..30), closed in 0_i64..300
        ) {
            let mut holes = Holes::default();
            added.iter().for_each(|(first, length)| holes.add(*first, first + length));
            holes.close_up_to(closed);
            prop_assert!(holes.is_sound(), "{:?}", holes);
            for time in 0..330 {
                let expected = time > closed
                    && added.iter().any(|(first, length)| (*first..=first + length).contains(&time));
                prop_assert_eq!(holes.touch(time, time), expected, "{} in {:?}", time, &holes);
            }
        }
    }
}
