//! The group commit: what is staged is cut off with every record it changes, and goes through the
//! [pipeline](super::pipeline) as one atomic change. One thread owns a [`Log`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shared::clock::{Moment, Steady};
use shared::ids::BatchId;
use shared::seal::Counts;

use crate::failpoints::reached;
use crate::log::batch_mark::BatchMark;
use crate::log::known::KnownHits;
use crate::log::pipeline::{Cut, Pipeline};
use crate::log::progress::Progress;
use crate::log::record::{BatchRecord, FileRecord, GapTotals, Sums};
use crate::log::runs::Runs;
use crate::log::session::Connection;
use crate::log::stage::Stage;
use crate::log::status::{BatchEvent, BatchStatus, FileEvent, FileStatus};
use crate::log::window::Window;
use crate::log::{LogError, LogReader, Settings, millis, seq_key};
use crate::store::chunked;
use crate::store::{Change, Store, Table};

/// The log, open for writing.
pub struct Log {
    /// First, so that it ends before the database is closed.
    pub(super) pipeline: Pipeline,
    pub(super) settings: Settings,
    pub(super) store: Store,
    pub(super) sums: Sums,
    pub(super) stage: Stage,
    pub(super) window: Window,
    pub(super) runs: Runs,
    /// As of the last cut; what its chunks take is known to the pipeline only.
    pub(super) open_file: Option<Numbered<FileRecord>>,
    pub(super) filling: Option<Numbered<BatchRecord>>,
    /// Since when the open file and the filling batch age. Not by the times in their records: those are the wall
    /// clock's.
    pub(super) file_since: Steady,
    pub(super) batch_since: Steady,
    pub(super) connections: Vec<Connection>,
    /// Whether a session was settled since the last cut.
    pub(super) settled_any: bool,
    /// Published batches that are kept to be looked at, oldest first.
    pub(super) published: VecDeque<u64>,
    pub(super) progress: Progress,
    /// Bytes of rows and rejects that wait for S3.
    pub(super) waiting_bytes: Arc<AtomicU64>,
    /// Whether it was said that the window is too short.
    pub(super) warned_too_short: bool,
    /// What stands in the rows for the id of their batch, if the schema has a column for it.
    pub(super) batch_mark: BatchMark,
}

/// A record and its number.
#[derive(Debug, Clone)]
pub(super) struct Numbered<T> {
    pub(super) seq: u64,
    pub(super) record: T,
}

/// What commits made durable.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Committed {
    /// What became of their records.
    pub counts: Counts,
    /// The files they closed.
    pub closed: Vec<u64>,
    /// The batches they sealed: these can be uploaded and published.
    pub sealed: Vec<u64>,
}

impl Committed {
    fn and(&mut self, later: Self) {
        self.counts.add(later.counts);
        self.closed.extend(later.closed);
        self.sealed.extend(later.sealed);
    }
}

impl Log {
    /// What a row bears in the place of the id of its batch.
    #[must_use]
    pub fn batch_mark(&self) -> &str {
        self.batch_mark.text()
    }

    /// The hits that are remembered, to be asked from any thread.
    #[must_use]
    pub fn known(&self) -> KnownHits {
        self.window.known()
    }

    /// Sends everything staged on its way to the disk, and closes or seals what has reached a limit. Waits only
    /// while several commits are under way already. What is staged is accepted when [`Log::settled`] says so.
    ///
    /// # Errors
    /// When an earlier commit failed: nothing later is accepted then and the log must not be used any more.
    pub fn submit(&mut self, now: impl Into<Moment>) -> Result<(), LogError> {
        self.cut_off(now.into(), false)
    }

    /// The next commits that are durable, with flush and fdatasync: their records, and no others, are accepted.
    /// Never returns while none is under way.
    ///
    /// # Errors
    /// When the disk fails. Nothing that is not settled yet is accepted then, and the log must not be used any more.
    pub async fn settled(&mut self) -> Result<Committed, LogError> {
        loop {
            if let Some(done) = self.try_settled()? {
                return Ok(done);
            }
            self.pipeline.news().await;
        }
    }

    /// As [`Log::settled`]; None when nothing more is durable yet.
    ///
    /// # Errors
    /// As [`Log::settled`].
    pub fn try_settled(&mut self) -> Result<Option<Committed>, LogError> {
        Ok(self.pipeline.poll()?.map(|cut| self.take_back(cut)))
    }

