//! What the loader may do now: the plan over the load store, held by the circuit breaker. Failures come here to decide
//! when each batch is retried.

use chrono::{DateTime, Utc};
use shared::clock::{Clock, Steady};
use shared::exit::Failure;
use shared::ids::BatchId;
use state::loads::{ErrorClass, Load, LoadEvent, LoadState};
use state::status::activity::{Component, Reporter};

use crate::failure::{LoadFailure, Pace, Scope};
use crate::load_store::LoadStore;
use crate::services::Services;

use super::circuit_breaker::{CircuitBreaker, Past};
use super::plan::{self, Bounds, Isolated, Next};

pub(super) struct Planner {
    load_store: LoadStore,
    bounds: Bounds,
    pub(super) isolated: Isolated,
    breaker: CircuitBreaker,
    /// Whether the step before failed because of its batch.
    others_first: bool,
    /// Where the state of the breaker is shown.
    reporter: Reporter,
    /// Failures after which one that should pass by itself needs an operator.
    alert_after: u32,
    clock: Clock,
}

impl Planner {
    pub(super) fn new(services: &Services) -> Self {
        let config = &services.config.ingester;
        Self {
            load_store: services.load_store.clone(),
            bounds: Bounds {
                batches: config.batches_per_copy,
                rows: config.rows_per_copy,
                bytes: config.bytes_per_copy.0,
                worth: config.load_rows,
            },
            isolated: Isolated::default(),
            breaker: CircuitBreaker::new(config.retry_first.0, config.retry_max.0),
            others_first: false,
            reporter: services.activity.reporter(Component::Load),
            alert_after: config.alert_after,
            clock: services.clock.clone(),
        }
    }

    pub(super) fn next(&mut self, now: Steady) -> Next {
        let others_first = std::mem::take(&mut self.others_first);
        self.load_store.with_open(|loads| plan::next(loads, now, &self.bounds, &self.isolated, others_first))
    }

    /// Until when nothing may be tried, if loading is held up.
    pub(super) fn held_until(&self, now: Steady) -> Option<Steady> {
        self.breaker.open_until(now)
    }

    /// Whether loading was held up and no batch is about to be tried, which could show that it is not any more.
    pub(super) fn needs_proof(&self) -> bool {
        let at_rest = |load: &Load| load.is_loaded() || load.state == LoadState::Discovered;
        self.breaker.failures() > 0
            && self.load_store.with_open(|mut loads| Iterator::all(&mut loads, |(load, _)| at_rest(load)))
    }

    /// The servers answered as they should: nothing holds loading up.
    pub(super) fn succeeded(&mut self) {
        self.breaker.succeeded();
        self.reporter.succeeded();
    }

    pub(super) fn loaded(&mut self, batches: impl IntoIterator<Item = BatchId>) {
        self.breaker.loaded(self.clock.wall());
        self.reporter.succeeded();
        batches.into_iter().for_each(|batch| self.isolated.remove(batch));
    }

    /// Notes the failure of these batches, and when each is retried. One that failed before its attempt counts no attempt.
    pub(super) async fn failed(&mut self, batches: &[BatchId], failure: &LoadFailure) -> Result<(), Failure> {
        self.note_failed(batches, failure, true).await
    }

    /// The same before anything was tried. A batch that an earlier attempt has left *loading* is not at fault.
    pub(super) async fn not_started(
        &mut self,
        oldest: Option<BatchId>,
        failure: &LoadFailure,
    ) -> Result<(), Failure> {
        self.note_failed(oldest.as_slice(), failure, false).await
    }

    async fn note_failed(
        &mut self,
        batches: &[BatchId],
        failure: &LoadFailure,
        attempted: bool,
    ) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut met = Vec::with_capacity(batches.len());
        for batch in batches {
            if let Some(load) = self.load_store.get(*batch)?
                && !load.is_loaded()
            {
                let past = if attempted && load.is_loading() { Past::of(&load) } else { Past::default() };
                met.push((*batch, past, load));
            }
        }
        let alone = if let [(_, past, _)] = met.as_slice() { Some(*past) } else { None };
        let scope = self.breaker.failed(failure, alone, now.steady);
        self.others_first = scope == Scope::Batch;
        let tried = met.iter().any(|(_, past, _)| past.tries > 0);
        if !tried && failure.class == ErrorClass::Passing && failure.pace == Pace::Usual {
            self.breaker.unreached(now.steady);
        }
        match scope {
            Scope::Whole => {
                let wait = self.breaker.open_until(now.steady).map(|until| now.steady.until(until));
                self.reporter.failed(failure.class.name(), failure, wait);
            }
            // The line of the batch shows it.
            Scope::Batch => self.reporter.succeeded(),
        }
        let mut moves = Vec::with_capacity(met.len());
        let (mut first, mut failures) = (None, self.breaker.failures());
        for (batch, past, load) in met {
            let next = now.wall + self.breaker.wait(failure, scope, past, now.steady);
            if first.is_none() {
                first = Some((batch, next));
                failures = failures.max(load.failed.saturating_add(1));
            }
            let why = failure.to_string();
            moves.push((batch, LoadEvent::Failed { next, class: failure.class, why }));
        }
        let noted = Noted { first, together: moves.len(), failures, alert: failures >= self.alert_after };
        if !moves.is_empty() {
            self.load_store.note_all(moves).await?;
        }
        report(failure, scope, &noted);
        Ok(())
    }
}

