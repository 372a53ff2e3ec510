//! `state verify` names each way a database can be broken, and nothing in one that is written meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use shared::ids::{BatchId, Instance};
use state::loads::{Load, LoadDatabase};
use state::log::{Chosen, Log, LogReader, Settings};
use state::store::{Change, Kind, Store, Table};
use state::{Checked, Fault};

use crate::support::copy;
use crate::{append, now, settings, upload};

fn seq(n: u64) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn piece(file: u64, chunk: u32, piece: u16) -> Vec<u8> {
    [&file.to_be_bytes()[..], &chunk.to_be_bytes()[..], &piece.to_be_bytes()[..]].concat()
}

/// Batch 0 published; batch 1 sealed with file 2 in S3 and file 3 to go; batch 2 filling with file 4 closed and 5 open.
fn make(dir: &Path) {
    let now = now();
    let (mut log, _) = Log::open(settings(dir), now).unwrap();
    log.session_started(0, now).unwrap();
    log.stage_reject(0, b"{broken", "not_json", "not JSON", now);
    append(&mut log, 0..135, now);
    for file in [0, 1, 2] {
        log.uploaded(file, upload(file)).unwrap();
    }
    log.published(0, now).unwrap();
    log.close(now).unwrap();
}

fn edit(store: &Store, table: Table, key: &[u8], change: impl FnOnce(&mut Value)) {
    let mut value: Value = store.get(table, key).unwrap().unwrap();
    change(&mut value);
    put(store, table, key, &serde_json::to_vec(&value).unwrap());
}

fn put(store: &Store, table: Table, key: &[u8], value: &[u8]) {
    let mut change = Change::new();
    change.put_bytes(table, key, value);
    store.apply(change).unwrap();
}

fn remove(store: &Store, table: Table, key: &[u8]) {
    let mut change = Change::new();
    change.remove(table, key);
    store.apply(change).unwrap();
}

fn flip(store: &Store, table: Table, key: &[u8]) {
    let mut value = store.get_bytes(table, key).unwrap().unwrap().to_vec();
    *value.last_mut().unwrap() ^= 1;
    put(store, table, key, &value);
}

fn copied(store: &Store, table: Table, from: &[u8], to: &[u8]) {
    put(store, table, to, &store.get_bytes(table, from).unwrap().unwrap());
}

fn faults(checked: &[Checked]) -> Vec<&Fault> {
    checked.iter().flat_map(|checked| &checked.faults).collect()
}

/// What must be said of a fault: the table, the file if one is named, and words.
type Said = (&'static str, Option<u64>, &'static str);
/// What is broken, how, and what must be said of it.
type Way = (&'static str, fn(&Store), &'static [Said]);

