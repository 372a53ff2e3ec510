//! Time comes from here, and from nowhere else: `clippy.toml` bans the other ways to ask for it.
//!
//! There are two clocks in a [`Clock`]. The wall clock names a moment for people, files and other machines; somebody may
//! set it at any time. The steady clock only runs forward. Measure ages and waits within one process with the steady
//! clock: a wall clock that is set back by an hour must not hold up rows for an hour.
//!
//! A time that was written down before the process started is a time of the wall clock. Ask once with [`left_of`] how
//! much of a wait is left, and measure the rest with the steady clock.

use std::ops::{Add, Sub};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio::time::Instant;

/// The clock of a process, passed down from its start. Clones tell the same time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    ByHand(Arc<watch::Sender<Moment>>),
}

impl Clock {
    /// The clocks of the machine.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock for tests: it stands at `wall` until [`Clock::advance`] or [`Clock::set_wall`] moves it.
    pub fn by_hand(wall: DateTime<Utc>) -> Self {
        Self(Source::ByHand(Arc::new(watch::Sender::new(Moment::from(wall)))))
    }

    /// The present by both clocks.
    #[expect(clippy::disallowed_methods, reason = "the place that time comes from")]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System => Moment { wall: Utc::now(), steady: Steady::now() },
            Source::ByHand(moment) => *moment.borrow(),
        }
    }

    /// The present by the wall clock.
    pub fn wall(&self) -> DateTime<Utc> {
        self.now().wall
    }

    /// The present by the steady clock.
    pub fn steady(&self) -> Steady {
        self.now().steady
    }

    /// Returns after `wait` by the steady clock.
    pub async fn sleep(&self, wait: Duration) {
        self.sleep_until(self.steady() + wait).await;
    }

    /// Returns when the steady clock reaches `moment`.
    #[expect(clippy::disallowed_methods, reason = "the place that time comes from")]
    pub async fn sleep_until(&self, moment: Steady) {
        match &self.0 {
            Source::System => tokio::time::sleep(Steady::now().until(moment)).await,
            Source::ByHand(now) => {
                let mut now = now.subscribe();
                // The sender lives as long as `self`.
                let _ = now.wait_for(|now| now.steady >= moment).await;
            }
        }
    }

    /// Moves a clock that is set by hand forward and wakes the sleepers whose time has come.
    pub fn advance(&self, by: Duration) {
        if let Source::ByHand(moment) = &self.0 {
            moment.send_modify(|moment| {
                *moment = Moment { wall: moment.wall + delta(by), steady: moment.steady + by }
            });
        }
    }

    /// Sets the wall clock of a clock that is set by hand; the steady clock runs on.
    pub fn set_wall(&self, wall: DateTime<Utc>) {
        if let Source::ByHand(moment) = &self.0 {
            moment.send_modify(|moment| moment.wall = wall);
        }
    }
}

/// A moment of the steady clock. Only those of one process can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Steady(TimeDelta);

impl Steady {
    #[expect(clippy::disallowed_methods, reason = "the place that time comes from")]
    fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let (now, start) = (Instant::now(), *START.get_or_init(Instant::now));
        // Each test that pauses time has a clock of its own, which may be behind.
        match now.checked_duration_since(start) {
            Some(since) => Self(delta(since)),
            None => Self(-delta(start - now)),
        }
    }

    /// The moment so many milliseconds after the clock's zero.
    pub fn from_millis(millis: i64) -> Self {
        Self(TimeDelta::try_milliseconds(millis).unwrap_or(TimeDelta::MAX))
    }

    /// Milliseconds since the clock's zero.
    pub fn millis(self) -> i64 {
        self.0.num_milliseconds()
    }

    /// How long until `later`; nothing when that is past.
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

/// A moment at which both clocks agree: for tests, and for a command that reads the time once and ends.
impl From<DateTime<Utc>> for Moment {
    fn from(wall: DateTime<Utc>) -> Self {
        Self { wall, steady: Steady(wall - DateTime::UNIX_EPOCH) }
    }
}

/// What is left of `wait`, which began at `since` by the wall clock; the whole of it if `since` is in the future.
pub fn left_of(wait: Duration, since: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    wait.saturating_sub(age(since, now))
}

/// How long ago `since` was by the wall clock; nothing when it lies in the future.
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

    #[tokio::test]
    async fn a_clock_that_is_set_by_hand_wakes_sleepers_when_it_is_moved() {
        let start: DateTime<Utc> = "2026-03-02T12:00:00Z".parse().unwrap();
        let clock = Clock::by_hand(start);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(MINUTE).await }
        });
        tokio::task::yield_now().await;
        clock.advance(MINUTE / 2);
        clock.set_wall(start - TimeDelta::hours(1));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished(), "half of the wait has passed");
        clock.advance(MINUTE / 2);
        sleeper.await.unwrap();
        assert_eq!(clock.wall(), start - TimeDelta::hours(1) + TimeDelta::seconds(30));
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
