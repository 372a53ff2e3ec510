//! Holds loading as a whole while the trouble is nobody's batch, and says when a batch is tried again. Decides only.

use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::clock::Steady;
use shared::retry::Backoff;
use state::loads::Load;

use crate::failure::{LoadFailure, Pace, Scope};

/// Attempts in a row that met trouble of everybody's after which a batch lets the others go first.
const STEPS_ASIDE: u32 = 3;

/// The breaker. While it is shut nothing is tried; when its time is over one COPY goes first, and the others follow
/// only if that succeeds.
///
/// Whether trouble is really everybody's is not known beforehand: Redshift may say *Assert* to one batch alone. So a
/// batch that met it [`STEPS_ASIDE`] times in a row waits longer than the circuit breaker, and another goes first; and if any
/// batch was loaded since this one began to fail, the trouble is taken for its own, and shuts the circuit breaker no more.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    first: Duration,
    max: Duration,
    backoff: Backoff,
    until: Option<Steady>,
    /// When a batch was loaded last, by the wall clock: it is compared with failures from before a restart.
    loaded: Option<DateTime<Utc>>,
}

/// What came before the failure of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// Attempts that failed in a row, this one included; 0 if it could not start.
    pub tries: u32,
    /// When the first of those before this one failed, as far back as is kept.
    pub since: Option<DateTime<Utc>>,
}

impl Past {
    /// Of a batch whose attempt has just failed, and that not noted yet.
    #[must_use]
    pub(crate) fn of(load: &Load) -> Self {
        let (tries, since) = load.tries_in_a_row();
        Self { tries: tries.saturating_add(1), since }
    }
}

