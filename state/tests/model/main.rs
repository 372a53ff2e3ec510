//! Any order of operations leaves the log as a plain model says. What failed once is kept in `regressions.txt` beside
//! this file, and tried first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod expected;
mod stream;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use expected::{Expected, Status};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use shared::clock::Moment;
use shared::ids::{BatchId, RunId};
use state::log::{
    BatchStatus, Chosen, FileStatus, Form, HitId, Log, RejectLine, Resumed, Settings, Staged, Upload,
};
use support::number_from_env;

const SCHEMAS: [&str; 2] = ["0123456789abcdef", "fedcba9876543210"];
const WHY: &str = "no JSON";
const CONNECTIONS: u8 = 2;

/// What may happen to a log. Numbers that choose among what is there are taken modulo how much there is.
#[derive(Debug, Clone)]
enum Operation {
    /// On a connection, a row of a new hit, of so many bytes, received so many seconds ago.
    New(u8, usize, u16),
    /// One of the latest hits again, with its time.
    Again(u8, u8),
    /// One of the latest hits again, without time.
    Timeless(u8, u8),
    /// A row without hit id.
    Nameless(u8, usize),
    Reject(u8, usize),
    Filtered(u8),
    Commit,
    SealAll,
    Upload(u8),
    Publish(u8),
    UploadRejects(u8),
    SessionStarts(u8),
    SessionEnds(u8),
    Pass(u16),
    /// Rows of this schema come from now on.
    Form(usize),
    /// The process ends without a word; the next one works with this schema and this many hits.
    Reopen(usize, usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    prop_oneof![
        12 => (0..CONNECTIONS, 1_usize..300, 0_u16..60).prop_map(|(c, len, ago)| O::New(c, len, ago)),
        // Long ago: from before what is remembered.
        2 => (0..CONNECTIONS, 1_usize..300, 0_u16..4_000).prop_map(|(c, len, ago)| O::New(c, len, ago)),
        // A row that fills several values of the database, whatever the compression.
        1 => (0..CONNECTIONS, 8_000_usize..20_000, 0_u16..60).prop_map(|(c, len, ago)| O::New(c, len, ago)),
        5 => (0..CONNECTIONS, any::<u8>()).prop_map(|(c, back)| O::Again(c, back)),
        1 => (0..CONNECTIONS, any::<u8>()).prop_map(|(c, back)| O::Timeless(c, back)),
        2 => (0..CONNECTIONS, 1_usize..300).prop_map(|(c, len)| O::Nameless(c, len)),
        2 => (0..CONNECTIONS, prop_oneof![1_usize..300, 8_000_usize..20_000]).prop_map(|(c, len)| O::Reject(c, len)),
        1 => (0..CONNECTIONS).prop_map(O::Filtered),
        8 => Just(O::Commit),
        1 => Just(O::SealAll),
        6 => any::<u8>().prop_map(O::Upload),
        3 => any::<u8>().prop_map(O::Publish),
        2 => (1_u8..6).prop_map(O::UploadRejects),
        2 => (0..CONNECTIONS).prop_map(O::SessionStarts),
        1 => (0..CONNECTIONS).prop_map(O::SessionEnds),
        4 => prop_oneof![0_u16..5, 5_u16..70, 300_u16..1_500].prop_map(O::Pass),
        1 => (0..SCHEMAS.len()).prop_map(O::Form),
        2 => (prop_oneof![4 => Just(0_usize), 1 => Just(1)], 5_usize..40).prop_map(|(s, h)| O::Reopen(s, h)),
    ]
}

fn settings(dir: &Path) -> Settings {
    Settings {
        commit_rows: 8,
        records_per_file: 6,
        max_file_bytes: 12_000,
        max_file_age: Duration::from_secs(60),
        files_per_batch: 2,
        max_batch_age: Duration::from_secs(300),
        max_bytes: 9_000,
        cache: 8 << 20,
        dedup_window: Duration::from_secs(1_000),
        dedup_hits: 40,
        gap_tolerance: Duration::from_secs(60),
        connections: CONNECTIONS,
        ..support::settings(dir)
    }
}

/// Bytes that do not compress to nothing, and are told apart by their number.
fn bytes(number: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let text: String = (0..len).map(|_| random.alphanumeric()).collect();
    format!("{number}~{text}").into_bytes()
}

fn hit(number: usize) -> HitId {
    let number = number as u64;
    HitId { high: number.wrapping_mul(0x9e37_79b9_7f4a_7c15), low: number }
}

struct Run {
    log: Option<Log>,
    expected: Expected,
    /// When each hit was received.
    hits: Vec<DateTime<Utc>>,
    /// Ids of batches, by how often the log was opened while they were filling.
    ids: HashMap<(u64, usize), BatchId>,
    /// Ids of runs.
    runs: HashMap<usize, RunId>,
}

impl Run {
    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn apply(&mut self, operation: &Operation) {
        let now = self.expected.now;
        self.expected.full = self.log().is_full();
        match *operation {
            Operation::New(connection, len, ago) => {
                let received = now - TimeDelta::seconds(ago.into());
                self.hits.push(received);
                self.row(connection, Some(self.hits.len() - 1), Some(received), len);
            }
            Operation::Again(connection, back) => {
                let number = self.hits.len().saturating_sub(1 + usize::from(back) % 60);
                let received = self.hits.get(number).copied();
                self.row(connection, Some(number), received, 10);
            }
            Operation::Timeless(connection, back) => {
                let number = self.hits.len().saturating_sub(1 + usize::from(back) % 60);
                self.row(connection, Some(number), None, 10);
            }
            Operation::Nameless(connection, len) => self.row(connection, None, None, len),
            Operation::Reject(connection, len) => {
                let mut record = bytes(now.timestamp().unsigned_abs(), len);
                if len % 3 == 0 {
                    record.push(0xff);
                }
                self.expected.reject(connection, &record);
                self.log().stage_reject(connection, &record, "not_json", WHY, now);
            }
            Operation::Filtered(connection) => {
                self.expected.filtered(connection);
                self.log().stage_filtered(connection, None, now);
            }
            Operation::Commit => self.commit(false),
            Operation::SealAll => self.commit(true),
            Operation::Upload(which) => self.upload(which.into()),
            Operation::Publish(which) => self.publish(which.into()),
            Operation::UploadRejects(count) => {
                let mut uploaded: Vec<u64> = self.expected.durable.rejects.keys().copied().collect();
                uploaded.truncate(count.into());
                if let (Some(first), Some(last)) = (uploaded.first(), uploaded.last()) {
                    let chosen = Chosen { first: *first, last: *last };
                    self.log().rejects_chosen(chosen).unwrap();
                    let (told, noted) = self.log().reader().rejects(usize::MAX, usize::MAX).unwrap();
                    assert_eq!((told.len(), noted), (uploaded.len(), Some(chosen)));
                    self.log().rejects_uploaded(chosen).unwrap();
                    self.expected.durable.rejects.retain(|reject, _| reject > last);
                }
            }
            Operation::SessionStarts(connection) if !self.expected.reads(connection) => {
                let (closed, sealed) = self.expected.session_started(connection);
                let done = self.log().session_started(connection, now).unwrap();
                assert_eq!((done.closed, done.sealed), (Vec::from_iter(closed), Vec::from_iter(sealed)));
            }
            Operation::SessionStarts(_) => {}
            Operation::SessionEnds(connection) => {
                let (closed, sealed) = self.expected.session_ended(connection, "closed");
                let done = self.log().session_ended(connection, "closed", now).unwrap();
                assert_eq!((done.closed, done.sealed), (Vec::from_iter(closed), Vec::from_iter(sealed)));
            }
            Operation::Pass(seconds) => self.expected.now += TimeDelta::seconds(seconds.into()),
            Operation::Form(schema) => self.begin_form(SCHEMAS[schema]),
            Operation::Reopen(schema, dedup_hits) => self.reopen(schema, dedup_hits),
        }
    }

