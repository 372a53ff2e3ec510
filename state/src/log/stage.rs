//! What waits in memory for the next commit. Nothing here is accepted yet.

use chrono::{DateTime, Utc};
use shared::clock::{Moment, Steady};
use shared::seal::{Counts, believed};

use crate::log::commit::Log;
use crate::log::coverage::{Sight, StreamTime};
use crate::log::record::{HitId, RejectLine};

/// What became of a staged row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// It goes with the next commit.
    New,
    /// Its hit is known: it is dropped and counted.
    Duplicate,
}

#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) rows: Vec<u8>,
    pub(super) row_count: u64,
    pub(super) hits: Vec<HitId>,
    /// Lowest and highest time of the hits.
    pub(super) times: Option<(StreamTime, StreamTime)>,
    /// Rows whose hit would not be known if it had been met before.
    pub(super) uncompared: u64,
    pub(super) rejects: Vec<Vec<u8>>,
    pub(super) reject_bytes: usize,
    pub(super) counts: Counts,
    pub(super) first_received: Option<DateTime<Utc>>,
    pub(super) last_received: Option<DateTime<Utc>>,
    /// When the first of all this was staged.
    pub(super) since: Option<Steady>,
    /// Buffers of settled commits.
    spare: Vec<(Vec<u8>, Vec<HitId>)>,
}

/// A commit is due at this many bytes too: a commit and what it is made of stand in memory several times.
const COMMIT_BYTES: usize = 4 << 20;

/// As far as the clocks of Adobe and this machine may be apart: one that is later moves the stream's time no further,
/// since it would make ids forgotten and hide gaps.
const AHEAD: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

impl Stage {
    pub(super) fn is_empty(&self) -> bool {
        self.counts.received == 0
    }

    /// Empties it; rows and hits have been taken out, or there were none.
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

    /// Takes the buffers of a settled commit to be used again.
    pub(super) fn spare(&mut self, mut rows: Vec<u8>, mut hits: Vec<HitId>) {
        if rows.capacity() > 0 {
            rows.clear();
            hits.clear();
            self.spare.push((rows, hits));
        }
    }

