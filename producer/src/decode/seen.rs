//! The unreadable records that ended sessions. What Adobe sends unreadable comes again with the same bytes; damage does
//! not.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::frame::HEAD_BYTES;

/// How many records are remembered, the latest: some 400 KiB.
const REMEMBERED: usize = 16_384;

/// The unreadable records that ended sessions of this process. All connections share them, because Adobe may give a
/// visitor to another connection after a reconnect.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenRecords {
    hasher: RandomState,
    hashes: Arc<Mutex<Hashes>>,
}

#[derive(Debug, Default)]
struct Hashes {
    all: HashSet<u64>,
    by_age: VecDeque<u64>,
}

impl SeenRecords {
    /// The hash of a record's first bytes: of a longer record no more is kept.
    pub(super) fn hash(&self, record: &[u8]) -> u64 {
        self.hasher.hash_one(record.get(..HEAD_BYTES).unwrap_or(record))
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        self.lock().all.contains(&hash)
    }

    pub(super) fn add(&self, hashes: &[u64]) {
        let Hashes { all, by_age } = &mut *self.lock();
        for hash in hashes.iter().filter(|hash| all.insert(**hash)) {
            by_age.push_back(*hash);
        }
        while by_age.len() > REMEMBERED {
            by_age.pop_front().map(|oldest| all.remove(&oldest));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hashes> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_by_their_first_bytes() {
        let seen = SeenRecords::default();
        for number in 0..REMEMBERED as u64 + 10 {
            seen.add(&[number, number]);
        }
        assert!(!seen.contains(9) && seen.contains(10) && seen.contains(REMEMBERED as u64 + 9));
        assert_eq!(seen.lock().all.len(), REMEMBERED);
        assert_eq!(seen.hash(&[b'x'; HEAD_BYTES]), seen.hash(&[b'x'; HEAD_BYTES + 1]));
        assert_ne!(seen.hash(b"a"), seen.hash(b"b"));
    }
}
