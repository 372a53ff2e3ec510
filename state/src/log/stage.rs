//! What waits in memory for the next commit. Nothing here is accepted yet.

use chrono::{DateTime, Utc};
use shared::clock::Steady;
use shared::seal::Counts;

use crate::log::coverage::StreamTime;
use crate::log::record::{HitId, RejectLine, widen};

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

    /// Adds the id of a row that is remembered under the time `at`. It is uncompared if an earlier copy of the hit may be
    /// forgotten.
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
