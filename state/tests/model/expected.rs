//! The log as plain values: what it must look like after every operation.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use shared::seal::Counts;
use state::log::{BatchStatus, ENDED_WITHOUT_A_WORD, Gap, GapTotals, HitId, Settings, Staged as Judged};

use crate::stream::{Stream, Time};

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
    /// Rows whose hit would not have been known if it had been met before.
    pub(crate) uncompared: u64,
    /// The run that sealed it, and the earlier runs with the last batch of each: runs are numbered.
    pub(crate) compared: Option<(usize, BTreeMap<usize, u64>)>,
    /// How often its log was opened while it was filling: each gave it a new id.
    pub(crate) renamed: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) connection: u8,
    pub(crate) connected: DateTime<Utc>,
    pub(crate) alive: DateTime<Utc>,
    pub(crate) ended: Option<DateTime<Utc>>,
    pub(crate) why: Option<String>,
    pub(crate) records: u64,
    pub(crate) counts: Counts,
    pub(crate) received: BTreeSet<DateTime<Utc>>,
    pub(crate) gap: Option<Gap>,
}

/// A record that waits for the next commit.
#[derive(Debug, Clone)]
enum Staged {
    Row { hit: Option<HitId>, received: Option<DateTime<Utc>>, row: Vec<u8>, uncompared: bool },
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
    pub(crate) gaps: GapTotals,
    sealed: Counts,
    stream: Stream,
    next_file: u64,
    next_batch: u64,
    next_reject: u64,
}

/// The log.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) durable: Durable,
    pub(crate) now: DateTime<Utc>,
    pub(crate) settings: Settings,
    pub(crate) known: HashSet<HitId>,
    /// The run of now, and the last batch that each earlier one sealed.
    run: usize,
    runs: BTreeMap<usize, u64>,
    staged: Vec<Staged>,
    staged_since: Option<DateTime<Utc>>,
    /// The session of each connection that reads, with what has not been committed yet, and whether that is so.
    reading: BTreeMap<u8, (usize, Session, bool)>,
    stream: Stream,
    gaps: GapTotals,
    hit_times: Option<(Time, Time)>,
    /// Whether the log says that it is full, which is for the bytes that things take in it.
    pub(crate) full: bool,
}

impl Expected {
    pub(crate) fn new(settings: Settings, now: DateTime<Utc>) -> Self {
        Self {
            durable: Durable { stream: Stream::new(settings.connections), ..Durable::default() },
            stream: Stream::new(settings.connections),
            gaps: GapTotals::default(),
            hit_times: None,
            full: false,
            now,
            settings,
            known: HashSet::new(),
            run: 0,
            runs: BTreeMap::new(),
            staged: Vec::new(),
            staged_since: None,
            reading: BTreeMap::new(),
        }
    }

    fn stage(&mut self, connection: u8, record: Staged, counts: Counts) {
        self.staged.push(record);
        self.staged_since.get_or_insert(self.now);
        if let Some((_, session, changed)) = self.reading.get_mut(&connection) {
            session.records += 1;
            session.counts.add(counts);
            *changed = true;
        }
    }

    /// What becomes of a row.
    pub(crate) fn row(
        &mut self,
        connection: u8,
        hit: Option<HitId>,
        received: Option<DateTime<Utc>>,
        row: &[u8],
    ) -> Judged {
        let at = received.map(|received| received.timestamp_millis());
        let known = hit.is_some_and(|hit| self.known.contains(&hit));
        let judged = if known { Judged::Duplicate } else { Judged::New };
        let uncompared = hit.is_some() && self.stream.is_uncompared(at);
        if let (Some(received), Some(at)) = (received, at) {
            if let Some((_, session, _)) = self.reading.get_mut(&connection) {
                session.received.insert(received);
            }
            self.stream.see(connection.into(), at, self.now.timestamp_millis());
        }
        let one = Counts { received: 1, without_id: u64::from(hit.is_none()), ..Counts::default() };
        match judged {
            Judged::Duplicate => self.stage(connection, Staged::Duplicate, Counts { duplicates: 1, ..one }),
            Judged::New => {
                if let Some(hit) = hit {
                    self.known.insert(hit);
                    let at = at.or(self.stream.front()).unwrap_or(self.now.timestamp_millis());
                    let (first, last) = self.hit_times.unwrap_or((at, at));
                    self.hit_times = Some((first.min(at), last.max(at)));
                }
                self.stage(
                    connection,
                    Staged::Row { hit, received, row: row.to_vec(), uncompared },
                    Counts { rows: 1, ..one },
                );
            }
        }
        judged
    }

