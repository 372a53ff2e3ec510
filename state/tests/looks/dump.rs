//! `state dump` of a log and a load store with many pending batches.

use std::path::Path;

use serde_json::Value;
use shared::clock::Clock;
use shared::exit::{Exit, Failure};
use shared::ids::{BatchId, Instance};
use state::Part;
use state::inspect::dump::{BatchDump, Dump, Happening};
use state::loads::{ErrorClass, Load, LoadDatabase, LoadEvent};
use state::log::{Log, Settings};
use state::store::{Change, Kind, Store, Table};

use crate::{Place, append, now, settings, upload};

/// A log of `batches` sealed batches of ten files, a row each, the first ten of them with five files in S3; and one
/// file and batch that are open.
fn fill(dir: &Path, batches: u64) {
    let now = now();
    let small = Settings { records_per_file: 1, files_per_batch: 10, commit_rows: 1, ..settings(dir) };
    let (mut log, _) = Log::open(small, now).unwrap();
    log.session_started(0, now).unwrap();
    for n in 0..10 * batches {
        log.stage_row(0, None, Some(now), format!("{n}~a row\n").as_bytes(), now);
        log.commit(now).unwrap();
    }
    for batch in 0..10 {
        for file in 10 * batch..10 * batch + 5 {
            log.uploaded(file, upload(file)).unwrap();
        }
    }
    log.close(now).unwrap();
}

/// Loads of other producers' batches, every tenth of which is loaded.
fn met(dir: &Path, count: u64) {
    let instance = Instance::try_from("other".to_owned()).unwrap();
    let loads = LoadDatabase::open(dir).unwrap();
    for n in 0..count {
        let batch = BatchId::new();
        loads.discovered(Load::new(batch, instance.clone(), 10, 100, 5_000, now())).unwrap();
        loads.note(batch, LoadEvent::Attempt, now()).unwrap();
        let event = if n % 10 == 0 {
            LoadEvent::Loaded
        } else {
            let why = "a reason that is longer than a line of the table, ".repeat(5);
            LoadEvent::Failed { next: now(), class: ErrorClass::Passing, why }
        };
        loads.note(batch, event, now()).unwrap();
    }
}

fn array<'v>(json: &'v Value, path: &str) -> &'v Vec<Value> {
    json.pointer(path).unwrap().as_array().unwrap()
}

#[tokio::test]
async fn a_thousand_pending_batches_are_all_shown_once_in_table_and_json() {
    let place = Place::new();
    fill(&place.producer(), 1_000);
    met(&place.ingester(), 1_000);
    let begun = Clock::system().steady();
    let dump = Dump::read(&place.config(), &Clock::system()).await.unwrap();
    let looked = begun.until(Clock::system().steady());
    let table = dump.table();
    let rendered = begun.until(Clock::system().steady()) - looked;
    println!("read in {looked:?}, table made in {rendered:?}");

    assert_eq!((dump.pending.batches, dump.pending.rows), (1_900, 10_000 + 90_000));
    assert!(table.ends_with("pending  1,900 batches, 100,000 rows"), "{table}");
    let fitted = state::inspect::columns::fit(&table, 100);
    assert!(fitted.lines().all(|line| line.chars().count() <= 100), "{fitted}");
    let json = serde_json::to_value(&dump).unwrap();
    let batches = array(&json, "/producer/snapshot/batches");
    assert_eq!((batches.len(), array(&json, "/ingester/snapshot/loads").len()), (1_000, 1_000));
    assert_eq!((&batches[9]["files_uploaded"], &batches[10]["files_uploaded"]), (&5.into(), &0.into()));
    for batch in batches {
        let id = batch["batch"].as_str().unwrap();
        assert_eq!(table.matches(id).count(), 1, "{id}");
    }

    let dump = dump.only_pending();
    let (table, json) = (dump.table(), serde_json::to_value(&dump).unwrap());
    assert_eq!(table.matches("  sealed  ").count(), 1_000);
    assert_eq!(table.matches("  in S3  ").count(), 900);
    assert!(!table.contains("stream ") && array(&json, "/producer/snapshot/sessions").is_empty());
    assert_eq!(array(&json, "/ingester/snapshot/loads").len(), 900);
    let fitted = state::inspect::columns::fit(&table, 100);
    assert!(fitted.lines().all(|line| line.chars().count() <= 100), "{fitted}");
}

