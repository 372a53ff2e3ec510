//! Two clocks. The wall clock names a moment for people, files and other machines; somebody may set it at any time. The
//! steady clock only runs forward, and ages and waits within one process are measured with it: a wall clock that is
//! set back by an hour must not hold up rows for an hour.
//!
//! A time that was written down before the process started is a time of the wall clock. How much of a wait is left then
//! is asked for once, with [`left_of`], and measured by the steady clock from there.

use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// A moment of the steady clock. Only those of one process can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Steady(TimeDelta);

impl Steady {
    /// The present. Follows the paused time of a test.
    #[must_use]
    pub fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let (now, start) = (Instant::now(), *START.get_or_init(Instant::now));
        // Each test that pauses time has a clock of its own, which may be behind.
        match now.checked_duration_since(start) {
            Some(since) => Self(delta(since)),
            None => Self(-delta(start - now)),
        }
    }

    /// The moment so many milliseconds after the clock's zero.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(TimeDelta::try_milliseconds(millis).unwrap_or(TimeDelta::MAX))
    }

    /// Milliseconds since the clock's zero.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0.num_milliseconds()
    }

    /// How long until `later`; nothing when that is past.
    #[must_use]
    pub fn until(self, later: Self) -> Duration {
        (later.0 - self.0).to_std().unwrap_or_default()
    }
}

impl Add<Duration> for Steady {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.checked_add(&delta(wait)).unwrap_or(TimeDelta::MAX))
    }
}

impl Sub<Duration> for Steady {
    type Output = Self;

    fn sub(self, age: Duration) -> Self {
        Self(self.0.checked_sub(&delta(age)).unwrap_or(TimeDelta::MIN))
    }
}

/// One moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// What is shown and written down.
    pub wall: DateTime<Utc>,
    /// What ages and waits are measured with.
    pub steady: Steady,
}

impl Moment {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self { wall: Utc::now(), steady: Steady::now() }
    }
}

/// A moment of a clock that nobody sets: for whoever makes up time, and for what looks once and ends.
impl From<DateTime<Utc>> for Moment {
    fn from(wall: DateTime<Utc>) -> Self {
        Self { wall, steady: Steady(wall - DateTime::UNIX_EPOCH) }
    }
}

/// What is left of a wait that began when the wall clock said `since` and that is to last `wait`. Never more than the
/// whole of it: a `since` in the future was written before the clock was set back.
#[must_use]
pub fn left_of(wait: Duration, since: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    wait.saturating_sub(age(since, now))
}

/// How long ago `since` was by the wall clock; nothing when it lies in the future.
#[must_use]
pub fn age(since: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - since).to_std().unwrap_or_default()
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_steady_clock_runs_forward_and_can_be_counted_with() {
        let before = Steady::now();
        std::thread::sleep(Duration::from_millis(5));
        let after = Steady::now();
        assert!(before.until(after) >= Duration::from_millis(5));
        assert_eq!(after.until(before), Duration::ZERO);
        assert_eq!(before.until(before + MINUTE), MINUTE);
        assert!(before - MINUTE < before && before + Duration::MAX > after);
        assert_eq!(Steady::from_millis(1_500).millis(), 1_500);
    }

    #[test]
    fn a_wait_across_a_restart_is_never_longer_than_the_whole_of_it() {
        let now: DateTime<Utc> = "2026-03-02T12:00:00Z".parse().unwrap();
        let left = |seconds| left_of(MINUTE, now - TimeDelta::seconds(seconds), now);
        assert_eq!(left(20), Duration::from_secs(40));
        assert_eq!(left(61), Duration::ZERO);
        assert_eq!(left(-3_600), MINUTE, "the clock was set back by an hour");
        assert_eq!(left_of(MINUTE, DateTime::<Utc>::MAX_UTC, now), MINUTE);
    }
}
