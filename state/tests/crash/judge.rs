//! What must be there: heard from the processes that were killed, and held against what is found.

use std::collections::{BTreeMap, HashSet, VecDeque};

use shared::ids::BatchId;
use shared::seal::{Counts, Seal};
use state::log::{
    BatchRecord, BatchStatus, FileRecord, FileStatus, Gap, GapTotals, Log, LogReader, RejectLine, Resumed,
    Staged,
};

use super::records::{FORMS, Token, form};
use super::standin::{self, Objects};

/// A batch as it was last seen.
#[derive(Debug, Clone)]
struct Seen {
    id: BatchId,
    status: BatchStatus,
    first_file: u64,
    files: u32,
}

/// A place up to which everything is published and was found right.
#[derive(Debug, Clone, Copy, Default)]
struct Checked {
    batch: u64,
    rows: usize,
}

/// Everything promised so far.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    pub(crate) rows: Vec<Token>,
    /// The form of each row.
    forms: Vec<u8>,
    /// That of the records that are tried now.
    form: u8,
    hits: HashSet<u64>,
    /// Hits that were forgotten and taken again; the seals tell of so many rows, or more.
    pub(crate) again: u64,
    rejects: Vec<Token>,
    pub(crate) totals: Counts,
    /// Gaps as of the last look.
    pub(crate) gaps: u64,
    /// Records of each commit that is under way: they are accepted one commit after the other, each all or none.
    pending: VecDeque<(u8, Vec<Token>)>,
    sessions: u64,
    /// Sessions of which nobody knows whether they were noted.
    sessions_begun: u64,
    batches: BTreeMap<u64, Seen>,
    /// Rows of each batch that are told to be compared with nothing.
    uncompared: BTreeMap<u64, u64>,
    checked: Checked,
    /// The first hit that was never accepted.
    pub(crate) next_hit: u64,
    /// Points passed by a process that was to live.
    pub(crate) points: Vec<String>,
    pub(crate) slowest_open_micros: u64,
    pub(crate) opens: u64,
}

