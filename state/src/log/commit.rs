//! The group commit, and every other write to the log. One thread owns a [`Log`].

use chrono::{DateTime, Utc};
use shared::ids::BatchId;
use shared::seal::Counts;

use super::record::{BatchRecord, FileRecord, Session, Sums};
use super::stage::Stage;
use super::status::{BatchEvent, BatchStatus, FileEvent, FileStatus, Upload};
use super::window::Window;
use super::{LogError, LogReader, Settings, chunk_key, seq_key};
use crate::pieces;
use crate::points::reached;
use crate::store::{Change, Store, Table};

/// Published batches kept to be looked at: as many as the ingester remembers.
const PUBLISHED_KEPT: usize = crate::loads::ARCHIVED_KEPT;
/// Ended sessions kept.
const SESSIONS_KEPT: u64 = 1000;
/// Level 1 keeps up with the disk; rows still shrink to a fifth or less.
const ZSTD_LEVEL: i32 = 1;

/// The log, open for writing.
pub struct Log {
    pub(super) settings: Settings,
    pub(super) store: Store,
    pub(super) sums: Sums,
    pub(super) stage: Stage,
    pub(super) window: Window,
    pub(super) open_file: Option<Numbered<FileRecord>>,
    pub(super) filling: Option<Numbered<BatchRecord>>,
    pub(super) session: Option<Session>,
    /// Bytes of rows and rejects that wait for S3.
    pub(super) waiting_bytes: u64,
    pub(super) compressor: zstd::bulk::Compressor<'static>,
}

/// A record and its number.
#[derive(Debug, Clone)]
pub(super) struct Numbered<T> {
    pub(super) seq: u64,
    pub(super) record: T,
}

/// What a commit made durable.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Committed {
    /// What became of the records of this commit.
    pub counts: Counts,
    /// The file it closed: it can be uploaded.
    pub closed: Option<u64>,
    /// The batch it sealed: it can be published once its files are up.
    pub sealed: Option<u64>,
}

impl Log {
    /// Makes everything staged durable, with flush and fdatasync, and closes or seals what has reached a limit.
    /// When this returns Ok, and not before, the staged records are accepted.
    ///
    /// # Errors
    /// When the disk fails. Nothing staged is accepted then and the log must not be used any more.
    pub fn commit(&mut self, now: DateTime<Utc>) -> Result<Committed, LogError> {
        self.commit_and_end(now, false)
    }

