//! The log as plain values: what it must look like after every operation.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use shared::seal::Counts;
use state::log::{BatchStatus, ENDED_WITHOUT_A_WORD, Gap, HitId, Settings};

/// Hits of two sessions further apart than this have a gap between them.
const GAP_TOLERANCE: TimeDelta = TimeDelta::minutes(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Open,
    Closed,
    Uploaded,
}

#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) batch: u64,
    pub(crate) status: Status,
    pub(crate) rows: Vec<Vec<u8>>,
    pub(crate) opened: DateTime<Utc>,
}

impl File {
    pub(crate) fn bytes(&self) -> u64 {
        self.rows.iter().map(Vec::len).sum::<usize>() as u64
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) status: BatchStatus,
    pub(crate) schema: String,
    pub(crate) files: Vec<u64>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) received: BTreeSet<DateTime<Utc>>,
    pub(crate) opened: DateTime<Utc>,
    pub(crate) sealed: Option<DateTime<Utc>>,
    pub(crate) published: Option<DateTime<Utc>>,
    pub(crate) counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) connected: DateTime<Utc>,
    pub(crate) alive: DateTime<Utc>,
    pub(crate) ended: Option<DateTime<Utc>>,
    pub(crate) why: Option<String>,
    pub(crate) records: u64,
    pub(crate) received: BTreeSet<DateTime<Utc>>,
    pub(crate) gap: Option<Gap>,
}

/// A record that waits for the next commit.
#[derive(Debug, Clone)]
enum Staged {
    Row { hit: Option<HitId>, received: Option<DateTime<Utc>>, row: Vec<u8> },
    Reject { record: Vec<u8>, at: DateTime<Utc> },
    Duplicate,
    Filtered,
}

/// What of it a restart brings back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durable {
    pub(crate) files: BTreeMap<u64, File>,
    pub(crate) batches: BTreeMap<u64, Batch>,
    pub(crate) rejects: BTreeMap<u64, (Vec<u8>, DateTime<Utc>)>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) totals: Counts,
    pub(crate) hits_remembered: usize,
    sealed: Counts,
    /// Hits by commit, the oldest first.
    hits: VecDeque<(DateTime<Utc>, Vec<HitId>)>,
    next_file: u64,
    next_batch: u64,
    next_reject: u64,
    last_received: Option<DateTime<Utc>>,
}

/// The log.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) durable: Durable,
    pub(crate) now: DateTime<Utc>,
    pub(crate) settings: Settings,
    pub(crate) known: HashSet<HitId>,
    staged: Vec<Staged>,
    staged_since: Option<DateTime<Utc>>,
    /// The session that reads, with what has not been committed yet.
    session: Option<Session>,
    last_received: Option<DateTime<Utc>>,
}

impl Expected {
    pub(crate) fn new(settings: Settings, now: DateTime<Utc>) -> Self {
        Self {
            durable: Durable::default(),
            now,
            settings,
            known: HashSet::new(),
            staged: Vec::new(),
            staged_since: None,
            session: None,
            last_received: None,
        }
    }

    fn stage(&mut self, record: Staged) {
        self.staged.push(record);
        self.staged_since.get_or_insert(self.now);
        if let Some(session) = &mut self.session {
            session.records += 1;
        }
    }

    /// True when the row is new.
    pub(crate) fn row(&mut self, hit: Option<HitId>, received: Option<DateTime<Utc>>, row: &[u8]) -> bool {
        if let Some(received) = received {
            if let Some(session) = &mut self.session {
                if session.received.is_empty() {
                    let last = self.last_received.filter(|last| received - *last > GAP_TOLERANCE);
                    session.gap = last.map(|from| Gap { from, to: received });
                }
                session.received.insert(received);
            }
            self.last_received = self.last_received.max(Some(received));
        }
        let new = hit.is_none_or(|hit| self.known.insert(hit));
        self.stage(if new { Staged::Row { hit, received, row: row.to_vec() } } else { Staged::Duplicate });
        new
    }

    pub(crate) fn reject(&mut self, record: &[u8]) {
        self.stage(Staged::Reject { record: record.to_vec(), at: self.now });
    }

    pub(crate) fn filtered(&mut self) {
        self.stage(Staged::Filtered);
    }

    pub(crate) fn filling(&self) -> Option<u64> {
        let (seq, batch) = self.durable.batches.last_key_value()?;
        (batch.status == BatchStatus::Filling).then_some(*seq)
    }