const WAYS: &[Way] = &[
    (
        "a byte of a piece",
        |s| flip(s, Table::Chunks, &piece(3, 1, 1)),
        &[("chunks", Some(3), "its checksum does not fit")],
    ),
    ("a piece", |s| remove(s, Table::Chunks, &piece(3, 1, 1)), &[("chunks", Some(3), "a piece is missing")]),
    (
        "a first piece",
        |s| remove(s, Table::Chunks, &piece(3, 1, 0)),
        &[("chunks", Some(3), "its first piece is missing")],
    ),
    (
        "a piece too many",
        |s| put(s, Table::Chunks, &piece(3, 1, 9), b"x"),
        &[("chunks", Some(3), "a piece is missing")],
    ),
    (
        "a whole chunk",
        |s| {
            for item in s.scan(Table::Chunks, &piece(5, 0, 0)[..12]) {
                remove(s, Table::Chunks, &item.unwrap().0);
            }
        },
        &[("chunks", Some(5), "it is missing")],
    ),
    (
        "the rows a file says it has",
        |s| edit(s, Table::Files, &seq(3), |file| file["rows"] = json!(24)),
        &[("files", Some(3), "its chunks hold 25 rows"), ("batches", None, "its files hold 49 rows")],
    ),
    (
        "the bytes a file says it takes",
        |s| edit(s, Table::Files, &seq(5), |file| file["log_bytes"] = json!(1)),
        &[("files", Some(5), "its chunks hold 10 rows")],
    ),
    (
        "a chunk of no file",
        |s| copied(s, Table::Chunks, &piece(3, 0, 0), &piece(77, 0, 0)),
        &[
            ("chunks", Some(77), "its file has no record"),
            ("meta", None, "the next file is to be number 6, there is a number 77"),
        ],
    ),
    (
        "a chunk beyond the last",
        |s| put(s, Table::Chunks, &piece(5, 7, 0), b"x"),
        &[("chunks", Some(5), "it is beyond the last of its file")],
    ),
    (
        "a key of no table",
        |s| put(s, Table::Chunks, b"odd", b"x"),
        &[("chunks", None, "no such key is ever written")],
    ),
    (
        "a file a batch names",
        |s| remove(s, Table::Files, &seq(3)),
        &[("batches", None, "its file 3 is missing"), ("chunks", Some(3), "its file has no record")],
    ),
    (
        "a file's record",
        |s| put(s, Table::Files, &seq(2), b"{}"),
        &[("files", None, "missing field"), ("batches", None, "its file 2 is missing or cannot be read")],
    ),
    (
        "an open file in a sealed batch",
        |s| edit(s, Table::Files, &seq(3), |file| file["status"] = json!("open")),
        &[("files", Some(3), "it is open, its batch is sealed")],
    ),
    (
        "an open file that is not the last",
        |s| edit(s, Table::Files, &seq(4), |file| file["status"] = json!("open")),
        &[("files", Some(4), "it is open, its batch is filling")],
    ),
    (
        "a file of a published batch",
        |s| {
            copied(s, Table::Files, &seq(2), &seq(1));
            edit(s, Table::Files, &seq(1), |file| file["batch"] = json!(0));
        },
        &[("files", Some(1), "its batch is published")],
    ),
    (
        "a file's number",
        |s| edit(s, Table::Files, &seq(3), |file| file["no"] = json!(7)),
        &[("files", Some(3), "it says it is file 7 of batch number 1, it is 1 of 1")],
    ),
    (
        "a file of no batch",
        |s| {
            copied(s, Table::Files, &seq(2), &seq(9));
            edit(s, Table::Files, &seq(9), |file| file["batch"] = json!(8));
        },
        &[("files", Some(9), "it belongs to batch number 8, which is not there")],
    ),
    (
        "a file its batch does not name",
        |s| copied(s, Table::Files, &seq(2), &seq(9)),
        &[("files", Some(9), "it belongs to batch number 1, which has 2 files from 2 on")],
    ),
    (
        "the first file of a batch",
        |s| edit(s, Table::Batches, &seq(1), |batch| batch["first_file"] = json!(3)),
        &[("batches", None, "its first file is 3, the batch before it ended before 2")],
    ),
    (
        "the files of a batch",
        |s| edit(s, Table::Batches, &seq(2), |batch| batch["files"] = json!(0)),
        &[("batches", None, "it says it has 0 files"), ("files", Some(5), "which has 0 files from 4 on")],
    ),
    (
        "a second filling batch",
        |s| edit(s, Table::Batches, &seq(1), |batch| batch["status"] = json!("filling")),
        &[("batches", None, "is filling still"), ("batches", None, "its time of sealing says otherwise")],
    ),
    (
        "a time of publishing",
        |s| edit(s, Table::Batches, &seq(0), |batch| batch["published"] = Value::Null),
        &[("batches", None, "its time of publishing says otherwise")],
    ),
    (
        "the counts of a batch",
        |s| edit(s, Table::Batches, &seq(1), |batch| batch["counts"]["rows"] = json!(49)),
        &[("batches", None, "it has 50 rows, its counts are")],
    ),
    (
        "a batch id",
        |s| {
            let id = s.get::<Value>(Table::Batches, &seq(0)).unwrap().unwrap()["id"].clone();
            edit(s, Table::Batches, &seq(1), |batch| batch["id"] = id);
        },
        &[("batches", None, "batch 0 has the same id")],
    ),
    ("hit ids", |s| flip(s, Table::Hits, &piece(0, 0, 0)), &[("hits", Some(0), "its checksum does not fit")]),
    (
        "a commit's hit ids",
        |s| remove(s, Table::Hits, &piece(0, 0, 0)),
        &[("meta", None, "it counts 135 hit ids, there are 125")],
    ),
    (
        "a reject",
        |s| flip(s, Table::Rejects, &[&seq(0)[..], &[0, 0]].concat()),
        &[("rejects", None, "its checksum does not fit")],
    ),
    (
        "a session's number",
        |s| edit(s, Table::Sessions, &seq(0), |session| session["session"] = json!(4)),
        &[("sessions", None, "it says it is session 4")],
    ),
    (
        "next numbers",
        |s| {
            edit(s, Table::Meta, b"sums", |sums| {
                for next in ["next_file", "next_reject", "next_session"] {
                    sums[next] = json!(0);
                }
            });
        },
        &[
            ("meta", None, "the next file is to be number 0, there is a number 5"),
            ("meta", None, "the next reject is to be number 0, there is a number 0"),
            ("meta", None, "the next session is to be number 0, there is a number 0"),
        ],
    ),
    (
        "totals",
        |s| edit(s, Table::Meta, b"sums", |sums| sums["totals"]["rows"] = json!(134)),
        &[
            ("meta", None, "its totals do not add up"),
            ("meta", None, "34 rows are not sealed, the filling batch has 35"),
        ],
    ),
    ("the sums", |s| remove(s, Table::Meta, b"sums"), &[("meta", None, "it is missing")]),
    (
        "a record of no meaning",
        |s| put(s, Table::Meta, b"odd", b"1"),
        &[("meta", None, "no such key is ever written")],
    ),
];

