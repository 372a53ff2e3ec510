//! Compares a session with the log. Adobe sends all it holds after a reconnect with `reset`, oldest first. So a session
//! begins with hits that the log has, and is at the live edge when new ones come.

use std::time::Duration;

use shared::clock::{Clock, Steady};
use state::log::{HitId, KnownHits};

use crate::transform::{self, Identity};

/// After so many unknown records in a row only some are looked up: a lookup in vain costs a tenth of the transform.
const MAX_MISSES: u64 = 4_096;
/// One record in so many is looked up then, until the log has one: it may have forgotten the first that Adobe sends.
const LOOKUP_INTERVAL: u64 = 64;
/// With so many more new rows than known hits a session has caught up: a few new ones are found among the known.
const CAUGHT_UP: u32 = 64;
/// With so many more known hits than new rows after that it catches up again: some come twice at the live edge too.
const FELL_BACK: u32 = 1_024;

/// Recognises the hits of one session that the log has.
#[derive(Debug)]
pub struct Resume {
    known: KnownHits,
    clock: Clock,
    begun: Steady,
    /// Records since the last one that the log has.
    misses: u64,
    /// The last record that was looked up does not say at a glance whose it is.
    unclear: bool,
    /// By how many new rows were more than known hits, lately.
    ahead: u32,
    /// By how many known hits were more than new rows.
    behind: u32,
    /// Whether a known hit came since the last block.
    any: bool,
    caught_up: bool,
    /// When the last block with known hits ended, before the session caught up.
    last_known: Option<Steady>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CatchUp {
    /// How long it read hits that the log has.
    pub took: Duration,
    pub behind: bool,
}

impl Resume {
    /// For a session that begins now. `known` are the hits of the log.
    pub fn new(known: KnownHits, clock: Clock) -> Self {
        let (misses, unclear, ahead, behind, any, caught_up, last_known) = Default::default();
        Self {
            known,
            begun: clock.steady(),
            clock,
            misses,
            unclear,
            ahead,
            behind,
            any,
            caught_up,
            last_known,
        }
    }

    /// The identity of a record whose hit the log has. `in_doubt` says that the record may be damaged.
    pub(super) fn find(&mut self, record: &[u8], in_doubt: bool) -> Option<Identity> {
        self.misses += 1;
        self.unclear = false;
        if self.misses > MAX_MISSES && !self.misses.is_multiple_of(LOOKUP_INTERVAL) {
            return None;
        }
        let identity = transform::identity(record);
        self.unclear = identity.is_none();
        let found = identity.filter(|identity| self.known.contains(identity.hit))?;
        // The lookup reads only the ids. A damaged record must not count as readable for them.
        if in_doubt && !transform::is_json(record) {
            return None;
        }
        self.misses = 0;
        self.any = true;
        self.ahead = self.ahead.saturating_sub(1);
        self.behind = self.behind.saturating_add(1);
        self.caught_up &= self.behind < FELL_BACK;
        Some(found)
    }

    /// Whether the log has the hit of the last record, whose identity only the transform could tell.
    pub(super) fn has_unclear(&self, hit: HitId) -> bool {
        self.unclear && self.known.contains(hit)
    }

    pub(super) fn new_row(&mut self) {
        self.ahead = self.ahead.saturating_add(1).min(CAUGHT_UP);
        self.behind = self.behind.saturating_sub(1);
        if !self.caught_up && self.ahead == CAUGHT_UP {
            (self.caught_up, self.behind) = (true, 0);
        }
    }

    pub(super) fn block_ended(&mut self) {
        if std::mem::take(&mut self.any) && !self.caught_up {
            self.last_known = Some(self.clock.steady());
        }
    }

    pub(super) fn catch_up(&self) -> CatchUp {
        let took = self.last_known.map_or(Duration::ZERO, |last| self.begun.until(last));
        CatchUp { took, behind: self.last_known.is_some() && !self.caught_up && self.ahead == 0 }
    }
}

#[cfg(test)]
mod tests {
    use state::log::HitId;

    use super::*;

    /// A session of known hits for `k` and new rows for other letters, in one block that takes a second.
    fn session(hits: &str) -> CatchUp {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let known = [HitId { high: 1, low: 2 }].into_iter().collect();
        let mut resume = Resume::new(known, clock.clone());
        for hit in hits.chars() {
            match hit {
                'k' => {
                    let found = resume.find(br#"{"hitIdHigh":1,"hitIdLow":2}"#, false);
                    assert!(found.is_some());
                }
                _ => resume.new_row(),
            }
        }
        clock.advance(Duration::from_secs(1));
        resume.block_ended();
        resume.catch_up()
    }

    #[test]
    fn a_session_that_begins_with_forgotten_hits_falls_back_when_many_known_ones_come() {
        let forgotten = "n".repeat(5_000);
        assert!(session(&format!("{forgotten}{}", "k".repeat(1_024))).behind);
        assert!(!session(&format!("{forgotten}{}", "k".repeat(1_023))).behind);
        assert!(!session(&format!("{forgotten}{}", "kn".repeat(5_000))).behind, "as many new as known");
    }

    #[test]
    fn a_session_is_behind_while_known_hits_come_and_no_longer() {
        assert_eq!(session("kkk"), CatchUp { took: Duration::from_secs(1), behind: true });
        assert!(session("kkknk").behind, "a new hit among known ones is one that was under way");
        assert!(!session("kkkn").behind);
        assert_eq!(session(""), CatchUp::default(), "a quiet stream has nothing to catch up with");
        assert!(!session(&"n".repeat(100)).behind);
        let caught_up = session(&format!("kkk{}kkk", "n".repeat(64)));
        assert!(!caught_up.behind, "what comes twice at the live edge is no catching up");
    }
}
