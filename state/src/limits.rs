//! A limit that the log and the load store have in common.

/// Batches that are done and still remembered, at most: as many in the log as in the load store.
pub(crate) const KEPT: usize = 1000;
