//! What is tried again, each batch after a back-off of its own. In memory only: a new process tries everything at once.

use std::collections::HashMap;
use std::time::Duration;

use shared::clock::Steady;
use shared::ids::BatchId;
use shared::retry::Backoff;

/// Batches that failed, and when each is tried again. The others do not wait for them.
#[derive(Debug)]
pub(crate) struct RetryQueue {
    /// The shortest wait and the longest.
    waits: (Duration, Duration),
    failed: HashMap<BatchId, (Backoff, Steady)>,
}

impl RetryQueue {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { waits: (first, longest), failed: HashMap::new() }
    }

    /// Notes one more failure of a batch. Returns how long to wait.
    pub(crate) fn failed(&mut self, batch: BatchId, now: Steady) -> Duration {
        let (first, longest) = self.waits;
        let (backoff, next) = self.failed.entry(batch).or_insert_with(|| (Backoff::new(first, longest), now));
        let wait = backoff.failed();
        *next = now + wait;
        wait
    }

    pub(crate) fn remove(&mut self, batch: BatchId) {
        self.failed.remove(&batch);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    /// Whether a batch failed and its wait is not over.
    pub(crate) fn waits(&self, batch: BatchId, now: Steady) -> bool {
        self.failed.get(&batch).is_some_and(|(_, next)| *next > now)
    }

    /// The batches whose wait is over.
    pub(crate) fn due(&self, now: Steady) -> impl Iterator<Item = BatchId> {
        self.failed.iter().filter(move |(_, (_, next))| *next <= now).map(|(batch, _)| *batch)
    }

    /// When the first wait is over.
    pub(crate) fn next(&self) -> Option<Steady> {
        self.failed.values().map(|(_, next)| *next).min()
    }
}