    pub(crate) fn open_file(&self) -> Option<u64> {
        let (seq, file) = self.durable.files.last_key_value()?;
        (file.status == Status::Open).then_some(*seq)
    }

    /// Returns the file it closes and the batch it seals.
    pub(crate) fn commit(&mut self, end: bool) -> (Option<u64>, Option<u64>) {
        let staged = std::mem::take(&mut self.staged);
        self.staged_since = None;
        let any = !staged.is_empty();
        let mut hits = Vec::new();
        for record in staged {
            self.durable.totals.received += 1;
            match record {
                Staged::Row { hit, received, row } => {
                    self.durable.totals.rows += 1;
                    hits.extend(hit);
                    self.append(row, received);
                }
                Staged::Reject { record, at } => {
                    self.durable.totals.rejected += 1;
                    self.durable.rejects.insert(self.durable.next_reject, (record, at));
                    self.durable.next_reject += 1;
                }
                Staged::Duplicate => self.durable.totals.duplicates += 1,
                Staged::Filtered => self.durable.totals.filtered += 1,
            }
        }
        let closed = self.close_file(end);
        let sealed = self.seal_batch(end);
        let forgotten = self.forget(hits);
        if any || closed.is_some() || sealed.is_some() || forgotten {
            self.durable.last_received = self.last_received;
        }
        self.durable.hits_remembered = self.known.len();
        if any && let Some(session) = &mut self.session {
            session.alive = self.now;
            *self.durable.sessions.last_mut().unwrap() = session.clone();
        }
        (closed, sealed)
    }

    fn append(&mut self, row: Vec<u8>, received: Option<DateTime<Utc>>) {
        let (now, durable) = (self.now, &mut self.durable);
        if durable.batches.last_key_value().is_none_or(|(_, batch)| batch.status != BatchStatus::Filling) {
            let batch = Batch {
                status: BatchStatus::Filling,
                schema: self.settings.schema.clone(),
                files: Vec::new(),
                rows: 0,
                bytes: 0,
                received: BTreeSet::new(),
                opened: now,
                sealed: None,
                published: None,
                counts: Counts::default(),
            };
            durable.batches.insert(durable.next_batch, batch);
            durable.next_batch += 1;
        }
        let (batch_seq, batch) = durable.batches.iter_mut().next_back().unwrap();
        if durable.files.last_key_value().is_none_or(|(_, file)| file.status != Status::Open) {
            let file = File { batch: *batch_seq, status: Status::Open, rows: Vec::new(), opened: now };
            durable.files.insert(durable.next_file, file);
            batch.files.push(durable.next_file);
            durable.next_file += 1;
        }
        batch.rows += 1;
        batch.bytes += row.len() as u64;
        batch.received.extend(received);
        durable.files.iter_mut().next_back().unwrap().1.rows.push(row);
    }

    fn close_file(&mut self, end: bool) -> Option<u64> {
        let seq = self.open_file()?;
        let batch = &self.durable.batches[&self.filling().unwrap()];
        let batch_ends = self.now >= batch.opened + self.settings.max_batch_age;
        let file = self.durable.files.get_mut(&seq).unwrap();
        let due = file.rows.len() as u64 >= self.settings.records_per_file
            || file.bytes() >= self.settings.max_file_bytes
            || self.now >= file.opened + self.settings.max_file_age;
        if !(end || batch_ends || due) {
            return None;
        }
        file.status = Status::Closed;
        Some(seq)
    }

    fn seal_batch(&mut self, end: bool) -> Option<u64> {
        let seq = self.filling()?;
        if self.open_file().is_some() {
            return None;
        }
        let batch = self.durable.batches.get_mut(&seq).unwrap();
        let due = batch.files.len() >= self.settings.files_per_batch as usize
            || self.now >= batch.opened + self.settings.max_batch_age;
        if !(end || due) {
            return None;
        }
        batch.status = BatchStatus::Sealed;
        batch.sealed = Some(self.now);
        batch.counts = self.durable.totals.since(&self.durable.sealed);
        self.durable.sealed = self.durable.totals;
        Some(seq)
    }

