//! An open database: reads, and commits that survive a power cut.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use shared::ids::Instance;
use shared::json_fault::json_fault;

use crate::failpoints::reached;
use crate::store::accepted::Accepted;
use crate::store::change::{Change, Table, whole_key};
use crate::store::closing::Closing;
use crate::store::error::{StoreError, guarded};
use crate::store::label::{LABEL, Label};
use crate::store::lock::Lock;
use crate::store::scan::{Scan, Turns};
use crate::store::spare::Spare;
use crate::store::{disk_error, paths};

/// Key of the number of commits, in [`Table::Meta`].
pub(crate) const COMMITS: &[u8] = b"commits";

/// An open database.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) db: sled::Db,
    pub(super) file: Arc<File>,
    pub(super) dir: PathBuf,
    /// None when it was opened to be read.
    pub(super) accepted: Option<Arc<Accepted>>,
    /// None while it is being opened, and of a copy.
    pub(super) spare: Option<Arc<Spare>>,
    commits: Arc<AtomicU64>,
    turns: Turns,
    /// Dropped after every other handle of the database.
    _closing: Closing,
    /// None of a copy, which no other process knows. Dropped after everything else.
    lock: Option<Arc<Lock>>,
}

impl Store {
    pub(super) fn new(dir: &Path, db: sled::Db, lock: Option<Lock>) -> Result<Self, StoreError> {
        let closing = Closing::new(dir, db.clone());
        let path = dir.join(paths::DATABASE);
        let file = File::options().read(true).write(true).open(&path).map_err(StoreError::at(&path))?;
        Ok(Self {
            db,
            file: Arc::new(file),
            dir: dir.to_owned(),
            accepted: None,
            spare: None,
            commits: Arc::default(),
            turns: Turns::default(),
            _closing: closing,
            lock: lock.map(Arc::new),
        })
    }

    pub(super) fn read_commits(&self) -> Result<u64, StoreError> {
        let commits = self.get_bytes(Table::Meta, COMMITS)?;
        let commits = commits.and_then(|bytes| bytes.first_chunk().copied()).map_or(0, u64::from_be_bytes);
        self.commits.store(commits, Ordering::Relaxed);
        Ok(commits)
    }

    pub(crate) fn instance(&self) -> Result<Instance, StoreError> {
        let label: Option<Label> = self.get(Table::Meta, LABEL)?;
        let instance = label.and_then(|label| Instance::try_from(label.instance).ok());
        instance.ok_or_else(|| self.damaged(Table::Meta, LABEL, "it names no instance"))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn size_on_disk(&self) -> u64 {
        // Blocks rather than length: sled leaves holes.
        fs::metadata(self.dir.join(paths::DATABASE)).map_or(0, |meta| meta.blocks() * 512)
    }

    /// Applies a change as a whole. It is durable only after a sync.
    pub fn apply(&self, change: Change) -> Result<(), StoreError> {
        let batch = change.into_batch();
        self.turns.take(|| self.sled("writing", || self.db.apply_batch(batch)))
    }

    /// Applies a change and makes it durable with everything applied before, also against power loss. After an error
    /// nothing applied since the last success may be believed. One thread commits.
    pub fn commit(&self, mut change: Change) -> Result<(), StoreError> {
        let number = self.commits.fetch_add(1, Ordering::Relaxed) + 1;
        change.put_bytes(Table::Meta, COMMITS, &number.to_be_bytes());
        reached("commit.begun");
        self.apply(change)?;
        reached("commit.applied");
        self.sync()?;
        reached("commit.synced");
        self.accepted.as_ref().map_or(Ok(()), |accepted| self.noted(accepted.set(number)))?;
        reached("commit.durable");
        Ok(())
    }

    /// Makes everything applied so far durable, also against power loss.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.sled("flushing", || self.db.flush())?;
        reached("sync.flushed");
        let synced = self.file.sync_data();
        self.noted(synced.map_err(|error| StoreError::Io { path: self.dir.join(paths::DATABASE), error }))?;
        self.spare.as_ref().map_or(Ok(()), |spare| self.noted(spare.update()))
    }

    /// Closes the database, if there is no clone, and keeps the lock of the directory.
    pub(super) fn close(self) -> Option<Arc<Lock>> {
        self.lock
    }

    fn sled<T>(&self, doing: &str, work: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
        self.noted(guarded(&self.dir, doing, work))
    }

    pub(super) fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Io { path, error }) = &result {
            disk_error::note(&self.dir, path, error);
        }
        result
    }

    /// A value as it is.
    pub fn get_bytes(&self, table: Table, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        self.sled(table.reading(), || self.db.get(whole_key(table, key)))
    }

    /// A value from JSON.
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

    pub(crate) fn damaged(&self, table: Table, key: &[u8], how: &str) -> StoreError {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        StoreError::Damaged { dir: self.dir.clone(), what: format!("{table:?} {key}: {how}").to_lowercase() }
    }
}
