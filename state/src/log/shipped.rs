//! What S3 has confirmed: rows, rejects and old batches are dropped here. After a crash the same goes up once more with
//! the same content, so none of it waits for a commit; a sync for each batch is enough.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use shared::clock::Moment;

use crate::failpoints::reached;
use crate::log::commit::Log;
use crate::log::record::{BatchRecord, FileRecord};
use crate::log::status::{BatchEvent, FileEvent, FileStatus, Upload};
use crate::log::{LogError, seq_key, seq_of};
use crate::store::chunked;
use crate::store::{Change, Table};

/// Key of the rejects that are to go to S3.
pub(super) const CHOSEN: &[u8] = b"rejects";

/// Rejects that go to S3 as one object: numbers of the first and the last. It is decided before the object is written,
/// so that writing it once more after a crash, when there are more of them, writes the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// Published batches kept to be looked at: as many as the ingester remembers.
pub(super) const PUBLISHED_KEPT: usize = crate::loads::ARCHIVED_KEPT;

impl Log {
    /// Notes that S3 has confirmed a file, and drops its rows here.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn uploaded(&mut self, file: u64, upload: Upload) -> Result<(), LogError> {
        let missing = || LogError::Missing(format!("file {file}"));
        let mut record: FileRecord = self.store.get(Table::Files, &seq_key(file))?.ok_or_else(missing)?;
        record.status = record.status.next(FileEvent::Uploaded(upload))?;
        let mut change = Change::new();
        change.put(Table::Files, &seq_key(file), &record);
        chunked::remove(&self.store, &mut change, Table::Chunks, &seq_key(file))?;
        reached("uploaded.begun");
        self.store.apply(change)?;
        reached("uploaded.applied");
        self.progress.uploaded(&record);
        self.shipped(record.log_bytes);
        Ok(())
    }

    /// Notes that S3 has confirmed the seal of a batch, and forgets batches published long before.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn published(&mut self, batch: u64, now: impl Into<Moment>) -> Result<(), LogError> {
        let missing = || LogError::Missing(format!("batch {batch}"));
        let mut record: BatchRecord = self.store.get(Table::Batches, &seq_key(batch))?.ok_or_else(missing)?;
        record.status = record.status.next(BatchEvent::Published)?;
        record.published = Some(now.into().wall);
        let mut change = Change::new();
        change.put(Table::Batches, &seq_key(batch), &record);
        // Its files are history now: the seal in S3 tells of them.
        for file in record.first_file..record.first_file + u64::from(record.files) {
            if !matches!(self.reader().file(file)?.status, FileStatus::Uploaded(_)) {
                return Err(LogError::Missing(format!(
                    "confirmation of file {file}, which is to be published"
                )));
            }
            change.remove(Table::Files, &seq_key(file));
        }
        self.published.push_back(batch);
        while self.published.len() > PUBLISHED_KEPT
            && let Some(old) = self.published.pop_front()
        {
            change.remove(Table::Batches, &seq_key(old));
        }
        reached("published.begun");
        self.store.apply(change)?;
        reached("published.applied");
        self.progress.published(batch);
        // While only shipping goes on nothing else syncs, and sled uses space again that it moved things from: the
        // disk must have what was moved.
        Ok(self.store.sync()?)
    }

    /// Notes, durably, which rejects go to S3 next.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn rejects_chosen(&mut self, chosen: Chosen) -> Result<(), LogError> {
        let mut change = Change::new();
        change.put(Table::Meta, CHOSEN, &chosen);
        self.store.apply(change)?;
        reached("rejects.chosen");
        Ok(self.store.sync()?)
    }

    /// Drops rejects that stand in S3.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn rejects_shipped(&mut self, Chosen { first, last }: Chosen) -> Result<(), LogError> {
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
        self.shipped(bytes);
        Ok(())
    }

    fn shipped(&self, bytes: u64) {
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