    fn row(&mut self, connection: u8, number: Option<usize>, received: Option<DateTime<Utc>>, len: usize) {
        let now = self.expected.now;
        let hit = number.map(hit);
        let mut row = bytes(number.unwrap_or(0) as u64, len);
        row.push(b'\n');
        let judged = self.expected.row(connection, hit, received, &row);
        let staged = self.log().stage_row(connection, hit, received, &row, now);
        assert_eq!(staged, judged, "hit {number:?} of {received:?}");
    }

    fn commit(&mut self, end: bool) {
        let now = self.expected.now;
        let before = self.expected.durable.totals;
        let (closed, sealed) = self.expected.commit(end);
        let log = self.log();
        let done = if end { log.seal_all(now) } else { log.commit(now) }.unwrap();
        assert_eq!((done.closed, done.sealed), (Vec::from_iter(closed), Vec::from_iter(sealed)));
        assert_eq!(done.counts, self.expected.durable.totals.since(&before));
    }

    fn begin_form(&mut self, schema: &str) {
        let now = self.expected.now;
        let is_other = self.expected.settings.schema != schema;
        let commits = is_other && (self.expected.has_staged() || self.expected.filling().is_some());
        let (closed, sealed) = self.expected.begin_form(schema);
        let form = Form { schema: schema.to_owned(), ..Form::default() };
        let log = self.log();
        log.begin_form(&form, now).unwrap();
        // It is one commit. A second one would forget what the first has applied by then, or not.
        let done = if commits {
            std::iter::repeat_with(|| log.try_durable().unwrap()).flatten().next().unwrap()
        } else {
            log.commit(now).unwrap()
        };
        assert_eq!((done.closed, done.sealed), (Vec::from_iter(closed), Vec::from_iter(sealed)));
    }

