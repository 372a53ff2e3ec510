//! What the log says of loads.

use chrono::{DateTime, Utc};
use shared::clock::{Moment, Steady};
use shared::ids::BatchId;
use state::loads::{ErrorClass, Load};

use crate::failure::{LoadFailure, Scope};
use crate::redshift::transaction::{How, Loading, Settled};

/// Batches that the ledger has; `attempt` is what loaded them and when it started, if it was ours.
pub(super) fn loaded(
    settled: &[&Settled],
    noted: Vec<Load>,
    attempt: Option<(&Loading, Steady)>,
    now: Moment,
) {
    let seconds = attempt.map(|(_, started)| started.until(now.steady).as_secs_f64());
    let seconds = seconds.map(|seconds| (seconds * 1000.0).round() / 1000.0);
    let together = settled.len();
    for (Settled { batch, how, known, staged, .. }, load) in settled.iter().zip(noted) {
        let Load { rows, quarantined, bytes, attempts, instance, .. } = load;
        let parts = attempt.map(|(loading, _)| loading.parts.as_slice()).unwrap_or_default();
        let part = parts.iter().find(|part| part.seal.batch == *batch);
        let lag_s = part.and_then(|part| part.seal.last_received).map(|at| (now.wall - at).num_seconds());
        let staged = staged.as_ref().map(tracing::field::display);
        match how {
            How::Applied => {
                tracing::info!(%batch, rows, known, quarantined, bytes, seconds, together, attempt = attempts, lag_s, %instance, staged, "loaded");
            }
            How::Before => {
                tracing::info!(%batch, rows, attempt = attempts, "is in the ledger: loaded before");
            }
        }
    }
}

/// The oldest batch that met a failure.
pub(super) struct First {
    pub batch: BatchId,
    pub attempt: u32,
    /// When it is retried.
    pub next: DateTime<Utc>,
}

/// A failure of `together` batches, as loudly as it concerns an operator; `alert` when it was the same `failures` times.
pub(super) fn failed(
    failure: &LoadFailure,
    scope: Scope,
    first: Option<&First>,
    together: usize,
    (failures, alert): (u32, bool),
) {
    let batch = first.map(|first| tracing::field::display(first.batch));
    let attempt = first.map(|first| first.attempt);
    let next = first.map(|first| tracing::field::display(first.next.format("%H:%M:%S%.3f")));
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
        tracing::error!(batch, together, attempt, next, failures, "{what}: {failure}");
    } else {
        tracing::warn!(batch, together, attempt, next, "{what}: {failure}");
    }
}
