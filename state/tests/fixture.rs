//! What earlier formats look like on disk, kept for ever: whoever changes the stored form must still read this, or count
//! the format up. The databases in `fixtures/format-1` were written once, by version 0.1.0 at its commit 93a09cf; the log
//! in `fixtures/format-2` by `cargo test --release --workspace --exclude bench --locked --test fixture -- --ignored`,
//! which writes it anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::ids::{BatchId, Instance};
use shared::layout::Compression;
use shared::seal::{Counts, KnownRun};
use state::loads::{ErrorClass, Failed, Load, LoadDatabase, LoadEvent, LoadState};
use state::log::{
    BatchRecord, BatchStatus, Chosen, ENDED_WITHOUT_A_WORD, FileRecord, FileStatus, Gap, HitId, Log,
    LogReader, RejectLine, Settings, Staged, Upload,
};
use support::Scratch;

const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// The formats, by the names of their folders.
const FIRST: &str = "format-1";
const SECOND: &str = "format-2";
const PRODUCER: &str = "producer";
const INGESTER: &str = "ingester";
/// The ids of the log's batches, which are random: a line for each.
const BATCHES: &str = "batches.txt";

/// A time of this history, in seconds from its beginning.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// When it is opened again.
const REOPENED: i64 = 1_000;

fn settings(dir: &Path) -> Settings {
    Settings {
        compression: Compression::Zstd,
        commit_rows: 5,
        records_per_file: 10,
        files_per_batch: 2,
        dedup_window: Duration::from_secs(7_200),
        dedup_hits: 1_000,
        ..support::settings(dir)
    }
}

fn hit(n: u64) -> HitId {
    HitId { high: n + 1, low: u64::MAX - n }
}

/// Row 45 is larger than any one value of the database, however well it is compressed.
fn row(n: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(n);
    let len = if n == 45 { 40_000 } else { 30 };
    let text: String = (0..len).map(|_| random.alphanumeric()).collect();
    format!("{n}~\"ü {text}\"~\n").into_bytes()
}

fn rejects() -> [Vec<u8>; 4] {
    [b"{shipped".to_vec(), b"{\"evars\":".to_vec(), b"\xff\xfe{".to_vec(), [b'x'; 20_000].to_vec()]
}

fn upload(file: u64) -> Upload {
    Upload { bytes: 100 + file, crc32: format!("crc{file}=="), etag: format!("etag{file}"), content: None }
}

fn append(log: &mut Log, rows: std::ops::Range<u64>, seconds: i64) {
    for n in rows {
        // One of them came without hit id.
        log.stage_row(0, Some(hit(n)).filter(|_| n != 51), Some(at(seconds)), &row(n), at(seconds));
        if log.commit_is_due() {
            log.commit(at(seconds)).unwrap();
        }
    }
    log.commit(at(seconds)).unwrap();
}

/// Writes the log, and packs it while it is open: as a kill would leave it.
fn write_log(dir: &Path) {
    let (mut log, _) = Log::open(settings(dir), at(0)).unwrap();
    log.session_started(0, at(0)).unwrap();
    // Files 0 and 1, batch 0: published.
    append(&mut log, 0..20, 10);
    log.stage_reject(0, &rejects()[0], "not_json", "not JSON", at(11));
    log.commit(at(11)).unwrap();
    log.rejects_uploaded(Chosen { first: 0, last: 0 }).unwrap();
    log.uploaded(0, upload(0)).unwrap();
    log.uploaded(1, upload(1)).unwrap();
    log.published(0, at(12)).unwrap();
    // Files 2 and 3, batch 1: sealed, one of its files uploaded.
    append(&mut log, 20..30, 20);
    log.stage_row(0, Some(hit(3)), Some(at(20)), &row(3), at(20));
    log.stage_filtered(0, None, at(20));
    for reject in &rejects()[1..] {
        log.stage_reject(0, reject, "not_json", "not JSON", at(21));
    }
    append(&mut log, 30..40, 21);
    log.uploaded(2, upload(2)).unwrap();
    log.session_ended(0, "the stream was closed", at(30)).unwrap();
    drop(log);
    // File 4 closed and file 5 open, batch 2: filling. Ten minutes were missed.
    let (mut log, _) = Log::open(settings(dir), at(640)).unwrap();
    log.session_started(0, at(640)).unwrap();
    append(&mut log, 40..50, 650);
    log.stage_row(0, Some(hit(49)), Some(at(650)), &row(49), at(650));
    append(&mut log, 50..53, 651);
    let ids: Vec<_> = log.reader().batches().unwrap().iter().map(|(_, batch)| batch.id.to_string()).collect();
    pack(dir, PRODUCER);
    fs::write(Path::new(ARCHIVE).join(SECOND).join(BATCHES), ids.join("\n") + "\n").unwrap();
}

