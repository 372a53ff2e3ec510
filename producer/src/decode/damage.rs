//! Tells a stream that was damaged on its way from one in which Adobe sends records that cannot be read.
//!
//! gzip tells of damage at the end of a member, and the member of a stream never ends. Deflate may decode damaged bytes
//! for as long as it lasts, and what comes out are lines that no reader can read, behind which hits are lost that Adobe
//! takes for sent. So a run of unreadable lines ends the session, and the next one is sent the hits again.
//!
//! What Adobe sends unreadable, as in a format of tomorrow, comes again with the same bytes: such a run is gone over,
//! after some sessions, so that the stream is read to its end. Other bytes are damage, however often it comes.
//!
//! ```text
//!             limit reached, by a run not met before
//! reading ──────────────────────────────────────────► damaged ──► the session ends
//!    │ ▲                                                 ▲
//!    │ └── as many readable records as the limit ──┐     │ more than may be gone over of a run not met before
//!    └── limit reached, by a run met before ──► passing ─┘
//! ```

use super::seen::Met;

/// What a readable record takes off the count of unreadable ones. Of damaged text a record may be readable by chance,
/// and must not begin the count anew; where every fifth record can be read, it is no damage.
const READABLE: u32 = 4;
/// So many sessions in a row are damaged before a run that was met before is gone over.
const SESSIONS: u32 = 3;
/// After so many sessions in a row that ended with runs not met before, one of these is gone over too, to a bound: what
/// Adobe sends may differ each time, and then no other way leads past it.
const STRANGE_SESSIONS: u32 = 6;
/// That bound, in limits.
const BOUND: u32 = 10;
/// So many records of a run are compared with those met before.
const COMPARED: usize = 1_024;

/// Counts the unreadable records of a session.
#[derive(Debug, Clone, Default)]
pub struct Unreadable {
    limit: u32,
    /// So many bytes of a line that is too long count as a record.
    record_bytes: u64,
    /// Whether runs that were met before are gone over.
    passes_met: bool,
    /// Unreadable records that may be gone over in runs not met before.
    left: u32,
    met: Met,
    count: u32,
    /// As how many records the line that has not ended is counted.
    line: u32,
    run: Run,
    /// Readable records that are to come before a run that is gone over has ended.
    passing: u32,
    /// Whether that run was not met before.
    bounded: bool,
    passed: u32,
    /// What was gone over without having been met before.
    gone_over: Vec<u64>,
    end: Option<Damage>,
}

/// Why a session is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// By a run that was met before.
    Again,
    /// By one that was not.
    Strange,
    /// By one that was not, and of which as much was gone over as may be.
    Spent,
}

/// Unreadable records that are counted.
#[derive(Debug, Clone, Default)]
struct Run {
    hashes: Vec<u64>,
    /// Of those compared, all, and those met before.
    compared: u64,
    again: u64,
}

impl Unreadable {
    /// So many unreadable records in a row are damage, 0: never. A longer line than `record_bytes` counts as more.
    #[must_use]
    pub fn new(limit: u32, record_bytes: usize) -> Self {
        Self { limit, record_bytes: record_bytes as u64, ..Self::default() }
    }

    /// A record could be read, whatever became of it.
    pub fn readable(&mut self) {
        self.line = 0;
        self.passing = self.passing.saturating_sub(1);
        self.count = self.count.saturating_sub(READABLE);
        if self.count == 0 && self.run.compared > 0 {
            self.run = Run::default();
        }
    }

    /// A record could not be read.
    pub fn unreadable(&mut self, record: &[u8]) {
        self.line = 0;
        self.note(record, 1, true);
    }

    /// A line of so many bytes was too long, and began so.
    pub fn too_long(&mut self, head: &[u8], bytes: u64) {
        let counted = std::mem::take(&mut self.line);
        let records = self.records(bytes).max(1).saturating_sub(counted);
        if records > 0 {
            self.note(head, records, counted == 0);
        }
    }

