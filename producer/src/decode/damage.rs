//! Tells a stream that was damaged on its way from one in which Adobe sends records that cannot be read.
//!
//! gzip reports damage at the end of a member, and the member of a stream never ends. Deflate may decode damaged bytes
//! for as long as the stream lasts, to lines that no reader can read. Hits are lost behind them, and Adobe takes them for
//! sent. So a run of unreadable records ends the session, and Adobe sends the hits again to the next one.
//!
//! What Adobe sends unreadable, as in a format of tomorrow, comes again with the same bytes. After some sessions such a
//! run is tolerated, so that the stream is read to its end. Other bytes are damage, however often they come.
//!
//! ```text
//!             limit reached, by a run not seen before
//! reading ───────────────────────────────────────────► damaged ──► the session ends
//!    │ ▲                                                  ▲
//!    │ └── as many readable records as the limit ─┐       │ more than may be tolerated of a run not seen before
//!    └── limit reached, by a run seen before ──► tolerating
//! ```

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::frame::HEAD_BYTES;

/// What a readable record takes off the count of unreadable ones. A damaged record may be readable by chance, and must
/// not reset the count. Where every fifth record can be read, it is no damage.
const READABLE: u32 = 4;
/// So many sessions in a row are damaged before a run that was seen before is tolerated.
const SESSIONS: u32 = 3;
/// After so many sessions in a row that ended with unseen runs, unseen runs are tolerated too, to a bound: what Adobe
/// sends may differ each time, and then no other way leads past it.
const UNSEEN_SESSIONS: u32 = 6;
/// That bound, in limits.
const BOUND: u32 = 10;
/// So many records of a run are compared with those seen before.
const COMPARED: usize = 1_024;

/// Counts the unreadable records of one session.
#[derive(Debug, Clone, Default)]
pub struct DamageDetector {
    limit: u32,
    /// So many bytes of a line that is too long count as a record.
    record_bytes: u64,
    seen: SeenRecords,
    tolerates_seen: bool,
    /// How many records of unseen runs may still be tolerated.
    unseen_left: u32,
    count: u32,
    /// As how many records the line that has not ended is counted.
    line: u32,
    run: Run,
    tolerated: Tolerated,
    end: Option<Damage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Seen,
    Unseen,
    /// By one that was not, and of which as much was tolerated as may be.
    Exhausted,
}

#[derive(Debug, Clone, Default)]
struct Run {
    hashes: Vec<u64>,
    /// How many records were compared, and how many of them were seen before.
    compared: u64,
    seen: u64,
}

#[derive(Debug, Clone, Default)]
struct Tolerated {
    runs: u32,
    /// How many readable records end the current run; 0 when there is none.
    readable_left: u32,
    unseen: bool,
    hashes: Vec<u64>,
}

impl DamageDetector {
    /// So many unreadable records in a row are damage, 0: never. A longer line than `record_bytes` counts as more.
    pub fn new(limit: u32, record_bytes: usize) -> Self {
        Self { limit, record_bytes: record_bytes as u64, ..Self::default() }
    }

    pub(crate) fn readable(&mut self) {
        self.line = 0;
        self.tolerated.readable_left = self.tolerated.readable_left.saturating_sub(1);
        self.count = self.count.saturating_sub(READABLE);
        if self.count == 0 && self.run.compared > 0 {
            self.run = Run::default();
        }
    }

    pub(crate) fn unreadable(&mut self, record: &[u8]) {
        self.line = 0;
        self.note(record, 1, true);
    }

    pub(crate) fn too_long(&mut self, head: &[u8], bytes: u64) {
        let counted = std::mem::take(&mut self.line);
        let records = self.records(bytes).max(1).saturating_sub(counted);
        if records > 0 {
            self.note(head, records, counted == 0);
        }
    }

    /// A line has so many bytes by now and has not ended. In damaged text its end may never come.
    pub(crate) fn line_grew(&mut self, head: &[u8], bytes: u64) {
        // With its line end such a line may still be a record.
        if bytes <= self.record_bytes.saturating_add(1) {
            return;
        }
        let counted = self.line;
        self.line = self.records(bytes).max(counted);
        if self.line > counted {
            self.note(head, self.line - counted, counted == 0);
        }
    }

    /// As how many records so long a line counts.
    fn records(&self, bytes: u64) -> u32 {
        u32::try_from(bytes / self.record_bytes.max(1)).unwrap_or(u32::MAX)
    }

    fn note(&mut self, record: &[u8], records: u32, first: bool) {
        if self.limit == 0 || self.end.is_some() {
            return;
        }
        let hash = self.seen.hash(record);
        if self.tolerated.readable_left > 0 {
            self.tolerated.readable_left = self.limit;
            if self.tolerated.unseen {
                self.tolerate(hash, records);
            }
            return;
        }
        if self.run.hashes.len() < COMPARED {
            self.run.compared += u64::from(records);
            self.run.seen += if self.seen.contains(hash) { u64::from(records) } else { 0 };
            if first {
                self.run.hashes.push(hash);
            }
        }
        self.count = self.count.saturating_add(records);
        if self.count >= self.limit {
            self.limit_reached();
        }
    }

