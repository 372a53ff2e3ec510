//! Reads the log, from any thread and while it is written.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::ids::Instance;
use shared::seal::Counts;

use crate::log::batch_placeholder::BatchPlaceholder;
use crate::log::coverage::time;
use crate::log::record::{
    BatchRecord, CHOSEN, Chosen, FileRecord, GapTotals, SUMS, Session, Sums, chunk_key, seq_key, seq_of,
};
use crate::log::status::{BatchStatus, LogError};
use crate::log::uploading::{Uploaded, Uploads};
use crate::log::verify::{check, verify};
use crate::log::{chunk, columns};
use crate::store::{Kind, Store, StoreError, Table, chunked};
use crate::verdict::Checked;

type Numbered = (u64, Vec<u8>);

pub(crate) struct Figures {
    pub(crate) instance: Instance,
    pub(crate) totals: Counts,
    pub(crate) disk_bytes: u64,
    /// Bytes that wait for S3 and how many may, if the owner asks.
    pub(crate) room: Option<(u64, u64)>,
    pub(crate) hits: u64,
    pub(crate) dedup: Dedup,
    pub(crate) rejects: u64,
    pub(crate) connections: u64,
    pub(crate) gaps: GapTotals,
}

/// What deduplication knows besides the ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dedup {
    /// Highest `receivedTimeGMT` ever seen.
    pub last_received: Option<DateTime<Utc>>,
    /// What the slowest connection has received.
    pub front: Option<DateTime<Utc>>,
    /// Every hit later than this that was accepted is known by its id; None while nothing was forgotten.
    pub horizon: Option<DateTime<Utc>>,
    /// Whether `log.dedup_hits` holds less of the stream than `log.dedup_window`.
    pub too_short: bool,
}

/// A handle that reads the log.
#[derive(Debug, Clone)]
pub struct LogReader {
    store: Store,
    /// The owner keeps it; any other reader counts it when it is needed.
    uploads: Option<Uploads>,
    /// Bytes that wait for S3 and how many may, as the owner keeps them.
    waiting: Option<(Arc<AtomicU64>, u64)>,
}

impl LogReader {
    pub(super) fn of_owner(store: Store, uploads: Uploads, waiting: (Arc<AtomicU64>, u64)) -> Self {
        Self { store, uploads: Some(uploads), waiting: Some(waiting) }
    }

    /// Opens the log in `dir` to read it, when no producer runs.
    pub fn open_to_read(dir: &Path) -> Result<Self, StoreError> {
        Store::open_to_read(dir, Kind::Producer, check).map(|store| Self {
            store,
            uploads: None,
            waiting: None,
        })
    }

    /// A file's record.
    pub fn file(&self, file: u64) -> Result<FileRecord, LogError> {
        FileRecord::read(&self.store, file)
    }

    /// A batch's record.
    pub fn batch(&self, batch: u64) -> Result<BatchRecord, LogError> {
        BatchRecord::read(&self.store, batch)
    }

    /// The names of the columns that rows of the schema with this fingerprint have; None if the log does not know them.
    pub fn columns(&self, fingerprint: &str) -> Result<Option<Vec<String>>, StoreError> {
        columns::read(&self.store, fingerprint)
    }

    /// Every batch the log remembers, oldest first, with its number.
    pub fn batches(&self) -> Result<Vec<(u64, BatchRecord)>, StoreError> {
        let numbered = |(key, record): (sled::IVec, _)| (seq_of(&key), record);
        self.store.scan_json(Table::Batches).map(|item| item.map(numbered)).collect()
    }

    /// The batches that are not published and not for `place`. Some of their files stand in S3, or the next start with
    /// `place` takes them there.
    pub fn bound_elsewhere(&self, place: &str) -> Result<Vec<BatchRecord>, StoreError> {
        let batches = self.batches()?.into_iter().map(|(_, batch)| batch);
        Ok(batches.filter(|batch| batch.status != BatchStatus::Published && batch.place != place).collect())
    }

    /// The files of a batch, in order.
    pub fn files_of(&self, batch: &BatchRecord) -> Result<Vec<FileRecord>, LogError> {
        batch.read_files(&self.store)
    }

    /// Appends the rows of a file with the id of their batch, in the order they were accepted, every checksum checked.
    pub fn rows(&self, file: u64, rows: &mut Vec<u8>) -> Result<FileRecord, LogError> {
        self.each_chunk(file, |chunk| {
            rows.extend_from_slice(chunk);
            Ok(())
        })
    }