/// Of which batches a failure was noted.
struct Noted {
    /// The oldest of them, and its retry.
    first: Option<(BatchId, DateTime<Utc>)>,
    together: usize,
    failures: u32,
    /// Whether it failed so often that it needs an operator.
    alert: bool,
}

/// Logs a failure, as loudly as it concerns an operator.
fn report(failure: &LoadFailure, scope: Scope, noted: &Noted) {
    let Noted { first, together, failures, alert } = *noted;
    let batch = first.map(|(batch, _)| tracing::field::display(batch));
    let next = first.map(|(_, next)| tracing::field::display(next.format("%H:%M:%S%.3f")));
    let together = (together > 1).then_some(together);
    let (loud, what) = match (failure.class, scope) {
        (ErrorClass::Configuration, Scope::Whole) => (true, "loading is held up"),
        (ErrorClass::Configuration | ErrorClass::Data, _) => (true, "the batch waits whole"),
        (ErrorClass::Unknown, _) if !alert => {
            (false, "Redshift said something this version does not know; trying again")
        }
        _ if alert => (true, "still not loaded"),
        _ => (false, "not loaded, trying again"),
    };
    if loud {
        tracing::error!(batch, together, failures, next, "{what}: {failure}");
    } else {
        tracing::warn!(batch, together, failures, next, "{what}: {failure}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use shared::retry::NEIGHBOUR_MAX;
    use state::status::activity::Activity;

    use super::*;
    use crate::facts::folder::tests::seal;

    /// A planner, and a batch whose attempt is under way.
    async fn planner(dir: &Path, clock: &Clock) -> (Planner, BatchId) {
        let load_store = LoadStore::open(dir, Duration::ZERO, clock).unwrap();
        let batch = load_store.discovered(load_store.found(&seal())).await.unwrap().batch;
        load_store.note(batch, LoadEvent::Attempt).await.unwrap();
        let activity = Activity::new(clock.clone());
        let planner = Planner {
            load_store,
            reporter: activity.reporter(Component::Load),
            bounds: Bounds { batches: 9, rows: 999, bytes: 9999, worth: 999 },
            isolated: Isolated::default(),
            breaker: CircuitBreaker::new(Duration::from_secs(10), Duration::from_secs(600)),
            others_first: false,
            alert_after: 5,
            clock: clock.clone(),
        };
        (planner, batch)
    }

    fn noon() -> Clock {
        Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap())
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_is_not_the_fault_of_a_batch_that_was_left_loading() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), noon());
        let (mut planner, batch) = planner(dir.path(), &clock).await;
        let refused = LoadFailure::of_batch(ErrorClass::Incomplete, "a file is missing");
        planner.failed(&[batch], &refused).await.unwrap();
        clock.advance(Duration::from_secs(60));
        planner.load_store.note(batch, LoadEvent::Attempt).await.unwrap();
        // Another one is loaded meanwhile, and this one stays as it is.
        planner.loaded([]);
        let away = LoadFailure::of_all(ErrorClass::Passing, "connection refused", "");
        planner.not_started(Some(batch), &away).await.unwrap();
        let until = planner.held_until(clock.steady()).unwrap();
        assert!(clock.steady().until(until) <= NEIGHBOUR_MAX);
        assert_eq!(planner.reporter.failing().unwrap().why, "connection refused");
    }

    #[tokio::test]
    async fn a_lost_connection_holds_loading_and_then_the_batch_is_due_again() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), noon());
        let (mut planner, batch) = planner(dir.path(), &clock).await;
        let lost = LoadFailure::of_all(ErrorClass::Passing, "connection closed", "");
        planner.failed(&[batch], &lost).await.unwrap();
        let open = planner.breaker.open_until(clock.steady()).unwrap();
        let failing = planner.reporter.failing().unwrap();
        assert_eq!((failing.class.as_str(), failing.why.as_str()), ("passing", "connection closed"));
        assert!(failing.next.is_some_and(|next| next > clock.wall()));
        let Next::Wait(Some(retry)) = planner.next(clock.steady()) else { panic!("it waits") };
        assert!(clock.steady().until(open) >= Duration::from_secs(5) && retry >= open);
        clock.advance(clock.steady().until(retry));
        assert_eq!(planner.breaker.open_until(clock.steady()), None);
        assert_eq!(planner.next(clock.steady()), Next::Load(vec![batch]));
        planner.loaded([batch]);
        assert_eq!(planner.breaker.failures(), 0);
        assert_eq!(planner.reporter.failing(), None);
        let refused = LoadFailure::of_batch(ErrorClass::Data, "a load error");
        planner.failed(&[batch], &refused).await.unwrap();
        assert_eq!(planner.reporter.failing(), None, "a failure of one batch holds up no other");
    }
}
