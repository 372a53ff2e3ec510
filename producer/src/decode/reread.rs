//! How long a session read what had been read before. Adobe sends all it holds after a reconnect with `reset`, oldest
//! first, so a session begins with hits the log has, and is at the live edge when new ones come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many more new rows than known hits, and the session has caught up: a few new ones are found among the known.
const CAUGHT_UP: u32 = 64;
/// So many more known hits than new rows after that, and it reads again what was read: what Adobe sends may begin with
/// hits that the log has forgotten. Some hits come twice at the live edge too.
const FELL_BACK: u32 = 1_024;
/// For so long a session tells how long catching up takes.
const RECENT: Duration = Duration::from_secs(3_600);

/// What of a session was sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reread {
    begun: Instant,
    /// By how many new rows were more than known hits, lately.
    ahead: u32,
    /// By how many known hits were more than new rows.
    behind: u32,
    /// Whether a known hit came since the last block.
    any: bool,
    last_known: Option<Instant>,
    caught_up: bool,
}

impl Reread {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), ahead: 0, behind: 0, any: false, last_known: None, caught_up: false }
    }

    pub(crate) fn known(&mut self) {
        self.any = true;
        self.ahead = self.ahead.saturating_sub(1);
        self.behind = self.behind.saturating_add(1);
        self.caught_up &= self.behind < FELL_BACK;
    }

    pub(crate) fn new_row(&mut self) {
        self.ahead = self.ahead.saturating_add(1).min(CAUGHT_UP);
        self.behind = self.behind.saturating_sub(1);
        if !self.caught_up && self.ahead == CAUGHT_UP {
            (self.caught_up, self.behind) = (true, 0);
        }
    }

    pub(crate) fn block(&mut self) {
        if std::mem::take(&mut self.any) && !self.caught_up {
            self.last_known = Some(Instant::now());
        }
    }

    /// How long it took to come to what was new.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.last_known.map_or(Duration::ZERO, |last| last - self.begun)
    }

    /// Whether the session was still among known hits when it ended.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.last_known.is_some() && !self.caught_up && self.ahead == 0
    }
}

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
    fn a_session_that_begins_with_forgotten_hits_falls_back_when_many_known_ones_come() {
        let forgotten = "n".repeat(5_000);
        assert!(session(&format!("{forgotten}{}", "k".repeat(1_024))).is_unfinished());
        assert!(!session(&format!("{forgotten}{}", "k".repeat(1_023))).is_unfinished());
        assert!(
            !session(&format!("{forgotten}{}", "kn".repeat(5_000))).is_unfinished(),
            "as many new as known"
        );
    }

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

    fn session(hits: &str) -> Reread {
        let mut reread = Reread::begin();
        for hit in hits.chars() {
            match hit {
                'k' => reread.known(),
                _ => reread.new_row(),
            }
        }
        reread.block();
        reread
    }

    #[test]
    fn a_session_is_unfinished_while_known_hits_come_and_no_longer() {
        assert!(session("kkk").is_unfinished());
        assert!(session("kkknk").is_unfinished(), "a new hit among known ones is one that was under way");
        assert!(!session("kkkn").is_unfinished());
        assert!(!session("").is_unfinished(), "a quiet stream has nothing to catch up with");
        assert!(!session(&"n".repeat(100)).is_unfinished());
        let caught_up = session(&format!("kkk{}kkk", "n".repeat(64)));
        assert!(!caught_up.is_unfinished(), "what comes twice at the live edge is no catching up");
    }
}