    /// The same, some hundred rows at a time. After an error, nothing that was passed before is to be used.
    pub fn each_chunk(
        &self,
        file: u64,
        mut pass: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<FileRecord, LogError> {
        let record = self.file(file)?;
        let (batch, placeholder) = (self.batch(record.batch)?.id, BatchPlaceholder::of(&self.store)?);
        let (mut decoder, mut content, mut rows) = (chunk::Decoder::default(), Vec::new(), Vec::new());
        let (mut count, mut bytes) = (0, 0);
        for number in 0..record.chunks {
            let key = chunk_key(file, number);
            let damaged = |how: &str| LogError::Store(self.store.damaged(Table::Chunks, &key, how));
            if !chunked::get(&self.store, Table::Chunks, &key, &mut content)? {
                return Err(damaged("it is missing"));
            }
            count += decoder.decode(&content, &mut rows).map_err(|how| damaged(&how))?;
            bytes += rows.len() as u64;
            if let Some(placeholder) = &placeholder {
                placeholder.replace(batch, &mut rows);
            }
            pass(&rows).map_err(LogError::Compress)?;
        }
        if (count, bytes) != (record.rows, record.bytes) {
            let how = format!("its chunks hold {count} rows, its record says {}", record.rows);
            return Err(LogError::Store(self.store.damaged(Table::Files, &seq_key(file), &how)));
        }
        Ok(record)
    }

    /// The oldest rejects: those chosen to go to S3, with the choice; else up to `max`, or fewer past `max_bytes`.
    pub fn rejects(
        &self,
        max: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Numbered>, Option<Chosen>), StoreError> {
        let chosen: Option<Chosen> = self.store.get(Table::Meta, CHOSEN)?;
        let (mut rejects, mut bytes) = (Vec::<Numbered>::new(), 0);
        for item in self.store.scan(Table::Rejects, &[]) {
            let seq = seq_of(&item?.0);
            if rejects.last().is_some_and(|(last, _)| *last == seq) {
                continue;
            }
            let enough = rejects.len() == max || bytes >= max_bytes;
            if chosen.map_or(enough, |chosen| seq > chosen.last) {
                break;
            }
            let mut line = Vec::new();
            chunked::get(&self.store, Table::Rejects, &seq_key(seq), &mut line)?;
            bytes += line.len();
            rejects.push((seq, line));
        }
        Ok((rejects, chosen))
    }

    /// The latest `max` sessions, the latest of each connection, and every one before which something was missed; oldest
    /// first.
    pub fn sessions(&self, max: usize) -> Result<Vec<Session>, StoreError> {
        let all = self.store.scan_json::<Session>(Table::Sessions);
        let mut sessions = all.map(|item| item.map(|(_, session)| session)).collect::<Result<Vec<_>, _>>()?;
        let old = sessions.len().saturating_sub(max);
        let latest: BTreeMap<_, _> =
            sessions.iter().map(|session| (session.connection, session.session)).collect();
        let mut position = 0;
        sessions.retain(|session| {
            position += 1;
            let is_latest = latest.get(&session.connection) == Some(&session.session);
            position > old || is_latest || session.gap.is_some()
        });
        Ok(sessions)
    }

    pub(crate) fn figures(&self) -> Result<Figures, StoreError> {
        let sums: Sums = self.store.get(Table::Meta, SUMS)?.unwrap_or_default();
        Ok(Figures {
            instance: self.instance()?,
            totals: sums.totals,
            disk_bytes: self.store.size_on_disk(),
            room: self.waiting.as_ref().map(|(bytes, max)| (bytes.load(Ordering::Relaxed), *max)),
            hits: sums.hits,
            dedup: Dedup {
                last_received: sums.last_received,
                front: sums.coverage.front().map(time),
                horizon: sums.horizon.map(time),
                too_short: sums.too_short,
            },
            rejects: self.count_rejects(sums.next_reject)?,
            connections: sums.coverage.connections() as u64,
            gaps: sums.gaps,
        })
    }

    /// Every batch the log remembers, oldest first, with the part of it that is in S3 and still has its record.
    pub(crate) fn batches_with_uploads(&self) -> Result<Vec<(BatchRecord, Uploaded)>, StoreError> {
        let uploads = self.uploads.clone().map_or_else(|| Uploads::read(&self.store), Ok)?;
        Ok(self.batches()?.into_iter().map(|(seq, record)| (record, uploads.of(seq))).collect())
    }

    /// A batch with its files in order; None for a published one, which it may have become since `record` was read.
    pub(crate) fn with_files(
        &self,
        seq: u64,
        record: BatchRecord,
    ) -> Result<(BatchRecord, Option<Vec<FileRecord>>), LogError> {
        if record.status == BatchStatus::Published {
            return Ok((record, None));
        }
        let what = match self.files_of(&record) {
            Err(LogError::Missing(what)) => what,
            files => return Ok((record, Some(files?))),
        };
        let now = self.batch(seq)?;
        if now.status == BatchStatus::Published {
            return Ok((now, None));
        }
        let how = format!("it has no {what}");
        Err(LogError::Store(self.store.damaged(Table::Batches, &seq_key(seq), &how)))
    }

    /// Reads and checks the whole log. Damage is no error, but what is reported.
    pub fn verify(&self) -> Result<Vec<Checked>, StoreError> {
        verify(&self.store)
    }

    /// The producer that the log belongs to.
    pub fn instance(&self) -> Result<Instance, StoreError> {
        self.store.instance()
    }

    /// Rejects go in at the end and out at the front, so those between are all there.
    fn count_rejects(&self, next: u64) -> Result<u64, StoreError> {
        let first = self.store.scan(Table::Rejects, &[]).next().transpose()?;
        Ok(first.map_or(0, |(key, _)| next.saturating_sub(seq_of(&key))))
    }
}
