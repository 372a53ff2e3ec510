//! When a connection is tried again after its session broke.
//!
//! With `reset = "smallest"` a connection that breaks makes all others start again, and read again what Adobe holds. One
//! that breaks once a minute would keep the others from the live edge for ever, where that takes longer than a minute.
//! So it stays away for as long as its session lasted, or as any connection took lately to catch up, and for twice that
//! when it breaks again before it has lived longer than that: meanwhile the others reach the live edge. What it read
//! itself is no measure: it may break before the first known hit comes.
//!
//! A connection that is the only one, or beside which all others wait, keeps nobody from anything, and does not stay away.

use std::time::Duration;

use shared::retry::Backoff;

/// Waits between tries that failed.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A session this long, after it had caught up, was a good one: the next connection is tried at once.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// Longest stay away for the sake of the others: Adobe may hold a connection's visitors for it, and these lag meanwhile.
/// Also the wait after a session of no use.
const MAX_AWAY: Duration = Duration::from_secs(900);

/// How a session went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Went {
    /// How long it lasted.
    pub lasted: Duration,
    /// How long of that it read what had been read before.
    pub rereading: Duration,
    /// Whether it still did when it ended.
    pub unfinished: bool,
    /// Whether it ended as damaged: then no session was good, however long.
    pub damaged: bool,
    /// Whether the next one will end as it did, as far as is known ([`crate::decode::damage`]).
    pub useless: bool,
    /// Whether it ended in order: then no other connection had to start again.
    pub whole: bool,
    /// Whether all other connections wait: then there is none to stay away for.
    pub last: bool,
}

impl Went {
    /// Whether it was read at what was new for long enough, where catching up takes so long.
    #[must_use]
    pub(crate) fn lived(&self, catching_up: Duration) -> bool {
        let live = self.lasted.saturating_sub(self.rereading);
        !self.unfinished && live >= self.rereading.max(catching_up).max(GOOD_SESSION)
    }
}

/// The waits of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    backoff: Backoff,
    /// Whether the stream is read by this connection only.
    alone: bool,
    /// Sessions in a row that broke, while there was something to read again, before they had lived for long enough.
    broke_early: u32,
}

impl Pace {
    /// For a connection that has seen no failure yet. `max` is the longest wait of a connection that is alone.
    #[must_use]
    pub(crate) fn new(max: Duration, alone: bool) -> Self {
        Self { backoff: Backoff::new(FIRST_WAIT, max), alone, broke_early: 0 }
    }

    /// A try to connect failed: the wait before the next.
    pub(crate) fn refused(&mut self) -> Duration {
        self.backoff.failed()
    }

    /// Failures in a row.
    #[must_use]
    pub(crate) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// A session ended: the wait before the next, None for at once. `longest` is how long any connection took lately to
    /// catch up.
    pub(crate) fn ended(&mut self, went: &Went, longest: Duration) -> Option<Duration> {
        let catching_up = if self.keeps_none(went) { Duration::ZERO } else { longest };
        let good = !went.damaged && went.lived(catching_up);
        if good {
            self.backoff.succeeded();
            self.broke_early = 0;
        }
        // A second short session in a row waits.
        let first = self.backoff.failures() == 0 && !went.damaged;
        let wait = self.backoff.failed();
        let away = if good { Duration::ZERO } else { self.away(went, longest) };
        let away = if went.useless { MAX_AWAY } else { away };
        (!first || !away.is_zero()).then(|| if first { away } else { wait.max(away) })
    }

    /// Whether its end cut no other session short.
    fn keeps_none(&self, went: &Went) -> bool {
        self.alone || went.whole || went.last
    }

