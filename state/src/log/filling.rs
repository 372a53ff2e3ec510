//! The open file and the filling batch: committed rows go to them, and limits of count, size and age end them.
//!
//! A file is worth an object in S3 when it has `records_per_file` rows of `min_file_bytes` together, and a batch is worth a
//! load when it has the rows of `files_per_batch` such files and is `min_batch_age` old, or has so many files. So a busy stream
//! makes larger files, not more of them. While sealed batches wait for S3, nobody is served by another one: then files grow to
//! `max_file_bytes`, and batches to `files_per_batch` of these.

use chrono::{DateTime, Utc};
use shared::clock::{Moment, Steady};
use shared::ids::BatchId;
use shared::seal::{Counts, MAX_FILE_ROWS};

use crate::log::coverage::StreamTime;
use crate::log::pipeline::Cut;
use crate::log::record::{BatchRecord, FileRecord, HitId, Numbered, Runs, Sums, next, seq_key, widen};
use crate::log::reject::RejectLine;
use crate::log::settings::Settings;
use crate::log::status::{BatchEvent, BatchStatus, FileEvent, FileStatus, LogError};
use crate::log::window::Window;
use crate::store::Table;

#[derive(Debug)]
pub(super) struct Filling {
    /// As of the last cut. Only the pipeline knows what its chunks take.
    pub(super) file: Option<Numbered<FileRecord>>,
    pub(super) batch: Option<Numbered<BatchRecord>>,
    /// Since when the file and the batch age. The times in their records are those of the wall clock.
    pub(super) file_since: Steady,
    pub(super) batch_since: Steady,
    /// Sealed batches that are not published.
    pub(super) waiting: usize,
    pub(super) runs: Runs,
}

/// So many batches wait for S3 only when it takes them more slowly than the stream brings them, or not at all.
const BACKLOG: usize = 2;

impl Filling {
    pub(super) fn add(
        &mut self,
        stage: &mut Stage,
        window: &mut Window,
        cut: &mut Cut,
        settings: &Settings,
        sums: &mut Sums,
        now: Moment,
    ) {
        let mut batch = self.batch.take().unwrap_or_else(|| {
            self.batch_since = now.steady;
            new_batch(settings, sums, now)
        });
        let mut file = self.file.take().unwrap_or_else(|| {
            self.file_since = now.steady;
            new_file(&mut batch, sums, now)
        });
        let (rows, bytes) = (stage.row_count, stage.rows.len() as u64);
        cut.row_count = rows;
        (cut.rows, cut.hits) = stage.drain();
        let times = stage.times.unwrap_or_default();
        window.store(&mut cut.change, (file.seq, file.record.chunks), &cut.hits, times);

        file.record.chunks += 1;
        file.record.rows += rows;
        file.record.bytes += bytes;
        cut.file = Some(file.clone());
        self.file = Some(file);

        let record = &mut batch.record;
        record.rows += rows;
        record.bytes += bytes;
        record.uncompared = record.uncompared.map(|uncompared| uncompared + stage.uncompared);
        record.first_received = [record.first_received, stage.first_received].into_iter().flatten().min();
        record.last_received = record.last_received.max(stage.last_received);
        cut.change.put(Table::Batches, &seq_key(batch.seq), record);
        self.batch = Some(batch);
    }

    /// Closes the file if it has reached a limit, if its batch is too old, or at the `end`.
    pub(super) fn close_file_if_due(
        &mut self,
        cut: &mut Cut,
        settings: &Settings,
        now: Steady,
        end: bool,
    ) -> Result<(), LogError> {
        let batch_ends = self.batch_end(settings).is_some_and(|end| now >= end);
        let too_old = now >= self.file_since + settings.max_file_age;
        let grows = self.grows(settings);
        let due = |file: &mut Numbered<FileRecord>| {
            end || batch_ends || too_old || is_full(settings, grows, file.record.rows, file.record.bytes)
        };
        if let Some(mut file) = self.file.take_if(due) {
            file.record.status = file.record.status.next(FileEvent::Close)?;
            cut.done.closed.push(file.seq);
            cut.file = Some(file);
        }
        Ok(())
    }

    /// Seals the batch if it has no open file and has reached a limit, or at the `end`.
    pub(super) fn seal_batch_if_due(
        &mut self,
        cut: &mut Cut,
        settings: &Settings,
        sums: &mut Sums,
        now: Moment,
        end: bool,
    ) -> Result<(), LogError> {
        let no_open_file = self.file.is_none();
        let ends = self.batch_end(settings).is_some_and(|end| now.steady >= end);
        let due = |batch: &BatchRecord| end || ends || batch.files >= settings.files_per_batch;
        let Some(Numbered { seq, mut record }) =
            self.batch.take_if(|batch| no_open_file && due(&batch.record))
        else {
            return Ok(());
        };
        record.status = record.status.next(BatchEvent::Seal)?;
        record.sealed = Some(now.wall);
        record.counts = sums.totals.since(&sums.sealed);
        sums.sealed = sums.totals;
        record.compared = record.uncompared.map(|uncompared| self.runs.compared(seq, uncompared));
        cut.change.put(Table::Batches, &seq_key(seq), &record);
        cut.done.sealed.push(seq);
        self.waiting += 1;
        Ok(())
    }

    pub(super) fn is_full_with(&self, stage: &Stage, settings: &Settings) -> bool {
        let (rows, bytes) = self.file.as_ref().map_or((0, 0), |file| (file.record.rows, file.record.bytes));
        let (rows, bytes) = (rows + stage.row_count, bytes + stage.rows.len() as u64);
        is_full(settings, self.grows(settings), rows, bytes)
    }

