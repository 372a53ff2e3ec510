//! What the loader may do now: the plan over the load store, held by the circuit breaker. Failures come here to decide
//! when each batch is retried.

use chrono::{DateTime, Utc};
use shared::clock::{Clock, Steady};
use shared::config::Ingester;
use shared::exit::Failure;
use shared::ids::BatchId;
use state::loads::{ErrorClass, LoadEvent};

use crate::failure::{LoadFailure, Scope};
use crate::load_store::LoadStore;

use super::circuit_breaker::{CircuitBreaker, Past};
use super::plan::{self, Bounds, Isolated, Next};

pub(super) struct Planner {
    load_store: LoadStore,
    bounds: Bounds,
    isolated: Isolated,
    breaker: CircuitBreaker,
    /// Failures after which one that should pass by itself needs an operator.
    alert_after: u32,
    clock: Clock,
}

impl Planner {
    pub(super) fn new(config: &Ingester, load_store: LoadStore, clock: &Clock) -> Self {
        Self {
            load_store,
            bounds: Bounds::new(config),
            isolated: Isolated::default(),
            breaker: CircuitBreaker::new(config.retry_first.0, config.retry_max.0),
            alert_after: config.alert_after,
            clock: clock.clone(),
        }
    }

    /// Until when nothing may be tried, if the circuit breaker is open at `now`.
    pub(super) fn open_until(&self, now: Steady) -> Option<Steady> {
        self.breaker.open_until(now)
    }

    pub(super) fn next(&self, now: Steady) -> Next {
        self.load_store.with_open(|loads| plan::next(loads, now, &self.bounds, &self.isolated))
    }

    /// Has each of these loaded alone.
    pub(super) fn isolate(&mut self, batches: impl IntoIterator<Item = BatchId>) {
        self.isolated.extend(batches);
    }

    pub(super) fn loaded(&mut self, batches: impl IntoIterator<Item = BatchId>) {
        self.breaker.loaded(self.clock.wall());
        batches.into_iter().for_each(|batch| self.isolated.remove(batch));
    }

    /// S3 and Redshift answer as they should.
    pub(super) fn succeeded(&mut self) {
        self.breaker.succeeded();
    }

    /// Notes the failure of these batches, as far as they are not loaded, and when each is retried. One that failed before
    /// its attempt shows it too, without counting an attempt.
    pub(super) async fn failed(&mut self, batches: &[BatchId], failure: &LoadFailure) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut met = Vec::with_capacity(batches.len());
        for batch in batches {
            if let Some(load) = self.load_store.get(*batch)?
                && !load.is_settled()
            {
                let past = if load.is_loading() { Past::of(&load) } else { Past::default() };
                met.push((*batch, past, load));
            }
        }
        let alone = if let [(_, past, _)] = met.as_slice() { Some(*past) } else { None };
        let scope = self.breaker.failed(failure, alone, now.steady);
        let mut moves = Vec::with_capacity(met.len());
        let mut first = None;
        for (batch, past, load) in met {
            let next = now.wall + self.breaker.wait(failure, scope, past, now.steady);
            let (attempt, failures) = (load.attempts, load.failed.saturating_add(1));
            first.get_or_insert(First { batch, attempt, failures, next });
            let why = failure.to_string();
            moves.push((batch, LoadEvent::Failed { next, class: failure.class, why }));
        }
        let together = moves.len();
        if !moves.is_empty() {
            self.load_store.note_all(moves).await?;
        }
        let failures = first.as_ref().map_or(0, |first| first.failures).max(self.breaker.failures());
        report(failure, scope, first.as_ref(), together, failures >= self.alert_after);
        Ok(())
    }
}

/// The oldest batch that met a failure.
struct First {
    batch: BatchId,
    attempt: u32,
    failures: u32,
    next: DateTime<Utc>,
}

/// Logs a failure, as loudly as it concerns an operator.
fn report(failure: &LoadFailure, scope: Scope, first: Option<&First>, together: usize, alert: bool) {
    let batch = first.map(|first| tracing::field::display(first.batch));
    let attempt = first.map(|first| first.attempt);
    let failures = first.map(|first| first.failures);
    let next = first.map(|first| tracing::field::display(first.next.format("%H:%M:%S%.3f")));
    match (failure.class, scope) {
        (ErrorClass::Configuration, Scope::Whole) => {
            tracing::error!(batch, together, attempt, next, "loading is held up: {failure}");
        }
        (ErrorClass::Configuration | ErrorClass::Data, _) => {
            tracing::error!(batch, attempt, next, "the batch waits whole: {failure}");
        }
        (ErrorClass::Unknown, _) if !alert => {
            tracing::warn!(
                batch,
                together,
                attempt,
                next,
                "Redshift said something this version does not know; trying again: {failure}"
            );
        }
        _ if alert => {
            tracing::error!(batch, together, attempt, next, failures, "still not loaded: {failure}");
        }
        _ => {
            tracing::warn!(batch, together, attempt, next, "not loaded, trying again: {failure}");
        }
    }
}