    /// Any file, whatever its state: an illegal move is refused.
    fn upload(&mut self, which: usize) {
        let files: Vec<u64> = self.expected.durable.files.keys().copied().collect();
        let Some(file) = files.get(which % files.len().max(1)) else { return };
        let upload = Upload { bytes: *file, crc32: "c".to_owned(), etag: "e".to_owned(), content: None };
        let legal = self.expected.uploaded(*file);
        assert_eq!(self.log().uploaded(*file, upload).is_ok(), legal, "upload of file {file}");
    }

    /// Any batch, whatever its state, and whether its files are up or not.
    fn publish(&mut self, which: usize) {
        let batches: Vec<u64> = self.expected.durable.batches.keys().copied().collect();
        let Some(batch) = batches.get(which % batches.len().max(1)) else { return };
        let (now, legal) = (self.expected.now, self.expected.published(*batch));
        assert_eq!(self.log().published(*batch, now).is_ok(), legal, "publishing of batch {batch}");
    }

    fn reopen(&mut self, schema: usize, dedup_hits: usize) {
        // With every other one, files and batches may grow.
        let grow = dedup_hits as u64 % 2;
        let settings = Settings {
            schema: SCHEMAS[schema].to_owned(),
            dedup_hits,
            min_file_bytes: grow * 1_500,
            min_batch_age: Duration::from_secs(grow * 30),
            ..self.expected.settings.clone()
        };
        self.log = None;
        let (log, resumed) = Log::open(settings.clone(), self.expected.now).unwrap();
        self.log = Some(log);
        let hits_before = self.expected.durable.hits_remembered;
        self.expected.reopen(settings);
        let durable = &self.expected.durable;
        let in_log = || durable.files.iter().filter(|(_, file)| file.status != Status::Uploaded);
        let expected = Resumed {
            closed: in_log().filter(|(_, file)| file.status == Status::Closed).map(|(seq, _)| *seq).collect(),
            sealed: durable
                .batches
                .iter()
                .filter(|(_, batch)| batch.status == BatchStatus::Sealed)
                .map(|(seq, _)| *seq)
                .collect(),
            rows: in_log().map(|(_, file)| file.rows.len() as u64).sum(),
            hits: hits_before,
        };
        assert_eq!(resumed, expected);
    }

