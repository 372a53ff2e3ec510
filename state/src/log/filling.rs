//! The open file and the filling batch: committed rows go to them, and limits of count, size and age end them.

use chrono::{DateTime, Utc};
use shared::clock::{Moment, Steady};
use shared::ids::BatchId;
use shared::seal::Counts;

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
    pub(super) runs: Runs,
}

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
        let batch_ends = self.batch.is_some() && now >= self.batch_since + settings.max_batch_age;
        let too_old = now >= self.file_since + settings.max_file_age;
        let full = |file: &FileRecord| {
            file.rows >= settings.records_per_file || file.bytes >= settings.max_file_bytes
        };
        let due = |file: &mut Numbered<FileRecord>| end || batch_ends || too_old || full(&file.record);
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
        let too_old = now.steady >= self.batch_since + settings.max_batch_age;
        let due = |batch: &BatchRecord| end || too_old || batch.files >= settings.files_per_batch;
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
        Ok(())
    }

    pub(super) fn is_full_with(&self, stage: &Stage, settings: &Settings) -> bool {
        let (rows, bytes) = self.file.as_ref().map_or((0, 0), |file| (file.record.rows, file.record.bytes));
        rows + stage.row_count >= settings.records_per_file
            || bytes + stage.rows.len() as u64 >= settings.max_file_bytes
    }

    pub(super) fn next_end(&self, settings: &Settings) -> Option<Steady> {
        let file = self.file.as_ref().map(|_| self.file_since + settings.max_file_age);
        let batch = self.batch.as_ref().map(|_| self.batch_since + settings.max_batch_age);
        [file, batch].into_iter().flatten().min()
    }
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