#[test]
fn every_way_a_log_can_be_broken_is_named_with_its_table_batch_and_file() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    make(&whole);
    let ids: BTreeMap<u64, BatchId> = {
        let log = LogReader::open_to_read(&whole).unwrap();
        let checked = log.verify().unwrap();
        assert!(faults(&checked).is_empty(), "{:?}", faults(&checked));
        let counts: Vec<_> =
            checked.iter().flat_map(|checked| &checked.counts).filter(|(what, _)| *what != "bytes").collect();
        let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let all = "5 records, 7 chunks, 60 rows, 4 files, 85 rows, 3 batches, 135 rows, 135 hit ids, 1 rejects, 1 sessions";
        assert_eq!(counts.join(", "), all);
        log.batches().unwrap().into_iter().map(|(seq, batch)| (seq, batch.id)).collect()
    };
    for (number, (what, harm, wanted)) in WAYS.iter().enumerate() {
        let dir = root.path().join(number.to_string());
        copy(&whole, &dir);
        {
            let store = Store::open(&dir, Kind::Producer, "test", 1 << 20, |_| Ok(())).unwrap();
            harm(&store);
            store.commit(state::store::Change::new()).unwrap();
        }
        let checked = LogReader::open_to_read(&dir).unwrap().verify().unwrap();
        let found = faults(&checked);
        for (table, file, words) in *wanted {
            let is_it =
                |fault: &&&Fault| fault.table == *table && fault.file == *file && fault.what.contains(words);
            let Some(fault) = found.iter().find(is_it) else {
                panic!("{what}: {words} is missing in {found:?}")
            };
            if let Some(batch @ 0..3) = file.map(|file| file / 2).filter(|_| fault.batch.is_some()) {
                assert_eq!(fault.batch, ids.get(&batch).copied(), "{what}: {fault}");
            }
            assert!(fault.batch.is_some() || *table != "batches", "{what}: {fault}");
        }
        // What follows from it may be named too, but nothing beside.
        assert!(found.len() <= wanted.len() + 5, "{what}: {found:?}");
    }
}

#[test]
fn what_a_crash_left_of_the_rows_of_a_file_in_s3_is_no_fault_and_the_next_start_drops_it() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let left = |store: &Store| store.scan(Table::Chunks, &seq(2)).count();
    {
        let store = Store::open(dir.path(), Kind::Producer, "test", 1 << 20, |_| Ok(())).unwrap();
        assert_eq!(left(&store), 0);
        // The first piece went with the change before the crash.
        (1..400).for_each(|number| put(&store, Table::Chunks, &piece(2, 0, number), b"x"));
        store.commit(Change::new()).unwrap();
    }
    let checked = LogReader::open_to_read(dir.path()).unwrap().verify().unwrap();
    assert!(faults(&checked).is_empty(), "{:?}", faults(&checked));
    Log::open(settings(dir.path()), now()).unwrap().0.close(now()).unwrap();
    let store = Store::open(dir.path(), Kind::Producer, "test", 1 << 20, |_| Ok(())).unwrap();
    assert_eq!(left(&store), 0);
    assert!(store.scan(Table::Chunks, &seq(3)).count() > 0, "rows that wait for S3");
}

#[test]
fn a_log_that_is_written_meanwhile_has_no_faults() {
    let dir = tempfile::tempdir().unwrap();
    let small = Settings { dedup_hits: 60, ..settings(dir.path()) };
    let (mut log, _) = Log::open(small, now()).unwrap();
    let reader = log.reader();
    let done = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60_u64 {
                let now = now();
                log.session_started(0, now).unwrap();
                log.stage_reject(0, b"{broken", "not_json", "not JSON", now);
                append(&mut log, round * 50..round * 50 + 50, now);
                for file in [2 * round, 2 * round + 1] {
                    log.uploaded(file, upload(file)).unwrap();
                }
                log.published(round, now).unwrap();
                log.rejects_uploaded(Chosen { first: 0, last: round }).unwrap();
                log.session_ended(0, "test", now).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut rounds = 0;
        while !done.load(Ordering::Relaxed) {
            let checked = reader.verify().unwrap();
            assert!(faults(&checked).is_empty(), "{:?}", faults(&checked));
            rounds += 1;
        }
        rounds
    });
    assert!(rounds > 1, "it was never looked at while it was written");
}

#[test]
fn a_load_that_cannot_be_read_or_stands_under_another_batch_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let instance = Instance::try_from("a".to_owned()).unwrap();
    let batches = [(); 3].map(|()| BatchId::new());
    let loads = LoadDatabase::open(dir.path()).unwrap();
    for batch in batches {
        loads.discovered(Load::new(batch, instance.clone(), 1, 1, 1, now())).unwrap();
    }
    assert!(faults(&loads.verify().unwrap()).is_empty());
    drop(loads);
    {
        let store = Store::open(dir.path(), Kind::Ingester, "ingester", 1 << 20, |_| Ok(())).unwrap();
        edit(&store, Table::Loads, batches[0].as_bytes(), |load| load["state"] = json!("lost"));
        edit(&store, Table::Loads, batches[1].as_bytes(), |load| load["batch"] = json!(batches[2]));
        store.commit(state::store::Change::new()).unwrap();
    }
    let checked = LoadDatabase::open_to_read(dir.path()).unwrap().verify().unwrap();
    let said: Vec<_> = faults(&checked).iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("a value that cannot stand there at line 1"), "{said:?}");
    assert!(said[1].contains(&format!("it is of batch {}", batches[2])), "{said:?}");
}