    /// Compares everything that can be seen.
    fn compare(&mut self) {
        self.compare_batches();
        let (log, expected) = (self.log.as_ref().unwrap(), &self.expected);
        let reader = log.reader();
        let durable = &expected.durable;
        let mut waiting = 0;
        for (seq, file) in &durable.files {
            let record = reader.file(*seq).unwrap();
            let batch = &durable.batches[&file.batch];
            let place = batch.files.iter().position(|file| file == seq).unwrap();
            assert_eq!((record.batch, record.no as usize), (file.batch, place), "file {seq}");
            let sizes = (record.rows, record.bytes, record.opened);
            assert_eq!(sizes, (file.rows.len() as u64, file.bytes(), file.opened), "file {seq}");
            let status = match record.status {
                FileStatus::Open => Status::Open,
                FileStatus::Closed => Status::Closed,
                FileStatus::Uploaded(upload) => {
                    assert_eq!(upload.bytes, *seq);
                    Status::Uploaded
                }
            };
            assert_eq!(status, file.status, "file {seq}");
            let mut rows = Vec::new();
            if status == Status::Uploaded {
                assert!(reader.rows(*seq, &mut rows).is_err(), "the rows of file {seq} are still there");
            } else {
                reader.rows(*seq, &mut rows).unwrap();
                assert!(rows == file.rows.concat(), "rows of file {seq}");
                waiting += record.log_bytes;
            }
        }
        let next_file =
            durable.batches.values().flat_map(|batch| &batch.files).max().map_or(0, |file| file + 1);
        for file in (0..next_file + 2).filter(|file| !durable.files.contains_key(file)) {
            assert!(reader.file(file).is_err(), "file {file} should not be there");
        }
        let (rejects, chosen) = reader.rejects(usize::MAX, usize::MAX).unwrap();
        assert_eq!(chosen, None);
        assert_eq!(rejects.len(), durable.rejects.len());
        for ((seq, line), (expected_seq, (record, at))) in rejects.iter().zip(&durable.rejects) {
            waiting += line.len() as u64;
            let line: RejectLine = serde_json::from_slice(line).unwrap();
            assert_eq!((seq, line.at, line.reason.as_str()), (expected_seq, *at, WHY));
            match String::from_utf8(record.clone()) {
                Ok(text) => assert_eq!(line.record, Some(text)),
                Err(_) => assert_eq!(line.record_base64, Some(shared::object_store::base64(record))),
            }
        }
        assert_eq!(log.waiting_bytes(), waiting);
        assert_eq!(log.is_full(), waiting >= expected.settings.max_bytes);
        assert_eq!(log.totals(), durable.totals);
        assert_eq!(log.next_commit(), expected.next_commit().map(|at| Moment::from(at).steady));
        assert_eq!(log.commit_is_due(), expected.commit_is_due());
        assert_eq!(log.has_history(), !durable.sessions.is_empty());
        let snapshot = reader.snapshot().unwrap();
        assert_eq!(snapshot.totals, durable.totals);
        assert_eq!(snapshot.gaps.totals, durable.gaps);
        assert_eq!(log.gaps(), durable.gaps);
        assert_eq!(snapshot.hits_remembered, durable.hits_remembered as u64);
        assert_eq!(snapshot.rejects_waiting, durable.rejects.len() as u64);
        let in_log = durable.files.values().filter(|file| file.status != Status::Uploaded);
        assert_eq!(snapshot.rows_to_upload, in_log.map(|file| file.rows.len() as u64).sum::<u64>());
        let sessions = reader.sessions(usize::MAX).unwrap();
        assert_eq!(sessions.len(), durable.sessions.len());
        for ((number, session), expected) in (0..).zip(&sessions).zip(&durable.sessions) {
            assert_eq!(session.session, number);
            let session = expected::Session {
                connection: session.connection,
                connected: session.connected,
                alive: session.alive,
                ended: session.ended,
                why: session.why.clone(),
                records: session.records,
                counts: session.counts.unwrap(),
                received: [session.first_received, session.last_received].into_iter().flatten().collect(),
                gap: session.gap.clone(),
            };
            let ends = |all: &std::collections::BTreeSet<_>| {
                [all.first(), all.last()].into_iter().flatten().copied().collect()
            };
            let expected = expected::Session { received: ends(&expected.received), ..expected.clone() };
            assert_eq!(session, expected);
        }
    }