impl CircuitBreaker {
    /// An open circuit breaker; `first` and `max` are the waits of the configuration.
    #[must_use]
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, backoff: Backoff::new(first, max), until: None, loaded: None }
    }

    /// Until when nothing may be tried, if it is shut at `now`.
    #[must_use]
    pub(crate) fn shut(&self, now: Steady) -> Option<Steady> {
        self.until.filter(|until| *until > now)
    }

    /// Failures in a row that were nobody's batch.
    #[must_use]
    pub(crate) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// The servers answered as they should.
    pub(crate) fn succeeded(&mut self) {
        self.backoff.succeeded();
        self.until = None;
    }

    /// A batch was loaded.
    pub(crate) fn loaded(&mut self, now: DateTime<Utc>) {
        self.succeeded();
        self.loaded = Some(now);
    }

    /// Takes note of trouble, and says whose it is taken for. `alone` is what came before, if a single batch met it.
    pub(crate) fn failed(&mut self, trouble: &LoadFailure, alone: Option<Past>, now: Steady) -> Scope {
        let others_went = alone.and_then(|past| past.since).is_some_and(|since| self.loaded > Some(since));
        if trouble.scope == Scope::Batch || others_went {
            // The servers did what they should; only this batch is not right.
            self.succeeded();
            return Scope::Batch;
        }
        let usual = self.backoff.failed();
        self.until = Some(now + if trouble.pace == Pace::Slow { self.slow() } else { usual });
        Scope::Whole
    }

    /// How long a batch that met the trouble waits before it is tried again.
    #[must_use]
    pub(crate) fn wait(&self, trouble: &LoadFailure, whose: Scope, past: Past, now: Steady) -> Duration {
        let own = match trouble.pace {
            Pace::Slow => self.slow(),
            Pace::Usual => Backoff::new(self.first, self.max).after(past.tries.saturating_sub(1)).failed(),
        };
        match (whose, self.until) {
            (Scope::Whole, Some(until)) if past.tries >= STEPS_ASIDE => now.until(until) + own,
            (Scope::Whole, Some(until)) => now.until(until).max(own),
            _ => own,
        }
    }

    /// What only a person can mend, or what passes slowly, is not asked about every second.
    fn slow(&self) -> Duration {
        Backoff::new(self.max, self.max).failed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::Moment;
    use state::loads::ErrorClass;

    fn breaker() -> CircuitBreaker {
        CircuitBreaker::new(Duration::from_secs(1), Duration::from_secs(100))
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn steady(at: DateTime<Utc>) -> Steady {
        Moment::from(at).steady
    }

    /// A batch fails alone; says whose trouble it is taken for and how long it waits.
    fn fail(
        breaker: &mut CircuitBreaker,
        trouble: &LoadFailure,
        past: Past,
        now: Steady,
    ) -> (Scope, Duration) {
        let whose = breaker.failed(trouble, Some(past), now);
        (whose, breaker.wait(trouble, whose, past, now))
    }

    #[test]
    fn refused_rows_hold_their_own_batch_only() {
        let (mut breaker, now) = (breaker(), Steady::now());
        let trouble = LoadFailure::of_batch(ErrorClass::Data, "a load error");
        let (whose, wait) = fail(&mut breaker, &trouble, Past { tries: 1, since: None }, now);
        assert!(whose == Scope::Batch && wait >= 50 * SECOND, "a person has to look: slowly");
        assert_eq!(breaker.shut(now), None);
    }

    #[test]
    fn a_lost_connection_shuts_the_gate_longer_each_time_until_one_batch_goes_through() {
        let (mut breaker, now) = (breaker(), Steady::now());
        let lost = LoadFailure::of_all(ErrorClass::Passing, "connection closed", "");
        breaker.failed(&lost, None, now);
        assert!(now.until(breaker.shut(now).unwrap()) <= SECOND);
        for _ in 0..10 {
            breaker.failed(&lost, None, now);
        }
        let until = breaker.shut(now).unwrap();
        assert!((50 * SECOND..=100 * SECOND).contains(&now.until(until)));
        assert_eq!(breaker.shut(until), None, "one is let through when the time is over");
        breaker.loaded(Utc::now());
        assert_eq!((breaker.shut(now), breaker.failures()), (None, 0));
    }

    #[test]
    fn what_passes_slowly_or_not_by_itself_shuts_the_gate_for_long_at_once() {
        let now = Steady::now();
        let full =
            LoadFailure { pace: Pace::Slow, ..LoadFailure::of_all(ErrorClass::Passing, "Disk Full", "") };
        for trouble in [full, LoadFailure::of_all(ErrorClass::Configuration, "no such role", "")] {
            let mut breaker = breaker();
            let (_, wait) = fail(&mut breaker, &trouble, Past { tries: 1, since: None }, now);
            let shut = now.until(breaker.shut(now).unwrap());
            assert!(shut >= 50 * SECOND && shut <= wait, "not due while the breaker is shut");
        }
    }

    #[test]
    fn whoever_meets_everybodys_trouble_again_and_again_lets_the_others_go_first() {
        let (mut breaker, now) = (breaker(), Steady::now());
        let unknown = LoadFailure::of_all(ErrorClass::Unknown, "Assert", "");
        for tries in 1..=5 {
            let (whose, wait) = fail(&mut breaker, &unknown, Past { tries, since: Some(Utc::now()) }, now);
            let shut = now.until(breaker.shut(now).unwrap());
            assert_eq!(whose, Scope::Whole);
            let aside = wait >= shut + SECOND / 2;
            assert!(if tries >= STEPS_ASIDE { aside } else { wait >= shut }, "try {tries}");
        }
    }

    #[test]
    fn trouble_that_others_do_not_meet_is_the_batchs_own() {
        let now = Utc::now();
        let second = chrono::TimeDelta::seconds(1);
        let later = now + second * 10;
        let unknown = LoadFailure::of_all(ErrorClass::Unknown, "Assert", "");
        let mut breaker = breaker();
        breaker.loaded(now);
        let first = fail(&mut breaker, &unknown, Past { tries: 1, since: None }, steady(later));
        assert_eq!(first.0, Scope::Whole, "nothing is known yet");
        breaker.loaded(later + second);
        // Also when nothing else came since the last time.
        for tries in 2_u32..=4 {
            let at = steady(later + second * (9 * tries.cast_signed()));
            let past = Past { tries, since: Some(later) };
            assert_eq!(fail(&mut breaker, &unknown, past, at).0, Scope::Batch);
            assert_eq!(breaker.shut(at), None);
        }
        assert_eq!(
            breaker.failed(&unknown, None, steady(later)),
            Scope::Whole,
            "several together prove nothing"
        );
    }
}
