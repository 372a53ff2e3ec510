//! When to reconnect after a session ended.
//!
//! With `reset = "smallest"` a connection that breaks makes all others start again and read again what Adobe holds. One
//! that breaks once a minute would keep the others from the live edge for ever, where that takes longer than a minute.
//! So it stays away for as long as its session lasted, or as any connection took lately to catch up. When it breaks again
//! before it has lived longer than that, it stays away for twice that time. Meanwhile the others reach the live edge.
//! What it read itself is no measure: it may break before the first known hit comes.
//!
//! A connection that is the only one, or beside which all others wait, disturbs none, and does not stay away.

use std::time::Duration;

use shared::retry::{Backoff, NEIGHBOUR_MAX};

const FIRST_WAIT: Duration = Duration::from_millis(250);
/// A session that lasted so long after it had caught up was good: the connection reconnects at once.
pub(crate) const GOOD_SESSION: Duration = Duration::from_secs(10);
/// Longest stay away for the sake of the others, since Adobe may hold hits for this one; also after [`End::Exhausted`].
const MAX_AWAY: Duration = Duration::from_secs(900);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Adobe ended it. All that was sent was read, and no other connection starts again.
    Complete,
    /// The connection broke. What was under way is lost.
    Broken,
    Damaged,
    /// As [`End::Damaged`], and the next session will end so too ([`crate::decode::damage`]).
    Exhausted,
    /// Another connection broke, or the process stops.
    Interrupted,
}