    /// It is known what was missed before a session.
    fn settle(&mut self, connection: u8) {
        if self.stream.connections[usize::from(connection)].begun.is_empty() {
            return;
        }
        let missed = self.stream.settle(connection.into(), &self.settings);
        let Some((_, session, changed)) = self.reading.get_mut(&connection) else { return };
        *changed = true;
        let Some((from, to)) = missed else { return };
        let time = |millis| DateTime::from_timestamp_millis(millis).unwrap();
        let why = self.stream.connections[usize::from(connection)].lost.clone();
        let gap = Gap { from: time(from), to: time(to), why };
        self.gaps.gaps += 1;
        self.gaps.seconds += gap.seconds();
        session.gap = Some(gap);
    }

    pub(crate) fn reject(&mut self, connection: u8, record: &[u8]) {
        let reject = Staged::Reject { record: record.to_vec(), at: self.now };
        self.stage(connection, reject, Counts { received: 1, rejected: 1, ..Counts::default() });
    }

    pub(crate) fn filtered(&mut self, connection: u8) {
        self.stage(connection, Staged::Filtered, Counts { received: 1, filtered: 1, ..Counts::default() });
    }

    pub(crate) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
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
        let mut hits = Vec::new();
        for record in staged {
            self.durable.totals.received += 1;
            match record {
                Staged::Row { hit, received, row, uncompared } => {
                    self.durable.totals.rows += 1;
                    self.durable.totals.without_id += u64::from(hit.is_none());
                    hits.extend(hit);
                    self.append(row, received, uncompared);
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
        let end = end || self.full;
        let closed = self.close_file(end);
        let sealed = self.seal_batch(end);
        for connection in 0..self.settings.connections {
            if self.stream.due(connection.into(), self.now.timestamp_millis()) {
                self.settle(connection);
            }
        }
        let times = self.hit_times.take();
        self.stream.forget(&mut self.known, hits, times, &self.settings);
        self.durable.stream = self.stream.clone();
        self.durable.gaps = self.gaps;
        self.durable.hits_remembered = self.known.len();
        for (at, session, changed) in self.reading.values_mut() {
            if std::mem::take(changed) {
                session.alive = self.now;
                self.durable.sessions[*at] = session.clone();
            }
        }
        (closed, sealed)
    }

    /// Rows of this schema come from now on, and what is staged is committed. Returns the file it closes and the batch it
    /// seals.
    pub(crate) fn begin_form(&mut self, schema: &str) -> (Option<u64>, Option<u64>) {
        let is_other = self.settings.schema != schema;
        let ends = self.commit(is_other);
        schema.clone_into(&mut self.settings.schema);
        ends
    }

    fn append(&mut self, row: Vec<u8>, received: Option<DateTime<Utc>>, uncompared: bool) {
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
                uncompared: 0,
                compared: None,
                renamed: 0,
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
        batch.uncompared += u64::from(uncompared);
        durable.files.iter_mut().next_back().unwrap().1.rows.push(row);
    }

    /// Sealed batches wait for S3, and files may grow.
    fn grows(&self) -> bool {
        let waiting = self.durable.batches.values().filter(|batch| batch.status == BatchStatus::Sealed);
        self.settings.min_file_bytes > 0 && waiting.count() >= 2
    }

    fn is_full(&self, rows: u64, bytes: u64) -> bool {
        let Settings { records_per_file, min_file_bytes, max_file_bytes, .. } = self.settings;
        if self.grows() {
            return bytes >= max_file_bytes;
        }
        bytes >= max_file_bytes || (bytes >= min_file_bytes && rows >= records_per_file)
    }

    /// When the filling batch ends by its age.
    fn batch_end(&self) -> Option<DateTime<Utc>> {
        let batch = &self.durable.batches[&self.filling()?];
        let Settings { records_per_file, files_per_batch, min_batch_age, max_batch_age, .. } = self.settings;
        let enough = records_per_file * u64::from(files_per_batch);
        let age = if batch.rows >= enough && !self.grows() { min_batch_age } else { max_batch_age };
        Some(batch.opened + age)
    }

    fn close_file(&mut self, end: bool) -> Option<u64> {
        let seq = self.open_file()?;
        let batch_ends = self.batch_end().is_some_and(|end| self.now >= end);
        let file = &self.durable.files[&seq];
        let due = self.is_full(file.rows.len() as u64, file.bytes())
            || self.now >= file.opened + self.settings.max_file_age;
        if !(end || batch_ends || due) {
            return None;
        }
        let file = self.durable.files.get_mut(&seq).unwrap();
        file.status = Status::Closed;
        Some(seq)
    }

    fn seal_batch(&mut self, end: bool) -> Option<u64> {
        let seq = self.filling()?;
        if self.open_file().is_some() {
            return None;
        }
        let ends = self.batch_end().is_some_and(|end| self.now >= end);
        let batch = self.durable.batches.get_mut(&seq).unwrap();
        if !(end || ends || batch.files.len() >= self.settings.files_per_batch as usize) {
            return None;
        }
        batch.status = BatchStatus::Sealed;
        batch.sealed = Some(self.now);
        batch.counts = self.durable.totals.since(&self.durable.sealed);
        self.durable.sealed = self.durable.totals;
        batch.compared = Some((self.run, self.runs.clone()));
        Some(seq)
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

    /// Returns the file it closes and the batch it seals: what is staged goes before it.
    pub(crate) fn session_started(&mut self, connection: u8) -> (Option<u64>, Option<u64>) {
        self.settle(connection);
        let ends = self.commit(false);
        let session = Session {
            connection,
            connected: self.now,
            alive: self.now,
            ended: None,
            why: None,
            records: 0,
            counts: Counts::default(),
            received: BTreeSet::new(),
            gap: None,
        };
        self.stream.begin(connection.into());
        self.durable.stream = self.stream.clone();
        self.reading.insert(connection, (self.durable.sessions.len(), session.clone(), false));
        self.durable.sessions.push(session);
        ends
    }

    /// As [`Expected::session_started`].
    pub(crate) fn session_ended(&mut self, connection: u8, why: &str) -> (Option<u64>, Option<u64>) {
        self.settle(connection);
        let ends = self.commit(false);
        let Some((at, mut session, _)) = self.reading.remove(&connection) else { return ends };
        session.ended = Some(self.now);
        session.why = Some(why.to_owned());
        if !session.received.is_empty() {
            self.stream.connections[usize::from(connection)].lost = Some(why.to_owned());
        }
        self.durable.stream = self.stream.clone();
        self.durable.sessions[at] = session;
        ends
    }

    pub(crate) fn reads(&self, connection: u8) -> bool {
        self.reading.contains_key(&connection)
    }

    /// The process ended without a word, and another one opens the log; returns what it closes and seals.
    pub(crate) fn reopen(&mut self, settings: Settings) -> (Option<u64>, Option<u64>) {
        self.settings = settings;
        self.staged.clear();
        self.staged_since = None;
        self.hit_times = None;
        self.stream = self.durable.stream.clone();
        let mut sealed =
            self.durable.batches.iter().filter(|(_, batch)| batch.status != BatchStatus::Filling);
        if let Some((last, _)) = sealed.next_back()
            && self.runs.values().max().is_none_or(|known| known < last)
        {
            self.runs.insert(self.run, *last);
        }
        self.run += 1;
        while self.runs.len() > 32 {
            self.runs.pop_first();
        }
        if let Some(batch) = self.filling() {
            self.durable.batches.get_mut(&batch).unwrap().renamed += 1;
        }
        self.gaps = self.durable.gaps;
        self.known = self.stream.ids();
        self.reading.clear();
        for at in 0..self.durable.sessions.len() {
            let mut session = self.durable.sessions[at].clone();
            let connection = session.connection;
            if session.ended.is_none() {
                session.ended = Some(session.alive);
                session.why = Some(ENDED_WITHOUT_A_WORD.to_owned());
                // What it had brought settles it.
                self.reading.insert(connection, (at, session, false));
                self.settle(connection);
                session = self.reading.remove(&connection).unwrap().1;
                if !session.received.is_empty() {
                    self.stream.connections[usize::from(connection)].lost.clone_from(&session.why);
                }
                self.durable.sessions[at] = session;
            }
        }
        self.durable.stream = self.stream.clone();
        self.durable.gaps = self.gaps;
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
        let settled = self.stream.next_settled().and_then(DateTime::from_timestamp_millis);
        [staged, file, self.batch_end(), settled].into_iter().flatten().min()
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
            || self.is_full(file_rows + rows as u64, file_bytes + bytes)
            || rejects >= self.settings.commit_rows
    }
}
