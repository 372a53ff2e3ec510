//! Which batch is loaded next, and when. Decides only; the loader acts.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::ids::BatchId;
use shared::retry::Backoff;
use state::loads::{ErrorClass, Load, LoadState};

use crate::trouble::{Scope, Trouble};

/// What the loader does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Load this batch.
    Load(BatchId),
    /// Nothing is due before this moment, or before something new is found.
    Wait(Option<DateTime<Utc>>),
}

/// The oldest batch that is due. `loads` come oldest first; one that waits for its next try does not hold back
/// younger ones, because every batch stands for itself.
pub fn next<'l>(loads: impl IntoIterator<Item = &'l Load>, now: DateTime<Utc>) -> Next {
    let mut earliest = None;
    for load in loads {
        match &load.state {
            // *Loading*: the attempt was cut short with the process. The ledger settles what became of it.
            LoadState::Discovered | LoadState::Loading => return Next::Load(load.batch),
            LoadState::Retrying { next, .. } if *next <= now => return Next::Load(load.batch),
            LoadState::Retrying { next, .. } => {
                earliest = Some(earliest.map_or(*next, |at: DateTime<Utc>| at.min(*next)));
            }
            LoadState::Loaded { .. } | LoadState::Archived { .. } => {}
        }
    }
    Next::Wait(earliest)
}

/// Holds loading as a whole while the trouble is nobody's batch: the connection, S3, a permission. While it is
/// shut nothing is tried; when its time is over one batch goes first, and the others follow only if that succeeds.
#[derive(Debug)]
pub struct Gate {
    first: Duration,
    max: Duration,
    backoff: Backoff,
    until: Option<DateTime<Utc>>,
}

impl Gate {
    /// An open gate; `first` and `max` are the waits of the configuration.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, backoff: Backoff::new(first, max), until: None }
    }

    /// Until when nothing may be tried, if it is shut at `now`.
    #[must_use]
    pub fn shut(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.until.filter(|until| *until > now)
    }

    /// Failures in a row that were nobody's batch.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// A batch went through, or the servers answered as they should.
    pub fn succeeded(&mut self) {
        self.backoff.succeeded();
        self.until = None;
    }

    /// Takes note of trouble, and says when the batch that met it, after `attempts` attempts, may be tried again.
    pub fn failed(&mut self, trouble: &Trouble, attempts: u32, now: DateTime<Utc>) -> DateTime<Utc> {
        let own = now + delta(self.wait(trouble.class, attempts));
        if trouble.scope == Scope::Batch {
            // The servers did what they should; only this batch is not right.
            self.succeeded();
            return own;
        }
        let passing = self.backoff.failed();
        let whole = if trouble.class == ErrorClass::Configuration { self.slow() } else { passing };
        let until = now + delta(whole);
        self.until = Some(until);
        own.max(until)
    }

    /// How long one batch waits by itself. What only a person can mend is not asked about every second.
    fn wait(&self, class: ErrorClass, attempts: u32) -> Duration {
        match class {
            ErrorClass::Passing | ErrorClass::Incomplete => {
                Backoff::new(self.first, self.max).after(attempts.saturating_sub(1)).failed()
            }
            ErrorClass::Configuration | ErrorClass::Data => self.slow(),
        }
    }

    fn slow(&self) -> Duration {
        Backoff::new(self.max, self.max).failed()
    }
}

fn delta(wait: Duration) -> TimeDelta {
    TimeDelta::from_std(wait).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::Instance;

    fn load(state: LoadState) -> Load {
        let instance = Instance::try_from("a".to_owned()).unwrap();
        Load { state, ..Load::new(BatchId::new(), instance, 1, 1, 1, Utc::now()) }
    }

    fn retrying(next: DateTime<Utc>) -> LoadState {
        LoadState::Retrying { next, class: ErrorClass::Passing, why: "1023".to_owned() }
    }

    #[test]
    fn the_oldest_due_batch_goes_first() {
        let now = Utc::now();
        let second = TimeDelta::seconds(1);
        let loads = [
            load(LoadState::Loaded { at: now }),
            load(retrying(now + second)),
            load(retrying(now - second)),
            load(LoadState::Discovered),
        ];
        assert_eq!(next(&loads, now), Next::Load(loads[2].batch));
        assert_eq!(next(&loads[3..], now), Next::Load(loads[3].batch));
    }

    #[test]
    fn an_attempt_that_was_cut_short_is_tried_again() {
        let loads = [load(LoadState::Loading)];
        assert_eq!(next(&loads, Utc::now()), Next::Load(loads[0].batch));
    }

    #[test]
    fn with_nothing_due_the_earliest_retry_is_waited_for() {
        let now = Utc::now();
        let (soon, late) = (now + TimeDelta::seconds(1), now + TimeDelta::seconds(9));
        let loads = [load(retrying(late)), load(retrying(soon)), load(LoadState::Archived { at: now })];
        assert_eq!(next(&loads, now), Next::Wait(Some(soon)));
        assert_eq!(next([], now), Next::Wait(None));
    }

    #[test]
    fn refused_rows_hold_their_own_batch_only() {
        let mut gate = Gate::new(Duration::from_secs(1), Duration::from_secs(100));
        let now = Utc::now();
        let next = gate.failed(&Trouble::of_batch(ErrorClass::Data, "a load error"), 1, now);
        assert!(next - now >= TimeDelta::seconds(50), "a person has to look: slowly");
        assert_eq!(gate.shut(now), None);
    }

    #[test]
    fn a_lost_connection_shuts_the_gate_longer_each_time_until_one_batch_goes_through() {
        let mut gate = Gate::new(Duration::from_secs(1), Duration::from_secs(100));
        let now = Utc::now();
        let lost = Trouble::of_all(ErrorClass::Passing, "connection closed", "");
        gate.failed(&lost, 0, now);
        assert!(gate.shut(now).unwrap() - now <= TimeDelta::seconds(1));
        for _ in 0..10 {
            gate.failed(&lost, 0, now);
        }
        let until = gate.shut(now).unwrap();
        assert!(until - now >= TimeDelta::seconds(50));
        assert_eq!(gate.shut(until), None, "one is let through when the time is over");
        gate.succeeded();
        assert_eq!((gate.shut(now), gate.failures()), (None, 0));
    }

    #[test]
    fn a_wrong_configuration_shuts_the_gate_for_long_at_once() {
        let mut gate = Gate::new(Duration::from_secs(1), Duration::from_secs(100));
        let now = Utc::now();
        let next = gate.failed(&Trouble::of_all(ErrorClass::Configuration, "no such role", ""), 1, now);
        assert!(gate.shut(now).unwrap() - now >= TimeDelta::seconds(50));
        assert!(gate.shut(now).unwrap() <= next, "the batch is not due while the gate is shut");
    }
}
