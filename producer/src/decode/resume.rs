//! How long a session read what had been read before. Adobe sends all it holds after a reconnect with `reset`, oldest
//! first, so a session begins with hits the log has, and is at the live edge when new ones come.

use std::time::{Duration, Instant};

/// So many more new rows than known hits, and the session has caught up: a few new ones are found among the known.
const CAUGHT_UP: u32 = 64;
/// So many more known hits than new rows after that, and it reads again what was read: what Adobe sends may begin with
/// hits that the log has forgotten. Some hits come twice at the live edge too.
const FELL_BACK: u32 = 1_024;
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
