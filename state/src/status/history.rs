//! The figures of a service over the last six hours, so that a page opened now shows what was before. They are in memory
//! only, and bounded.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::clock::{self, Clock, Steady};
use shared::exit::Failure;
use shared::lock::locked;
use shared::shutdown::Shutdown;

/// Time between two samples.
const EVERY: Duration = Duration::from_secs(15);
/// Samples kept: six hours.
const KEPT: usize = 6 * 60 * 4;

/// What is read of a service for a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Records received or rows loaded, as a sum that only grows.
    pub total: u64,
    /// The highest `receivedTimeGMT` of what was received or loaded.
    pub newest: Option<DateTime<Utc>>,
    /// Rows that wait for the next step.
    pub waiting_rows: u64,
}

/// The figures of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was taken.
    pub at: DateTime<Utc>,
    /// Records received or rows loaded a second since the sample before; None for the first.
    pub per_second: Option<f64>,
    /// Time since Adobe received the newest hit; None when there was none.
    pub behind_seconds: Option<u64>,
    /// Rows that wait for the next step.
    pub waiting_rows: u64,
}

/// All samples that are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// When the service started: it knows nothing from before.
    pub since: DateTime<Utc>,
    /// Seconds between two samples.
    pub every_seconds: u64,
    /// Oldest first.
    pub samples: Vec<Sample>,
}

/// Keeps samples. Clones share them.
#[derive(Debug, Clone)]
pub struct History {
    clock: Clock,
    since: DateTime<Utc>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    samples: VecDeque<Sample>,
    before: Option<(Steady, u64)>,
}

impl History {
    /// A history that begins now.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { since: clock.wall(), clock, inner: Arc::default() }
    }

    /// When it began.
    #[must_use]
    pub fn since(&self) -> DateTime<Utc> {
        self.since
    }

    /// Takes a sample; the oldest goes when there is no room.
    pub fn add(&self, reading: Reading) {
        let (now, Reading { total, newest, waiting_rows }) = (self.clock.now(), reading);
        let mut inner = self.inner();
        let per_second = inner.before.map(|(before, counted)| {
            let seconds = before.until(now.steady).as_secs_f64().max(0.001);
            (total.saturating_sub(counted) as f64 / seconds * 10.0).round() / 10.0
        });
        let behind_seconds = newest.map(|newest| clock::age(newest, now.wall).as_secs());
        inner.before = Some((now.steady, total));
        if inner.samples.len() == KEPT {
            inner.samples.pop_front();
        }
        inner.samples.push_back(Sample { at: now.wall, per_second, behind_seconds, waiting_rows });
    }

    /// What is kept.
    #[must_use]
    pub fn samples(&self) -> Samples {
        let samples = self.inner().samples.iter().copied().collect();
        Samples { since: self.since, every_seconds: EVERY.as_secs(), samples }
    }

    /// Takes samples until shutdown. `read` may block. What cannot be read leaves a hole.
    pub async fn keep(
        self,
        read: impl FnMut() -> Result<Reading, Failure> + Send + 'static,
        shutdown: Shutdown,
    ) {
        let read = Arc::new(Mutex::new(read));
        loop {
            let read = read.clone();
            let reading = tokio::task::spawn_blocking(move || {
                let mut read = locked(&read);
                (*read)()
            });
            match reading.await {
                Ok(Ok(reading)) => self.add(reading),
                Ok(Err(failure)) => tracing::debug!(%failure, "no sample for the page's history"),
                Err(fault) => tracing::debug!(%fault, "no sample for the page's history"),
            }
            if shutdown.until(self.clock.sleep(EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// For values that a panic leaves whole.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(total: u64, newest: Option<DateTime<Utc>>) -> Reading {
        Reading { total, newest, waiting_rows: 3 }
    }

    #[test]
    fn a_sample_has_the_rate_since_the_one_before_and_the_age_of_the_newest() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let history = History::new(clock.clone());
        history.add(reading(1_000, None));
        clock.advance(EVERY);
        history.add(reading(1_100, Some(history.since())));
        clock.advance(EVERY);
        // A log that was replaced counts from 0.
        history.add(reading(50, Some(clock.wall() + chrono::TimeDelta::seconds(9))));
        let kept = history.samples();
        let rates: Vec<_> = kept.samples.iter().map(|sample| sample.per_second).collect();
        assert_eq!(rates, [None, Some(6.7), Some(0.0)]);
        let behind: Vec<_> = kept.samples.iter().map(|sample| sample.behind_seconds).collect();
        assert_eq!(behind, [None, Some(15), Some(0)]);
        assert_eq!((kept.since, kept.every_seconds), (history.since(), 15));
    }

    #[test]
    fn a_wall_clock_that_is_set_back_alters_no_rate() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let history = History::new(clock.clone());
        history.add(reading(0, None));
        clock.advance(EVERY);
        clock.set_wall("2026-03-02T11:00:00Z".parse().unwrap());
        history.add(reading(150, None));
        assert_eq!(history.samples().samples[1].per_second, Some(10.0));
    }

    #[test]
    fn six_hours_are_kept_and_no_more() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let history = History::new(clock.clone());
        for total in 0..2_000 {
            history.add(reading(total, None));
            clock.advance(EVERY);
        }
        let kept = history.samples().samples;
        assert_eq!(kept.len(), KEPT);
        let span = kept.last().unwrap().at - kept[0].at;
        assert_eq!(span, chrono::TimeDelta::hours(6) - chrono::TimeDelta::seconds(15));
    }
}
