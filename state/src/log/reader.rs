//! Looking into the log, from any thread and while it is written.

use std::path::Path;

use shared::ids::BatchPrefix;

use crate::log::batch_mark::BatchMark;
use crate::log::progress::Progress;
use crate::log::record::{BatchRecord, FileRecord, Session, Sums};
use crate::log::session::time;
use crate::log::shipped::{CHOSEN, Chosen};
use crate::log::status::{BatchStatus, FileStatus};
use crate::log::{LogError, chunk_key, columns, seq_key, seq_of};
use crate::status::snapshot::{
    BatchDetail, BatchSnapshot, DedupSnapshot, FileDetail, GapSnapshot, GapsSnapshot, Matching,
    ProducerSnapshot,
};
use crate::store::chunked;
use crate::store::{Kind, Store, StoreError, Table};

/// Sessions a snapshot shows.
const SESSIONS_SHOWN: usize = 20;

/// The number of a reject, and its line.
type Numbered = (u64, Vec<u8>);

/// A handle that looks into the log.
#[derive(Debug, Clone)]
pub struct LogReader {
    pub(super) store: Store,
    /// Kept by the owner; who only looks reads it when it is asked for.
    progress: Option<Progress>,
}

impl LogReader {
    pub(super) fn new(store: Store, progress: Option<Progress>) -> Self {
        Self { store, progress }
    }

    /// Opens the log in `dir` to look at it, when no producer runs.
    ///
    /// # Errors
    /// As [`Store::look`].
    pub fn look(dir: &Path) -> Result<Self, StoreError> {
        Store::look(dir, Kind::Producer).map(|store| Self::new(store, None))
    }