#[tokio::test]
async fn a_directory_without_a_database_has_never_been_used() {
    let place = Place::new();
    std::fs::create_dir_all(place.producer().join("sled")).unwrap();
    let dump = Dump::read(&place.config(), &Clock::system()).await.unwrap();
    assert!(dump.producer.snapshot.is_none() && dump.ingester.snapshot.is_none());
    assert_eq!(dump.table().matches("never ran with this configuration").count(), 2, "{}", dump.table());
    assert!(std::fs::read_dir(place.producer().join("sled")).unwrap().next().is_none(), "nothing was made");
}

/// A log whose batch 0 is sealed, with one of its two files in S3.
fn half_uploaded(place: &Place) -> BatchId {
    let now = now();
    let (mut log, _) = Log::open(settings(&place.producer()), now).unwrap();
    append(&mut log, 0..60, now);
    log.uploaded(0, upload(0)).unwrap();
    log.reader().batch(0).unwrap().id
}

async fn look_at(place: &Place, batch: BatchId) -> Result<BatchDump, Failure> {
    BatchDump::read(&place.config(), &Clock::system(), &batch.to_string().parse().unwrap()).await
}

#[tokio::test]
async fn a_batch_is_told_with_its_files_until_it_is_published() {
    let place = Place::new();
    let batch = half_uploaded(&place);
    let dump = look_at(&place, batch).await.unwrap();
    let table = dump.table();
    let etag = "\"00000000000000000000000000000000\"";
    for part in [
        "state        sealed, 1 of 2 files in S3",
        "rows         50, ",
        "received     50 = 50 rows + 0 duplicates",
        "schema       0123456789abcdef",
        "compression  zstd",
        "place        s3://bucket/ToIngest/",
        "load         not known to the ingester",
        &format!("   0  uploaded        25   70.4 KiB    1.0 KiB  AAAAAA==  {etag}"),
        "   1  closed          25   70.4 KiB          -  -         -",
        "opened",
        "sealed",
    ] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    assert_eq!(dump.seal, None);
    let json = serde_json::to_value(&dump).unwrap();
    assert_eq!(json["producer"]["snapshot"]["file_list"][0]["uploaded"]["etag"], etag);
    assert_eq!(json["producer"]["snapshot"]["files_uploaded"], 1);
    assert_eq!(json["timeline"][1]["event"], "sealed");
}

#[tokio::test]
async fn a_batch_whose_file_is_missing_is_damaged() {
    let place = Place::new();
    let batch = half_uploaded(&place);
    {
        let store = Store::open(&place.producer(), Kind::Producer, "test", 1 << 20, |_| Ok(())).unwrap();
        let mut change = Change::new();
        change.remove(Table::Files, &1_u64.to_be_bytes());
        store.commit(change).unwrap();
    }
    let failure = look_at(&place, batch).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Data);
    assert!(failure.to_string().contains("batches 0000000000000000: it has no file 1"), "{failure}");
}

#[tokio::test]
async fn a_loaded_batch_is_told_with_all_that_happened_to_it() {
    let place = Place::new();
    let batch = half_uploaded(&place);
    let now = now();
    let (mut log, _) = Log::open(settings(&place.producer()), now).unwrap();
    log.uploaded(1, upload(1)).unwrap();
    log.published(0, now).unwrap();
    drop(log);
    fail_and_load(&place.ingester(), batch);
    let dump = look_at(&place, batch).await.unwrap();
    assert_eq!(
        dump.producer.snapshot.as_ref().unwrap().as_ref().unwrap().file_list,
        None,
        "they are dropped"
    );
    let said = dump.seal.as_ref().unwrap();
    assert!(said.starts_with("s3://bucket/Ingested/") && said.ends_with(&format!("/{batch}/batch.json")));
    let table = dump.table();
    for part in [
        "see batch.json in S3:",
        "loaded, attempt 13; archived",
        "attempt failed #12: data",
        "of failures the latest 10 are kept",
    ] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let fitted = state::inspect::columns::fit(&table, 100);
    assert!(fitted.lines().all(|line| line.chars().count() <= 100), "{fitted}");
    assert_timeline(&dump);
}

