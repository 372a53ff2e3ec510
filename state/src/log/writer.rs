//! The log, open for writing. A commit takes what is staged, with every record that changes, and goes through the
//! [pipeline](crate::log::pipeline) as one atomic change. One thread owns a [`Log`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::{Moment, Steady};
use shared::seal::{Counts, believed};

use crate::failpoints::reached;
use crate::log::batch_placeholder::BatchPlaceholder;
use crate::log::coverage::Sight;
use crate::log::filling::{Filling, Stage};
use crate::log::form::Form;
use crate::log::known::KnownHits;
use crate::log::pipeline::{Committed, Cut, Pipeline};
use crate::log::reader::LogReader;
use crate::log::record::{Chosen, GapTotals, HitId, SUMS, Sums, next, seq_key};
use crate::log::reject::{KeptRecord, RejectLine};
use crate::log::sessions::Sessions;
use crate::log::settings::Settings;
use crate::log::status::{LogError, Upload};
use crate::log::uploading::Uploading;
use crate::log::window::Window;
use crate::store::{Change, Table, chunked};

/// The most that clocks may differ. A later hit moves the stream's time no further: ids and gaps would be lost.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What became of a staged row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// It goes with the next commit.
    New,
    /// Its hit is known: it is dropped and counted.
    Duplicate,
}

/// The log, open for writing.
pub struct Log {
    /// First, so that it ends before the database is closed.
    pub(super) pipeline: Pipeline,
    pub(super) settings: Settings,
    pub(super) sums: Sums,
    pub(super) stage: Stage,
    pub(super) window: Window,
    pub(super) filling: Filling,
    pub(super) sessions: Sessions,
    pub(super) uploading: Uploading,
    /// What rows have in place of the id of their batch, if the schema has a column for it.
    pub(super) batch_placeholder: BatchPlaceholder,
}

impl Log {
    /// Stages a row, a whole CSV line, unless its hit is known. `received` is the hit's `receivedTimeGMT`.
    pub fn stage_row(
        &mut self,
        connection: u8,
        hit: Option<HitId>,
        received: Option<DateTime<Utc>>,
        row: &[u8],
        now: impl Into<Moment>,
    ) -> Staged {
        let now = now.into();
        let counts = Counts { received: 1, without_id: u64::from(hit.is_none()), ..Counts::default() };
        let new = hit.is_none_or(|hit| self.window.ids.insert(hit));
        let seen = self.see(connection, received, hit, new, now);
        if !new {
            self.count(connection, Counts { duplicates: 1, ..counts }, now);
            return Staged::Duplicate;
        }
        self.count(connection, Counts { rows: 1, ..counts }, now);
        self.stage.add_row(row, seen);
        if let Some(hit) = hit {
            // The time of the hit, even one ahead of the clocks: the window remembers and forgets the hit by it.
            let own = seen.map(|seen| seen.timestamp_millis());
            let forgotten = own.zip(self.sums.horizon).is_some_and(|(own, horizon)| own <= horizon);
            // A hit that is remembered under another time may be forgotten before its own time is.
            let unbelieved = received.is_some() && seen.is_none();
            // A hit without time is as old as the stream is when it comes.
            let front = || self.sums.coverage.front().unwrap_or(now.wall.timestamp_millis());
            self.stage.add_hit(hit, own.unwrap_or_else(front), forgotten || unbelieved);
        }
        Staged::New
    }

    /// Counts a hit found among the [known ones](KnownHits) as a duplicate, even if the window has forgotten it since.
    pub fn stage_known(
        &mut self,
        connection: u8,
        hit: HitId,
        received: Option<DateTime<Utc>>,
        now: impl Into<Moment>,
    ) {
        let now = now.into();
        self.see(connection, received, Some(hit), false, now);
        self.count(connection, Counts { received: 1, duplicates: 1, ..Counts::default() }, now);
    }

    /// Counts a record that a filter dropped. It moves the stream's time too.
    pub fn stage_filtered(
        &mut self,
        connection: u8,
        received: Option<DateTime<Utc>>,
        now: impl Into<Moment>,
    ) {
        let now = now.into();
        self.see(connection, received, None, false, now);
        self.count(connection, Counts { received: 1, filtered: 1, ..Counts::default() }, now);
    }

    /// Stages a record that cannot become a row, as it was received, with the reason and its kind.
    pub fn stage_reject(
        &mut self,
        connection: u8,
        record: &[u8],
        code: &str,
        reason: &str,
        now: impl Into<Moment>,
    ) {
        self.stage_kept_reject(connection, KeptRecord::Full(record.to_vec()), (code, reason), now);
    }

    /// The same of a record of which only so much is kept.
    pub fn stage_kept_reject(
        &mut self,
        connection: u8,
        record: KeptRecord,
        why: (&str, &str),
        now: impl Into<Moment>,
    ) {
        let now = now.into();
        self.count(connection, Counts { received: 1, rejected: 1, ..Counts::default() }, now);
        let instance = self.settings.instance.clone();
        self.stage.add_reject(&RejectLine::new(now.wall, instance, why, record));
    }