    /// As [`Log::commit`]; closes the open file and seals the filling batch whatever their size.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn seal_all(&mut self, now: DateTime<Utc>) -> Result<Committed, LogError> {
        self.commit_and_end(now, true)
    }

    fn commit_and_end(&mut self, now: DateTime<Utc>, end: bool) -> Result<Committed, LogError> {
        let mut change = Change::new();
        let mut done = Committed { counts: self.stage.counts, ..Committed::default() };
        add(&mut self.sums.totals, self.stage.counts);
        if self.stage.row_count > 0 {
            self.add_chunk(&mut change, now)?;
        }
        self.add_rejects(&mut change)?;
        done.closed = self.close_file_if_due(&mut change, now, end)?;
        done.sealed = self.seal_batch_if_due(&mut change, now, end)?;
        self.window.forget(&self.store, &mut change, now)?;
        if let Some(session) = self.session.as_mut().filter(|_| !self.stage.is_empty()) {
            session.alive = now;
            change.put(Table::Sessions, &seq_key(session.session), session);
        }
        if !change.is_empty() || !self.stage.is_empty() {
            self.sums.hits = self.window.len() as u64;
            change.put(Table::Meta, b"sums", &self.sums);
            reached("commit.begun");
            self.store.apply(change)?;
            reached("commit.applied");
            self.store.sync()?;
            reached("commit.durable");
        }
        self.stage.clear();
        Ok(done)
    }

    fn add_chunk(&mut self, change: &mut Change, now: DateTime<Utc>) -> Result<(), LogError> {
        self.open_if_need_be(now);
        let (Some(file), Some(batch)) = (&mut self.open_file, &mut self.filling) else {
            return Err(LogError::Missing("open file".to_owned()));
        };
        let stage = &self.stage;
        let compressed = self.compressor.compress(&stage.rows).map_err(LogError::Compress)?;
        let mut content = Vec::with_capacity(8 + compressed.len());
        content.extend_from_slice(&u32::try_from(stage.row_count).unwrap_or(u32::MAX).to_be_bytes());
        content.extend_from_slice(&u32::try_from(stage.rows.len()).unwrap_or(u32::MAX).to_be_bytes());
        content.extend_from_slice(&compressed);
        if !pieces::put(change, Table::Chunks, &chunk_key(file.seq, file.record.chunks), &content) {
            return Err(LogError::Missing(
                "room for a commit of that size; lower log.commit_rows".to_owned(),
            ));
        }
        self.window.store(change, file.seq, file.record.chunks, &stage.hits, now);
        self.waiting_bytes += content.len() as u64;

        let record = &mut file.record;
        record.chunks += 1;
        record.rows += stage.row_count;
        record.bytes += stage.rows.len() as u64;
        record.log_bytes += content.len() as u64;
        change.put(Table::Files, &seq_key(file.seq), record);

        let record = &mut batch.record;
        record.rows += stage.row_count;
        record.bytes += stage.rows.len() as u64;
        record.first_received = [record.first_received, stage.first_received].into_iter().flatten().min();
        record.last_received = record.last_received.max(stage.last_received);
        change.put(Table::Batches, &seq_key(batch.seq), record);
        Ok(())
    }

    fn open_if_need_be(&mut self, now: DateTime<Utc>) {
        let sums = &mut self.sums;
        let Settings { schema, compression, place, .. } = &self.settings;
        let batch = self.filling.get_or_insert_with(|| Numbered {
            seq: next(&mut sums.next_batch),
            record: BatchRecord {
                id: BatchId::new(),
                status: BatchStatus::Filling,
                schema: schema.clone(),
                compression: *compression,
                place: place.clone(),
                first_file: sums.next_file,
                files: 0,
                rows: 0,
                bytes: 0,
                first_received: None,
                last_received: None,
                opened: now,
                sealed: None,
                published: None,
                counts: Counts::default(),
            },
        });
        if self.open_file.is_none() {
            let no = batch.record.files;
            batch.record.files += 1;
            let record = FileRecord {
                batch: batch.seq,
                no,
                status: FileStatus::Open,
                chunks: 0,
                rows: 0,
                bytes: 0,
                log_bytes: 0,
                opened: now,
            };
            self.open_file = Some(Numbered { seq: next(&mut sums.next_file), record });
        }
    }

    fn add_rejects(&mut self, change: &mut Change) -> Result<(), LogError> {
        for line in &self.stage.rejects {
            let seq = next(&mut self.sums.next_reject);
            if !pieces::put(change, Table::Rejects, &seq_key(seq), line) {
                return Err(LogError::Missing("room for a reject of that size".to_owned()));
            }
            self.waiting_bytes += line.len() as u64;
        }
        Ok(())
    }

    fn close_file_if_due(
        &mut self,
        change: &mut Change,
        now: DateTime<Utc>,
        end: bool,
    ) -> Result<Option<u64>, LogError> {
        let Settings { records_per_file, max_file_bytes, max_file_age, max_batch_age, .. } = self.settings;
        let batch_ends =
            self.filling.as_ref().is_some_and(|batch| now >= batch.record.opened + max_batch_age);
        let due = |file: &FileRecord| {
            file.rows >= records_per_file || file.bytes >= max_file_bytes || now >= file.opened + max_file_age
        };
        let Some(mut file) = self.open_file.take_if(|file| end || batch_ends || due(&file.record)) else {
            return Ok(None);
        };
        file.record.status = file.record.status.next(FileEvent::Close)?;
        change.put(Table::Files, &seq_key(file.seq), &file.record);
        Ok(Some(file.seq))
    }

    fn seal_batch_if_due(
        &mut self,
        change: &mut Change,
        now: DateTime<Utc>,
        end: bool,
    ) -> Result<Option<u64>, LogError> {
        let Settings { files_per_batch, max_batch_age, .. } = self.settings;
        let no_open_file = self.open_file.is_none();
        let due = |batch: &BatchRecord| batch.files >= files_per_batch || now >= batch.opened + max_batch_age;
        let Some(mut batch) = self.filling.take_if(|batch| no_open_file && (end || due(&batch.record)))
        else {
            return Ok(None);
        };
        batch.record.status = batch.record.status.next(BatchEvent::Seal)?;
        batch.record.sealed = Some(now);
        batch.record.counts = self.sums.totals.since(&self.sums.sealed);
        self.sums.sealed = self.sums.totals;
        change.put(Table::Batches, &seq_key(batch.seq), &batch.record);
        Ok(Some(batch.seq))
    }

    /// Notes that S3 has confirmed a file, and drops its rows here. Need not be synced: after a crash the file goes
    /// up once more with the same content.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn uploaded(&mut self, file: u64, upload: Upload) -> Result<(), LogError> {
        let missing = || LogError::Missing(format!("file {file}"));
        let mut record: FileRecord = self.store.get(Table::Files, &seq_key(file))?.ok_or_else(missing)?;
        record.status = record.status.next(FileEvent::Uploaded(upload))?;
        let mut change = Change::new();
        change.put(Table::Files, &seq_key(file), &record);
        pieces::remove(&self.store, &mut change, Table::Chunks, &seq_key(file))?;
        reached("uploaded.begun");
        self.store.apply(change)?;
        reached("uploaded.applied");
        self.waiting_bytes = self.waiting_bytes.saturating_sub(record.log_bytes);
        Ok(())
    }

    /// Notes that S3 has confirmed the seal of a batch, and forgets batches published long before.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn published(&mut self, batch: u64, now: DateTime<Utc>) -> Result<(), LogError> {
        let missing = || LogError::Missing(format!("batch {batch}"));
        let mut record: BatchRecord = self.store.get(Table::Batches, &seq_key(batch))?.ok_or_else(missing)?;
        record.status = record.status.next(BatchEvent::Published)?;
        record.published = Some(now);
        let mut change = Change::new();
        change.put(Table::Batches, &seq_key(batch), &record);
        // Its files are history now: the seal in S3 tells of them.
        for file in record.first_file..record.first_file + u64::from(record.files) {
            change.remove(Table::Files, &seq_key(file));
        }
        let batches = self.reader().batches()?;
        let before = batches.iter().filter(|(_, batch)| batch.status == BatchStatus::Published);
        for (seq, _) in before.rev().skip(PUBLISHED_KEPT - 1) {
            change.remove(Table::Batches, &seq_key(*seq));
        }
        reached("published.begun");
        self.store.apply(change)?;
        reached("published.applied");
        Ok(())
    }

    /// Drops rejects that stand in S3: those numbered `first` to `last`.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn rejects_shipped(&mut self, first: u64, last: u64) -> Result<(), LogError> {
        let mut change = Change::new();
        let mut bytes = 0;
        for item in self.store.scan(Table::Rejects, &[]) {
            let (key, value) = item?;
            if super::seq_of(&key) > last {
                break;
            }
            if super::seq_of(&key) >= first {
                bytes += pieces::content_len(&key, &value);
                change.remove(Table::Rejects, &key);
            }
        }
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        reached("rejects.begun");
        self.store.apply(change)?;
        reached("rejects.applied");
        Ok(())
    }

    /// Notes, durably, that the stream is about to be read.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn session_started(&mut self, now: DateTime<Utc>) -> Result<(), LogError> {
        let session = next(&mut self.sums.next_session);
        let session = Session {
            session,
            connected: now,
            alive: now,
            ended: None,
            why: None,
            records: 0,
            first_received: None,
            last_received: None,
            gap: None,
        };
        let mut change = Change::new();
        change.put(Table::Sessions, &seq_key(session.session), &session);
        change.put(Table::Meta, b"sums", &self.sums);
        if let Some(old) = session.session.checked_sub(SESSIONS_KEPT) {
            change.remove(Table::Sessions, &seq_key(old));
        }
        self.session = Some(session);
        reached("session.begun");
        self.store.apply(change)?;
        reached("session.applied");
        self.store.sync()?;
        reached("session.durable");
        Ok(())
    }

    /// Notes why the stream is no longer read.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn session_ended(&mut self, why: &str, now: DateTime<Utc>) -> Result<(), LogError> {
        let Some(mut session) = self.session.take() else { return Ok(()) };
        session.ended = Some(now);
        session.why = Some(why.to_owned());
        let mut change = Change::new();
        change.put(Table::Sessions, &seq_key(session.session), &session);
        reached("ended.begun");
        self.store.apply(change)?;
        reached("ended.applied");
        Ok(())
    }

    /// Whether as much waits for S3 as may wait: then no more is read until space returns.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting_bytes >= self.settings.max_bytes
    }

    /// Bytes that wait for S3.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Sums of everything committed.
    #[must_use]
    pub fn totals(&self) -> Counts {
        self.sums.totals
    }

    /// Whether the stream was ever read into this log.
    #[must_use]
    pub fn has_history(&self) -> bool {
        self.sums.next_session > 0
    }

    /// A handle that looks and does not write.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.store.clone())
    }

    /// Ends in order: commits what is staged, and the session.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn close(mut self, now: DateTime<Utc>) -> Result<Committed, LogError> {
        reached("close.begun");
        let done = self.commit(now)?;
        reached("close.committed");
        self.session_ended("the producer was stopped", now)?;
        reached("close.ended");
        self.store.sync()?;
        reached("close.durable");
        Ok(done)
    }
}

fn next(number: &mut u64) -> u64 {
    let this = *number;
    *number += 1;
    this
}

fn add(sum: &mut Counts, more: Counts) {
    sum.received += more.received;
    sum.rows += more.rows;
    sum.duplicates += more.duplicates;
    sum.filtered += more.filtered;
    sum.rejected += more.rejected;
}

pub(super) fn compressor() -> Result<zstd::bulk::Compressor<'static>, LogError> {
    zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(LogError::Compress)
}