fn fail_and_load(dir: &Path, batch: BatchId) {
    let loads = LoadDatabase::open(dir).unwrap();
    let instance = Instance::try_from("test".to_owned()).unwrap();
    loads.discovered(Load::new(batch, instance, 2, 50, 9_000, now())).unwrap();
    for _ in 0..12 {
        loads.note(batch, LoadEvent::Attempt, now()).unwrap();
        let why = "value too long for character varying(20) \n".repeat(60);
        let failed = LoadEvent::Failed { next: now(), class: ErrorClass::Data, why };
        loads.note(batch, failed, now()).unwrap();
    }
    for event in [LoadEvent::Attempt, LoadEvent::Loaded, LoadEvent::Archived] {
        loads.note(batch, event, now()).unwrap();
    }
}

fn assert_timeline(dump: &BatchDump) {
    use Happening::{Archived, Discovered, Failed, Loaded, Opened, Published, Sealed, Started};
    let events: Vec<_> = dump.timeline.iter().map(|event| event.event).collect();
    let attempts = [Started, Failed].repeat(10);
    let wanted =
        [&[Opened, Sealed, Published, Discovered], &attempts[..], &[Started, Loaded, Archived]].concat();
    assert_eq!(events, wanted);
    let numbers: Vec<_> = dump.timeline.iter().filter_map(|event| event.attempt).collect();
    assert_eq!((numbers[0], numbers[1], numbers.last()), (3, 3, Some(&13)));
    assert!(dump.timeline.is_sorted_by_key(|event| event.at));
    assert!(dump.timeline[0].after_ms.is_none() && dump.timeline[1].after_ms.is_some());
}

#[tokio::test]
async fn a_batch_of_another_producer_is_told_as_far_as_the_ingester_knows_it() {
    let place = Place::new();
    met(&place.ingester(), 1);
    let Part { snapshot, .. } = Dump::read(&place.config(), &Clock::system()).await.unwrap().ingester;
    let batch = snapshot.unwrap().loads[0].batch;
    let dump = look_at(&place, batch).await.unwrap();
    let table = dump.table();
    assert!(table.contains("instance     other, which is not the producer of this log"), "{table}");
    assert!(table.contains("100 in 10 files, 4.9 KiB in S3"), "{table}");
    assert!(dump.seal.unwrap().starts_with("s3://bucket/ToIngest/"));
}

/// Prints how long a dump takes; run by hand.
#[tokio::test]
#[ignore = "a measurement"]
async fn measure_a_dump_of_a_thousand_pending_batches() {
    let place = Place::new();
    fill(&place.producer(), 1_000);
    met(&place.ingester(), 1_000);
    let config = place.config();
    for what in ["first", "again"] {
        let begun = Clock::system().steady();
        let dump = Dump::read(&config, &Clock::system()).await.unwrap();
        let (table, json) = (dump.table(), serde_json::to_string_pretty(&dump).unwrap());
        println!(
            "not running, {what}: {:?}, {} lines, {} bytes",
            begun.until(Clock::system().steady()),
            table.lines().count(),
            json.len()
        );
    }
    let (log, loads) = crate::socket::serve(&place).await;
    for what in ["first", "again"] {
        let begun = Clock::system().steady();
        let dump = Dump::read(&config, &Clock::system()).await.unwrap();
        let (table, json) = (dump.table(), serde_json::to_string_pretty(&dump).unwrap());
        assert!(dump.producer.pid.is_some() && dump.ingester.pid.is_some());
        println!(
            "running, {what}: {:?}, {} lines, {} bytes",
            begun.until(Clock::system().steady()),
            table.lines().count(),
            json.len()
        );
    }
    drop((log, loads));
}
