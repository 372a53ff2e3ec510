//! The circuit breaker: holds all loading while failures are not those of a batch, and decides when a batch is retried.
//! Pure: the loader acts on the result.

use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::clock::Steady;
use shared::retry::{Backoff, NEIGHBOUR_MAX, drawn};
use state::loads::Load;

use crate::failure::{LoadFailure, Pace, Scope};

/// Attempts in a row that met a failure of every batch after which a batch lets the others go first.
const STEPS_ASIDE: u32 = 3;

/// While the breaker is open nothing is tried. When its time is over one COPY goes first, and the others follow only if
/// that succeeds.
///
/// Whether a failure is really that of every batch is not known beforehand: Redshift may say *Assert* to one batch alone.
/// So a batch that met it [`STEPS_ASIDE`] times in a row waits longer than the breaker is open, and another goes first.
/// If any batch was loaded since this one began to fail, the failure counts as its own, and no longer opens the breaker.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    first: Duration,
    max: Duration,
    backoff: Backoff,
    open_until: Option<Steady>,
    /// When a batch was loaded last, by the wall clock: it is compared with failures from before a restart.
    loaded: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Past {
    /// Attempts that failed in a row, this one included; 0 if it could not start.
    pub tries: u32,
    /// When the first of those before this one failed, as far back as is kept.
    pub since: Option<DateTime<Utc>>,
}

impl Past {
    /// Of a batch whose attempt has just failed, while that is not noted yet.
    pub(super) fn of(load: &Load) -> Self {
        let (tries, since) = load.tries_in_a_row();
        Self { tries: tries.saturating_add(1), since }
    }
}