fn new_load(n: u8) -> Load {
    let batch = format!("01890000-0000-7000-8000-0000000000{n:02}").parse().unwrap();
    let instance = Instance::try_from("test".to_owned()).unwrap();
    Load::new(batch, instance, n.into(), 10 * u64::from(n), 100 * u64::from(n), at(n.into()))
}

fn load(n: u8) -> Load {
    let why = "1204: \"ü\"".to_owned();
    let failed = Failed {
        attempt: Some(1),
        started: Some(at(100)),
        failed: at(101),
        class: ErrorClass::Data,
        why: why.clone(),
    };
    Load {
        attempts: u32::from(n > 0),
        started: (n > 0 && n != 2).then(|| at(100)),
        loaded: (n > 2).then(|| at(102)),
        failures: if n == 2 { vec![failed] } else { vec![] },
        state: match n {
            0 => LoadState::Discovered,
            1 => LoadState::Loading,
            2 => LoadState::Retrying { next: at(200), class: ErrorClass::Data, why },
            3 => LoadState::Loaded { at: at(102) },
            _ => LoadState::Archived { at: at(103) },
        },
        ..new_load(n)
    }
}

/// The file beside the database that says how far it goes.
const MARK: &str = "accepted";

/// Compresses the files of a database, one by one.
fn pack(dir: &Path, name: &str) {
    let to = Path::new(ARCHIVE).join(SECOND).join(name);
    let _none_yet = fs::remove_dir_all(&to);
    fs::create_dir_all(&to).unwrap();
    fs::copy(dir.join(MARK), to.join(MARK)).unwrap();
    for item in fs::read_dir(dir.join("sled")).unwrap() {
        let path = item.unwrap().path();
        if path.is_file() {
            let packed = zstd::bulk::compress(&fs::read(&path).unwrap(), 19).unwrap();
            let file = path.file_name().unwrap().to_str().unwrap();
            fs::write(to.join(format!("{file}.zst")), packed).unwrap();
        }
    }
}

/// Lays the database out in `dir` as it was.
fn unpack(format: &str, name: &str, dir: &Path) -> PathBuf {
    let (dir, from) = (dir.join(name), Path::new(ARCHIVE).join(format).join(name));
    fs::create_dir_all(dir.join("sled")).unwrap();
    fs::copy(from.join(MARK), dir.join(MARK)).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        if path.extension().is_none() {
            continue;
        }
        let content = zstd::stream::decode_all(&fs::read(&path).unwrap()[..]).unwrap();
        fs::write(dir.join("sled").join(path.file_stem().unwrap()), content).unwrap();
    }
    dir
}

#[test]
#[ignore = "writes the fixture anew"]
fn write_the_fixture() {
    let scratch = Scratch::new();
    write_log(&scratch.join(PRODUCER));
}