    fn compare_batches(&mut self) {
        let durable = &self.expected.durable;
        let batches = self.log.as_ref().unwrap().reader().batches().unwrap();
        assert_eq!(batches.len(), durable.batches.len());
        for ((seq, record), (expected_seq, batch)) in batches.iter().zip(&durable.batches) {
            assert_eq!(seq, expected_seq);
            assert_eq!(record.status, batch.status, "batch {seq}");
            assert_eq!(record.schema, batch.schema, "batch {seq}");
            assert_eq!((record.first_file, record.files as usize), (batch.files[0], batch.files.len()));
            assert_eq!((record.rows, record.bytes), (batch.rows, batch.bytes), "batch {seq}");
            let received = (batch.received.first().copied(), batch.received.last().copied());
            assert_eq!((record.first_received, record.last_received), received, "batch {seq}");
            let times = (record.opened, record.sealed, record.published);
            assert_eq!(times, (batch.opened, batch.sealed, batch.published), "batch {seq}");
            assert_eq!(record.counts, batch.counts, "batch {seq}");
            assert_eq!(record.uncompared, Some(batch.uncompared), "batch {seq}");
            assert_eq!(*self.ids.entry((*seq, batch.renamed)).or_insert(record.id), record.id, "batch {seq}");
            let (compared, expected) = (record.compared.as_ref(), batch.compared.as_ref());
            assert_eq!(compared.is_some(), expected.is_some(), "batch {seq}");
            if let Some((compared, (run, known))) = compared.zip(expected) {
                assert_eq!((compared.number, compared.uncompared), (*seq, batch.uncompared), "batch {seq}");
                assert_eq!(*self.runs.entry(*run).or_insert(compared.run), compared.run, "batch {seq}");
                let told: Vec<_> = compared.known.iter().map(|known| (known.run, known.until)).collect();
                let known: Vec<_> = known.iter().map(|(run, until)| (self.runs[run], *until)).collect();
                assert_eq!(told, known, "batch {seq}");
            }
        }
        let distinct = |ids: usize, all: usize| assert_eq!(ids, all, "an id was used twice");
        distinct(self.ids.values().collect::<std::collections::HashSet<_>>().len(), self.ids.len());
        distinct(self.runs.values().collect::<std::collections::HashSet<_>>().len(), self.runs.len());
    }
}

fn run(operations: &[Operation]) {
    let dir = tempfile::tempdir().unwrap();
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let (log, _) = Log::open(settings(dir.path()), start).unwrap();
    let mut run = Run {
        log: Some(log),
        expected: Expected::new(settings(dir.path()), start),
        hits: Vec::new(),
        ids: HashMap::new(),
        runs: HashMap::new(),
    };
    for operation in operations {
        run.apply(operation);
        run.compare();
    }
    // What is known is recognised; seen at the end only, because to ask is to stage.
    let now = run.expected.now;
    for number in 0..=run.hits.len() {
        let staged = run.log().stage_row(0, Some(hit(number)), None, b"", now);
        assert_eq!(staged == Staged::Duplicate, run.expected.known.contains(&hit(number)), "hit {number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: u32::try_from(number_from_env("MODEL_CASES", 64)).unwrap(),
        // Each case works on a real disk.
        max_shrink_iters: 300,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/regressions.txt"),
        ))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_log_is_what_a_plain_model_says_after_any_operations(
        operations in proptest::collection::vec(operation(), 30..90)
    ) {
        run(&operations);
    }
}
