//! What waits in memory for the next commit. Nothing here is accepted yet.

use chrono::{DateTime, Utc};
use shared::seal::Counts;

use super::commit::Log;
use super::record::{Gap, HitId, RejectLine, Session};

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
    pub(super) rejects: Vec<Vec<u8>>,
    pub(super) reject_bytes: usize,
    pub(super) counts: Counts,
    pub(super) first_received: Option<DateTime<Utc>>,
    pub(super) last_received: Option<DateTime<Utc>>,
    /// When the first of all this was staged.
    pub(super) since: Option<DateTime<Utc>>,
    /// Buffers of settled commits.
    spare: Vec<(Vec<u8>, Vec<HitId>)>,
}

/// A commit is due at this many bytes too: a commit and what it is made of stand in memory several times.
const COMMIT_BYTES: usize = 4 << 20;

/// Hits arrive roughly in the order Adobe received them, with a latency of 20 s to 5 min; a jump by more than this
/// between two sessions is a gap.
const GAP_TOLERANCE: chrono::TimeDelta = chrono::TimeDelta::minutes(1);

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
        _connection: u8,
        hit: Option<HitId>,
        received: Option<DateTime<Utc>>,
        row: &[u8],
        now: DateTime<Utc>,
    ) -> Staged {
        self.count_received(now);
        // A time from the future is no time: it would hide every gap to come.
        if let Some(received) = received.filter(|received| *received < now + chrono::TimeDelta::days(1)) {
            self.note_received(received);
        }
        if hit.is_some_and(|hit| !self.window.insert(hit)) {
            self.stage.counts.duplicates += 1;
            return Staged::Duplicate;
        }
        let stage = &mut self.stage;
        stage.counts.rows += 1;
        stage.row_count += 1;
        stage.rows.extend_from_slice(row);
        stage.hits.extend(hit);
        if let Some(received) = received {
            widen(&mut stage.first_received, &mut stage.last_received, received);
        }
        Staged::New
    }

    /// Counts a record that a filter dropped.
    pub fn stage_filtered(&mut self, _connection: u8, now: DateTime<Utc>) {
        self.count_received(now);
        self.stage.counts.filtered += 1;
    }

    /// Stages a record that cannot become a row, with the reason.
    pub fn stage_reject(&mut self, _connection: u8, record: &[u8], reason: &str, now: DateTime<Utc>) {
        self.count_received(now);
        self.stage.counts.rejected += 1;
        let text = std::str::from_utf8(record).ok();
        let line = RejectLine {
            at: now,
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

    fn count_received(&mut self, now: DateTime<Utc>) {
        self.stage.counts.received += 1;
        self.stage.since.get_or_insert(now);
        if let Some(session) = &mut self.session {
            session.records += 1;
        }
    }

    fn note_received(&mut self, received: DateTime<Utc>) {
        if let Some(session) = &mut self.session {
            if session.first_received.is_none() {
                session.gap = gap(self.sums.last_received, received, GAP_TOLERANCE);
                warn_of(session);
            }
            widen(&mut session.first_received, &mut session.last_received, received);
        }
        if self.sums.last_received.is_none_or(|last| received > last) {
            self.sums.last_received = Some(received);
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

    /// When the next commit is due although the stage is not full: by the age of what is staged, of the open file
    /// or of the filling batch.
    #[must_use]
    pub fn next_commit(&self) -> Option<DateTime<Utc>> {
        let staged = self.stage.since.map(|since| since + self.settings.commit_interval);
        let file = self.open_file.as_ref().map(|open| open.record.opened + self.settings.max_file_age);
        let batch = self.filling.as_ref().map(|open| open.record.opened + self.settings.max_batch_age);
        [staged, file, batch].into_iter().flatten().min()
    }
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

fn gap(last: Option<DateTime<Utc>>, first: DateTime<Utc>, tolerance: chrono::TimeDelta) -> Option<Gap> {
    last.filter(|last| first - *last > tolerance).map(|from| Gap { from, to: first })
}

fn warn_of(session: &Session) {
    if let Some(Gap { from, to }) = session.gap {
        tracing::warn!(session = session.session, %from, %to, "gap: the stream was not read and was not sent again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_beyond_the_tolerance_is_a_gap_and_a_replay_is_none() {
        let at = |s| DateTime::from_timestamp(s, 0).unwrap();
        let tolerance = chrono::TimeDelta::seconds(60);
        assert_eq!(gap(None, at(1000), tolerance), None);
        assert_eq!(gap(Some(at(1000)), at(900), tolerance), None);
        assert_eq!(gap(Some(at(1000)), at(1060), tolerance), None);
        assert_eq!(gap(Some(at(1000)), at(1061), tolerance), Some(Gap { from: at(1000), to: at(1061) }));
    }
}
