//! The only file that opens sled. Four properties of sled 0.34.7 shape it:
//! one process at a time may open a database; `flush()` alone does not survive power loss on Linux, so every commit
//! also calls `fdatasync` on the database file; values above some KiB can leave files behind at a crash, so none is
//! larger than [`MAX_VALUE`]; and flushing on a timer is switched off, so nothing is durable that was not asked for.
//!
//! Everything stands in sled's one default tree, in tables told apart by the first byte of the key: a
//! [`sled::Batch`] is atomic within a tree, and writing it needs no read of the old values, which a transaction
//! over several trees does for every key.

pub(crate) mod chunked;
pub(crate) mod leftovers;
pub(crate) mod lock;
mod copy;
mod disk_error;
mod error;
mod label;
mod mark;
mod open;
mod opening;
mod range;
mod scan;
mod spare;
mod survey;
mod trial;
mod undo;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::ids::Instance;
use shared::json_fault::json_fault;

pub use error::StoreError;
pub(crate) use open::survey_file;

use crate::failpoints::reached;
use crate::store::lock::Lock;
use label::{LABEL, Label};
use mark::Mark;
use scan::{Scan, Turns};
use spare::Spare;

/// Version of the stored form of a producer's log that this program writes. It reads format 1 too, in which a log knew
/// nothing of runs and put the ids of batches into rows, and makes it its own when it opens it.
pub const PRODUCER_FORMAT: u32 = 2;
/// Version of the stored form of an ingester's bookkeeping that this program writes and reads.
pub const INGESTER_FORMAT: u32 = 1;

/// Key of the number of commits, in [`Table::Meta`].
pub(crate) const COMMITS: &[u8] = b"commits";

/// Bytes of a value at most (see the module).
pub const MAX_VALUE: usize = 6 * 1024;

/// A table: the first byte of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// Format, kind, instance, sums and next numbers.
    Meta = b'm',
    /// Rows: (file, chunk, piece).
    Chunks = b'c',
    /// Files: (file).
    Files = b'f',
    /// Batches: (batch).
    Batches = b'b',
    /// Hit ids of accepted rows: (file, chunk, piece).
    Hits = b'h',
    /// Rejected records: (reject, piece).
    Rejects = b'r',
    /// Connections to the stream: (session).
    Sessions = b's',
    /// The ingester's loads: (batch id).
    Loads = b'l',
}

impl Table {
    fn reading(self) -> &'static str {
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

/// What a database is for; one is not mistaken for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The producer's log.
    Producer,
    /// The ingester's bookkeeping.
    Ingester,
}

impl Kind {
    /// Version of the stored form that this program writes, and the newest it reads.
    #[must_use]
    pub fn format(self) -> u32 {
        match self {
            Self::Producer => PRODUCER_FORMAT,
            Self::Ingester => INGESTER_FORMAT,
        }
    }
}

/// An open database.
#[derive(Debug, Clone)]
pub struct Store {
    db: sled::Db,
    file: Arc<File>,
    dir: PathBuf,
    /// None when it was opened to be looked at.
    mark: Option<Arc<Mark>>,
    /// None while it is being opened, and of a copy.
    spare: Option<Arc<Spare>>,
    /// Commits so far.
    commits: Arc<AtomicU64>,
    turns: Turns,
    /// None of a copy, which nobody else knows of. Dropped after everything else.
    lock: Option<Arc<Lock>>,
}

/// One atomic change. Of several values for one key the last counts.
#[derive(Debug, Default)]
pub struct Change {
    /// Keys with their tables, and values; None removes.
    writes: Vec<(sled::IVec, Option<sled::IVec>)>,
}

impl Change {
    /// A change of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
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

    /// Changes this too, after what it changes already.
    pub fn and(&mut self, later: Self) {
        self.writes.extend(later.writes);
    }

    fn into_batch(self) -> sled::Batch {
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

fn whole_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(1 + key.len());
    whole.push(table as u8);
    whole.extend_from_slice(key);
    whole
}

impl Store {
    /// Whose database it is.
    ///
    /// # Errors
    /// When its label cannot be read.
    pub fn instance(&self) -> Result<Instance, StoreError> {
        let label: Option<Label> = self.get(Table::Meta, LABEL)?;
        let instance = label.and_then(|label| Instance::try_from(label.instance).ok());
        instance.ok_or_else(|| self.damaged(Table::Meta, LABEL, "it names no instance"))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Bytes the database takes on disk.
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        // Blocks rather than length: sled leaves holes.
        fs::metadata(database(&self.dir)).map_or(0, |meta| meta.blocks() * 512)
    }