    fn count(&mut self, connection: u8, counts: Counts, now: Moment) {
        self.stage.count(counts, now.steady);
        self.sessions.count(connection, counts);
    }

    /// Moves the stream's time, and returns the time of the hit if it can be believed.
    fn see(
        &mut self,
        connection: u8,
        received: Option<DateTime<Utc>>,
        hit: Option<HitId>,
        new: bool,
        now: Moment,
    ) -> Option<DateTime<Utc>> {
        let seen = received.filter(|received| believed(*received, now.wall))?;
        let at = seen.min(now.wall + AHEAD).timestamp_millis();
        let sight = Sight { at, id: hit.map(HitId::key), new };
        self.sessions.see(connection, seen, sight, now.steady, &mut self.sums);
        Some(seen)
    }

    /// Whether the stage is as full as a commit may be: its rows, or those of the file they go to.
    pub fn commit_is_due(&self) -> bool {
        self.stage.is_full(self.settings.commit_rows)
            || self.filling.is_full_with(&self.stage, &self.settings)
    }

    /// When a commit is due although the stage is not full: by the age of what is staged, open, filling or unsettled.
    pub fn next_commit(&self) -> Option<Steady> {
        let staged = self.stage.since.map(|since| since + self.settings.commit_interval);
        let settled = self.sums.coverage.next_settled().map(Steady::from_millis);
        [staged, self.filling.next_end(&self.settings), settled].into_iter().flatten().min()
    }

    /// Sends everything staged to the disk, and closes or seals what has reached a limit. [`Log::next_durable`] returns
    /// what is accepted. After an error, here or there, nothing later is accepted: the log must not be used any more.
    pub fn submit(&mut self, now: impl Into<Moment>) -> Result<(), LogError> {
        self.cut_off(now.into(), false, None)
    }

    /// The next durable commits: their records, and no others, are accepted. Waits for ever while none is under way.
    pub async fn next_durable(&mut self) -> Result<Committed, LogError> {
        loop {
            if let Some(done) = self.try_durable()? {
                return Ok(done);
            }
            self.pipeline.wake.notified().await;
        }
    }

    /// As [`Log::next_durable`]; None when nothing more is durable yet.
    pub fn try_durable(&mut self) -> Result<Option<Committed>, LogError> {
        Ok(self.pipeline.poll()?.map(|cut| self.reclaim(cut)))
    }

    /// As [`Log::submit`], and waits until everything submitted is durable.
    pub fn commit(&mut self, now: impl Into<Moment>) -> Result<Committed, LogError> {
        self.cut_off(now.into(), false, None)?;
        self.wait()
    }

    /// As [`Log::commit`]; closes the open file and seals the filling batch whatever their size.
    pub fn seal_all(&mut self, now: impl Into<Moment>) -> Result<Committed, LogError> {
        self.cut_off(now.into(), true, None)?;
        self.wait()
    }

    /// Rows staged from now on have this form. If those before have another, one commit takes them, ends their file and their
    /// batch, and keeps what the next batch needs: a crash leaves all of it or nothing. As [`Log::submit`] it does not wait.
    pub fn begin_form(&mut self, form: &Form, now: impl Into<Moment>) -> Result<(), LogError> {
        if form.fits(&self.settings) { Ok(()) } else { self.cut_off(now.into(), true, Some(form)) }
    }

    fn wait(&mut self) -> Result<Committed, LogError> {
        let mut done = Committed::default();
        while let Some(cut) = self.pipeline.wait()? {
            done.and(self.reclaim(cut));
        }
        Ok(done)
    }

    fn reclaim(&mut self, cut: Cut) -> Committed {
        self.stage.reclaim(cut.rows, cut.hits);
        cut.done
    }

    /// One commit of what is staged; with `end`, of the end of file and batch; and of the `next` form of rows.
    fn cut_off(&mut self, now: Moment, end: bool, next: Option<&Form>) -> Result<(), LogError> {
        let mut cut = Cut::default();
        // Only what is sealed goes to S3, and a full log accepts nothing more before some of it went.
        let end = end || self.is_full();
        let staged_any = !self.stage.is_empty();
        let Self { settings, sums, stage, window, filling, .. } = self;
        cut.done.counts = stage.counts;
        sums.totals.add(stage.counts);
        if stage.row_count > 0 {
            filling.add(stage, window, &mut cut, settings, sums, now);
        }
        self.add_rejects(&mut cut.change)?;
        let Self { settings, sums, window, filling, sessions, .. } = self;
        filling.close_file_if_due(&mut cut, settings, now.steady, end)?;
        filling.seal_batch_if_due(&mut cut, settings, sums, now, end)?;
        if let Some(form) = next {
            form.begin(&self.uploading.store, settings, &mut cut.change)?;
        }
        sessions.settle_due(now.steady, sums);
        window.forget(&self.uploading.store, &mut cut.change, sums)?;
        let settled_any = sessions.cut(now.wall, &mut cut.change);
        self.stage.clear();
        let any = staged_any || settled_any || cut.file.is_some() || !cut.change.is_empty();
        if any { self.send(cut) } else { Ok(()) }
    }