    /// A file's record.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn file(&self, file: u64) -> Result<FileRecord, LogError> {
        let record = self.store.get(Table::Files, &seq_key(file))?;
        record.ok_or_else(|| LogError::Missing(format!("file {file}")))
    }

    /// A batch's record.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn batch(&self, batch: u64) -> Result<BatchRecord, LogError> {
        let record = self.store.get(Table::Batches, &seq_key(batch))?;
        record.ok_or_else(|| LogError::Missing(format!("batch {batch}")))
    }

    /// The names of the columns that rows of the schema with this fingerprint have; None if the log does not know them.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn columns(&self, fingerprint: &str) -> Result<Option<Vec<String>>, StoreError> {
        columns::read(&self.store, fingerprint)
    }

    /// Every batch the log remembers, oldest first, with its number.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn batches(&self) -> Result<Vec<(u64, BatchRecord)>, StoreError> {
        let numbered = |(key, record): (sled::IVec, _)| (seq_of(&key), record);
        self.store.scan_json(Table::Batches).map(|item| item.map(numbered)).collect()
    }

    /// The files of a batch, in order.
    ///
    /// # Errors
    /// When one is not there or cannot be read.
    pub fn files_of(&self, batch: &BatchRecord) -> Result<Vec<FileRecord>, LogError> {
        (batch.first_file..batch.first_file + u64::from(batch.files)).map(|file| self.file(file)).collect()
    }

    /// Appends the rows of a file to `rows`, in the order they were accepted and with the id of their batch, having
    /// checked every checksum.
    ///
    /// # Errors
    /// When a chunk is missing or damaged.
    pub fn rows(&self, file: u64, rows: &mut Vec<u8>) -> Result<FileRecord, LogError> {
        let record = self.file(file)?;
        let (batch, mark) = (self.batch(record.batch)?.id, BatchMark::of(&self.store)?);
        let (start, mut content, mut count) = (rows.len(), Vec::new(), 0);
        for chunk in 0..record.chunks {
            let key = chunk_key(file, chunk);
            let damaged = |how: &str| LogError::Store(self.store.damaged(Table::Chunks, &key, how));
            if !chunked::get(&self.store, Table::Chunks, &key, &mut content)? {
                return Err(damaged("it is missing"));
            }
            let (chunk_count, chunk_rows) = decode_chunk(&content).map_err(|how| damaged(&how))?;
            count += chunk_count;
            rows.extend_from_slice(&chunk_rows);
        }
        if (count, (rows.len() - start) as u64) != (record.rows, record.bytes) {
            let how = format!("its chunks hold {count} rows, its record says {}", record.rows);
            return Err(LogError::Store(self.store.damaged(Table::Files, &seq_key(file), &how)));
        }
        if let Some(mark) = mark {
            mark.replace(batch, rows.get_mut(start..).unwrap_or_default());
        }
        Ok(record)
    }

    /// The oldest rejects, one line of JSON each: those that are chosen to go to S3, which is told too; else up to `max`
    /// of them, or fewer when they pass `max_bytes`.
    ///
    /// # Errors
    /// When they cannot be read.
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

    /// The latest `max` sessions and every older one before which something was missed, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn sessions(&self, max: usize) -> Result<Vec<Session>, StoreError> {
        let all = self.store.scan_json::<Session>(Table::Sessions);
        let mut sessions = all.map(|item| item.map(|(_, session)| session)).collect::<Result<Vec<_>, _>>()?;
        let old = sessions.len().saturating_sub(max);
        let mut position = 0;
        sessions.retain(|session| {
            position += 1;
            position > old || session.gap.is_some()
        });
        Ok(sessions)
    }

    /// The log at this moment, for people and programs.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn snapshot(&self) -> Result<ProducerSnapshot, LogError> {
        let sums: Sums = self.store.get(Table::Meta, b"sums")?.unwrap_or_default();
        let progress = self.progress.clone().map_or_else(|| Progress::read(&self.store), Ok)?;
        let mut rows_to_upload = 0;
        let mut batches = Vec::new();
        for (seq, record) in self.batches()? {
            let uploaded = progress.of(seq);
            if record.status != BatchStatus::Published {
                rows_to_upload += record.rows.saturating_sub(uploaded.rows);
            }
            batches.push(summary(&record, uploaded.files));
        }
        let sessions = self.sessions(SESSIONS_SHOWN)?;
        Ok(ProducerSnapshot {
            instance: self.store.instance()?,
            totals: sums.totals,
            rows_to_upload,
            disk_bytes: self.store.size_on_disk(),
            hits_remembered: sums.hits,
            dedup: DedupSnapshot {
                last_received: sums.last_received,
                front: sums.coverage.front().map(time),
                horizon: sums.horizon.map(time),
                too_short: sums.too_short,
            },
            rejects_waiting: self.count_rejects(sums.next_reject)?,
            batches,
            connections: sums.coverage.connections() as u64,
            gaps: GapsSnapshot {
                totals: sums.gaps,
                list: sessions.iter().filter_map(GapSnapshot::before).collect(),
            },
            sessions,
        })
    }

    /// All about the one batch whose id begins with `prefix`; or the ids, if they are several or none.
    ///
    /// # Errors
    /// When the log cannot be read, or has not all of the batch's files.
    pub fn matching(&self, prefix: &BatchPrefix) -> Result<Matching<BatchDetail>, LogError> {
        let mut found = self.batches()?;
        found.retain(|(_, record)| prefix.begins(record.id));
        let ids = found.iter().map(|(_, record)| record.id).collect();
        let batch = match found.as_slice() {
            [(seq, record)] => Some(self.detail(*seq, record)?),
            _ => None,
        };
        Ok(Matching { ids, batch })
    }

    fn detail(&self, seq: u64, record: &BatchRecord) -> Result<BatchDetail, LogError> {
        let files = match record.status {
            BatchStatus::Published => None,
            BatchStatus::Filling | BatchStatus::Sealed => match self.files_of(record) {
                // It was published between the two looks, and its files' records are gone; perhaps forgotten, even.
                Err(LogError::Missing(_)) if self.batch(seq)?.status == BatchStatus::Published => {
                    return self.detail(seq, &self.batch(seq)?);
                }
                Err(LogError::Missing(what)) => {
                    let how = format!("it has no {what}");
                    return Err(LogError::Store(self.store.damaged(Table::Batches, &seq_key(seq), &how)));
                }
                files => Some(files?),
            },
        };
        let detail = |file: &FileRecord| FileDetail {
            no: file.no,
            status: match file.status {
                FileStatus::Open => "open",
                FileStatus::Closed => "closed",
                FileStatus::Uploaded(_) => "uploaded",
            }
            .to_owned(),
            rows: file.rows,
            bytes: file.bytes,
            opened: file.opened,
            uploaded: match &file.status {
                FileStatus::Uploaded(upload) => Some(upload.clone()),
                FileStatus::Open | FileStatus::Closed => None,
            },
        };
        let file_list = files.map(|files| files.iter().map(detail).collect::<Vec<_>>());
        let uploaded = file_list.iter().flatten().filter(|file| file.uploaded.is_some()).count();
        Ok(BatchDetail {
            summary: summary(record, u32::try_from(uploaded).unwrap_or(u32::MAX)),
            instance: self.store.instance()?,
            schema: record.schema.clone(),
            compression: record.compression,
            place: record.place.clone(),
            first_received: record.first_received,
            last_received: record.last_received,
            counts: record.sealed.map(|_| record.counts),
            file_list,
        })
    }

    /// Rejects go in at the end and out at the front, so those between are all there.
    fn count_rejects(&self, next: u64) -> Result<u64, StoreError> {
        let first = self.store.scan(Table::Rejects, &[]).next().transpose()?;
        Ok(first.map_or(0, |(key, _)| next.saturating_sub(seq_of(&key))))
    }
}

/// The rows of a chunk: how many, and their lines.
///
/// # Errors
/// With what is wrong with it.
pub(super) fn decode_chunk(content: &[u8]) -> Result<(u64, Vec<u8>), String> {
    let Some((&[r0, r1, r2, r3, l0, l1, l2, l3], frame)) = content.split_first_chunk() else {
        return Err("it is cut off".to_owned());
    };
    let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let rows = zstd::bulk::decompress(frame, len).map_err(|error| error.to_string())?;
    if rows.len() != len {
        return Err(format!("its rows are {} bytes, it says {len}", rows.len()));
    }
    Ok((u64::from(u32::from_be_bytes([r0, r1, r2, r3])), rows))
}

/// A batch as every snapshot shows it; `uploaded` of its files stand in S3 and have their record still.
fn summary(record: &BatchRecord, uploaded: u32) -> BatchSnapshot {
    BatchSnapshot {
        batch: record.id,
        status: record.status,
        files: record.files,
        files_uploaded: match record.status {
            BatchStatus::Published => record.files,
            BatchStatus::Filling | BatchStatus::Sealed => uploaded,
        },
        rows: record.rows,
        bytes: record.bytes,
        opened: record.opened,
        sealed: record.sealed,
        published: record.published,
    }
}
