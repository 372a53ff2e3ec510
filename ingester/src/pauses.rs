//! Pauses of loading: the one that `ingester pause` asks for and those of `ingester.pause`. The loader asks before each
//! step; the socket takes changes and tells `state dump` of them. Discovery and archiving go on meanwhile. A pause by
//! hand is durable before it is answered, and outlives a crash.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::clock::{Clock, Moment, Steady, age, left_of};
use shared::config::pause::Windows;
use shared::exit::Failure;
use shared::lock::locked;
use state::loads::{LoadDatabase, Pause, Paused, PausedBy, Pausing};
use tokio::sync::Notify;

/// The pauses of one ingester. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Pauses {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    loads: LoadDatabase,
    windows: Windows,
    by_hand: Mutex<Option<ByHand>>,
    /// What was logged last, so that each change is logged once.
    reported: Mutex<Option<Paused>>,
    changed: Notify,
    clock: Clock,
}

/// A pause by hand, and when it is over at the latest, even if the wall clock is set back meanwhile. A window is a time
/// of day, and follows the wall clock.
#[derive(Debug, Clone)]
struct ByHand {
    pause: Pause,
    over: Option<Steady>,
}

impl ByHand {
    fn new(pause: Pause, now: Moment) -> Self {
        let whole = pause.until.map(|until| age(pause.since, until));
        let over = whole.map(|whole| now.steady + left_of(whole, pause.since, now.wall));
        Self { pause, over }
    }

    fn is_over(&self, now: Steady) -> bool {
        self.over.is_some_and(|over| over <= now)
    }
}

impl Pauses {
    /// The pauses of a configuration, and the one by hand that the load store has from before this start.
    pub(crate) fn new(windows: &Windows, loads: LoadDatabase, clock: &Clock) -> Result<Self, Failure> {
        let by_hand = Mutex::new(loads.pause()?.map(|pause| ByHand::new(pause, clock.now())));
        let (windows, clock) = (windows.clone(), clock.clone());
        let inner =
            Inner { loads, windows, by_hand, reported: Mutex::default(), changed: Notify::new(), clock };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether nothing is to be loaded at `now` by the wall clock, and until when.
    pub(crate) fn at(&self, now: DateTime<Utc>) -> Option<Paused> {
        let by_hand = locked(&self.inner.by_hand);
        let holds = by_hand.as_ref().filter(|by_hand| !by_hand.is_over(self.inner.clock.steady()));
        Paused::at(holds.map(|by_hand| &by_hand.pause), &self.inner.windows, now)
    }

    /// As [`Pauses::at`], now.
    pub(crate) fn present(&self) -> Option<Paused> {
        self.at(self.inner.clock.wall())
    }

    /// How long it is at most until this pause is over by itself, if it has an end.
    pub(crate) fn left(&self, paused: &Paused, now: Moment) -> Option<Duration> {
        let by_hand = locked(&self.inner.by_hand);
        let over = by_hand.as_ref().filter(|_| paused.by == PausedBy::Hand).and_then(|by_hand| by_hand.over);
        let left = age(now.wall, paused.until?);
        Some(over.map_or(left, |over| left.min(now.steady.until(over))))
    }

    /// As [`Pauses::at`], and logs when a pause begins and when it is over.
    pub(crate) fn report_change(&self, now: DateTime<Utc>) -> Option<Paused> {
        let paused = self.at(now);
        let mut reported = locked(&self.inner.reported);
        if *reported != paused {
            match &paused {
                Some(paused) => tracing::warn!("loading is paused {}", paused.describe()),
                None => tracing::info!("loading goes on: the pause is over"),
            }
            reported.clone_from(&paused);
        }
        paused
    }

    /// Waits until a pause by hand begins or ends.
    pub(crate) async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    /// Begins a pause by hand, or ends it with None. It is durable when this returns what holds then.
    pub(crate) fn set(&self, pause: Option<Pause>) -> Result<Pausing, Failure> {
        let now = self.inner.clock.now();
        let mut by_hand = locked(&self.inner.by_hand);
        // Held over both, so that memory and disk agree about which of two came last.
        self.inner.loads.set_pause(pause.as_ref())?;
        *by_hand = pause.map(|pause| ByHand::new(pause, now));
        drop(by_hand);
        self.inner.changed.notify_one();
        Ok(Pausing { paused: self.at(now.wall) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn noon() -> Clock {
        Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap())
    }

    fn pauses(loads: LoadDatabase, clock: &Clock) -> Pauses {
        Pauses::new(&Windows::parse(["02:00-03:00"]).unwrap(), loads, clock).unwrap()
    }

    #[test]
    fn a_pause_of_an_hour_is_over_after_an_hour_although_the_clock_is_set_back() {
        let clock = noon();
        let now = clock.now();
        let pause = |since| Pause { since, until: Some(since + HOUR), reason: None };
        let lasts = |since| now.steady.until(ByHand::new(pause(since), now).over.unwrap()).as_secs();
        assert_eq!(lasts(now.wall), 3_600);
        assert_eq!(lasts(now.wall - HOUR / 4), 2_700, "a start in the middle of it");
        assert_eq!(lasts(now.wall + HOUR * 5), 3_600, "the clock was set back by five hours");
        let dir = tempfile::tempdir().unwrap();
        let pauses = pauses(LoadDatabase::open(dir.path()).unwrap(), &clock);
        pauses.set(Some(pause(now.wall))).unwrap();
        clock.advance(HOUR / 2);
        clock.set_wall(now.wall);
        let paused = pauses.at(clock.wall()).unwrap();
        assert_eq!(pauses.left(&paused, clock.now()), Some(HOUR / 2));
        clock.advance(HOUR / 2);
        // By the wall clock it has half an hour left.
        assert_eq!(pauses.at(clock.wall()), None);
    }

    #[tokio::test]
    async fn a_pause_by_hand_holds_at_once_wakes_the_loader_and_outlives_the_process() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), noon());
        let now = clock.wall();
        {
            let pauses = pauses(LoadDatabase::open(dir.path()).unwrap(), &clock);
            assert_eq!(pauses.report_change(now), None);
            let pause = Pause { since: now, until: None, reason: None };
            assert!(pauses.set(Some(pause)).unwrap().paused.is_some());
            pauses.changed().await;
            assert!(pauses.report_change(now).is_some());
        }
        let pauses = pauses(LoadDatabase::open(dir.path()).unwrap(), &clock);
        assert_eq!(pauses.at(now).unwrap().until, None);
        assert_eq!(pauses.set(None).unwrap().paused, None);
        assert_eq!(pauses.at(now), None);
        let night = now - chrono::TimeDelta::minutes(9 * 60 + 30);
        assert_eq!(pauses.at(night).unwrap().until, Some(now - chrono::TimeDelta::hours(9)));
    }
}