    /// As [`Log::submit`], and waits until everything submitted is settled.
    ///
    /// # Errors
    /// As [`Log::settled`].
    pub fn commit(&mut self, now: impl Into<Moment>) -> Result<Committed, LogError> {
        self.cut_off(now.into(), false)?;
        self.settle()
    }

    /// As [`Log::commit`]; closes the open file and seals the filling batch whatever their size.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn seal_all(&mut self, now: impl Into<Moment>) -> Result<Committed, LogError> {
        self.cut_off(now.into(), true)?;
        self.settle()
    }

    /// Waits for everything under way.
    pub(super) fn settle(&mut self) -> Result<Committed, LogError> {
        let mut done = Committed::default();
        while let Some(cut) = self.pipeline.wait()? {
            done.and(self.take_back(cut));
        }
        Ok(done)
    }

    /// Buffers of a settled commit serve again.
    fn take_back(&mut self, cut: Cut) -> Committed {
        self.stage.spare(cut.rows, cut.hits);
        cut.done
    }

    fn cut_off(&mut self, now: Moment, end: bool) -> Result<(), LogError> {
        let mut cut = Cut::default();
        // Only what is sealed goes to S3, and a full log takes nothing more before some of it went.
        let end = end || self.is_full();
        let any = !self.stage.is_empty();
        cut.done.counts = self.stage.counts;
        self.sums.totals.add(self.stage.counts);
        if self.stage.row_count > 0 {
            self.add_chunk(&mut cut, now)?;
        }
        self.add_rejects(&mut cut.change)?;
        self.close_file_if_due(&mut cut, now.steady, end)?;
        self.seal_batch_if_due(&mut cut, now, end)?;
        self.settle_due_sessions(now.steady);
        self.forget(&mut cut.change)?;
        for connection in self.connections.iter_mut().filter(|connection| connection.changed) {
            connection.changed = false;
            if let Some(session) = &mut connection.session {
                session.alive = now.wall;
                cut.change.put(Table::Sessions, &seq_key(session.session), session);
            }
        }
        self.stage.clear();
        let any = any || std::mem::take(&mut self.settled_any);
        if any || cut.file.is_some() || !cut.change.is_empty() { self.send(cut) } else { Ok(()) }
    }

    fn forget(&mut self, change: &mut Change) -> Result<(), LogError> {
        let front = self.sums.coverage.front();
        let horizon = &mut self.sums.horizon;
        self.window.forget(&self.store, change, front, horizon)?;
        let horizon = *horizon;
        self.sums.hits = self.window.len() as u64;
        let kept = millis(self.settings.dedup_window);
        let too_short =
            front.zip(horizon).is_some_and(|(front, horizon)| horizon > front.saturating_sub(kept));
        if too_short && !self.warned_too_short {
            self.warned_too_short = true;
            tracing::warn!(
                hits = self.sums.hits,
                "log.dedup_hits holds less than log.dedup_window of the stream: what comes later than that is compared \
                 with the table when it is loaded, which takes longer; raise log.dedup_hits"
            );
        }
        self.sums.too_short = too_short;
        Ok(())
    }

    /// Sends a change on its way, with the sums that go with it.
    pub(super) fn send(&mut self, mut cut: Cut) -> Result<(), LogError> {
        cut.change.put(Table::Meta, b"sums", &self.sums);
        self.pipeline.send(cut)
    }

    fn add_chunk(&mut self, cut: &mut Cut, now: Moment) -> Result<(), LogError> {
        self.open_if_need_be(now);
        let (Some(file), Some(batch)) = (&mut self.open_file, &mut self.filling) else {
            return Err(LogError::Missing("open file".to_owned()));
        };
        let (rows, bytes) = (self.stage.row_count, self.stage.rows.len() as u64);
        cut.row_count = rows;
        (cut.rows, cut.hits) = self.stage.take();
        let times = self.stage.times.unwrap_or_default();
        self.window.store(&mut cut.change, (file.seq, file.record.chunks), &cut.hits, times);

        let record = &mut file.record;
        record.chunks += 1;
        record.rows += rows;
        record.bytes += bytes;
        cut.file = Some(file.clone());

        let (record, stage) = (&mut batch.record, &self.stage);
        record.rows += rows;
        record.bytes += bytes;
        record.uncompared = record.uncompared.map(|uncompared| uncompared + stage.uncompared);
        record.first_received = [record.first_received, stage.first_received].into_iter().flatten().min();
        record.last_received = record.last_received.max(stage.last_received);
        cut.change.put(Table::Batches, &seq_key(batch.seq), record);
        Ok(())
    }

    fn open_if_need_be(&mut self, now: Moment) {
        if self.filling.is_none() {
            self.batch_since = now.steady;
        }
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
                opened: now.wall,
                sealed: None,
                published: None,
                counts: Counts::default(),
                uncompared: Some(0),
                compared: None,
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
                opened: now.wall,
            };
            self.open_file = Some(Numbered { seq: next(&mut sums.next_file), record });
            self.file_since = now.steady;
        }
    }

    fn add_rejects(&mut self, change: &mut Change) -> Result<(), LogError> {
        for line in &self.stage.rejects {
            let seq = next(&mut self.sums.next_reject);
            if !chunked::put(change, Table::Rejects, &seq_key(seq), line) {
                return Err(LogError::Missing("room for a reject of that size".to_owned()));
            }
            self.waiting_bytes.fetch_add(line.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn close_file_if_due(&mut self, cut: &mut Cut, now: Steady, end: bool) -> Result<(), LogError> {
        let Settings { records_per_file, max_file_bytes, max_file_age, max_batch_age, .. } = self.settings;
        let batch_ends = self.filling.is_some() && now >= self.batch_since + max_batch_age;
        let too_old = now >= self.file_since + max_file_age;
        let due =
            |file: &FileRecord| file.rows >= records_per_file || file.bytes >= max_file_bytes || too_old;
        let Some(mut file) = self.open_file.take_if(|file| end || batch_ends || due(&file.record)) else {
            return Ok(());
        };
        file.record.status = file.record.status.next(FileEvent::Close)?;
        cut.done.closed.push(file.seq);
        cut.file = Some(file);
        Ok(())
    }

    fn seal_batch_if_due(&mut self, cut: &mut Cut, now: Moment, end: bool) -> Result<(), LogError> {
        let Settings { files_per_batch, max_batch_age, .. } = self.settings;
        let no_open_file = self.open_file.is_none();
        let too_old = now.steady >= self.batch_since + max_batch_age;
        let due = |batch: &BatchRecord| batch.files >= files_per_batch || too_old;
        let Some(mut batch) = self.filling.take_if(|batch| no_open_file && (end || due(&batch.record)))
        else {
            return Ok(());
        };
        batch.record.status = batch.record.status.next(BatchEvent::Seal)?;
        batch.record.sealed = Some(now.wall);
        batch.record.counts = self.sums.totals.since(&self.sums.sealed);
        self.sums.sealed = self.sums.totals;
        let uncompared = batch.record.uncompared;
        batch.record.compared = uncompared.map(|uncompared| self.runs.compared(batch.seq, uncompared));
        cut.change.put(Table::Batches, &seq_key(batch.seq), &batch.record);
        cut.done.sealed.push(batch.seq);
        Ok(())
    }

    /// Whether as much waits for S3 as may wait: then no more is read until space returns.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting_bytes() >= self.settings.max_bytes
    }

    /// Bytes that wait for S3.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// The same, as it changes.
    #[must_use]
    pub fn waiting(&self) -> Arc<AtomicU64> {
        self.waiting_bytes.clone()
    }

    /// Sums of everything submitted.
    #[must_use]
    pub fn totals(&self) -> Counts {
        self.sums.totals
    }

    /// Gaps so far.
    #[must_use]
    pub fn gaps(&self) -> GapTotals {
        self.sums.gaps
    }

    /// Whether the stream was ever read into this log.
    #[must_use]
    pub fn has_history(&self) -> bool {
        self.sums.next_session > 0
    }

    /// A handle that looks and does not write.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.store.clone(), Some(self.progress.clone()))
    }

    /// Ends in order: commits what is staged, and the sessions.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn close(mut self, now: impl Into<Moment>) -> Result<Committed, LogError> {
        let now = now.into();
        reached("close.begun");
        self.submit(now)?;
        let mut done = self.settle()?;
        for connection in 0..self.settings.connections {
            done.and(self.session_ended(connection, "the producer was stopped", now)?);
        }
        reached("close.settled");
        Ok(done)
    }
}

pub(super) fn next(number: &mut u64) -> u64 {
    let this = *number;
    *number += 1;
    this
}
