//! The hit ids that the log remembers, for any thread. Only the thread that writes the log adds and removes.
//!
//! An id is here from the moment its row is staged. A thread that finds it may drop its own copy of the hit: the row becomes
//! durable, or the process ends and nothing later was accepted either.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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

const PARTS: usize = 256;
/// No id: the one id that looks like it is kept beside the tables.
const EMPTY: u128 = 0;
const SMALLEST: usize = 8;

/// A set of hit ids, each as one number.
#[derive(Debug, Default)]
pub struct HitSet {
    parts: Vec<Part>,
    /// Whether the id 0 is in it.
    zero: bool,
}

/// Linear probing: an id is at its place or behind it, with no empty slot between.
#[derive(Debug, Default, Clone)]
struct Part {
    slots: Box<[u128]>,
    len: usize,
}

impl HitSet {
    /// An empty set in which `ids` ids find room without growing, but for chance.
    pub fn with_capacity(ids: usize) -> Self {
        let parts = vec![Part::default(); PARTS];
        let mut set = Self { parts, zero: false };
        if ids > 0 {
            set.parts.iter_mut().for_each(|part| part.resize(slots_for(ids / PARTS)));
        }
        set
    }

    /// Adds an id; false when it is there already.
    pub fn insert(&mut self, id: u128) -> bool {
        if id == EMPTY {
            return !std::mem::replace(&mut self.zero, true);
        }
        let hash = mix(id);
        self.part(hash).is_some_and(|part| part.insert(id, hash))
    }

    /// Whether an id is there.
    pub fn contains(&self, id: u128) -> bool {
        if id == EMPTY {
            return self.zero;
        }
        let hash = mix(id);
        self.parts.get(part_of(hash)).is_some_and(|part| part.find(id, hash).is_some())
    }

    /// Takes an id out; false when it is not there.
    pub fn remove(&mut self, id: u128) -> bool {
        if id == EMPTY {
            return std::mem::replace(&mut self.zero, false);
        }
        let hash = mix(id);
        self.part(hash).is_some_and(|part| part.remove(id, hash))
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum::<usize>() + usize::from(self.zero)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn part(&mut self, hash: u64) -> Option<&mut Part> {
        if self.parts.is_empty() {
            self.parts = vec![Part::default(); PARTS];
        }
        self.parts.get_mut(part_of(hash))
    }
}

impl Part {
    fn insert(&mut self, id: u128, hash: u64) -> bool {
        if (self.len + 1) * 5 > self.slots.len() * 4 {
            self.resize(slots_for(self.len + 1));
        }
        let mut at = place(hash, self.slots.len());
        while self.slots[at] != EMPTY {
            if self.slots[at] == id {
                return false;
            }
            at = self.after(at);
        }
        self.slots[at] = id;
        self.len += 1;
        true
    }

    fn find(&self, id: u128, hash: u64) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = place(hash, self.slots.len());
        while self.slots[at] != EMPTY {
            if self.slots[at] == id {
                return Some(at);
            }
            at = self.after(at);
        }
        None
    }

    fn remove(&mut self, id: u128, hash: u64) -> bool {
        let Some(mut free) = self.find(id, hash) else { return false };
        // The ids behind move up, except one that would then be before its place.
        let slots = self.slots.len();
        let behind = |from: usize, to: usize| if to >= from { to - from } else { to + slots - from };
        let mut at = self.after(free);
        while self.slots[at] != EMPTY {
            let from = place(mix(self.slots[at]), slots);
            if behind(from, at) >= behind(free, at) {
                self.slots[free] = self.slots[at];
                free = at;
            }
            at = self.after(at);
        }
        self.slots[free] = EMPTY;
        self.len -= 1;
        if slots > SMALLEST && self.len * 2 < slots {
            self.resize(slots_for(self.len));
        }
        true
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots].into());
        for id in old.into_iter().filter(|id| *id != EMPTY) {
            let mut at = place(mix(id), slots);
            while self.slots[at] != EMPTY {
                at = self.after(at);
            }
            self.slots[at] = id;
        }
    }
}

/// Slots of a table that is given room: `ids` of them fill 0.7 of it.
fn slots_for(ids: usize) -> usize {
    (ids + ids * 3 / 7 + 1).max(SMALLEST)
}

