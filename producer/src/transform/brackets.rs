//! Which brackets are open: a bit each, of which the latest 64 need no memory of their own.

#[derive(Default)]
pub(super) struct Brackets {
    depth: usize,
    /// The latest in the lowest bit; 1 is an object.
    latest: u64,
    older: Vec<u64>,
}

impl Brackets {
    pub(super) fn is_empty(&self) -> bool {
        self.depth == 0
    }

    pub(super) fn push(&mut self, object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.older.push(self.latest);
        }
        self.latest = self.latest << 1 | u64::from(object);
        self.depth += 1;
    }

    pub(super) fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.latest >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.latest = self.older.pop().unwrap_or_default();
        }
    }

    pub(super) fn is_object(&self) -> bool {
        self.latest & 1 == 1
    }

    pub(super) fn close(&self) -> u8 {
        if self.is_object() { b'}' } else { b']' }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_remembered_however_many() {
        for depth in [1, 63, 64, 65, 127, 128, 129, 1000] {
            let opened: Vec<bool> = (0..depth).map(|n| n % 3 == 0 || n % 7 == 2).collect();
            let mut open = Brackets::default();
            opened.iter().for_each(|object| open.push(*object));
            for object in opened.iter().rev() {
                assert_eq!(open.is_object(), *object);
                open.pop();
            }
            assert_eq!(open.depth, 0);
        }
    }
}
