//! When a connection is tried again after its session broke.
//!
//! With `reset = "smallest"` a connection that breaks makes all others start again, and read again what Adobe holds. One
//! that breaks once a minute would keep the others from the live edge for ever, where that takes longer than a minute.
//! So it stays away for as long as its session lasted, and twice as long each time it breaks again before it has lived
//! longer than it took to catch up: meanwhile Adobe gives its visitors to the others, and these reach the live edge.
//!
//! A connection that is the only one keeps nobody from anything, and does not stay away.

use std::time::Duration;

use shared::retry::Backoff;

/// Waits between tries that failed.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A session this long, after it had caught up, was a good one: the next connection is tried at once.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// Longest stay away for the sake of the others: Adobe may hold a connection's visitors for it, and these lag meanwhile.
const MAX_AWAY: Duration = Duration::from_secs(900);

/// How a session went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Went {
    /// How long it lasted.
    pub lasted: Duration,
    /// How long of that it read what had been read before.
    pub rereading: Duration,
    /// Whether it still did when it ended.
    pub unfinished: bool,
    /// Whether it ended as damaged: then no session was good, however long.
    pub damaged: bool,
    /// Whether it ended in order: then no other connection had to start again.
    pub whole: bool,
}

/// The waits of one connection.
#[derive(Debug, Clone)]
pub struct Pace {
    backoff: Backoff,
    /// Whether the stream is read by this connection only.
    alone: bool,
    /// Sessions in a row that read again what had been read, and broke before they had lived as long after that.
    broke_early: u32,
}

impl Pace {
    /// For a connection that has seen no failure yet. `max` is the longest wait of a connection that is alone.
    #[must_use]
    pub fn new(max: Duration, alone: bool) -> Self {
        Self { backoff: Backoff::new(FIRST_WAIT, max), alone, broke_early: 0 }
    }

    /// A try to connect failed: the wait before the next.
    pub fn refused(&mut self) -> Duration {
        self.backoff.failed()
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// A session ended: the wait before the next, None for at once.
    pub fn ended(&mut self, went: &Went) -> Option<Duration> {
        let live = went.lasted.saturating_sub(went.rereading);
        let good = !went.damaged && !went.unfinished && live >= went.rereading.max(GOOD_SESSION);
        if good {
            self.backoff.succeeded();
            self.broke_early = 0;
        }
        // A second short session in a row waits.
        let first = self.backoff.failures() == 0 && !went.damaged;
        let wait = self.backoff.failed();
        let away = if good { Duration::ZERO } else { self.away(went) };
        (!first || !away.is_zero()).then(|| if first { away } else { wait.max(away) })
    }

    /// How long to stay away for the sake of the others.
    fn away(&mut self, went: &Went) -> Duration {
        if self.alone || went.whole || went.rereading.is_zero() {
            return Duration::ZERO;
        }
        let before = self.broke_early;
        self.broke_early = before.saturating_add(1);
        // It had come to what was new: the first time that may be chance.
        if before == 0 && !went.unfinished {
            return Duration::ZERO;
        }
        let doubled = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
        went.lasted.saturating_mul(doubled).min(MAX_AWAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(pace.ended(&broke(1, 0)), None);
        assert!(pace.ended(&broke(1, 0)).is_some_and(|wait| wait <= seconds(1)));
        assert_eq!(pace.ended(&broke(10, 0)), None);
    }

    #[test]
    fn a_connection_that_breaks_before_it_has_caught_up_stays_away_twice_as_long_each_time() {
        let mut pace = Pace::new(seconds(1), false);
        for wait in [60, 120, 240, 480, 900, 900] {
            assert_eq!(pace.ended(&broke(60, 60)), Some(seconds(wait)));
        }
        // It has caught up, and lives on for as long as that took.
        assert_eq!(pace.ended(&broke(600, 240)), None);
        assert_eq!(pace.ended(&broke(60, 60)), Some(seconds(60)));
    }

    #[test]
    fn one_that_breaks_soon_after_it_has_caught_up_stays_away_while_the_others_catch_up() {
        let mut pace = Pace::new(seconds(1), false);
        assert_eq!(pace.ended(&broke(60, 40)), None, "the first may be chance");
        assert_eq!(pace.ended(&broke(60, 40)), Some(seconds(120)));
        assert_eq!(pace.ended(&broke(60, 40)), Some(seconds(240)));
        assert_eq!(
            pace.ended(&Went { whole: true, ..broke(60, 40) }).map(|wait| wait <= seconds(1)),
            Some(true)
        );
    }

    #[test]
    fn a_connection_that_is_alone_waits_for_nobody() {
        let mut pace = Pace::new(seconds(1), true);
        for _ in 0..10 {
            assert!(pace.ended(&broke(60, 60)).is_none_or(|wait| wait <= seconds(1)));
        }
    }

    #[test]
    fn damage_always_waits_and_waits_longer_each_time() {
        let mut pace = Pace::new(seconds(60), true);
        let damaged = Went { damaged: true, ..broke(3_600, 0) };
        let waits: Vec<_> = (0..10).map(|_| pace.ended(&damaged).unwrap()).collect();
        assert!(waits[0] <= Duration::from_millis(250) && waits[9] >= seconds(30), "{waits:?}");
    }
}
