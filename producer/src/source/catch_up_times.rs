//! How long connections take to catch up after a reconnect.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For so long a session tells how long catching up takes.
const RECENT: Duration = Duration::from_secs(3_600);

/// How long the connections took to catch up lately, and which of them wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rereads(Arc<Mutex<HashMap<u8, Latest>>>);

#[derive(Debug, Default)]
struct Latest {
    took: Option<(Duration, Instant)>,
    waits_until: Option<Instant>,
}

impl Rereads {
    /// A session of this connection ended, after so long a time among known hits.
    pub(crate) fn note(&self, connection: u8, rereading: Duration, unfinished: bool, now: Instant) {
        if rereading.is_zero() {
            return;
        }
        let mut all = self.lock();
        let latest = all.entry(connection).or_default();
        let took = match unfinished {
            // Another connection cut it short: it takes longer than that, and not less than it once took.
            true => rereading.saturating_mul(2).max(latest.recent(now)),
            false => rereading,
        };
        latest.took = Some((took, now));
    }

    /// How long it takes the slowest of them.
    #[must_use]
    pub(crate) fn longest(&self, now: Instant) -> Duration {
        self.lock().values().map(|latest| latest.recent(now)).max().unwrap_or_default()
    }

    /// This connection waits before it connects again.
    pub(crate) fn wait(&self, connection: u8, until: Instant) {
        self.lock().entry(connection).or_default().waits_until = Some(until);
    }

    /// Whether this connection is the only one of so many that does not wait.
    #[must_use]
    pub(crate) fn is_last(&self, connection: u8, connections: u8, now: Instant) -> bool {
        let all = self.lock();
        let waits = |other| {
            all.get(&other).and_then(|latest: &Latest| latest.waits_until).is_some_and(|until| until > now)
        };
        (0..connections).filter(|other| *other != connection).all(waits)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u8, Latest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latest {
    /// How long catching up took, if that is not too long ago.
    fn recent(&self, now: Instant) -> Duration {
        let recent = self.took.filter(|(_, at)| now.saturating_duration_since(*at) <= RECENT);
        recent.map(|(took, _)| took).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_the_last_while_all_others_wait() {
        let (rereads, now) = (Rereads::default(), Instant::now());
        assert!(rereads.is_last(0, 1, now) && !rereads.is_last(0, 3, now));
        rereads.wait(1, now + Duration::from_secs(10));
        assert!(!rereads.is_last(0, 3, now) && rereads.is_last(0, 2, now));
        rereads.wait(2, now + Duration::from_secs(5));
        assert!(rereads.is_last(0, 3, now) && !rereads.is_last(1, 3, now));
        assert!(!rereads.is_last(0, 3, now + Duration::from_secs(5)), "one is back");
    }

    #[test]
    fn the_slowest_connection_of_the_last_hour_counts_and_one_cut_short_counts_twice() {
        let (rereads, now) = (Rereads::default(), Instant::now());
        let seconds = Duration::from_secs;
        assert_eq!(rereads.longest(now), Duration::ZERO);
        rereads.note(0, seconds(60), true, now);
        rereads.note(1, seconds(90), false, now);
        assert_eq!(rereads.longest(now), seconds(120));
        rereads.note(0, seconds(1), true, now);
        assert_eq!(rereads.longest(now), seconds(120), "it takes no less for being cut short sooner");
        rereads.note(0, Duration::ZERO, false, now);
        assert_eq!(rereads.longest(now), seconds(120), "a session without known hits tells nothing");
        rereads.note(0, seconds(70), false, now);
        assert_eq!(rereads.longest(now), seconds(90));
        assert_eq!(rereads.longest(now + seconds(3_601)), Duration::ZERO);
    }
}
