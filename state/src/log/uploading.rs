//! Drops what S3 has confirmed: rows, rejects and old batches. After a crash the same objects go up once more with the same
//! content, so nothing here waits for a commit; a sync for each batch is enough.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::lock::locked;

use crate::failpoints::reached;
use crate::limits::KEPT;
use crate::log::record::{BatchRecord, CHOSEN, Chosen, FileRecord, seq_key, seq_of};
use crate::log::status::{BatchEvent, FileEvent, FileStatus, LogError, Upload};
use crate::store::{Change, Store, StoreError, Table, chunked};

/// Pieces of chunks, of at most [`MAX_VALUE`](crate::store::MAX_VALUE) bytes each.
const DROPPED_AT_ONCE: usize = 128;

#[derive(Debug)]
pub(super) struct Uploading {
    pub(super) store: Store,
    /// Published batches that are kept to be read, oldest first.
    pub(super) published: VecDeque<u64>,
    pub(super) uploads: Uploads,
    /// Bytes of rows and rejects that wait for S3.
    pub(super) waiting_bytes: Arc<AtomicU64>,
}

impl Uploading {
    pub(super) fn new(store: Store) -> Self {
        let (published, uploads) = (VecDeque::new(), Uploads::default());
        Self { store, published, uploads, waiting_bytes: Arc::default() }
    }

    pub(super) fn add_waiting(&self, bytes: u64) {
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub_waiting(&self, bytes: u64) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn uploaded(&self, file: u64, upload: Upload) -> Result<(), LogError> {
        let mut record = FileRecord::read(&self.store, file)?;
        record.status = record.status.next(FileEvent::Uploaded(upload))?;
        let mut change = Change::new();
        change.put(Table::Files, &seq_key(file), &record);
        reached("uploaded.begun");
        self.store.apply(change)?;
        reached("uploaded.applied");
        self.uploads.count(record.batch, record.rows);
        self.drop_rows(file)?;
        self.sub_waiting(record.log_bytes);
        Ok(())
    }

    /// Drops the rows of a file that S3 has, in small changes: sled keeps in memory what a change replaces until the whole
    /// of it is applied. A crash between them leaves rows that the next start drops.
    pub(super) fn drop_rows(&self, file: u64) -> Result<(), StoreError> {
        while chunked::remove_some(&self.store, Table::Chunks, &seq_key(file), DROPPED_AT_ONCE)? {
            reached("uploaded.dropping");
        }
        Ok(())
    }

    /// Notes that S3 has confirmed the seal of a batch, and forgets batches published long before.
    pub(super) fn published(&mut self, batch: u64, now: DateTime<Utc>) -> Result<(), LogError> {
        let mut record = BatchRecord::read(&self.store, batch)?;
        record.status = record.status.next(BatchEvent::Published)?;
        record.published = Some(now);
        let mut change = Change::new();
        change.put(Table::Batches, &seq_key(batch), &record);
        // From now on the seal in S3 describes its files.
        for (file, record) in record.file_numbers().zip(record.read_files(&self.store)?) {
            if !matches!(record.status, FileStatus::Uploaded(_)) {
                let what = format!("confirmation of file {file}, which is to be published");
                return Err(LogError::Missing(what));
            }
            change.remove(Table::Files, &seq_key(file));
        }
        self.published.push_back(batch);
        while self.published.len() > KEPT
            && let Some(old) = self.published.pop_front()
        {
            change.remove(Table::Batches, &seq_key(old));
        }
        reached("published.begun");
        self.store.apply(change)?;
        reached("published.applied");
        self.uploads.published(batch);
        // Nothing else syncs while the log only uploads. sled reuses space that it moved things from, so the disk must have
        // what was moved.
        Ok(self.store.sync()?)
    }

    pub(super) fn choose_rejects(&self, chosen: Chosen) -> Result<(), LogError> {
        let mut change = Change::new();
        change.put(Table::Meta, CHOSEN, &chosen);
        self.store.apply(change)?;
        reached("rejects.chosen");
        Ok(self.store.sync()?)
    }

    pub(super) fn rejects_uploaded(&self, Chosen { first, last }: Chosen) -> Result<(), LogError> {
        let mut change = Change::new();
        change.remove(Table::Meta, CHOSEN);
        let mut bytes = 0;
        for item in self.store.scan(Table::Rejects, &[]) {
            let (key, value) = item?;
            if seq_of(&key) > last {
                break;
            }
            if seq_of(&key) >= first {
                bytes += chunked::content_len(&key, &value);
                change.remove(Table::Rejects, &key);
            }
        }
        reached("rejects.begun");
        self.store.apply(change)?;
        reached("rejects.applied");
        self.sub_waiting(bytes);
        Ok(())
    }
}

/// Files and rows of a batch that are in S3.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Uploaded {
    pub(crate) files: u32,
    pub(crate) rows: u64,
}

/// By number of the batch; batches that are published are not in it. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Uploads(Arc<Mutex<BTreeMap<u64, Uploaded>>>);

/// The part of a [`FileRecord`](crate::log::FileRecord) that is needed here.
#[derive(Deserialize)]
struct FileGlance<'f> {
    batch: u64,
    /// A [`crate::log::FileStatus`]: the only one that is an object is the uploaded one.
    #[serde(borrow)]
    status: &'f RawValue,
    rows: u64,
}

impl Uploads {
    pub(super) fn read(store: &Store) -> Result<Self, StoreError> {
        let uploads = Self::default();
        for item in store.scan(Table::Files, &[]) {
            let (key, value) = item?;
            let file: FileGlance<'_> = serde_json::from_slice(&value)
                .map_err(|error| store.damaged(Table::Files, &key, &error.to_string()))?;
            if file.status.get().starts_with('{') {
                uploads.count(file.batch, file.rows);
            }
        }
        Ok(uploads)
    }

    pub(super) fn published(&self, batch: u64) {
        self.batches().remove(&batch);
    }

    pub(super) fn of(&self, batch: u64) -> Uploaded {
        self.batches().get(&batch).copied().unwrap_or_default()
    }

    pub(super) fn count(&self, batch: u64, rows: u64) {
        let mut batches = self.batches();
        let uploaded = batches.entry(batch).or_default();
        uploaded.files += 1;
        uploaded.rows += rows;
    }

    fn batches(&self) -> MutexGuard<'_, BTreeMap<u64, Uploaded>> {
        // Each change is whole.
        locked(&self.0)
    }
}
