//! Tables, and what a commit changes in them.

use serde::Serialize;

/// Bytes of a value at most: sled may leave files of larger ones behind at a crash.
pub(crate) const MAX_VALUE: usize = 6 * 1024;

/// A table: the first byte of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Table {
    Meta = b'm',
    Chunks = b'c',
    Files = b'f',
    Batches = b'b',
    Hits = b'h',
    Rejects = b'r',
    Sessions = b's',
    Loads = b'l',
}

impl Table {
    pub(super) fn reading(self) -> &'static str {
        match self {
            Self::Meta => "reading meta",
            Self::Chunks => "reading chunks",
            Self::Files => "reading files",
            Self::Batches => "reading batches",
            Self::Hits => "reading hits",
            Self::Rejects => "reading rejects",
            Self::Sessions => "reading sessions",
            Self::Loads => "reading loads",
        }
    }
}

/// One atomic change. Of several values for one key the last counts.
#[derive(Debug, Default)]
pub struct Change {
    /// Keys with their tables, and values; None removes.
    writes: Vec<(sled::IVec, Option<sled::IVec>)>,
}

impl Change {
    /// A change of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Sets a value as it is.
    pub fn put_bytes(&mut self, table: Table, key: &[u8], value: &[u8]) {
        debug_assert!(value.len() <= MAX_VALUE, "{table:?}: a value of {} bytes", value.len());
        self.writes.push((whole_key(table, key).into(), Some(value.into())));
    }

    /// Sets a value as JSON.
    pub fn put<T: Serialize>(&mut self, table: Table, key: &[u8], value: &T) {
        // Our own plain structs: their serialisation cannot fail.
        self.put_bytes(table, key, &serde_json::to_vec(value).unwrap_or_default());
    }

    /// Removes a key; one that is not there is no error.
    pub fn remove(&mut self, table: Table, key: &[u8]) {
        self.writes.push((whole_key(table, key).into(), None));
    }

    /// Adds `later`, after what it changes already.
    pub(crate) fn and(&mut self, later: Self) {
        self.writes.extend(later.writes);
    }

    pub(super) fn into_batch(self) -> sled::Batch {
        let mut batch = sled::Batch::default();
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch
    }
}

pub(super) fn whole_key(table: Table, key: &[u8]) -> Vec<u8> {
    [&[table as u8], key].concat()
}