    /// A line has not ended, has so many bytes by now, and began so. In damaged text the next line end may never come.
    pub fn line_grew(&mut self, head: &[u8], bytes: u64) {
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
        let hash = self.met.hash(record);
        if self.passing > 0 {
            self.passing = self.limit;
            if self.bounded {
                self.go_over(hash, records);
            }
            return;
        }
        if self.run.hashes.len() < COMPARED {
            self.run.compared += u64::from(records);
            self.run.again += if self.met.contains(hash) { u64::from(records) } else { 0 };
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
        // A wrong record now and then may come again before damage: the most of them must have.
        let again = self.run.again * 2 > self.run.compared;
        self.bounded = !again;
        if again && self.passes_met {
            tracing::warn!(
                records = self.limit,
                "records that cannot be read come again after every reconnect, so Adobe sends them so: they are kept \
                 as rejects and the stream is read on"
            );
        } else if !again && self.left > 0 {
            tracing::warn!(
                records = self.limit,
                at_most = self.left,
                "records that cannot be read come after every reconnect, and other ones each time: as many are kept \
                 as rejects and read past"
            );
            self.gone_over.append(&mut self.run.hashes);
        } else {
            self.end = Some(if again { Damage::Again } else { Damage::Strange });
            return;
        }
        (self.count, self.run, self.passing, self.passed) = (0, Run::default(), self.limit, self.passed + 1);
    }

    /// Takes records of a run that was not met before off what may be gone over.
    fn go_over(&mut self, hash: u64, records: u32) {
        if self.gone_over.len() < COMPARED {
            self.gone_over.push(hash);
        }
        match self.left.checked_sub(records) {
            Some(left) => self.left = left,
            None => self.end = Some(Damage::Spent),
        }
    }

    /// Whether the records that came last are in doubt: among damaged ones a record can look whole by chance.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.count > 0 || self.passing > 0
    }

    /// Whether the stream is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.end.is_some()
    }

    /// Whether it is, after as much was gone over as may be: then to connect again at once is of no use.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.end == Some(Damage::Spent)
    }

    /// Why the session ends then.
    #[must_use]
    pub fn why(&self) -> String {
        format!(
            "damaged: {} records in a row cannot be read (adobe.damaged_after); the hits in their place are asked for \
             again",
            self.limit
        )
    }

    /// Runs that were gone over.
    #[must_use]
    pub fn passed(&self) -> u32 {
        self.passed
    }
}

/// How the sessions of a connection ended, and so what the next one goes over.
#[derive(Debug, Clone, Default)]
pub(crate) struct Damages {
    met: Met,
    /// Damaged sessions in a row.
    damaged: u32,
    /// Of these, the latest in a row that ended with runs not met before.
    strange: u32,
}

impl Damages {
    /// No session yet; `met` is of all connections.
    #[must_use]
    pub(crate) fn new(met: Met) -> Self {
        Self { met, ..Self::default() }
    }

    /// What the next session counts its unreadable records with.
    #[must_use]
    pub(crate) fn next(&self, limit: u32, record_bytes: usize) -> Unreadable {
        Unreadable {
            passes_met: self.damaged >= SESSIONS,
            left: if self.strange >= STRANGE_SESSIONS { limit.saturating_mul(BOUND) } else { 0 },
            met: self.met.clone(),
            ..Unreadable::new(limit, record_bytes)
        }
    }

    /// A session has ended, and `well` says whether it had been read for long enough before.
    pub(crate) fn ended(&mut self, session: &Unreadable, well: bool) {
        self.met.add(&session.gone_over);
        if let Some(damage) = session.end {
            self.met.add(&session.run.hashes);
            self.damaged = self.damaged.saturating_add(1);
            self.strange = if damage == Damage::Again { 0 } else { self.strange.saturating_add(1) };
        } else if session.passed > 0 {
            // What was gone over may come again, and is known by then.
            (self.damaged, self.strange) = (SESSIONS, 0);
        } else if well {
            (self.damaged, self.strange) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests;
