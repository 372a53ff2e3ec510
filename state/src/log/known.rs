//! The hit ids that the log remembers, for any thread. Only the thread that writes the log adds and removes.
//!
//! An id is here from the moment its row is staged. A thread that finds it may drop its own copy of the hit: the row becomes
//! durable, or the process ends and nothing later was accepted either.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::log::hit_set::HitSet;
use crate::log::record::HitId;

/// The ids. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct KnownHits(Arc<RwLock<HitSet>>);

impl KnownHits {
    pub(super) fn new(ids: HitSet) -> Self {
        Self(Arc::new(RwLock::new(ids)))
    }

    /// Whether the log remembers this hit.
    pub fn contains(&self, hit: HitId) -> bool {
        self.read().contains(hit.key())
    }

    pub(super) fn insert(&self, hit: HitId) -> bool {
        self.write().insert(hit.key())
    }

    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    // No call on the set leaves it half changed, whatever happened to the thread that made it.
    fn read(&self) -> RwLockReadGuard<'_, HitSet> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, HitSet> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromIterator<HitId> for KnownHits {
    fn from_iter<T: IntoIterator<Item = HitId>>(hits: T) -> Self {
        let known = Self::default();
        hits.into_iter().for_each(|hit| _ = known.insert(hit));
        known
    }
}