fn ids(format: &str) -> Vec<BatchId> {
    let text = fs::read_to_string(Path::new(ARCHIVE).join(format).join(BATCHES)).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn a_log_of_format_1_is_read_as_it_was_written_and_what_it_was_filling_is_sealed() {
    let scratch = Scratch::new();
    let dir = unpack(FIRST, PRODUCER, scratch.path());
    let (mut log, resumed) = Log::open(settings(&dir), at(REOPENED)).unwrap();
    assert_eq!((resumed.closed, resumed.sealed), (vec![3, 4, 5], vec![1, 2]));
    assert_eq!((resumed.rows, resumed.hits), (23, 52));
    let totals =
        Counts { received: 60, rows: 53, duplicates: 2, filtered: 1, rejected: 4, ..Counts::default() };
    assert_eq!(log.totals(), totals);
    assert!(log.has_history());

    let reader = log.reader();
    check_batches(&reader);
    check_files(&reader);
    check_sessions(&reader, None);
    let (waiting, _) = reader.rejects(10, usize::MAX).unwrap();
    for ((seq, line), (expected_seq, record)) in waiting.iter().zip((1..).zip(&rejects()[1..])) {
        let line: RejectLine = serde_json::from_slice(line).unwrap();
        let text = String::from_utf8(record.clone()).ok();
        let base64 = text.is_none().then(|| shared::object_store::base64(record));
        assert_eq!((*seq, line.record, line.record_base64), (expected_seq, text, base64));
        assert_eq!(
            (line.reason.as_str(), line.at, line.instance.to_string().as_str()),
            ("not JSON", at(21), "test")
        );
    }
    assert_eq!(waiting.len(), 3);
    let bytes: usize = waiting.iter().map(|(_, line)| line.len()).sum();
    let rows: u64 = [3, 4, 5].iter().map(|file| reader.file(*file).unwrap().log_bytes).sum();
    assert_eq!(log.waiting_bytes(), bytes as u64 + rows);
    let snapshot = reader.snapshot().unwrap();
    assert_eq!((snapshot.instance.to_string().as_str(), snapshot.hits_remembered), ("test", 52));
    assert_eq!((snapshot.rows_to_upload, snapshot.rejects_waiting), (23, 3));

    // Every hit is known, for as long as it is remembered.
    let known =
        |log: &mut Log, n: u64, now| log.stage_row(0, Some(hit(n)), None, &row(n), now) == Staged::Duplicate;
    for n in (0..53).filter(|n| *n != 51) {
        assert!(known(&mut log, n, at(REOPENED)), "hit {n}");
    }
    assert!(!known(&mut log, 51, at(REOPENED)) && !known(&mut log, 53, at(REOPENED)));
    append(&mut log, 54..55, 7_220);
    assert!(!known(&mut log, 19, at(7_220)) && known(&mut log, 20, at(7_220)));
    let week_after = 8 * 24 * 3_600;
    append(&mut log, 55..56, week_after);
    log.commit(at(week_after)).unwrap();
    let again =
        |log: &mut Log, n: u64, received| log.stage_row(0, Some(hit(n)), received, &row(n), at(week_after));
    assert_eq!(again(&mut log, 5, Some(at(10))), Staged::New, "what is not known is new, however old");
    assert_eq!(again(&mut log, 55, Some(at(week_after))), Staged::Duplicate);
    assert_eq!(again(&mut log, 20, None), Staged::New, "without a time there is only the id");

    // Numbers go on.
    append(&mut log, 60..80, week_after);
    log.stage_reject(0, b"[", "not_json", "not JSON", at(week_after));
    log.session_started(0, at(week_after)).unwrap();
    log.commit(at(week_after)).unwrap();
    assert_eq!(reader.file(5).unwrap().batch, 2);
    assert_eq!(reader.file(6).unwrap().batch, 3);
    assert_eq!(reader.rejects(10, usize::MAX).unwrap().0[3].0, 4);
    assert_eq!(reader.sessions(10).unwrap()[2].session, 2);
    let batches = reader.batches().unwrap();
    let compared: Vec<_> = batches.iter().map(|(_, batch)| batch.compared.clone()).collect();
    assert!(compared[..3].iter().all(Option::is_none), "format 1 does not tell what it compared");
    let first = compared[3].clone().unwrap();
    assert_eq!((first.number, first.known.len()), (3, 0));
    let uncompared: u64 = batches.iter().filter_map(|(_, batch)| batch.uncompared).sum();
    assert_eq!(uncompared, 1, "hit 5");
}

#[test]
fn a_log_of_format_2_is_read_as_it_was_written() {
    let scratch = Scratch::new();
    let dir = unpack(SECOND, PRODUCER, scratch.path());
    let (mut log, resumed) = Log::open(settings(&dir), at(REOPENED)).unwrap();
    assert_eq!((resumed.closed, resumed.sealed), (vec![3, 4], vec![1]));
    assert_eq!((resumed.rows, resumed.hits), (23, 52));
    check_sessions(&log.reader(), Some("the stream was closed"));
    let mut rows = Vec::new();
    log.reader().rows(4, &mut rows).unwrap();
    assert!(rows == (40..50).flat_map(row).collect::<Vec<_>>());
    log.seal_all(at(REOPENED)).unwrap();
    let batches = log.reader().batches().unwrap();
    let same: Vec<_> = batches.iter().zip(ids(SECOND)).map(|((_, batch), id)| batch.id == id).collect();
    assert_eq!(same, [true, true, false], "what was filling has a new name");
    let compared: Vec<_> = batches.iter().map(|(_, batch)| batch.compared.clone().unwrap()).collect();
    let [first, second, third] = &compared[..] else { panic!("{compared:?}") };
    assert_eq!((first.run, first.known.len(), second.run, second.number), (second.run, 0, first.run, 1));
    // The run between sealed nothing.
    assert_eq!(third.known, [KnownRun { run: first.run, until: 1 }]);
    assert!(third.run != first.run && third.number == 2 && third.uncompared == 0, "{third:?}");
}

fn check_batches(reader: &LogReader) {
    let batches = reader.batches().unwrap();
    let batch = |seq: u64, status, rows: std::ops::Range<u64>, times: [i64; 3]| BatchRecord {
        id: ids(FIRST)[usize::try_from(seq).unwrap()],
        status,
        schema: "0123456789abcdef".to_owned(),
        compression: Compression::Zstd,
        place: "s3://bucket/ToIngest/".to_owned(),
        first_file: 2 * seq,
        files: 2,
        rows: rows.end - rows.start,
        bytes: rows.map(|n| row(n).len() as u64).sum(),
        first_received: Some(at(times[0])),
        last_received: Some(at(times[1])),
        opened: at(times[0]),
        sealed: (times[2] > 0).then(|| at(times[2])),
        published: None,
        counts: Counts::default(),
        uncompared: None,
        compared: None,
        pseudonym_key: None,
        pseudonym_spelling: None,
    };
    let published = BatchRecord {
        published: Some(at(12)),
        counts: Counts { received: 20, rows: 20, ..Counts::default() },
        ..batch(0, BatchStatus::Published, 0..20, [10, 10, 10])
    };
    let sealed = BatchRecord {
        counts: Counts {
            received: 26,
            rows: 20,
            duplicates: 1,
            filtered: 1,
            rejected: 4,
            ..Counts::default()
        },
        ..batch(1, BatchStatus::Sealed, 20..40, [20, 21, 21])
    };
    let filling = BatchRecord {
        counts: Counts { received: 14, rows: 13, duplicates: 1, ..Counts::default() },
        ..batch(2, BatchStatus::Sealed, 40..53, [650, 651, REOPENED])
    };
    assert_eq!(batches, [(0, published), (1, sealed), (2, filling)]);
}

fn check_files(reader: &LogReader) {
    assert!(reader.file(0).is_err() && reader.file(1).is_err(), "they are published");
    let expected = [
        (2, FileStatus::Uploaded(upload(2)), 20..30, 20),
        (3, FileStatus::Closed, 30..40, 21),
        (4, FileStatus::Closed, 40..50, 650),
        (5, FileStatus::Closed, 50..53, 651),
    ];
    for (seq, status, rows, opened) in expected {
        let record = reader.file(seq).unwrap();
        let content: Vec<u8> = rows.clone().flat_map(row).collect();
        let expected = FileRecord {
            batch: seq / 2,
            no: u32::try_from(seq % 2).unwrap(),
            status,
            rows: rows.end - rows.start,
            bytes: content.len() as u64,
            opened: at(opened),
            ..record.clone()
        };
        assert_eq!(record, expected, "file {seq}");
        let mut read = Vec::new();
        if seq == 2 {
            assert!(reader.rows(seq, &mut read).is_err(), "its rows are in S3");
        } else {
            reader.rows(seq, &mut read).unwrap();
            assert!(read == content, "rows of file {seq}");
        }
    }
    assert!(reader.file(6).is_err());
}

fn check_sessions(reader: &LogReader, why: Option<&str>) {
    let sessions = reader.sessions(10).unwrap();
    let [first, second] = &sessions[..] else { panic!("{sessions:?}") };
    assert_eq!((first.session, first.connected, first.alive), (0, at(0), at(21)));
    assert_eq!((first.ended, first.why.as_deref()), (Some(at(30)), Some("the stream was closed")));
    assert_eq!((first.records, first.first_received, first.last_received), (46, Some(at(10)), Some(at(21))));
    assert_eq!(first.gap, None);
    assert_eq!((second.session, second.connected, second.alive), (1, at(640), at(651)));
    assert_eq!((second.ended, second.why.as_deref()), (Some(at(651)), Some(ENDED_WITHOUT_A_WORD)));
    assert_eq!(
        (second.records, second.first_received, second.last_received),
        (14, Some(at(650)), Some(at(651)))
    );
    assert_eq!(second.gap, Some(Gap { from: at(21), to: at(650), why: why.map(str::to_owned) }));
}

#[test]
fn a_bookkeeping_of_format_1_is_read_as_it_was_written() {
    let scratch = Scratch::new();
    let dir = unpack(FIRST, INGESTER, scratch.path());
    let loads = LoadDatabase::open(&dir).unwrap();
    assert_eq!(loads.all().unwrap(), (0..5).map(load).collect::<Vec<_>>());
    let moved = loads.note(load(0).batch, LoadEvent::Attempt, at(REOPENED));
    assert_eq!(moved.unwrap().attempts, 1);
}
