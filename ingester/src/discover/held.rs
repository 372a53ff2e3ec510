//! Seals that are not read with every listing: those that could not be read, and those that cannot be used.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use shared::clock::{Clock, Steady};
use shared::config::Ingester;
use shared::ids::BatchId;

use crate::retry_queue::RetryQueue;

#[derive(Debug)]
pub(super) struct HeldSeals {
    clock: Clock,
    /// Seals that could not be asked for. Each listing reads them first, and none is complete meanwhile.
    pub unread: BTreeSet<BatchId>,
    /// Seals that S3 refused to give, while it gave others. A refusal may pass in a moment; one that does not pass must
    /// hold up no listing.
    refused: RetryQueue,
    /// Seals that cannot be used, by their `ETag`, and when that was logged: not read and logged with every listing.
    unusable: HashMap<BatchId, (String, Steady)>,
    rest: Duration,
}

impl HeldSeals {
    pub(super) fn new(ingester: &Ingester, clock: Clock) -> Self {
        let rest = ingester.list_all_interval.0;
        Self {
            clock,
            unread: BTreeSet::new(),
            refused: RetryQueue::new(ingester.retry_first.0, ingester.retry_max.0.min(rest)),
            unusable: HashMap::new(),
            rest,
        }
    }

    pub(super) fn due(&self) -> BTreeSet<BatchId> {
        self.unread.iter().copied().chain(self.refused.due(self.clock.steady())).collect()
    }

    /// Whether a listing that shows a folder, perhaps with a seal of this `ETag`, is to leave it alone.
    pub(super) fn leaves(&self, batch: BatchId, seal: Option<&str>) -> bool {
        let (now, etag) = (self.clock.steady(), seal.unwrap_or_default());
        let unusable = self.unusable.get(&batch);
        let refused = || self.refused.waits(batch, now);
        unusable.is_some_and(|(was, at)| was == etag && at.until(now) < self.rest)
            || (seal.is_some() && (refused() || self.unread.contains(&batch)))
    }

    pub(super) fn next_retry(&self) -> Option<Steady> {
        self.refused.next()
    }

    /// Whether a seal was not read that may be usable.
    pub(super) fn any_to_read(&self) -> bool {
        !self.unread.is_empty() || !self.refused.is_empty()
    }

    /// Whether a seal that was seen is not entered.
    pub(super) fn any(&self) -> bool {
        self.any_to_read() || !self.unusable.is_empty()
    }

    pub(super) fn usable(&mut self, batch: BatchId) {
        self.gone(batch);
        self.unusable.remove(&batch);
    }

    pub(super) fn gone(&mut self, batch: BatchId) {
        self.unread.remove(&batch);
        self.refused.remove(batch);
    }

    /// Notes that S3 refused to give a seal. Returns how long to wait before it is asked for again.
    pub(super) fn refused(&mut self, batch: BatchId) -> Duration {
        self.unread.remove(&batch);
        self.refused.failed(batch, self.clock.steady())
    }

    pub(super) fn unusable(&mut self, batch: BatchId, etag: String) {
        self.gone(batch);
        self.unusable.insert(batch, (etag, self.clock.steady()));
    }

    /// Forgets the unusable seals of folders that are gone: whoever writes to the bucket decides how many there are.
    pub(super) fn keep_only(&mut self, there: &HashSet<BatchId>) {
        self.unusable.retain(|batch, _| there.contains(batch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(clock: &Clock) -> HeldSeals {
        HeldSeals {
            clock: clock.clone(),
            unread: BTreeSet::new(),
            refused: RetryQueue::new(Duration::from_secs(1), Duration::from_secs(60)),
            unusable: HashMap::new(),
            rest: Duration::from_secs(3600),
        }
    }

    #[test]
    fn a_refused_seal_is_due_after_its_wait_and_left_alone_until_then() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let (mut held, batch) = (held(&clock), BatchId::new());
        let wait = held.refused(batch);
        assert!(held.due().is_empty() && held.leaves(batch, Some("e")) && held.any_to_read());
        assert!(held.unread.is_empty(), "it holds up no listing");
        assert_eq!(held.next_retry(), Some(clock.steady() + wait));
        clock.advance(wait);
        assert_eq!(held.due(), BTreeSet::from([batch]));
        assert!(!held.leaves(batch, Some("e")));
        assert!(held.refused(batch) > wait, "waits grow");
        held.usable(batch);
        assert!(!held.any_to_read() && held.next_retry().is_none());
    }

    #[test]
    fn an_unusable_seal_is_read_again_when_it_changes_or_has_rested() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let (mut held, batch) = (held(&clock), BatchId::new());
        held.unusable(batch, "e".to_owned());
        assert!(held.leaves(batch, Some("e")) && !held.leaves(batch, Some("other")));
        clock.advance(Duration::from_secs(3600));
        assert!(!held.leaves(batch, Some("e")));
        held.unusable(batch, "e".to_owned());
        held.keep_only(&HashSet::new());
        assert!(!held.leaves(batch, Some("e")), "its folder was gone");
    }

    #[test]
    fn a_seal_that_could_not_be_asked_for_is_due_at_once_and_read_by_no_listing() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let (mut held, batch) = (held(&clock), BatchId::new());
        held.unread.insert(batch);
        assert!(!held.unread.is_empty() && held.leaves(batch, Some("e")) && !held.leaves(batch, None));
        assert_eq!(held.due(), BTreeSet::from([batch]));
        held.gone(batch);
        assert!(held.unread.is_empty());
    }
}
