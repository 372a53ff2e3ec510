//! What the connections of a process share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reqwest::Client;
use shared::causes::causes;
use shared::clock::{Clock, Steady};
use shared::config::Adobe;
use shared::exit::{Exit, Failure};
use shared::lock::locked;
use state::log::KnownHits;
use state::status::activity::Activity;
use state::status::tap::Tap;
use tokio::sync::{mpsc, watch};

use crate::append::ConnectionEvent;
use crate::counters::Counters;
use crate::decode::damage::SeenRecords;
use crate::source::connect;
use crate::source::token::Tokens;

/// What the connections of a process share.
#[derive(Clone)]
pub struct Shared {
    /// `[adobe]`
    pub config: Adobe,
    /// The client for IMS and Livestream.
    pub http: Client,
    /// The token.
    pub tokens: Tokens,
    pub(crate) counters: Arc<Counters>,
    pub(crate) out: mpsc::Sender<ConnectionEvent>,
    pub(crate) known: KnownHits,
    pub(crate) clock: Clock,
    /// How often a connection broke. Its hits in flight are lost, and Adobe may give its visitors to another
    /// connection. So all connections start again, each with `reset`, and nothing is missing.
    pub(crate) broken: watch::Sender<u64>,
    pub(crate) catch_up_times: CatchUpTimes,
    pub(crate) seen: SeenRecords,
    /// Where each connection reports what it is doing.
    pub(crate) activity: Activity,
    /// Shows records to those who tap the producer.
    pub(crate) tap: Tap,
}

impl Shared {
    /// For connections that are not connected yet. The token is kept in the file `cache`, if there is one.
    pub fn new(
        config: &Adobe,
        cache: Option<PathBuf>,
        counters: Arc<Counters>,
        out: mpsc::Sender<ConnectionEvent>,
        known: KnownHits,
        clock: Clock,
    ) -> Result<Self, Failure> {
        let http = connect::client(config).map_err(|error| {
            Failure::new(Exit::Config, anyhow::anyhow!("cannot set up HTTPS: {}", causes(&error)))
        })?;
        let tokens = Tokens::new(http.clone(), config, cache, clock.clone())
            .map_err(|error| Failure::new(Exit::Config, error))?;
        let (broken, catch_up_times, seen, tap) = Default::default();
        let (config, activity) = (config.clone(), Activity::new(clock.clone()));
        Ok(Self {
            config,
            http,
            tokens,
            counters,
            out,
            known,
            clock,
            broken,
            catch_up_times,
            seen,
            activity,
            tap,
        })
    }
}

/// How long the time of a session counts.
const RECENT: Duration = Duration::from_secs(3_600);

/// How long the connections took to catch up lately, and which of them wait. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct CatchUpTimes(Arc<Mutex<HashMap<u8, Latest>>>);

#[derive(Debug, Default)]
struct Latest {
    took: Option<(Duration, Steady)>,
    waits_until: Option<Steady>,
}

impl CatchUpTimes {
    /// Records a session that spent so long among known hits. It was still `behind` if it ended among them.
    pub(crate) fn record(&self, connection: u8, catching_up: Duration, behind: bool, now: Steady) {
        if catching_up.is_zero() {
            return;
        }
        let mut all = self.lock();
        let latest = all.entry(connection).or_default();
        let took = match behind {
            // Another connection cut it short: it takes longer than that, and not less than it once took.
            true => catching_up.saturating_mul(2).max(latest.recent(now)),
            false => catching_up,
        };
        latest.took = Some((took, now));
    }

    pub(crate) fn longest(&self, now: Steady) -> Duration {
        self.lock().values().map(|latest| latest.recent(now)).max().unwrap_or_default()
    }

    pub(crate) fn set_waiting(&self, connection: u8, until: Steady) {
        self.lock().entry(connection).or_default().waits_until = Some(until);
    }

    pub(crate) fn all_others_wait(&self, connection: u8, connections: u8, now: Steady) -> bool {
        let all = self.lock();
        let waits = |other| {
            all.get(&other).and_then(|latest: &Latest| latest.waits_until).is_some_and(|until| until > now)
        };
        (0..connections).filter(|other| *other != connection).all(waits)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u8, Latest>> {
        locked(&self.0)
    }
}

impl Latest {
    fn recent(&self, now: Steady) -> Duration {
        self.took.filter(|(_, at)| at.until(now) <= RECENT).map(|(took, _)| took).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_the_last_while_all_others_wait() {
        let (times, now) = (CatchUpTimes::default(), Steady::from_millis(0));
        assert!(times.all_others_wait(0, 1, now) && !times.all_others_wait(0, 3, now));
        times.set_waiting(1, now + Duration::from_secs(10));
        assert!(!times.all_others_wait(0, 3, now) && times.all_others_wait(0, 2, now));
        times.set_waiting(2, now + Duration::from_secs(5));
        assert!(times.all_others_wait(0, 3, now) && !times.all_others_wait(1, 3, now));
        assert!(!times.all_others_wait(0, 3, now + Duration::from_secs(5)), "one is back");
    }

    #[test]
    fn the_slowest_connection_of_the_last_hour_counts_and_one_cut_short_counts_twice() {
        let (times, now) = (CatchUpTimes::default(), Steady::from_millis(0));
        let seconds = Duration::from_secs;
        assert_eq!(times.longest(now), Duration::ZERO);
        times.record(0, seconds(60), true, now);
        times.record(1, seconds(90), false, now);
        assert_eq!(times.longest(now), seconds(120));
        times.record(0, seconds(1), true, now);
        assert_eq!(times.longest(now), seconds(120), "it takes no less for being cut short sooner");
        times.record(0, Duration::ZERO, false, now);
        assert_eq!(times.longest(now), seconds(120), "a session without known hits tells nothing");
        times.record(0, seconds(70), false, now);
        assert_eq!(times.longest(now), seconds(90));
        assert_eq!(times.longest(now + seconds(3_601)), Duration::ZERO);
    }
}