fn part_of(hash: u64) -> usize {
    (hash >> 56) as usize % PARTS
}

/// The slot where an id belongs: as far into the table as the bits of the hash below those of the part say.
fn place(hash: u64, slots: usize) -> usize {
    ((u128::from(hash << 8) * slots as u128) >> 64) as usize
}

/// Adobe's ids are no random numbers: both halves are spread over the whole hash.
fn mix(id: u128) -> u64 {
    let high = fold((id >> 64) as u64 ^ 0x2d35_8dcc_aa6c_78a5, 0x8bb8_4b93_962e_acc9);
    fold(high ^ id as u64, 0x4b33_a62e_d433_d4a3)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Operation {
        Insert(u128),
        Remove(u128),
        Ask(u128),
    }

    /// Few ids, so that they meet again, in one part or in all.
    fn operation() -> impl Strategy<Value = Operation> {
        let id = prop_oneof![
            (0_u128..400).prop_map(|n| n * n),
            (0_u128..60).prop_map(|n| n << 64),
            (0_usize..300).prop_map(|n| crowded()[n]),
        ];
        (0_u8..5, id).prop_map(|(what, id)| match what {
            0..3 => Operation::Insert(id),
            3 => Operation::Remove(id),
            _ => Operation::Ask(id),
        })
    }

    /// Ids of one part, a third of them with a place near the end of its table, so that they go around it.
    fn crowded() -> &'static [u128] {
        static IDS: std::sync::OnceLock<Vec<u128>> = std::sync::OnceLock::new();
        IDS.get_or_init(|| {
            let in_part = (1..).filter(|id| part_of(mix(*id)) == 7);
            let (mut late, mut any) = (Vec::new(), Vec::new());
            for id in in_part {
                if place(mix(id), 1000) >= 970 && late.len() < 100 {
                    late.push(id);
                } else if any.len() < 200 {
                    any.push(id);
                }
                if late.len() + any.len() == 300 {
                    break;
                }
            }
            [late, any].concat()
        })
    }

    proptest! {
        #[test]
        fn it_is_a_set_after_any_operations(operations in prop::collection::vec(operation(), 1..2_000)) {
            let (mut set, mut expected) = (HitSet::default(), HashSet::new());
            for operation in operations {
                match operation {
                    Operation::Insert(id) => prop_assert_eq!(set.insert(id), expected.insert(id)),
                    Operation::Remove(id) => prop_assert_eq!(set.remove(id), expected.remove(&id)),
                    Operation::Ask(id) => prop_assert_eq!(set.contains(id), expected.contains(&id)),
                }
                prop_assert_eq!(set.len(), expected.len());
            }
            for id in expected.drain() {
                prop_assert!(set.remove(id), "{} is lost", id);
            }
            prop_assert!(set.is_empty() && set.parts.iter().all(|part| part.slots.len() <= SMALLEST));
        }
    }

    #[test]
    fn ids_of_any_kind_stand_near_their_places() {
        type Kind = (&'static str, fn(u128) -> u128);
        const IDS: u128 = 400_000;
        let kinds: [Kind; 6] = [
            ("counted", |n| n + 1),
            ("high counted", |n| (n + 1) << 64),
            ("both counted", |n| ((n + 1) << 64) | (n + 1)),
            ("low in steps", |n| (7 << 64) | (n << 20)),
            ("high in steps", |n| ((n << 40) << 64) | 5),
            ("few highs", |n| ((n % 100) << 64) | (n * 1_000_003)),
        ];
        for (kind, id) in kinds {
            let mut set = HitSet::default();
            (0..IDS).for_each(|n| assert!(set.insert(id(n))));
            let (mut sum, mut most) = (0, 0);
            for part in &set.parts {
                let slots = part.slots.len();
                for (at, id) in part.slots.iter().enumerate().filter(|(_, id)| **id != EMPTY) {
                    let from = (at + slots - place(mix(*id), slots)) % slots;
                    (sum, most) = (sum + from, most.max(from));
                }
            }
            let mean = sum as f64 / IDS as f64;
            assert!(mean < 2.5 && most < 250, "{kind}: {mean} slots away on average, {most} at most");
        }
    }
}