    pub(super) fn next_end(&self, settings: &Settings) -> Option<Steady> {
        let file = self.file.as_ref().map(|_| self.file_since + settings.max_file_age);
        [file, self.batch_end(settings)].into_iter().flatten().min()
    }

    /// When the batch ends whatever its files are.
    fn batch_end(&self, settings: &Settings) -> Option<Steady> {
        let Numbered { record, .. } = self.batch.as_ref()?;
        let enough = settings.records_per_file.saturating_mul(settings.files_per_batch.into());
        let is_enough = record.rows >= enough && !self.grows(settings);
        let age = if is_enough { settings.min_batch_age } else { settings.max_batch_age };
        Some(self.batch_since + age.min(settings.max_batch_age))
    }

    fn grows(&self, settings: &Settings) -> bool {
        settings.min_file_bytes > 0 && self.waiting >= BACKLOG
    }
}

/// Whether a file is full with so many rows and bytes.
fn is_full(settings: &Settings, grows: bool, rows: u64, bytes: u64) -> bool {
    let enough = if grows { settings.max_file_bytes } else { settings.min_file_bytes };
    bytes >= settings.max_file_bytes
        || rows >= MAX_FILE_ROWS
        || rows >= settings.records_per_file && bytes >= enough
}

fn new_batch(settings: &Settings, sums: &mut Sums, now: Moment) -> Numbered<BatchRecord> {
    let record = BatchRecord {
        id: BatchId::new(),
        status: BatchStatus::Filling,
        schema: settings.schema.clone(),
        compression: settings.compression,
        place: settings.place.clone(),
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
        pseudonym_key: settings.pseudonym_key.clone(),
        pseudonym_spelling: settings.pseudonym_spelling.clone(),
    };
    Numbered { seq: next(&mut sums.next_batch), record }
}

fn new_file(batch: &mut Numbered<BatchRecord>, sums: &mut Sums, now: Moment) -> Numbered<FileRecord> {
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
    Numbered { seq: next(&mut sums.next_file), record }
}

/// A commit is due at this many bytes too: memory holds a commit, and what it is made of, several times.
const COMMIT_BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) rows: Vec<u8>,
    pub(super) row_count: u64,
    hits: Vec<HitId>,
    /// Lowest and highest time of the hits.
    pub(super) times: Option<(StreamTime, StreamTime)>,
    /// Rows whose hit would not be known if it had been met before.
    pub(super) uncompared: u64,
    pub(super) rejects: Vec<Vec<u8>>,
    reject_bytes: usize,
    pub(super) counts: Counts,
    pub(super) first_received: Option<DateTime<Utc>>,
    pub(super) last_received: Option<DateTime<Utc>>,
    /// When the first of all this was staged.
    pub(super) since: Option<Steady>,
    spare: Vec<(Vec<u8>, Vec<HitId>)>,
}

impl Stage {
    pub(super) fn is_empty(&self) -> bool {
        self.counts.received == 0
    }

    pub(super) fn count(&mut self, counts: Counts, now: Steady) {
        self.counts.add(counts);
        self.since.get_or_insert(now);
    }

    pub(super) fn add_row(&mut self, row: &[u8], received: Option<DateTime<Utc>>) {
        self.row_count += 1;
        self.rows.extend_from_slice(row);
        if let Some(received) = received {
            widen(&mut self.first_received, &mut self.last_received, received);
        }
    }

    /// Adds the id of a row remembered under the time `at`; uncompared if an earlier copy of the hit may be forgotten.
    pub(super) fn add_hit(&mut self, hit: HitId, at: StreamTime, uncompared: bool) {
        self.uncompared += u64::from(uncompared);
        let (first, last) = self.times.unwrap_or((at, at));
        self.times = Some((first.min(at), last.max(at)));
        self.hits.push(hit);
    }

    pub(super) fn add_reject(&mut self, line: &RejectLine) {
        // Our own plain struct: its serialisation cannot fail.
        let line = serde_json::to_vec(line).unwrap_or_default();
        self.reject_bytes += line.len();
        self.rejects.push(line);
    }

    /// Whether a commit of `commit_rows` is due, apart from what the open file still takes.
    pub(super) fn is_full(&self, commit_rows: usize) -> bool {
        self.row_count as usize >= commit_rows
            || self.rejects.len() >= commit_rows
            || self.rows.len() + self.reject_bytes >= COMMIT_BYTES
            || self.counts.received >= 64 * commit_rows as u64
    }

    pub(super) fn drain(&mut self) -> (Vec<u8>, Vec<HitId>) {
        let (rows, hits) = self.spare.pop().unwrap_or_default();
        (std::mem::replace(&mut self.rows, rows), std::mem::replace(&mut self.hits, hits))
    }

    pub(super) fn clear(&mut self) {
        self.rejects.clear();
        *self = Self {
            rows: std::mem::take(&mut self.rows),
            hits: std::mem::take(&mut self.hits),
            rejects: std::mem::take(&mut self.rejects),
            spare: std::mem::take(&mut self.spare),
            ..Self::default()
        };
    }

    pub(super) fn reclaim(&mut self, mut rows: Vec<u8>, mut hits: Vec<HitId>) {
        if rows.capacity() > 0 {
            rows.clear();
            hits.clear();
            self.spare.push((rows, hits));
        }
    }
}