    /// Takes the rows and hits out, and puts empty buffers in their place.
    pub(super) fn take(&mut self) -> (Vec<u8>, Vec<HitId>) {
        let (rows, hits) = self.spare.pop().unwrap_or_default();
        (std::mem::replace(&mut self.rows, rows), std::mem::replace(&mut self.hits, hits))
    }
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
        let seen = believable(received, now.wall);
        let at = seen.map(|seen| stream_time(seen, now.wall));
        let new = hit.is_none_or(|hit| self.window.insert(hit));
        let staged = if new { Staged::New } else { Staged::Duplicate };
        if let (Some(seen), Some(at)) = (seen, at) {
            let id = hit.map(HitId::key);
            self.note_seen(connection, seen, Sight { at, id, new }, now);
        }
        match staged {
            Staged::Duplicate => self.count(connection, Counts { duplicates: 1, ..counts }, now),
            Staged::New => {
                self.count(connection, Counts { rows: 1, ..counts }, now);
                self.stage.row_count += 1;
                self.stage.rows.extend_from_slice(row);
                if let Some(hit) = hit {
                    // The time it bears, also when that is ahead: under that it is remembered and forgotten.
                    let own = seen.map(|seen| seen.timestamp_millis());
                    let forgotten =
                        own.is_some_and(|own| self.sums.horizon.is_some_and(|horizon| own <= horizon));
                    // What is remembered under another time than its own may be forgotten before its time is.
                    let unbelieved = received.is_some() && seen.is_none();
                    self.stage.uncompared += u64::from(forgotten || unbelieved);
                    // A hit without time is as old as the stream is when it comes.
                    let at =
                        own.or_else(|| self.sums.coverage.front()).unwrap_or(now.wall.timestamp_millis());
                    let (first, last) = self.stage.times.unwrap_or((at, at));
                    self.stage.times = Some((first.min(at), last.max(at)));
                    self.stage.hits.push(hit);
                }
                if let Some(seen) = seen {
                    widen(&mut self.stage.first_received, &mut self.stage.last_received, seen);
                }
            }
        }
        staged
    }

    /// Counts a hit that was found among the [known ones](super::KnownHits): it is a duplicate, and moves the stream's
    /// time as one that [`Log::stage_row`] finds. What is forgotten since then was known all the same.
    pub fn stage_known(
        &mut self,
        connection: u8,
        hit: HitId,
        received: Option<DateTime<Utc>>,
        now: impl Into<Moment>,
    ) {
        let now = now.into();
        if let Some(seen) = believable(received, now.wall) {
            let sight = Sight { at: stream_time(seen, now.wall), id: Some(hit.key()), new: false };
            self.note_seen(connection, seen, sight, now);
        }
        self.count(connection, Counts { received: 1, duplicates: 1, ..Counts::default() }, now);
    }

    /// Counts a record that a filter dropped. The stream was read so far all the same.
    pub fn stage_filtered(
        &mut self,
        connection: u8,
        received: Option<DateTime<Utc>>,
        now: impl Into<Moment>,
    ) {
        let now = now.into();
        if let Some(seen) = believable(received, now.wall) {
            let at = stream_time(seen, now.wall);
            self.note_seen(connection, seen, Sight { at, id: None, new: false }, now);
        }
        self.count(connection, Counts { received: 1, filtered: 1, ..Counts::default() }, now);
    }

    /// Stages a record that cannot become a row, with the reason.
    pub fn stage_reject(&mut self, connection: u8, record: &[u8], reason: &str, now: impl Into<Moment>) {
        let now = now.into();
        self.count(connection, Counts { received: 1, rejected: 1, ..Counts::default() }, now);
        let text = std::str::from_utf8(record).ok();
        let line = RejectLine {
            at: now.wall,
            instance: self.settings.instance.clone(),
            reason: reason.to_owned(),
            record: text.map(str::to_owned),
            record_base64: text.is_none().then(|| shared::object_store::base64(record)),
        };
        // Our own plain struct: its serialisation cannot fail.
        let line = serde_json::to_vec(&line).unwrap_or_default();
        self.stage.reject_bytes += line.len();
        self.stage.rejects.push(line);
    }

    fn count(&mut self, connection: u8, counts: Counts, now: Moment) {
        self.stage.counts.add(counts);
        self.stage.since.get_or_insert(now.steady);
        let Some(connection) = self.connections.get_mut(usize::from(connection)) else { return };
        if let Some(session) = &mut connection.session {
            connection.changed = true;
            session.records += 1;
            session.counts.get_or_insert_default().add(counts);
        }
    }

    fn note_seen(&mut self, connection: u8, seen: DateTime<Utc>, sight: Sight, now: Moment) {
        let state = self.connections.get_mut(usize::from(connection));
        if let Some(session) = state.and_then(|connection| connection.session.as_mut()) {
            widen(&mut session.first_received, &mut session.last_received, seen);
        }
        if self.sums.last_received.is_none_or(|last| seen > last) {
            self.sums.last_received = Some(seen);
        }
        let (now, gap) = (now.steady.millis(), self.settings.gap());
        if let Some(missed) = self.sums.coverage.see(connection, sight, now, gap) {
            self.note_settled(connection, missed);
        }
    }

    /// Whether the stage is as full as a commit may be: its rows, or those of the file they go to.
    #[must_use]
    pub fn commit_is_due(&self) -> bool {
        let (rows, bytes) =
            self.open_file.as_ref().map_or((0, 0), |open| (open.record.rows, open.record.bytes));
        self.stage.row_count as usize >= self.settings.commit_rows
            || rows + self.stage.row_count >= self.settings.records_per_file
            || bytes + self.stage.rows.len() as u64 >= self.settings.max_file_bytes
            || self.stage.rejects.len() >= self.settings.commit_rows
            || self.stage.rows.len() + self.stage.reject_bytes >= COMMIT_BYTES
            || self.stage.counts.received >= 64 * self.settings.commit_rows as u64
    }

    /// When the next commit is due although the stage is not full: by the age of what is staged, of the open file,
    /// of the filling batch or of a session that is not settled.
    #[must_use]
    pub fn next_commit(&self) -> Option<Steady> {
        let staged = self.stage.since.map(|since| since + self.settings.commit_interval);
        let file = self.open_file.as_ref().map(|_| self.file_since + self.settings.max_file_age);
        let batch = self.filling.as_ref().map(|_| self.batch_since + self.settings.max_batch_age);
        let settled = self.sums.coverage.next_settled().map(Steady::from_millis);
        [staged, file, batch, settled].into_iter().flatten().min()
    }
}

/// A time that nobody believes is no time.
fn believable(received: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    received.filter(|received| believed(*received, now))
}

/// Where in the stream a hit of this time is.
fn stream_time(seen: DateTime<Utc>, now: DateTime<Utc>) -> StreamTime {
    seen.min(now + AHEAD).timestamp_millis()
}

/// Widens a span of time so that it holds `at`.
fn widen(first: &mut Option<DateTime<Utc>>, last: &mut Option<DateTime<Utc>>, at: DateTime<Utc>) {
    if first.is_none_or(|first| at < first) {
        *first = Some(at);
    }
    if last.is_none_or(|last| at > last) {
        *last = Some(at);
    }
}