impl CircuitBreaker {
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, backoff: Backoff::new(first, max), open_until: None, loaded: None }
    }

    /// Until when nothing may be tried, if it is open at `now`.
    pub(super) fn open_until(&self, now: Steady) -> Option<Steady> {
        self.open_until.filter(|until| *until > now)
    }

    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// The servers answered as they should: closes.
    pub(super) fn succeeded(&mut self) {
        self.backoff.succeeded();
        self.open_until = None;
    }

    pub(super) fn loaded(&mut self, now: DateTime<Utc>) {
        self.succeeded();
        self.loaded = Some(now);
    }

    /// Takes a failure into account and decides whose it is. `alone` is what came before, if a single batch met it.
    pub(super) fn failed(&mut self, failure: &LoadFailure, alone: Option<Past>, now: Steady) -> Scope {
        let others_went = alone.and_then(|past| past.since).is_some_and(|since| self.loaded > Some(since));
        if failure.scope == Scope::Batch || others_went {
            // The servers did what they should; only this batch is at fault.
            self.succeeded();
            return Scope::Batch;
        }
        let usual = self.backoff.failed();
        self.open_until = Some(now + if failure.pace == Pace::Slow { self.slow() } else { usual });
        Scope::Whole
    }

    /// Redshift was not reached, so nothing was tried there: it costs nothing to see soon whether it is back.
    pub(super) fn unreached(&mut self, now: Steady) {
        self.open_until = self.open_until.map(|until| until.min(now + drawn(NEIGHBOUR_MAX)));
    }

    /// How long a batch that met the failure waits before it is retried.
    pub(super) fn wait(&self, failure: &LoadFailure, scope: Scope, past: Past, now: Steady) -> Duration {
        let own = match failure.pace {
            Pace::Slow => self.slow(),
            Pace::Usual => Backoff::new(self.first, self.max).after(past.tries.saturating_sub(1)).failed(),
        };
        match (scope, self.open_until) {
            (Scope::Whole, Some(until)) if past.tries >= STEPS_ASIDE => now.until(until) + own,
            (Scope::Whole, Some(until)) => now.until(until).max(own),
            _ => own,
        }
    }

    /// For what only an operator can mend, or what passes slowly.
    fn slow(&self) -> Duration {
        drawn(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::Clock;
    use state::loads::ErrorClass;

    fn breaker() -> CircuitBreaker {
        CircuitBreaker::new(Duration::from_secs(1), Duration::from_secs(100))
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn clock() -> Clock {
        Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap())
    }

    /// A batch fails alone: whose failure that is, and how long it waits.
    fn fail(
        breaker: &mut CircuitBreaker,
        failure: &LoadFailure,
        past: Past,
        now: Steady,
    ) -> (Scope, Duration) {
        let scope = breaker.failed(failure, Some(past), now);
        (scope, breaker.wait(failure, scope, past, now))
    }

    #[test]
    fn refused_rows_hold_their_own_batch_only() {
        let (mut breaker, now) = (breaker(), clock().steady());
        let failure = LoadFailure::of_batch(ErrorClass::Data, "a load error");
        let (scope, wait) = fail(&mut breaker, &failure, Past { tries: 1, since: None }, now);
        assert!(scope == Scope::Batch && wait >= 50 * SECOND, "a person has to look: slowly");
        assert_eq!(breaker.open_until(now), None);
    }

    #[test]
    fn a_lost_connection_opens_the_breaker_longer_each_time_until_one_batch_goes_through() {
        let (mut breaker, now) = (breaker(), clock().steady());
        let lost = LoadFailure::of_all(ErrorClass::Passing, "connection closed", "");
        breaker.failed(&lost, None, now);
        assert!(now.until(breaker.open_until(now).unwrap()) <= SECOND);
        for _ in 0..10 {
            breaker.failed(&lost, None, now);
        }
        let until = breaker.open_until(now).unwrap();
        assert!((50 * SECOND..=100 * SECOND).contains(&now.until(until)));
        assert_eq!(breaker.open_until(until), None, "one is let through when the time is over");
        breaker.loaded(clock().wall());
        assert_eq!((breaker.open_until(now), breaker.failures()), (None, 0));
    }

    #[test]
    fn whether_a_redshift_that_is_away_is_back_is_seen_soon() {
        let (mut breaker, now) = (breaker(), clock().steady());
        let away = LoadFailure::of_all(ErrorClass::Passing, "connecting to Redshift: connection refused", "");
        for _ in 0..20 {
            breaker.failed(&away, None, now);
            breaker.unreached(now);
        }
        assert!(now.until(breaker.open_until(now).unwrap()) <= NEIGHBOUR_MAX);
    }

    #[test]
    fn what_passes_slowly_or_not_by_itself_opens_the_breaker_for_long_at_once() {
        let now = clock().steady();
        let full =
            LoadFailure { pace: Pace::Slow, ..LoadFailure::of_all(ErrorClass::Passing, "Disk Full", "") };
        for failure in [full, LoadFailure::of_all(ErrorClass::Configuration, "no such role", "")] {
            let mut breaker = breaker();
            let (_, wait) = fail(&mut breaker, &failure, Past { tries: 1, since: None }, now);
            let open = now.until(breaker.open_until(now).unwrap());
            assert!(open >= 50 * SECOND && open <= wait, "not due while the breaker is open");
        }
    }

    #[test]
    fn a_batch_that_meets_a_failure_of_all_again_and_again_lets_the_others_go_first() {
        let (mut breaker, now) = (breaker(), clock().steady());
        let unknown = LoadFailure::of_all(ErrorClass::Unknown, "Assert", "");
        for tries in 1..=5 {
            let (scope, wait) =
                fail(&mut breaker, &unknown, Past { tries, since: Some(clock().wall()) }, now);
            let open = now.until(breaker.open_until(now).unwrap());
            assert_eq!(scope, Scope::Whole);
            let aside = wait >= open + SECOND / 2;
            assert!(if tries >= STEPS_ASIDE { aside } else { wait >= open }, "try {tries}");
        }
    }

    #[test]
    fn a_failure_that_others_do_not_meet_is_the_batchs_own() {
        let clock = clock();
        let unknown = LoadFailure::of_all(ErrorClass::Unknown, "Assert", "");
        let mut breaker = breaker();
        breaker.loaded(clock.wall());
        clock.advance(10 * SECOND);
        let later = clock.wall();
        let first = fail(&mut breaker, &unknown, Past { tries: 1, since: None }, clock.steady());
        assert_eq!(first.0, Scope::Whole, "nothing is known yet");
        clock.advance(SECOND);
        breaker.loaded(clock.wall());
        // Also when nothing else came since the last time.
        for tries in 2_u32..=4 {
            clock.advance(9 * SECOND);
            let past = Past { tries, since: Some(later) };
            assert_eq!(fail(&mut breaker, &unknown, past, clock.steady()).0, Scope::Batch);
            assert_eq!(breaker.open_until(clock.steady()), None);
        }
        assert_eq!(
            breaker.failed(&unknown, None, clock.steady()),
            Scope::Whole,
            "several together prove nothing"
        );
    }
}
