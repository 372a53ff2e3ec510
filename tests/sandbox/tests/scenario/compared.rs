//! What a producer cannot know, the load finds out: hits that another log, an earlier life of the log, a replay or another
//! producer has loaded. Every hit that was sent is in the table in the end, once.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use adobe::{Delivery, Fault as StreamFault, Plan};
use sandbox::config::Shape;
use sandbox::judge::{LEDGER, files_below};
use sandbox::s3::{self, BUCKET};
use sandbox::service::{self, Service};
use shared::config::{Config, Secrets};
use shared::object_store::ObjectStore;
use shared::seal::Seal;
use state::status::snapshot::BatchSnapshot;

use crate::world::{STOP, World, assert_clean, options};

const HITS: u64 = 6_000;
const HOUR: u64 = 3_600;
/// So long nothing more has come.
const QUIET: Duration = Duration::from_secs(2);

fn small_batches() -> Shape {
    Shape { records_per_file: 100, files_per_batch: 3, max_batch_age: "1s", ..Shape::default() }
}

/// Both clients of a stream say how many there may be.
fn two_clients(text: &str) -> String {
    text.replace("[adobe]\n", "[adobe]\nmax_connections = 2\n")
}

fn copy_dir(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-r"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// A stream whose hits span so many hours, ending now.
fn over_hours(hits: u64, hours: u64) -> Plan {
    let adobe = options(hits);
    let step_seconds = hours * HOUR / hits;
    let start_epoch = adobe.plan.start_epoch - i64::try_from(hours * HOUR).unwrap();
    Plan { hits_per_second: 1, step_seconds, start_epoch, ..adobe.plan }
}

impl World {
    /// Everything that was sent is in the table, each hit once, and nothing waits; the services have stopped.
    async fn assert_complete(&self) {
        assert_clean(&self.verdict().await);
        let left = files_below(&self.path("s3").join(BUCKET).join("ToIngest")).unwrap();
        assert_eq!(left, Vec::<PathBuf>::new(), "nothing waits for ever");
        let dump = self.dump();
        assert!(!dump.contains("ALERT"), "{dump}");
    }

    /// Waits until whatever is sealed is published. A batch of an earlier run that is published after one of a later run
    /// is loaded staged when it is loaded after it, so an ingester that must not do that starts only then.
    async fn until_in_order(&self, producer: &mut Service) {
        let published = async || {
            let waits = |batch: &BatchSnapshot| batch.sealed.is_some() && batch.published.is_none();
            self.snapshot().await.is_some_and(|log| !log.batches.iter().any(waits))
        };
        self.until("what is sealed is published", &mut [producer], published).await;
    }

    /// Waits until a producer that has received everything has published it and all is put away, and stops it.
    async fn settle(&self, name: &str, mut producer: Service, ingester: &mut Service) {
        self.until_published_by(name, self.wanted(), &mut [&mut producer, &mut *ingester]).await;
        self.until_put_away(&mut [&mut producer, &mut *ingester]).await;
        producer.stop(STOP).await.unwrap();
    }
}

/// What stands below `Ingested/`, and its content.
fn archived(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files_below(&world.path("s3").join(BUCKET).join("Ingested")).unwrap();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Whether a folder below `ToIngest/` has files and no seal.
fn half_published(world: &World) -> bool {
    let files = files_below(&world.path("s3").join(BUCKET).join("ToIngest")).unwrap();
    let sealed = |file: &PathBuf| files.contains(&file.with_file_name("batch.json"));
    // The loader may take a folder away between the two looks: its file is gone then.
    files.iter().any(|file| !sealed(file) && file.exists())
}

/// Everything that was archived before still is as it was.
#[track_caller]
fn assert_kept(before: &[(PathBuf, Vec<u8>)]) {
    for (path, content) in before {
        assert!(std::fs::read(path).unwrap() == *content, "{} was written over", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_restored_from_an_older_copy_goes_on_after_the_original() {
    for sealed in [false, true] {
        let adobe = adobe::Options { rate: Some(2_000), ..options(HITS) };
        let world = World::with(adobe, &small_batches()).await;
        let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
        // Told by what is read, not by what is loaded: much is to come after the copy was made.
        let begun = async || world.snapshot().await.is_some_and(|log| log.totals.received >= HITS / 4);
        world.until("a part is read", &mut [&mut producer, &mut ingester], begun).await;
        if sealed {
            // The copy has batches that are sealed, and that the original publishes.
            for _ in 0..1_000 {
                let side = s3::Side::Refused(s3::Refusal::InternalError);
                let operation = Some(s3::Operation::Put);
                world.standins.s3.faults().push(s3::Fault { operation, key: "/batch.json".to_owned(), side });
            }
            let waits = async || {
                world.snapshot().await.is_some_and(|snapshot| {
                    let unpublished =
                        |batch: &&BatchSnapshot| batch.sealed.is_some() && batch.published.is_none();
                    snapshot.batches.iter().filter(unpublished).count() >= 2
                })
            };
            world.until("two batches sealed", &mut [&mut producer, &mut ingester], waits).await;
        }
        ingester.kill().unwrap();
        producer.kill().unwrap();
        copy_dir(&world.path("producer"), &world.path("copy"));
        world.standins.s3.faults().clear();
        producer.start_again().unwrap();
        world.until_in_order(&mut producer).await;
        ingester.start_again().unwrap();
        world.settle("producer", producer, &mut ingester).await;
        assert_eq!(world.loaded().await, world.wanted());
        let said = ingester.said();
        assert_eq!(world.staged_and_plain().0, 0, "a log that goes on by itself is not compared:\n{said}");
        let before = archived(&world);

        // What the original did since then is not known to the copy, which is sent all of it again.
        std::fs::rename(world.path("producer"), world.path("original")).unwrap();
        std::fs::rename(world.path("copy"), world.path("producer")).unwrap();
        let producer = world.start("producer");
        world.settle("producer", producer, &mut ingester).await;
        ingester.stop(STOP).await.unwrap();
        world.assert_complete().await;
        assert_kept(&before);
        assert!(world.staged_and_plain().0 > 0);
        assert!(world.verdict().await.known > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_log_goes_on_beside_the_original() {
    let delivery = Delivery { handover: 2, ..Delivery::default() };
    let adobe = adobe::Options { rate: Some(1_000), delivery, ..options(HITS) };
    let world = World::altered(adobe, &small_batches(), two_clients, None).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(HITS / 4, &mut [&mut producer, &mut ingester]).await;
    producer.kill().unwrap();
    copy_dir(&world.path("producer"), &world.path("copy"));
    producer.start_again().unwrap();
    let mut copy = world.start_another("producer", "copy");
    // Whatever came before one of them was connected comes to it again.
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let one = if round % 2 == 0 { &mut copy } else { &mut producer };
        one.kill().unwrap();
        one.start_again().unwrap();
    }
    until_all_is_loaded(&world, ["producer", "copy"], [producer, copy], &mut ingester).await;
    ingester.stop(STOP).await.unwrap();
    world.assert_complete().await;
}

/// Waits until every hit was sent, everything that producers have is published, and everything published is loaded; stops
/// the producers.
async fn until_all_is_loaded(
    world: &World,
    names: [&str; 2],
    producers: [Service; 2],
    ingester: &mut Service,
) {
    let [mut first, mut second] = producers;
    let hits = world.standins.adobe.generator().plan().hits;
    // A client that begins gets hits of the other one again, for a while after all were sent.
    let last = Cell::new((0, Instant::now()));
    let is_quiet = |records| {
        if records != last.get().0 {
            last.set((records, Instant::now()));
        }
        last.get().1.elapsed() > QUIET
    };
    let published = async || {
        let mut records = 0;
        for name in names {
            let Some(snapshot) = world.snapshot_of(name).await else { return false };
            let done = snapshot.batches.iter().all(|batch| batch.published.is_some());
            if !done || snapshot.rejects_waiting > 0 {
                return false;
            }
            records += snapshot.totals.received;
        }
        is_quiet(records)
            && world.standins.adobe.distinct_sent() == hits
            && world.loaded().await >= world.wanted()
    };
    world
        .until("everything sent and loaded", &mut [&mut first, &mut second, &mut *ingester], published)
        .await;
    world.until_put_away(&mut [&mut first, &mut second, ingester]).await;
    first.stop(STOP).await.unwrap();
    second.stop(STOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_lost_is_begun_anew_and_the_hits_come_again() {
    let world = World::with_rate(HITS, Some(2_000), &small_batches()).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(world.wanted() / 2, &mut [&mut producer, &mut ingester]).await;
    let before = archived(&world);
    producer.kill().unwrap();
    // Nobody would seal a folder that lost its log half way: it is kept for a day, which is another test's matter.
    while half_published(&world) {
        producer.start_again().unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        producer.kill().unwrap();
    }
    std::fs::remove_dir_all(world.path("producer")).unwrap();
    producer.start_again().unwrap();
    world.settle("producer", producer, &mut ingester).await;
    ingester.stop(STOP).await.unwrap();
    world.assert_complete().await;
    assert_kept(&before);
    assert!(world.verdict().await.known >= world.wanted() / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replayed_twice_from_two_machines_is_loaded_once() {
    let adobe = options(3_000);
    let plan = Plan { malformed_per_mille: 0, ..adobe.plan };
    let world = World::with(adobe::Options { plan, ..adobe }, &small_batches()).await;
    let generator = world.standins.adobe.generator();
    let mut lines = Vec::new();
    (0..3_000).for_each(|index| generator.write(index, &mut lines));
    let file = world.path("hits.ndjson");
    std::fs::write(&file, lines).unwrap();
    let replay = |config: &Path| {
        let output = service::run("producer", &["replay", file.to_str().unwrap()], config).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    replay(&world.config);
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    world.until_put_away(&mut [&mut ingester]).await;
    let (staged, plain) = world.staged_and_plain();
    assert!(staged == 0 && plain > 0, "the first is the only one");
    replay(&world.config_of("producer", "another-machine"));
    world.until_put_away(&mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    world.assert_complete().await;
    assert_eq!(world.verdict().await.known, world.wanted());
    assert_eq!(world.staged_and_plain().1, plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_that_come_hours_late_are_loaded_and_those_that_come_again_are_not() {
    let plan = Plan { late_per_mille: 100, ..over_hours(10_500, 6) };
    let world = World::with(adobe::Options { plan, ..options(10_500) }, &Shape::default()).await;
    let generator = world.standins.adobe.generator();
    let late = (0..10_500).filter(|index| generator.is_late(*index)).count();
    assert!(late > 500, "{late}");
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    // Everything comes once more, by when the first hours are forgotten.
    world.until_durable(world.wanted() * 9 / 10, &mut [&mut producer, &mut ingester]).await;
    world.standins.adobe.faults().push(StreamFault::Cut { after: 1 });
    world.standins.adobe.faults().push(StreamFault::Replay { back: 10_500 });
    let again = async || world.standins.adobe.faults().pending() == 0;
    world.until("the stream broken", &mut [&mut producer, &mut ingester], again).await;
    world.settle("producer", producer, &mut ingester).await;
    ingester.stop(STOP).await.unwrap();
    world.assert_complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_six_hours_with_two_partitions_that_lag_is_loaded_whole() {
    let plan = over_hours(10_500, 6);
    for kills in [false, true] {
        let skew = [0, 0, 0, 3 * HOUR, 0, 0, 6 * HOUR, 0];
        let delivery = Delivery { skew, ..Delivery::default() };
        let adobe = adobe::Options { plan, delivery, ..options(10_500) };
        let world = World::with(adobe, &Shape::default()).await;
        let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
        for part in 1..=3_u64 {
            if kills {
                world.until_durable(world.wanted() * part / 4, &mut [&mut producer, &mut ingester]).await;
                producer.kill().unwrap();
                producer.start_again().unwrap();
            }
        }
        world.until_loaded(world.wanted(), &mut [&mut producer, &mut ingester]).await;
        world.until_put_away(&mut [&mut producer, &mut ingester]).await;
        assert_clean(&world.end(producer, ingester).await);
        world.assert_complete().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_producers_of_one_stream_that_are_killed_and_cut_off_load_every_hit_once() {
    let hits = 12_000;
    let delivery = Delivery { handover: 2, twice_per_mille: 50, ..Delivery::default() };
    let adobe = adobe::Options { rate: Some(1_500), delivery, ..options(hits) };
    let world = World::altered(adobe, &small_batches(), two_clients, None).await;
    let names = ["producer-a", "producer-b"];
    let mut producers = names.map(|name| world.start_another("producer", name));
    let mut ingester = world.start("ingester");
    for round in 0..6 {
        tokio::time::sleep(Duration::from_millis(900)).await;
        if round % 3 == 2 {
            world.standins.adobe.faults().push(StreamFault::Cut { after: 100 });
        }
        let one = &mut producers[round % 2];
        one.kill().unwrap();
        // Longer than Adobe needs to notice, so that the other one gets its visitors.
        tokio::time::sleep(Duration::from_millis(500)).await;
        one.start_again().unwrap();
    }
    until_all_is_loaded(&world, names, producers, &mut ingester).await;
    ingester.stop(STOP).await.unwrap();
    world.assert_complete().await;
    let runs = world.count(&format!("count(DISTINCT run) FROM {LEDGER}")).await;
    assert!(runs > 4, "{runs} runs");
    assert!(world.verdict().await.known > 0, "none was sent to both: nothing is proved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_is_stopped_or_killed_and_started_again_loads_plain() {
    let world = World::with_rate(HITS, Some(2_000), &small_batches()).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    for part in 1..=4 {
        world.until_durable(world.wanted() * part / 6, &mut [&mut producer, &mut ingester]).await;
        ingester.kill().unwrap();
        if part % 2 == 0 {
            producer.stop(STOP).await.unwrap();
        } else {
            producer.kill().unwrap();
        }
        producer.start_again().unwrap();
        world.until_in_order(&mut producer).await;
        ingester.start_again().unwrap();
    }
    world.until_loaded(world.wanted(), &mut [&mut producer, &mut ingester]).await;
    let (staged, plain) = world.staged_and_plain();
    assert!(staged == 0 && plain > 0, "{staged} COPYs into stages:\n{}", ingester.said());
    assert_clean(&world.end(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_batch_of_the_same_id_is_told_and_loaded_under_another_id() {
    let world = World::new(1_200, &small_batches()).await;
    world.publish().await;
    let config = Config::load(&world.config, Secrets::Ingester).unwrap();
    let store = ObjectStore::connect(&config.s3).await;
    let listed = store.list(&config.s3.to_ingest, None).await.unwrap();
    let keys: Vec<_> = listed.iter().filter(|object| object.key.ends_with("/batch.json")).collect();
    let mut sealed = Vec::new();
    for object in keys {
        let folder = object.key.trim_end_matches("batch.json").to_owned();
        let batch = folder.split('/').nth(2).unwrap().parse().unwrap();
        sealed.push((folder, Seal::read(batch, &store.get(&object.key).await.unwrap()).unwrap()));
    }
    // Of as many rows, so that the number of them tells nothing.
    let twins = sealed.iter().enumerate().find_map(|(n, (_, one))| {
        let other = sealed.iter().skip(n + 1).find(|(_, other)| other.rows == one.rows)?;
        Some((sealed[n].clone(), other.clone()))
    });
    let ((first, one), (second, other)) = twins.expect("no two batches of as many rows");
    // The second is taken away, and comes back with the id of the first.
    let mut taken = Vec::new();
    for object in store.list(&second, None).await.unwrap() {
        taken.push((object.key.clone(), store.get(&object.key).await.unwrap()));
        store.delete(&object.key).await.unwrap();
    }
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted() - other.rows, &mut [&mut ingester]).await;
    world.until_put_away(&mut [&mut ingester]).await;
    let before = archived(&world);
    let disguised = Seal { batch: one.batch, ..other.clone() };
    let come_back = async || {
        for (key, content) in &taken {
            if key.contains(".csv") {
                store.put(&key.replace(&second, &first), content.clone()).await.unwrap();
            }
        }
        let [manifest, seal] = disguised.manifest_and_seal(BUCKET, &first);
        store.put(&format!("{first}manifest.json"), manifest.into()).await.unwrap();
        store.put(&format!("{first}batch.json"), seal.into()).await.unwrap();
    };
    come_back().await;
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    world.until_put_away(&mut [&mut ingester]).await;
    assert_kept(&before);
    let ids = |query: String| {
        let world = &world;
        async move {
            let rows = world.judge.query(&query, &[]).await.unwrap();
            rows.iter().map(|row| row.get::<_, String>(0)).collect::<BTreeSet<_>>()
        }
    };
    let content = other.content.unwrap();
    let entered = ids(format!("SELECT batch_id FROM {LEDGER} AND content = '{content}'")).await;
    let derived = entered.first().unwrap().clone();
    assert!(entered.len() == 1 && derived != one.batch.to_string(), "{entered:?}");
    let said = ingester.said();
    assert!(said.contains(&derived) && said.contains(&one.batch.to_string()), "{said}");
    let after = archived(&world);
    assert!(after.iter().any(|(path, _)| path.to_string_lossy().contains(&derived)), "{derived}");
    assert_clean(&world.verdict().await);

    // Both come once more: nothing is loaded twice, and nothing written over.
    let loaded = world.loaded().await;
    come_back().await;
    world.until_put_away(&mut [&mut ingester]).await;
    for (path, content) in &before {
        let key = path.strip_prefix(world.path("s3").join(BUCKET)).unwrap().to_str().unwrap();
        if key.contains(&one.batch.to_string()) {
            store.put(&key.replace("Ingested/", "ToIngest/"), content.clone().into()).await.unwrap();
        }
    }
    world.until_put_away(&mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    assert_eq!(world.loaded().await, loaded);
    assert_kept(&after);
    world.assert_complete().await;
}