    /// Forgets what is too old or too much, commit by commit, never what this commit brings.
    fn forget(&mut self, new: Vec<HitId>) -> bool {
        let mut forgotten = false;
        while let Some((at, hits)) = self.durable.hits.front() {
            let too_old = (self.now - *at).to_std().unwrap() > self.settings.dedup_window;
            if !too_old && self.known.len() <= self.settings.dedup_hits {
                break;
            }
            hits.iter().for_each(|hit| assert!(self.known.remove(hit)));
            self.durable.hits.pop_front();
            forgotten = true;
        }
        if !new.is_empty() {
            self.durable.hits.push_back((self.now, new));
        }
        forgotten
    }

    /// Whether the move is legal; then it is made.
    pub(crate) fn uploaded(&mut self, file: u64) -> bool {
        let Some(file) = self.durable.files.get_mut(&file) else { return false };
        let legal = file.status == Status::Closed;
        if legal {
            file.status = Status::Uploaded;
        }
        legal
    }

    /// Whether all files of a batch are up.
    pub(crate) fn is_up(&self, batch: u64) -> bool {
        let mut files = self.durable.files.values().filter(|file| file.batch == batch);
        files.all(|file| file.status == Status::Uploaded)
    }

    /// Whether the move is legal; then it is made.
    pub(crate) fn published(&mut self, seq: u64) -> bool {
        let up = self.is_up(seq);
        let Some(batch) = self.durable.batches.get_mut(&seq) else { return false };
        let legal = up && batch.status == BatchStatus::Sealed;
        if legal {
            batch.status = BatchStatus::Published;
            batch.published = Some(self.now);
            self.durable.files.retain(|_, file| file.batch != seq);
        }
        legal
    }

    pub(crate) fn session_started(&mut self) {
        let session = Session {
            connected: self.now,
            alive: self.now,
            ended: None,
            why: None,
            records: 0,
            received: BTreeSet::new(),
            gap: None,
        };
        self.durable.sessions.push(session.clone());
        self.durable.last_received = self.last_received;
        self.session = Some(session);
    }

    pub(crate) fn session_ended(&mut self, why: &str) {
        let Some(mut session) = self.session.take() else { return };
        session.ended = Some(self.now);
        session.why = Some(why.to_owned());
        *self.durable.sessions.last_mut().unwrap() = session;
    }

    pub(crate) fn reads(&self) -> bool {
        self.session.is_some()
    }

    /// The process ended without a word, and another one opens the log; returns what it closes and seals.
    pub(crate) fn reopen(&mut self, settings: Settings) -> (Option<u64>, Option<u64>) {
        self.settings = settings;
        self.staged.clear();
        self.staged_since = None;
        self.session = None;
        self.last_received = self.durable.last_received;
        self.known = self.durable.hits.iter().flat_map(|(_, hits)| hits).copied().collect();
        for session in self.durable.sessions.iter_mut().filter(|session| session.ended.is_none()) {
            session.ended = Some(session.alive);
            session.why = Some(ENDED_WITHOUT_A_WORD.to_owned());
        }
        let filling = self.filling();
        match filling.filter(|seq| self.durable.batches[seq].schema != self.settings.schema) {
            Some(_other_schema) => self.commit(true),
            None => (None, None),
        }
    }

    /// When the next commit is due although the stage is not full.
    pub(crate) fn next_commit(&self) -> Option<DateTime<Utc>> {
        let staged = self.staged_since.map(|since| since + self.settings.commit_interval);
        let file = self.open_file().map(|seq| self.durable.files[&seq].opened + self.settings.max_file_age);
        let batch = self.filling().map(|seq| self.durable.batches[&seq].opened + self.settings.max_batch_age);
        [staged, file, batch].into_iter().flatten().min()
    }

    /// Whether the stage is full.
    pub(crate) fn commit_is_due(&self) -> bool {
        let (mut rows, mut bytes, mut rejects) = (0, 0, 0);
        for record in &self.staged {
            match record {
                Staged::Row { row, .. } => (rows, bytes) = (rows + 1, bytes + row.len() as u64),
                Staged::Reject { .. } => rejects += 1,
                Staged::Duplicate | Staged::Filtered => {}
            }
        }
        let open = self.open_file().map(|seq| &self.durable.files[&seq]);
        let (file_rows, file_bytes) = open.map_or((0, 0), |file| (file.rows.len() as u64, file.bytes()));
        rows >= self.settings.commit_rows
            || file_rows + rows as u64 >= self.settings.records_per_file
            || file_bytes + bytes >= self.settings.max_file_bytes
            || rejects >= self.settings.commit_rows
    }
}
