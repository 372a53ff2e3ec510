//! How much of each batch is in S3, without reading every file's record: while S3 is away there are tens of thousands of
//! them, and reading them keeps the writer waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::store::{Store, StoreError, Table};

/// Files and rows of a batch that are in S3.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Uploaded {
    pub(crate) files: u32,
    pub(crate) rows: u64,
}

/// By number of the batch; batches that are published are not in it. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<Mutex<BTreeMap<u64, Uploaded>>>);

/// The part of a [`FileRecord`](crate::log::FileRecord) that is needed here.
#[derive(Deserialize)]
struct FileGlance<'f> {
    batch: u64,
    /// A [`crate::log::FileStatus`]: the only one that is an object is the uploaded one.
    #[serde(borrow)]
    status: &'f RawValue,
    rows: u64,
}

impl Progress {
    pub(super) fn read(store: &Store) -> Result<Self, StoreError> {
        let progress = Self::default();
        for item in store.scan(Table::Files, &[]) {
            let (key, value) = item?;
            let file: FileGlance<'_> = serde_json::from_slice(&value)
                .map_err(|error| store.damaged(Table::Files, &key, &error.to_string()))?;
            if file.status.get().starts_with('{') {
                progress.count(file.batch, file.rows);
            }
        }
        Ok(progress)
    }

    pub(super) fn published(&self, batch: u64) {
        self.batches().remove(&batch);
    }

    pub(super) fn of(&self, batch: u64) -> Uploaded {
        self.batches().get(&batch).copied().unwrap_or_default()
    }

    /// Counts an uploaded file of `rows`.
    pub(super) fn count(&self, batch: u64, rows: u64) {
        let mut batches = self.batches();
        let uploaded = batches.entry(batch).or_default();
        uploaded.files += 1;
        uploaded.rows += rows;
    }

    fn batches(&self) -> MutexGuard<'_, BTreeMap<u64, Uploaded>> {
        // Each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
