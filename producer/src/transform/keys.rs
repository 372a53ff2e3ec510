//! The keys wanted in one object of the record. Most keys of a record are not wanted, so a lookup must be cheap above
//! all: two words of the key nearly always decide.

#[derive(Debug, Clone, Default)]
pub(super) struct Keys<T> {
    /// As many as a power of two, at least twice as many as there are keys.
    slots: Vec<Option<Slot<T>>>,
    length: usize,
}

#[derive(Debug, Clone)]
struct Slot<T> {
    print: Print,
    key: Box<[u8]>,
    value: T,
}

/// The first eight bytes of a key, its last eight if there are more, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Print {
    head: u64,
    tail: u64,
    length: usize,
}

impl Print {
    /// Of the key `text[start..end]`. The bytes behind it make the reading quicker and do not count.
    fn of(text: &[u8], start: usize, end: usize) -> Self {
        let length = end.saturating_sub(start);
        let key = text.get(start..end).unwrap_or_default();
        let word = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk);
        if let (Some(head), Some(tail)) = (key.first_chunk(), key.last_chunk()) {
            return Self { head: word(head), tail: word(tail), length };
        }
        let head = match text.get(start..).and_then(<[u8]>::first_chunk) {
            Some(chunk) => word(chunk) & ((1 << (8 * length)) - 1),
            None => key.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        Self { head, tail: 0, length }
    }

    fn hash(self) -> usize {
        let mixed = (self.head ^ self.tail.rotate_left(29)).wrapping_add(self.length as u64);
        // The upper half of the product depends on every bit.
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }
}

impl<T> Keys<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The value of the key `text[start..end]`.
    pub(super) fn find(&self, text: &[u8], start: usize, end: usize) -> Option<&T> {
        let print = Print::of(text, start, end);
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = print.hash() & mask;
        loop {
            let slot = self.slots.get(at)?.as_ref()?;
            // Head and tail are all of a key of up to 16 bytes.
            if slot.print == print && (print.length <= 16 || text.get(start..end) == Some(&slot.key)) {
                return Some(&slot.value);
            }
            at = (at + 1) & mask;
        }
    }

    /// The value of a key, made if it is not there.
    pub(super) fn entry(&mut self, key: &str, make: impl FnOnce() -> T) -> Option<&mut T> {
        if 2 * (self.length + 1) > self.slots.len() {
            self.grow();
        }
        let print = Print::of(key.as_bytes(), 0, key.len());
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = print.hash() & mask;
        while let Some(Some(slot)) = self.slots.get(at)
            && *slot.key != *key.as_bytes()
        {
            at = (at + 1) & mask;
        }
        let slot = self.slots.get_mut(at)?;
        if slot.is_none() {
            self.length += 1;
        }
        let slot = slot.get_or_insert_with(|| Slot { print, key: key.as_bytes().into(), value: make() });
        Some(&mut slot.value)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|slot| &slot.value)
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(8);
        let old = std::mem::replace(&mut self.slots, std::iter::repeat_with(|| None).take(size).collect());
        for slot in old.into_iter().flatten() {
            let mut at = slot.print.hash() & (size - 1);
            while let Some(Some(_)) = self.slots.get(at) {
                at = (at + 1) & (size - 1);
            }
            if let Some(place) = self.slots.get_mut(at) {
                *place = Some(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_finds_what_a_map_finds(
            keys in prop::collection::vec("(eVar|prop|a|a{8}|long_long_long)[0-9é]{0,3}b{0,8}", 0..60),
            asked in prop::collection::vec("(eVar|prop|a|a{8}|long_long_long)[0-9é]{0,3}b{0,8}", 0..60),
        ) {
            let (mut ours, mut map) = (Keys::default(), BTreeMap::new());
            for (n, key) in keys.iter().enumerate() {
                let value = *map.entry(key.clone()).or_insert(n);
                prop_assert_eq!(ours.entry(key, || n).copied(), Some(value));
            }
            prop_assert_eq!(ours.is_empty(), map.is_empty());
            for key in keys.iter().chain(&asked) {
                let expected = map.get(key);
                prop_assert_eq!(ours.find(key.as_bytes(), 0, key.len()), expected);
                let text = format!("{{\"{key}\":1, and more that does not count");
                prop_assert_eq!(ours.find(text.as_bytes(), 2, 2 + key.len()), expected);
            }
        }
    }
}