impl End {
    pub(crate) fn is_damage(self) -> bool {
        matches!(self, Self::Damaged | Self::Exhausted)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub lasted: Duration,
    /// How long of that it read hits that the log has.
    pub catching_up: Duration,
    /// Whether it ended among such hits.
    pub behind: bool,
    pub end: End,
    pub others_wait: bool,
}

impl Session {
    /// Whether it read new hits for long enough, if catching up takes so long.
    pub(crate) fn was_stable(&self, catch_up: Duration) -> bool {
        let live = self.lasted.saturating_sub(self.catching_up);
        !self.behind && live >= self.catching_up.max(catch_up).max(GOOD_SESSION)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ReconnectPolicy {
    pub(crate) backoff: Backoff,
    /// Whether no other connection reads the stream.
    alone: bool,
    /// Sessions in a row that broke, while there was something to catch up with, before they were stable.
    broke_early: u32,
}

impl ReconnectPolicy {
    /// `max` is the longest wait of a connection that is alone.
    pub(crate) fn new(max: Duration, alone: bool) -> Self {
        Self { backoff: Backoff::new(FIRST_WAIT, max), alone, broke_early: 0 }
    }

    /// The wait after a session, None for at once. `longest` is how long any connection took lately to catch up.
    pub(crate) fn session_ended(&mut self, session: &Session, longest: Duration) -> Option<Duration> {
        let catch_up = if self.disturbs_others(session) { longest } else { Duration::ZERO };
        let good = !session.end.is_damage() && session.was_stable(catch_up);
        if good {
            self.backoff.succeeded();
            self.broke_early = 0;
        }
        // Only the second short session in a row waits.
        let at_once = self.backoff.failures() == 0 && !session.end.is_damage();
        let wait = match session.end {
            // The network may be well again any moment, as when nobody can be reached.
            End::Broken => self.backoff.failed_within(NEIGHBOUR_MAX),
            _ => self.backoff.failed(),
        };
        let away = if good { Duration::ZERO } else { self.stay_away(session, longest) };
        let away = if session.end == End::Exhausted { MAX_AWAY } else { away };
        match (at_once, away.is_zero()) {
            (true, true) => None,
            (true, false) => Some(away),
            (false, _) => Some(wait.max(away)),
        }
    }

    fn disturbs_others(&self, session: &Session) -> bool {
        !self.alone && session.end != End::Complete && !session.others_wait
    }

    fn stay_away(&mut self, session: &Session, longest: Duration) -> Duration {
        let own = if session.catching_up.is_zero() { Duration::ZERO } else { session.lasted };
        let measure = own.max(longest);
        if !self.disturbs_others(session) || measure.is_zero() {
            return Duration::ZERO;
        }
        let times = match (self.broke_early, session.behind) {
            // The session had caught up. The first time that one breaks, that may be chance.
            (0, false) => 0,
            (0, true) => 1,
            // The wait grows no further: Adobe may hold hits for this connection meanwhile.
            _ => 2,
        };
        self.broke_early = self.broke_early.saturating_add(1);
        measure.saturating_mul(times).min(MAX_AWAY)
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::Steady;

    use super::*;
    use crate::source::shared_state::CatchUpTimes;

    /// No connection had anything to read again.
    const NONE: Duration = Duration::ZERO;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A session that broke after so many seconds, of which it was catching up for so many.
    fn broke(lasted: u64, catching_up: u64) -> Session {
        let behind = catching_up > 0 && catching_up == lasted;
        let (lasted, catching_up) = (seconds(lasted), seconds(catching_up));
        Session { lasted, catching_up, behind, end: End::Broken, others_wait: false }
    }

    #[test]
    fn a_good_session_is_followed_at_once_and_the_second_short_one_waits() {
        let mut policy = ReconnectPolicy::new(seconds(60), true);
        assert_eq!(policy.session_ended(&broke(1, 0), NONE), None);
        assert!(policy.session_ended(&broke(1, 0), NONE).is_some_and(|wait| wait <= seconds(1)));
        assert_eq!(policy.session_ended(&broke(10, 0), NONE), None);
    }

    #[test]
    fn a_connection_that_breaks_before_it_has_caught_up_stays_away_while_the_others_do() {
        let mut policy = ReconnectPolicy::new(seconds(1), false);
        for wait in [60, 120, 120, 120] {
            assert_eq!(policy.session_ended(&broke(60, 60), NONE), Some(seconds(wait)));
        }
        assert_eq!(policy.session_ended(&broke(600, 600), NONE), Some(MAX_AWAY));
        // It has caught up, and lives on for as long as that took.
        assert_eq!(policy.session_ended(&broke(600, 240), NONE), None);
        assert_eq!(policy.session_ended(&broke(60, 60), NONE), Some(seconds(60)));
    }

    #[test]
    fn one_that_breaks_soon_after_it_has_caught_up_stays_away_while_the_others_catch_up() {
        let mut policy = ReconnectPolicy::new(seconds(1), false);
        assert_eq!(policy.session_ended(&broke(60, 40), NONE), None, "the first may be chance");
        assert_eq!(policy.session_ended(&broke(60, 40), NONE), Some(seconds(120)));
        assert_eq!(policy.session_ended(&broke(60, 40), NONE), Some(seconds(120)));
        assert_eq!(
            policy
                .session_ended(&Session { end: End::Complete, ..broke(60, 40) }, NONE)
                .map(|wait| wait <= seconds(1)),
            Some(true)
        );
    }

    #[test]
    fn a_connection_that_is_alone_waits_for_nobody() {
        let mut policy = ReconnectPolicy::new(seconds(1), true);
        for _ in 0..10 {
            assert!(policy.session_ended(&broke(60, 60), NONE).is_none_or(|wait| wait <= seconds(1)));
        }
    }

    #[test]
    fn a_network_that_cuts_each_session_is_tried_as_often_as_one_that_lets_nobody_through() {
        let mut policy = ReconnectPolicy::new(seconds(60), true);
        let mut waits = (0..20).filter_map(|_| policy.session_ended(&broke(1, 0), NONE));
        assert!(waits.all(|wait| wait <= NEIGHBOUR_MAX));
        let ended = Session { end: End::Complete, ..broke(1, 0) };
        assert!(policy.session_ended(&ended, NONE).is_some_and(|wait| wait >= seconds(30)), "Adobe ends it");
    }

    #[test]
    fn damage_always_waits_and_waits_longer_each_time() {
        let mut policy = ReconnectPolicy::new(seconds(60), true);
        let damaged = Session { end: End::Damaged, ..broke(3_600, 0) };
        let waits: Vec<_> = (0..10).map(|_| policy.session_ended(&damaged, NONE).unwrap()).collect();
        assert!(waits[0] <= Duration::from_millis(250) && waits[9] >= seconds(30), "{waits:?}");
    }

    #[test]
    fn after_a_session_of_no_use_even_one_that_is_alone_stays_away() {
        let useless = Session { end: End::Exhausted, ..broke(60, 0) };
        assert_eq!(ReconnectPolicy::new(seconds(60), true).session_ended(&useless, NONE), Some(MAX_AWAY));
    }

    #[test]
    fn one_that_brings_nothing_stays_away_as_long_as_the_others_take_to_catch_up() {
        // Closed at once, and quiet until it timed out.
        for lasted in [0, 60] {
            let mut policy = ReconnectPolicy::new(seconds(1), false);
            assert_eq!(
                policy.session_ended(&broke(lasted, 0), seconds(120)),
                None,
                "the first may be chance"
            );
            for wait in [240, 240, 240] {
                assert_eq!(
                    policy.session_ended(&broke(lasted, 0), seconds(120)),
                    Some(seconds(wait)),
                    "{lasted}"
                );
            }
            assert_eq!(policy.session_ended(&broke(130, 0), seconds(120)), None, "it has lived as long");
            let last = Session { others_wait: true, ..broke(lasted, 0) };
            for (session, alone) in [(broke(lasted, 0), true), (last, false)] {
                let mut policy = ReconnectPolicy::new(seconds(1), alone);
                (0..9)
                    .for_each(|_| assert!(policy.session_ended(&session, seconds(120)) <= Some(seconds(1))));
            }
        }
    }

    /// A connection whose sessions last for so long and bring nothing, beside one that takes `needed` to catch up and
    /// begins anew at each break. After how many breaks the other has caught up.
    fn breaks_until_caught_up(lasts: Duration, needed: Duration) -> Option<usize> {
        let (mut policy, times) = (ReconnectPolicy::new(seconds(60), false), CatchUpTimes::default());
        let mut now = Steady::from_millis(0);
        let mut undisturbed = lasts;
        for breaks in 1..100 {
            // As in a session: the other one hears of the break, and has ended, only after the flapper has asked.
            let wait = policy.session_ended(&Session { lasted: lasts, ..broke(0, 0) }, times.longest(now));
            if undisturbed >= needed {
                return Some(breaks);
            }
            times.record(1, undisturbed, true, now);
            undisturbed = wait.unwrap_or_default() + lasts;
            now = now + undisturbed;
        }
        None
    }

    #[test]
    fn beside_one_that_breaks_before_it_brings_anything_the_others_reach_the_live_edge() {
        for lasts in [Duration::from_millis(5), seconds(1), seconds(60)] {
            for needed in [seconds(90), seconds(600), seconds(899)] {
                let breaks = breaks_until_caught_up(lasts, needed);
                assert!(breaks.is_some_and(|breaks| breaks <= 20), "{lasts:?} {needed:?}: {breaks:?}");
            }
        }
    }
}
