//! Pauses of loading: what the loader asks before each step, what those who look at the ingester are told, and the
//! commands `pause` and `resume`. Discovery and archiving go on meanwhile.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::clock::{Clock, Moment, Steady, age, left_of};
use shared::config::Config;
use shared::config::pause::Windows;
use shared::exit::Failure;
use shared::ids::BatchPrefix;
use state::Checked;
use state::loads::{Load, Loads, Pause, Paused, PausedBy, Pausing};
use state::status::feed::Owner;
use state::status::pausing::set_pause;
use state::status::snapshot::{IngesterSnapshot, Matching};
use tokio::sync::Notify;

/// The pauses of one ingester, and its bookkeeping for those who ask about it. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Pauses {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    loads: Loads,
    windows: Windows,
    by_hand: Mutex<Option<ByHand>>,
    /// What was said last, so that each change is said once.
    said: Mutex<Option<Paused>>,
    changed: Notify,
}

/// A pause that was asked for, and when it is over at the latest: it lasts no longer than it was to last in all, also
/// when the wall clock is set back meanwhile. A window is told in times of day, and follows the wall clock.
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked left whole values behind: each change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pauses {
    /// The pauses of a configuration, and the one that was asked for by hand before this start.
    ///
    /// # Errors
    /// When the bookkeeping cannot be read.
    pub(crate) fn new(config: &Config, loads: Loads) -> Result<Self, Failure> {
        let by_hand = Mutex::new(loads.pause()?.map(|pause| ByHand::new(pause, Moment::now())));
        let windows = config.ingester.pause.clone();
        let inner = Inner { loads, windows, by_hand, said: Mutex::default(), changed: Notify::new() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether nothing is to be loaded at `now`, and until when.
    #[must_use]
    pub(crate) fn at(&self, now: DateTime<Utc>) -> Option<Paused> {
        let by_hand = locked(&self.inner.by_hand);
        let holds = by_hand.as_ref().filter(|by_hand| !by_hand.is_over(Steady::now()));
        Paused::at(holds.map(|by_hand| &by_hand.pause), &self.inner.windows, now)
    }

    /// How long it is at most until this pause is over by itself, if it has an end.
    #[must_use]
    pub(crate) fn left(&self, paused: &Paused, now: Moment) -> Option<Duration> {
        let by_hand = locked(&self.inner.by_hand);
        let over = by_hand.as_ref().filter(|_| paused.by == PausedBy::Hand).and_then(|by_hand| by_hand.over);
        let left = age(now.wall, paused.until?);
        Some(over.map_or(left, |over| left.min(now.steady.until(over))))
    }

    /// As [`Pauses::at`], for the loader: says in the log when a pause begins and when it is over.
    #[must_use]
    pub(crate) fn hold(&self, now: DateTime<Utc>) -> Option<Paused> {
        let paused = self.at(now);
        let mut said = locked(&self.inner.said);
        if *said != paused {
            match &paused {
                Some(paused) => tracing::warn!("loading is paused {}", paused.told()),
                None => tracing::info!("loading goes on: the pause is over"),
            }
            said.clone_from(&paused);
        }
        paused
    }

    /// Returns when a pause was asked for or ended by hand since the last call.
    pub(crate) async fn changed(&self) {
        self.inner.changed.notified().await;
    }
}

impl Owner for Pauses {
    type Snapshot = IngesterSnapshot;
    type Batch = Load;

    fn snapshot(&self) -> Result<IngesterSnapshot, Failure> {
        let snapshot = Owner::snapshot(&self.inner.loads)?;
        Ok(IngesterSnapshot { paused: self.at(Utc::now()), ..snapshot })
    }

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<Load>, Failure> {
        Owner::batch(&self.inner.loads, prefix)
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Owner::verify(&self.inner.loads)
    }

    fn set_pause(&self, pause: Option<Pause>) -> Result<Pausing, Failure> {
        let mut by_hand = locked(&self.inner.by_hand);
        // Held over both, so that memory and disk agree about which of two came last.
        self.inner.loads.set_pause(pause.as_ref())?;
        *by_hand = pause.map(|pause| ByHand::new(pause, Moment::now()));
        drop(by_hand);
        self.inner.changed.notify_one();
        Ok(Pausing { paused: self.at(Utc::now()) })
    }
}

/// `ingester pause` and, without a pause, `ingester resume`: the ingester of this configuration and no other.
///
/// # Errors
/// As [`set_pause`], and when `out` cannot be written.
pub(crate) async fn command(
    config: &Config,
    pause: Option<Pause>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (pid, paused) = set_pause(config, &Clock::system(), pause).await?;
    let who = match pid {
        Some(pid) => format!("the ingester, process {pid},"),
        None => "the ingester does not run; started, it".to_owned(),
    };
    let does = match &paused {
        Some(paused) => format!("loads nothing {}", paused.told()),
        None => "loads".to_owned(),
    };
    writeln!(out, "{who} {does} ({})", config.ingester.dir.display())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(loads: Loads, windows: &str) -> Pauses {
        let windows = Windows::parse([windows]).unwrap();
        let by_hand = Mutex::new(loads.pause().unwrap().map(|pause| ByHand::new(pause, Moment::now())));
        let inner = Inner { loads, windows, by_hand, said: Mutex::default(), changed: Notify::new() };
        Pauses { inner: Arc::new(inner) }
    }

    #[test]
    fn a_pause_of_an_hour_is_over_after_an_hour_although_the_clock_is_set_back() {
        let now = Moment::now();
        let hour = chrono::TimeDelta::hours(1);
        let pause = |since| Pause { since, until: Some(since + hour), reason: None };
        let lasts = |since| now.steady.until(ByHand::new(pause(since), now).over.unwrap()).as_secs();
        assert_eq!(lasts(now.wall), 3_600);
        assert_eq!(lasts(now.wall - hour / 4), 2_700, "a start in the middle of it");
        assert_eq!(lasts(now.wall + hour * 5), 3_600, "the clock was set back by five hours");
        let dir = tempfile::tempdir().unwrap();
        let pauses = pauses(Loads::open(dir.path()).unwrap(), "02:00-03:00");
        // By the wall clock it has an hour left.
        let over = ByHand { pause: pause(now.wall), over: Some(now.steady) };
        *locked(&pauses.inner.by_hand) = Some(over);
        assert!(pauses.at(now.wall).is_none_or(|paused| paused.by == PausedBy::Window));
    }

    #[tokio::test]
    async fn a_pause_by_hand_holds_at_once_wakes_the_loader_and_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let now: DateTime<Utc> = "2026-03-02T12:00:00Z".parse().unwrap();
        {
            let pauses = pauses(Loads::open(dir.path()).unwrap(), "02:00-03:00");
            assert_eq!(pauses.hold(now), None);
            let pause = Pause { since: now, until: None, reason: None };
            assert!(pauses.set_pause(Some(pause)).unwrap().paused.is_some());
            pauses.changed().await;
            assert!(pauses.hold(now).is_some());
        }
        let pauses = pauses(Loads::open(dir.path()).unwrap(), "02:00-03:00");
        assert_eq!(pauses.at(now).unwrap().until, None);
        assert_eq!(pauses.set_pause(None).unwrap().paused, pauses.at(Utc::now()));
        assert_eq!(pauses.at(now), None);
        let night = now - chrono::TimeDelta::minutes(9 * 60 + 30);
        assert_eq!(pauses.at(night).unwrap().until, Some(now - chrono::TimeDelta::hours(9)));
    }
}