impl Judge {
    /// Hears a line of the child. Lines of the test harness around it are passed over.
    pub(crate) fn hear(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "try" => {
                let tokens = rest.split_whitespace().map(|token| token.parse().unwrap()).collect();
                self.pending.push_back((self.form, tokens));
            }
            "form" => self.form = rest.parse().unwrap(),
            "accepted" => {
                while self.accept() {}
                assert_eq!(self.totals, serde_json::from_str(rest).unwrap(), "totals of a commit");
            }
            "opened" => {
                let (micros, totals) = rest.split_once(' ').unwrap();
                self.opened(micros.parse().unwrap(), serde_json::from_str(totals).unwrap());
            }
            "session" => self.sessions_begun += 1,
            "started" => {
                self.sessions += 1;
                self.sessions_begun -= 1;
            }
            "point" => self.points.push(rest.to_owned()),
            "broken:" => panic!("the child says: {rest}"),
            _ => {}
        }
    }

    /// The log was opened: its totals tell which commits that were under way came through.
    pub(crate) fn opened(&mut self, micros: u64, totals: Counts) {
        self.opens += 1;
        self.slowest_open_micros = self.slowest_open_micros.max(micros);
        while self.totals != totals && self.accept() {}
        self.pending.clear();
        self.form = 0;
        assert_eq!(self.totals, totals, "neither what was accepted nor that and commits under way");
    }

    /// False when no commit is under way.
    fn accept(&mut self) -> bool {
        let Some((form, tokens)) = self.pending.pop_front() else { return false };
        for token in tokens {
            self.totals.received += 1;
            match token {
                Token::Hit(n) => {
                    self.next_hit = self.next_hit.max(n + 1);
                    self.again += u64::from(!self.hits.insert(n));
                }
                Token::Known(n) => {
                    assert!(
                        self.hits.contains(&n),
                        "hit {n} was never accepted, and is taken for known: {token}"
                    );
                    self.totals.duplicates += 1;
                    continue;
                }
                Token::Nameless(..) => self.totals.without_id += 1,
                Token::Reject(..) => {
                    self.rejects.push(token);
                    self.totals.rejected += 1;
                    continue;
                }
                Token::Filtered => {
                    self.totals.filtered += 1;
                    continue;
                }
            }
            self.rows.push(token);
            self.forms.push(form);
            self.totals.rows += 1;
        }
        true
    }

    /// Checks every promise of a log that was opened a moment ago.
    pub(crate) fn check(&mut self, log: &Log, resumed: &Resumed, objects: &Objects) {
        let reader = log.reader();
        // Which of the hits are remembered is told by what becomes of them when they come again.
        let snapshot = reader.snapshot().unwrap();
        assert!(snapshot.hits_remembered <= self.hits.len() as u64, "{snapshot:?}");
        let mut hits = usize::try_from(snapshot.hits_remembered).unwrap();
        // An opening that ends a batch of another form has forgotten some since it counted them.
        if reader.batches().unwrap().last().is_some_and(|(_, batch)| batch.schema != form(0).schema) {
            assert!(resumed.hits >= hits, "{resumed:?}, {hits} remembered");
            hits = resumed.hits;
        }
        let mut found = Resumed { hits, ..Resumed::default() };
        let waiting = self.check_batches(&reader, objects, &mut found);
        assert_eq!(*resumed, found, "what is left to do");
        let (rejects, all) = self.check_rejects(&reader, objects);
        let waiting = waiting + rejects;
        let right = if all { log.waiting_bytes() == waiting } else { log.waiting_bytes() >= waiting };
        assert!(right, "{} bytes wait, {waiting} were found", log.waiting_bytes());
        self.check_sessions(&reader);
        assert!(self.totals.add_up(), "{:?}", self.totals);
        self.gaps = snapshot.gaps.totals.gaps;
    }

    /// Checks all rows, files and batches; returns the bytes of rows that wait.
    fn check_batches(&mut self, reader: &LogReader, objects: &Objects, found: &mut Resumed) -> u64 {
        let batches = reader.batches().unwrap();
        self.check_numbers(&batches);
        let mut seals = Counts::default();
        let (mut position, mut waiting, mut all_published) = (self.checked.rows, 0, true);
        for (seq, batch) in &batches {
            assert!(batch.counts.add_up(), "batch {seq}: {:?}", batch.counts);
            if batch.status != BatchStatus::Filling {
                assert_eq!(batch.counts.rows, batch.rows, "batch {seq}");
            }
            seals.add(batch.counts);
            self.uncompared.insert(*seq, batch.uncompared.unwrap());
            if *seq < self.checked.batch {
                continue;
            }
            let rows_before = position;
            for no in 0..batch.files {
                let file = batch.first_file + u64::from(no);
                waiting += self.check_file(reader, objects, batch, file, &mut position, found);
            }
            assert_eq!((position - rows_before) as u64, batch.rows, "rows of batch {seq}");
            self.check_form(reader, *seq, batch, &self.forms[rows_before..position]);
            match batch.status {
                BatchStatus::Published => check_seal(objects, batch),
                BatchStatus::Sealed => found.sealed.push(*seq),
                BatchStatus::Filling => {
                    assert_eq!(*seq, batches[batches.len() - 1].0, "a batch behind the filling one");
                }
            }
            all_published &= batch.status == BatchStatus::Published;
            if all_published {
                self.checked = Checked { batch: seq + 1, rows: position };
            }
        }
        assert_eq!(position, self.rows.len(), "rows in S3 and in the log, and rows accepted");
        assert!(self.totals.since(&seals).add_up(), "what no seal has told yet");
        let told: u64 = self.uncompared.values().sum();
        assert!(told >= self.again, "{} hits were taken again, {told} are told of", self.again);
        waiting
    }

    /// A batch has rows of one form, and says of which; and what its seal needs is there.
    fn check_form(&self, reader: &LogReader, seq: u64, batch: &BatchRecord, forms: &[u8]) {
        let wrong = forms.iter().find(|number| form(**number).schema != batch.schema);
        assert_eq!(wrong, None, "batch {seq} of schema {} has rows of another form", batch.schema);
        let known = (1..FORMS).map(form).find(|form| form.schema == batch.schema);
        if let Some(form) = known.filter(|_| batch.status != BatchStatus::Published) {
            assert_eq!(reader.columns(&form.schema).unwrap(), Some(form.columns), "columns of batch {seq}");
        }
    }

    /// Numbers only grow, one bears one name for ever, and nothing goes backwards.
    fn check_numbers(&mut self, batches: &[(u64, BatchRecord)]) {
        let mut next_file = None;
        for (seq, batch) in batches {
            assert!(next_file.is_none_or(|next| next == batch.first_file), "files before batch {seq}");
            next_file = Some(batch.first_file + u64::from(batch.files));
            let now =
                Seen { id: batch.id, status: batch.status, first_file: batch.first_file, files: batch.files };
            match self.batches.insert(*seq, now) {
                None => {
                    let latest = self.batches.last_key_value().map(|(seq, _)| *seq);
                    assert_eq!(latest, Some(*seq), "a new batch has an old number");
                    assert!(self.batches.len() as u64 == seq + 1, "batch {seq}: one was left out");
                }
                Some(before) => {
                    assert_eq!(before.first_file, batch.first_file, "batch {seq}");
                    match (before.status, batch.status) {
                        // Nobody has heard of it yet: a copy of this log may be filling it too.
                        (BatchStatus::Filling, BatchStatus::Filling) => {
                            assert_ne!(before.id, batch.id, "batch {seq} was opened again");
                        }
                        (BatchStatus::Filling, _) => {}
                        _ => assert_eq!(before.id, batch.id, "batch {seq}"),
                    }
                    assert!(before.files <= batch.files, "batch {seq} has lost files");
                    assert!(rank(before.status) <= rank(batch.status), "batch {seq} goes back");
                    assert!(
                        before.status == BatchStatus::Filling || before.files == batch.files,
                        "batch {seq} was sealed"
                    );
                }
            }
        }
    }

    /// Checks one file, in S3 or in the log or in both; returns the bytes of it that wait.
    fn check_file(
        &self,
        reader: &LogReader,
        objects: &Objects,
        batch: &BatchRecord,
        file: u64,
        position: &mut usize,
        found: &mut Resumed,
    ) -> u64 {
        let object = objects.get(&standin::file_key(batch, u32::try_from(file - batch.first_file).unwrap()));
        if batch.status == BatchStatus::Published {
            assert!(reader.file(file).is_err(), "file {file} of a published batch is history");
            self.compare(file, &object.unwrap_or_else(|| panic!("file {file} is not in S3")), position);
            return 0;
        }
        let record: FileRecord = reader.file(file).unwrap();
        assert_eq!(u64::from(record.no), file - batch.first_file);
        let before = *position;
        let last = record.no + 1 == batch.files;
        if let FileStatus::Uploaded(upload) = &record.status {
            let object = object.unwrap_or_else(|| panic!("file {file} is not in S3"));
            assert_eq!(*upload, standin::confirm(&object), "file {file}");
            self.compare(file, &object, position);
        } else {
            let open = record.status == FileStatus::Open;
            assert!(
                batch.status != BatchStatus::Filling || object.is_none(),
                "file {file} went up too early"
            );
            assert!(!open || (last && batch.status == BatchStatus::Filling), "file {file} is open");
            let mut rows = Vec::new();
            reader.rows(file, &mut rows).unwrap();
            assert!(object.is_none_or(|object| !open && object == rows), "file {file} is in S3 as another");
            self.compare(file, &rows, position);
            found.rows += record.rows;
            if !open {
                found.closed.push(file);
            }
        }
        assert_eq!((*position - before) as u64, record.rows, "rows of file {file}");
        if matches!(record.status, FileStatus::Uploaded(_)) { 0 } else { record.log_bytes }
    }

    fn compare(&self, file: u64, mut content: &[u8], position: &mut usize) {
        while !content.is_empty() {
            let is = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(30)]).into_owned();
            let Some(token) = self.rows.get(*position) else {
                panic!("file {file}: {} was never accepted", is(content));
            };
            let Some(rest) = content.strip_prefix(&token.text()[..]) else {
                panic!("file {file}: row {position} should be {token}, is {}", is(content));
            };
            (content, *position) = (rest, *position + 1);
        }
    }

    /// Checks all rejects; returns the bytes of those that wait and are told, and whether these are all.
    fn check_rejects(&self, reader: &LogReader, objects: &Objects) -> (u64, bool) {
        let check = |seq: u64, line: &[u8]| {
            let line: RejectLine = serde_json::from_slice(line).unwrap();
            let token = self.rejects.get(usize::try_from(seq).unwrap());
            let text = token.unwrap_or_else(|| panic!("reject {seq} was never accepted")).text();
            let (record, base64) = match std::str::from_utf8(&text) {
                Ok(text) => (Some(text.to_owned()), None),
                Err(_) => (None, Some(shared::object_store::base64(&text))),
            };
            assert_eq!((line.record, line.record_base64), (record, base64), "reject {seq}");
        };
        let (waiting, chosen) = reader.rejects(usize::MAX, usize::MAX).unwrap();
        let mut bytes = 0;
        let first = waiting.first().map_or(self.rejects.len() as u64, |(seq, _)| *seq);
        for (at, (seq, line)) in (first..).zip(&waiting) {
            assert_eq!(at, *seq, "numbers of rejects");
            check(*seq, line);
            bytes += line.len() as u64;
        }
        // While some are under way to S3, no more than these are told.
        let told = chosen.map_or(self.rejects.len() as u64, |chosen| chosen.last + 1);
        assert_eq!(first + waiting.len() as u64, told, "rejects accepted");
        let mut in_s3 = 0;
        for name in objects.list("rejects") {
            let start: u64 = name.trim_end_matches(".jsonl").parse().unwrap();
            assert!(start <= in_s3, "rejects {in_s3} to {start} are nowhere");
            let content = objects.get(&format!("rejects/{name}")).unwrap();
            let lines = content.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n');
            for (seq, line) in (start..).zip(lines) {
                check(seq, line);
                in_s3 = in_s3.max(seq + 1);
            }
        }
        assert!(first <= in_s3, "rejects {in_s3} to {first} are nowhere");
        (bytes, told == self.rejects.len() as u64)
    }

    fn check_sessions(&mut self, reader: &LogReader) {
        let sessions = reader.sessions(usize::MAX).unwrap();
        let count = sessions.len() as u64;
        let possible = self.sessions..=self.sessions + self.sessions_begun;
        assert!(possible.contains(&count), "{count} sessions, not {possible:?}");
        (self.sessions, self.sessions_begun) = (count, 0);
        for (number, session) in (0..).zip(&sessions) {
            assert_eq!(session.session, number);
            assert!(session.connected <= session.alive, "{session:?}");
            assert!(session.ended.is_some_and(|ended| session.alive <= ended), "{session:?}");
        }
        let mut counts = Counts::default();
        sessions.iter().for_each(|session| counts.add(session.counts.unwrap()));
        assert_eq!(counts, self.totals, "records of all sessions");
        let gaps: Vec<u64> =
            sessions.iter().filter_map(|session| session.gap.as_ref()).map(Gap::seconds).collect();
        let totals = GapTotals { gaps: gaps.len() as u64, seconds: gaps.iter().sum() };
        assert_eq!(reader.snapshot().unwrap().gaps.totals, totals, "gaps of all sessions");
    }

    /// Checks everything from the first row on, and that every hit ever accepted is recognised.
    pub(crate) fn check_all(&mut self, log: &mut Log, resumed: &Resumed, objects: &Objects) {
        self.checked = Checked::default();
        self.check(log, resumed, objects);
        let known: HashSet<String> = self.batches.values().map(|batch| batch.id.to_string()).collect();
        for id in objects.list("batches") {
            assert!(known.contains(&id), "batch {id} in S3 is not of this log");
        }
        let horizon = log.reader().snapshot().unwrap().dedup.horizon;
        for n in &self.hits {
            let token = Token::Hit(*n);
            let staged =
                log.stage_row(token.connection(), token.hit(), token.received(), b"", super::support::now());
            assert!(
                staged == Staged::Duplicate || token.received() <= horizon,
                "hit {n} is taken again, untold"
            );
        }
    }
}

fn rank(status: BatchStatus) -> u8 {
    match status {
        BatchStatus::Filling => 0,
        BatchStatus::Sealed => 1,
        BatchStatus::Published => 2,
    }
}

fn check_seal(objects: &Objects, batch: &BatchRecord) {
    let seal = objects.get(&standin::seal_key(batch)).unwrap_or_else(|| panic!("no seal of {}", batch.id));
    let seal = Seal::read(batch.id, &seal).unwrap();
    assert_eq!((seal.rows, seal.counts), (batch.rows, batch.counts));
    for file in &seal.files {
        let content = objects.get(&format!("batches/{}/{}", batch.id, file.name)).unwrap();
        assert_eq!(standin::confirm(&content).crc32, file.crc32);
    }
}