    /// Applies a change as a whole. It is durable only after [`Store::sync`].
    ///
    /// # Errors
    /// When sled fails; nothing of the change may be believed then.
    pub fn apply(&self, change: Change) -> Result<(), StoreError> {
        let batch = change.into_batch();
        self.turns.take(|| self.sled("writing", || self.db.apply_batch(batch)))
    }

    /// Applies a change as a whole and makes it durable, also against power loss, and with it everything applied
    /// before. After an error nothing that was applied since the last success may be believed. One thread commits.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn commit(&self, mut change: Change) -> Result<(), StoreError> {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        change.put_bytes(Table::Meta, COMMITS, &number.to_be_bytes());
        reached("commit.begun");
        self.apply(change)?;
        reached("commit.applied");
        self.sync()?;
        reached("commit.synced");
        self.mark.as_ref().map_or(Ok(()), |mark| self.noted(mark.set(number)))?;
        reached("commit.durable");
        Ok(())
    }

    /// Makes everything applied so far durable, also against power loss.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn sync(&self) -> Result<(), StoreError> {
        self.sled("flushing", || self.db.flush())?;
        reached("sync.flushed");
        let synced = self.file.sync_data();
        self.noted(synced.map_err(|error| StoreError::Io { path: database(&self.dir), error }))?;
        self.spare.as_ref().map_or(Ok(()), |spare| self.noted(spare.update()))
    }

    /// Closes it, unless there is a clone. The lock of the directory goes on.
    fn close(self) -> Option<Arc<Lock>> {
        self.lock
    }

    fn sled<T>(&self, doing: &str, work: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
        self.noted(guarded(&self.dir, doing, work))
    }

    /// Leaves word for the next opening when the disk has failed.
    fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Io { path, error }) = &result {
            disk_error::note(&self.dir, path, error);
        }
        result
    }

    /// A value as it is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get_bytes(&self, table: Table, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        self.sled(table.reading(), || self.db.get(whole_key(table, key)))
    }

    /// A value from JSON.
    ///
    /// # Errors
    /// When it cannot be read or is not what was expected.
    pub fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get_bytes(table, key)?.map(|bytes| self.decode(table, key, &bytes)).transpose()
    }

    /// Keys and values of a table that begin with `prefix`, in order. Keys come without the table's byte.
    pub fn scan(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>> + use<> {
        let dir = self.dir.clone();
        let mut entries = Some(self.db.scan_prefix(whole_key(table, prefix)));
        let entries = std::iter::from_fn(move || {
            let next =
                guarded(&dir, table.reading(), || entries.as_mut().and_then(Iterator::next).transpose());
            if next.is_err() {
                // Nothing can be known of what would follow.
                entries = None;
            }
            next.map(|entry| entry.map(|(key, value)| (key.subslice(1, key.len() - 1), value))).transpose()
        });
        Scan::new(entries, self.turns.clone())
    }

    /// Keys and JSON values of a table, in order.
    pub fn scan_json<T: DeserializeOwned>(
        &self,
        table: Table,
    ) -> impl Iterator<Item = Result<(sled::IVec, T), StoreError>> {
        self.scan(table, &[]).map(move |item| {
            let (key, value) = item?;
            let value = self.decode(table, &key, &value)?;
            Ok((key, value))
        })
    }

    fn decode<T: DeserializeOwned>(&self, table: Table, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| self.damaged(table, key, &json_fault(&error)))
    }

    /// An error that names the table and key whose value is not what was written.
    #[must_use]
    pub fn damaged(&self, table: Table, key: &[u8], how: &str) -> StoreError {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        StoreError::Damaged { dir: self.dir.clone(), what: format!("{table:?} {key}: {how}").to_lowercase() }
    }
}

/// The file sled keeps its log in.
pub(crate) fn database(dir: &Path) -> PathBuf {
    dir.join("sled").join("db")
}

/// sled asserts where it does not expect damage: that is an error like any other.
fn guarded<T>(dir: &Path, doing: &str, work: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| from_sled(dir, doing, error)),
        Err(_) => {
            Err(StoreError::Damaged { dir: dir.to_owned(), what: format!("{doing}: sled/db cannot be read") })
        }
    }
}

fn from_sled(dir: &Path, doing: &str, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => StoreError::Io { path: database(dir), error },
        other => StoreError::Damaged { dir: dir.to_owned(), what: format!("{doing}: {other}") },
    }
}