    /// How long to stay away for the sake of the others.
    fn away(&mut self, went: &Went, longest: Duration) -> Duration {
        let own = if went.rereading.is_zero() { Duration::ZERO } else { went.lasted };
        let measure = own.max(longest);
        if self.keeps_none(went) || measure.is_zero() {
            return Duration::ZERO;
        }
        let before = self.broke_early;
        self.broke_early = before.saturating_add(1);
        // It had come to what was new: the first time that may be chance.
        if before == 0 && !went.unfinished {
            return Duration::ZERO;
        }
        // Not longer each time: Adobe may hold the visitors of this connection for it meanwhile.
        let times = if before == 0 { 1 } else { 2 };
        measure.saturating_mul(times).min(MAX_AWAY)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::source::catch_up_times::Rereads;

    /// No connection had anything to read again.
    const NONE: Duration = Duration::ZERO;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A session that broke after so many seconds, of which it was catching up for so many.
    fn broke(lasted: u64, rereading: u64) -> Went {
        let unfinished = rereading > 0 && rereading == lasted;
        Went { lasted: seconds(lasted), rereading: seconds(rereading), unfinished, ..Went::default() }
    }

    #[test]
    fn a_good_session_is_followed_at_once_and_the_second_short_one_waits() {
        let mut pace = Pace::new(seconds(60), true);
        assert_eq!(pace.ended(&broke(1, 0), NONE), None);
        assert!(pace.ended(&broke(1, 0), NONE).is_some_and(|wait| wait <= seconds(1)));
        assert_eq!(pace.ended(&broke(10, 0), NONE), None);
    }

    #[test]
    fn a_connection_that_breaks_before_it_has_caught_up_stays_away_while_the_others_do() {
        let mut pace = Pace::new(seconds(1), false);
        for wait in [60, 120, 120, 120] {
            assert_eq!(pace.ended(&broke(60, 60), NONE), Some(seconds(wait)));
        }
        assert_eq!(pace.ended(&broke(600, 600), NONE), Some(MAX_AWAY));
        // It has caught up, and lives on for as long as that took.
        assert_eq!(pace.ended(&broke(600, 240), NONE), None);
        assert_eq!(pace.ended(&broke(60, 60), NONE), Some(seconds(60)));
    }

    #[test]
    fn one_that_breaks_soon_after_it_has_caught_up_stays_away_while_the_others_catch_up() {
        let mut pace = Pace::new(seconds(1), false);
        assert_eq!(pace.ended(&broke(60, 40), NONE), None, "the first may be chance");
        assert_eq!(pace.ended(&broke(60, 40), NONE), Some(seconds(120)));
        assert_eq!(pace.ended(&broke(60, 40), NONE), Some(seconds(120)));
        assert_eq!(
            pace.ended(&Went { whole: true, ..broke(60, 40) }, NONE).map(|wait| wait <= seconds(1)),
            Some(true)
        );
    }

    #[test]
    fn a_connection_that_is_alone_waits_for_nobody() {
        let mut pace = Pace::new(seconds(1), true);
        for _ in 0..10 {
            assert!(pace.ended(&broke(60, 60), NONE).is_none_or(|wait| wait <= seconds(1)));
        }
    }

    #[test]
    fn damage_always_waits_and_waits_longer_each_time() {
        let mut pace = Pace::new(seconds(60), true);
        let damaged = Went { damaged: true, ..broke(3_600, 0) };
        let waits: Vec<_> = (0..10).map(|_| pace.ended(&damaged, NONE).unwrap()).collect();
        assert!(waits[0] <= Duration::from_millis(250) && waits[9] >= seconds(30), "{waits:?}");
    }

    #[test]
    fn after_a_session_of_no_use_even_one_that_is_alone_stays_away() {
        let useless = Went { damaged: true, useless: true, ..broke(60, 0) };
        assert_eq!(Pace::new(seconds(60), true).ended(&useless, NONE), Some(MAX_AWAY));
    }

    #[test]
    fn one_that_brings_nothing_stays_away_as_long_as_the_others_take_to_catch_up() {
        // Closed at once, and quiet until it timed out.
        for lasted in [0, 60] {
            let mut pace = Pace::new(seconds(1), false);
            assert_eq!(pace.ended(&broke(lasted, 0), seconds(120)), None, "the first may be chance");
            for wait in [240, 240, 240] {
                assert_eq!(pace.ended(&broke(lasted, 0), seconds(120)), Some(seconds(wait)), "{lasted}");
            }
            assert_eq!(pace.ended(&broke(130, 0), seconds(120)), None, "it has lived as long");
            let last = Went { last: true, ..broke(lasted, 0) };
            for (went, alone) in [(broke(lasted, 0), true), (last, false)] {
                let mut pace = Pace::new(seconds(1), alone);
                (0..9).for_each(|_| assert!(pace.ended(&went, seconds(120)) <= Some(seconds(1))));
            }
        }
    }

    /// A connection whose sessions last for so long and bring nothing, beside one that takes `needed` to catch up and
    /// begins anew at each break. After how many breaks the other has caught up.
    fn breaks_until_caught_up(lasts: Duration, needed: Duration) -> Option<usize> {
        let (mut pace, rereads, mut now) =
            (Pace::new(seconds(60), false), Rereads::default(), Instant::now());
        let mut undisturbed = lasts;
        for breaks in 1..100 {
            // As in a session: the other one hears of the break, and has ended, only after the flapper has asked.
            let wait = pace.ended(&Went { lasted: lasts, ..Went::default() }, rereads.longest(now));
            if undisturbed >= needed {
                return Some(breaks);
            }
            rereads.note(1, undisturbed, true, now);
            undisturbed = wait.unwrap_or_default() + lasts;
            now += undisturbed;
        }
        None
    }

    #[test]
    fn beside_one_that_breaks_before_it_brings_anything_the_others_reach_the_live_edge() {
        for lasts in [Duration::from_millis(5), seconds(1), seconds(60)] {
            for needed in [seconds(90), seconds(600), seconds(899)] {
                let breaks = breaks_until_caught_up(lasts, needed);
                assert!(breaks.is_some_and(|breaks| breaks <= 20), "{lasts:?} {needed:?}: {breaks:?}");
            }
        }
    }
}
