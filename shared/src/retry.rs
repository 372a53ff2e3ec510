//! Back-off. It knows nothing about errors: whether to try again is decided where the error is understood.
//!
//! No crate does it: `backon` and `backoff` draw other jitter, and cannot resume after failures of an earlier process.

use std::time::Duration;

/// A neighbour that is away is tried again after so long at most. Its alert is to be over within a minute of the outage, and
/// alerts wait for some seconds without a failure.
pub const NEIGHBOUR_MAX: Duration = Duration::from_secs(20);

/// A wait between half of `whole` and the whole, so that services do not retry together.
pub fn drawn(whole: Duration) -> Duration {
    whole.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Waits that double from `first` to `max`, each of them [`drawn`].
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// A back-off that has seen no failure yet.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max: max.max(first), failures: 0 }
    }

    /// Goes on where `failures` failures have been seen already (after a restart).
    #[must_use]
    pub fn after(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// Counts a failure and says how long to wait before the next try.
    pub fn failed(&mut self) -> Duration {
        self.failed_within(self.max)
    }

    /// The same, but the wait is `longest` at most: another kind of failure may have to wait longer.
    pub fn failed_within(&mut self, longest: Duration) -> Duration {
        let doubled = self.first.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        drawn(doubled.min(self.max).min(longest))
    }

    /// Forgets past failures.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_stay_there() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let waits: Vec<_> = (0..100).map(|_| backoff.failed()).collect();
        assert!(waits[0] <= Duration::from_millis(100) && waits[0] >= Duration::from_millis(50));
        assert!(waits[50..].iter().all(|wait| (2.5..=5.0).contains(&wait.as_secs_f64())));
        let within: Vec<_> = (0..100).map(|_| backoff.failed_within(Duration::from_secs(2))).collect();
        assert!(within.iter().all(|wait| (1.0..=2.0).contains(&wait.as_secs_f64())));
        assert!(within.iter().any(|wait| *wait != within[0]));
        backoff.succeeded();
        assert!(backoff.failed() <= Duration::from_millis(100));
    }
}