    fn add_rejects(&mut self, change: &mut Change) -> Result<(), LogError> {
        for line in &self.stage.rejects {
            let seq = next(&mut self.sums.next_reject);
            if !chunked::put(change, Table::Rejects, &seq_key(seq), line) {
                return Err(LogError::Missing("room for a reject of that size".to_owned()));
            }
            self.uploading.add_waiting(line.len() as u64);
        }
        Ok(())
    }

    fn send(&mut self, mut cut: Cut) -> Result<(), LogError> {
        cut.change.put(Table::Meta, SUMS, &self.sums);
        self.pipeline.send(cut)
    }

    /// Ends in order: commits what is staged, and the sessions.
    pub fn close(mut self, now: impl Into<Moment>) -> Result<Committed, LogError> {
        let now = now.into();
        reached("close.begun");
        let mut done = self.commit(now)?;
        for connection in 0..self.settings.connections {
            done.and(self.session_ended(connection, "the producer was stopped", now)?);
        }
        reached("close.durable");
        Ok(done)
    }

    /// Notes, durably, that a connection is about to read the stream; commits what is staged before it.
    pub fn session_started(&mut self, connection: u8, now: impl Into<Moment>) -> Result<Committed, LogError> {
        let now = now.into();
        self.sessions.settle(connection, &mut self.sums);
        self.submit(now)?;
        let mut cut = Cut::default();
        self.sessions.start(connection, now, &mut self.sums, &mut cut.change);
        self.send(cut)?;
        let done = self.wait()?;
        reached("session.started");
        Ok(done)
    }

    /// Notes, durably, why a connection no longer reads the stream; commits what is staged before it.
    pub fn session_ended(
        &mut self,
        connection: u8,
        why: &str,
        now: impl Into<Moment>,
    ) -> Result<Committed, LogError> {
        let now = now.into();
        self.sessions.settle(connection, &mut self.sums);
        self.submit(now)?;
        let mut cut = Cut::default();
        self.sessions.end(connection, why, now, &mut cut.change);
        if !cut.change.is_empty() {
            self.send(cut)?;
        }
        let done = self.wait()?;
        reached("session.ended");
        Ok(done)
    }

    /// Notes that S3 has confirmed a file, and drops its rows here.
    pub fn uploaded(&mut self, file: u64, upload: Upload) -> Result<(), LogError> {
        self.uploading.uploaded(file, upload)
    }

    /// Notes that S3 has confirmed the seal of a batch, and forgets batches published long before.
    pub fn published(&mut self, batch: u64, now: impl Into<Moment>) -> Result<(), LogError> {
        self.uploading.published(batch, now.into().wall)?;
        self.filling.waiting = self.filling.waiting.saturating_sub(1);
        Ok(())
    }

    /// Notes, durably, which rejects go to S3 next.
    pub fn rejects_chosen(&mut self, chosen: Chosen) -> Result<(), LogError> {
        self.uploading.choose_rejects(chosen)
    }

    /// Drops rejects that are in S3.
    pub fn rejects_uploaded(&mut self, chosen: Chosen) -> Result<(), LogError> {
        self.uploading.rejects_uploaded(chosen)
    }

    /// What a row has in place of the id of its batch.
    pub fn batch_placeholder(&self) -> &str {
        &self.batch_placeholder.text
    }

    /// The hits that are remembered, for any thread.
    pub fn known(&self) -> KnownHits {
        self.window.ids.clone()
    }

    /// Whether as much waits for S3 as may wait: then the stream must not be read until there is room.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes() >= self.settings.max_bytes
    }

    /// Whether a twentieth of the limit is free: only then a log that was full takes more, or it would be full again at
    /// once.
    pub fn has_room(&self) -> bool {
        self.waiting_bytes() <= self.settings.max_bytes - self.settings.max_bytes / 20
    }

    /// Bytes that may wait for S3.
    pub fn max_bytes(&self) -> u64 {
        self.settings.max_bytes
    }

    /// Bytes that wait for S3.
    pub fn waiting_bytes(&self) -> u64 {
        self.uploading.waiting_bytes.load(Ordering::Relaxed)
    }

    /// The same, as it changes.
    pub fn waiting(&self) -> Arc<AtomicU64> {
        self.uploading.waiting_bytes.clone()
    }

    /// Sums of everything submitted.
    pub fn totals(&self) -> Counts {
        self.sums.totals
    }

    /// Gaps so far.
    pub fn gaps(&self) -> GapTotals {
        self.sums.gaps
    }

    /// Whether the stream was ever read into this log.
    pub fn has_history(&self) -> bool {
        self.sums.next_session > 0
    }

    /// A handle that reads and does not write.
    pub fn reader(&self) -> LogReader {
        let Self { uploading, settings, .. } = self;
        LogReader::of_owner(
            uploading.store.clone(),
            uploading.uploads.clone(),
            (uploading.waiting_bytes.clone(), settings.max_bytes),
        )
    }
}