    fn limit_reached(&mut self) {
        // A wrong record now and then may come again before damage: most of them must have.
        let seen = self.run.seen * 2 > self.run.compared;
        self.tolerated.unseen = !seen;
        if seen && self.tolerates_seen {
            tracing::warn!(
                records = self.limit,
                "unreadable records come again after every reconnect, so Adobe sends them so: they are kept as rejects \
                 and the stream is read on"
            );
        } else if !seen && self.unseen_left > 0 {
            tracing::warn!(
                records = self.limit,
                at_most = self.unseen_left,
                "other unreadable records come after every reconnect: as many are kept as rejects and read past"
            );
            self.tolerated.hashes.append(&mut self.run.hashes);
        } else {
            self.end = Some(if seen { Damage::Seen } else { Damage::Unseen });
            return;
        }
        (self.count, self.run) = (0, Run::default());
        self.tolerated.readable_left = self.limit;
        self.tolerated.runs += 1;
    }

    fn tolerate(&mut self, hash: u64, records: u32) {
        if self.tolerated.hashes.len() < COMPARED {
            self.tolerated.hashes.push(hash);
        }
        match self.unseen_left.checked_sub(records) {
            Some(left) => self.unseen_left = left,
            None => self.end = Some(Damage::Exhausted),
        }
    }

    /// Whether the last records are in doubt: among damaged ones a record can look whole by chance.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.count > 0 || self.tolerated.readable_left > 0
    }

    pub(crate) fn damage(&self) -> Option<String> {
        self.end.map(|_| {
            format!(
                "damaged: {} records in a row cannot be read (adobe.damaged_after); the hits in their place are asked \
                 for again",
                self.limit
            )
        })
    }

    /// Whether the stream is damaged after as much was tolerated as may be. Then it is of no use to reconnect at once.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.end == Some(Damage::Exhausted)
    }
}

/// How the sessions of one connection ended, and so what the next one tolerates.
#[derive(Debug, Clone, Default)]
pub(crate) struct DamageHistory {
    seen: SeenRecords,
    damaged: u32,
    /// Of these, the latest in a row that ended with unseen runs.
    unseen: u32,
}

impl DamageHistory {
    pub(crate) fn new(seen: SeenRecords) -> Self {
        Self { seen, ..Self::default() }
    }

    pub(crate) fn next_session(&self, limit: u32, record_bytes: usize) -> DamageDetector {
        DamageDetector {
            seen: self.seen.clone(),
            tolerates_seen: self.damaged >= SESSIONS,
            unseen_left: if self.unseen >= UNSEEN_SESSIONS { limit.saturating_mul(BOUND) } else { 0 },
            ..DamageDetector::new(limit, record_bytes)
        }
    }

    /// Records a session that ended. `stable` says whether it read new hits for long enough.
    pub(crate) fn session_ended(&mut self, session: &DamageDetector, stable: bool) {
        self.seen.add(&session.tolerated.hashes);
        if let Some(damage) = session.end {
            self.seen.add(&session.run.hashes);
            self.damaged = self.damaged.saturating_add(1);
            self.unseen = if damage == Damage::Seen { 0 } else { self.unseen.saturating_add(1) };
        } else if session.tolerated.runs > 0 {
            // What was tolerated may come again, and is seen by then.
            (self.damaged, self.unseen) = (SESSIONS, 0);
        } else if stable {
            (self.damaged, self.unseen) = (0, 0);
        }
    }
}

/// How many records are remembered, the latest: some 400 KiB.
const REMEMBERED: usize = 16_384;

/// The unreadable records that ended sessions. All connections share them: Adobe may give a visitor to another one.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenRecords {
    hasher: RandomState,
    hashes: Arc<Mutex<Hashes>>,
}

#[derive(Debug, Default)]
struct Hashes {
    all: HashSet<u64>,
    by_age: VecDeque<u64>,
}

impl SeenRecords {
    /// The hash of a record's first bytes: of a longer record no more is kept.
    fn hash(&self, record: &[u8]) -> u64 {
        self.hasher.hash_one(record.get(..HEAD_BYTES).unwrap_or(record))
    }

    fn contains(&self, hash: u64) -> bool {
        self.lock().all.contains(&hash)
    }

    fn add(&self, hashes: &[u64]) {
        let Hashes { all, by_age } = &mut *self.lock();
        for hash in hashes.iter().filter(|hash| all.insert(**hash)) {
            by_age.push_back(*hash);
        }
        while by_age.len() > REMEMBERED {
            by_age.pop_front().map(|oldest| all.remove(&oldest));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hashes> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
