//! What the version before left goes on: its log, its bookkeeping, its objects in S3 and its ledger.
//!
//! `fixtures/upgrade/state.tar.gz` was written once, by producer and ingester of version 0.1.0 at its commit 69e8ce2: three
//! batches are loaded, two wait in S3, and one was filling when the producer was killed; of its files some are in S3
//! already, as that version did it. `ledger.csv` is the ledger.

use std::path::Path;
use std::process::Command;

use adobe::Plan;
use sandbox::config::Shape;
use sandbox::judge::LEDGER;
use sandbox::s3::BUCKET;
use sandbox::service;
use sandbox::standins::plan;
use shared::config::{Config, Secrets};
use shared::object_store::ObjectStore;
use shared::seal::Seal;

use crate::schema::send;
use crate::world::{STOP, World, assert_clean};

/// The stream of then.
const HITS: u64 = 360;
const SEED: u64 = 7;
const START: i64 = 1_795_000_000;
const LOADED: u64 = 120;

/// The ledger of then.
const OLD_LEDGER: &str = "CREATE TABLE public.livestream_ledger (batch_id varchar(36) NOT NULL PRIMARY KEY,
    instance varchar(127), rows_loaded bigint NOT NULL, rows_quarantined bigint NOT NULL, bytes bigint, files integer,
    schema_fingerprint varchar(16), first_received timestamp, last_received timestamp, copy_query_id bigint,
    loaded_at timestamp, loader varchar(255), received bigint, duplicates bigint, filtered bigint, rejected bigint,
    quarantine varchar(16));";

/// The world that the version before left, killed.
async fn left_behind() -> World {
    let shape = Shape { records_per_file: 10, files_per_batch: 4, ..Shape::default() };
    let plan: Plan = plan(SEED, HITS, START);
    let world =
        World::with(adobe::Options { plan, rate: Some(100), ..adobe::Options::default() }, &shape).await;
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/upgrade/state.tar.gz");
    let unpacked =
        Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(world.path("")).status().unwrap();
    assert!(unpacked.success());
    send(
        &world,
        &format!(
            "DROP TABLE public.livestream_ledger; DROP TABLE public.livestream_ledger_lock; {OLD_LEDGER}"
        ),
    )
    .await;
    let ledger = std::fs::read_to_string(world.path("ledger.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(ledger.as_bytes());
    let names = reader.headers().unwrap().iter().collect::<Vec<_>>().join(", ");
    for row in reader.records() {
        let value = |value: &str| if value.is_empty() { "NULL".to_owned() } else { format!("'{value}'") };
        let values = row.unwrap().iter().map(value).collect::<Vec<_>>().join(", ");
        world
            .judge
            .batch_execute(&format!("INSERT INTO public.livestream_ledger ({names}) VALUES ({values})"))
            .await
            .unwrap();
    }
    let config = Config::load(&world.config, Secrets::Ingester).unwrap();
    let store = ObjectStore::connect(&config.s3).await;
    // What it says is loaded is in the table, by the COPY of then.
    for batch in world.judge.query(&format!("SELECT batch_id FROM {LEDGER}"), &[]).await.unwrap() {
        let batch: String = batch.get(0);
        let seal =
            Seal::read(batch.parse().unwrap(), &std::fs::read(archived(&world, &batch)).unwrap()).unwrap();
        let folder = archived(&world, &batch);
        let key = folder.parent().unwrap().strip_prefix(world.path("s3").join(BUCKET)).unwrap();
        for file in &seal.files {
            // COPY may not read the archive, so what it loads stands where manifests do.
            let by_hand = "Loads/by-hand.csv.zst";
            let content = store.get(&format!("{}/{}", key.display(), file.name)).await.unwrap();
            store.put(by_hand, content).await.unwrap();
            send(
                &world,
                &format!(
                    "COPY public.livestream FROM 's3://{BUCKET}/{by_hand}' \
                     IAM_ROLE 'arn:aws:iam::123456789012:role/sandbox' FORMAT CSV DELIMITER '~' QUOTE '\"' EMPTYASNULL \
                     ZSTD TIMEFORMAT 'auto';"
                ),
            )
            .await;
            store.delete(by_hand).await.unwrap();
        }
    }
    assert_eq!(world.count("count(*) FROM public.livestream").await, LOADED);
    world
}

/// The seal of a batch that is put away.
fn archived(world: &World, batch: &str) -> std::path::PathBuf {
    let all = sandbox::judge::files_below(&world.path("s3").join(BUCKET).join("Ingested")).unwrap();
    all.into_iter().find(|path| path.ends_with(format!("{batch}/batch.json"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_version_before_left_goes_on_and_every_hit_is_loaded_once() {
    let world = left_behind().await;
    let diff = service::run("ingester", &["ddl", "--diff"], &world.config).unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stderr));
    let diff = String::from_utf8(diff.stdout).unwrap();
    for part in [
        "RENAME COLUMN \"loader\" TO \"loaded_by\"",
        "ADD COLUMN \"run\"",
        "ADD COLUMN \"batch_number\"",
        "ADD COLUMN \"content\"",
        "ADD COLUMN \"rows_known\"",
        "ADD COLUMN \"rows_forgotten\"",
        "\"livestream_ledger_lock\"",
    ] {
        assert!(diff.contains(part), "{part}: {diff}");
    }
    send(&world, &diff).await;
    let again = service::run("ingester", &["ddl", "--diff"], &world.config).unwrap();
    let again = String::from_utf8(again.stdout).unwrap();
    assert!(again.lines().all(|line| line.starts_with("--")), "{again}");

    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    let verdict = world.finish(producer, ingester).await;
    assert_clean(&verdict);
    assert!(verdict.loaded > LOADED + 80, "{verdict:?}");
    // What the old version sealed was compared with nothing that anybody knows of.
    assert!(world.staged_and_plain().0 > 0);
    // Its log is this version's now.
    let dump = world.dump();
    assert!(!dump.contains("ALERT"), "{dump}");
    let verified = service::run("state", &["verify"], &world.config).unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_the_version_before_is_refused_until_it_is_altered_and_what_is_missing_is_named() {
    let world = left_behind().await;
    let mut ingester = world.start("ingester");
    let told = async || ingester.said().contains("loaded_by");
    world.until("what is missing", &mut [], told).await;
    let said = ingester.said();
    assert!(said.contains("ddl --diff"), "{said}");
    let (code, said) = world.ask(&["check"]);
    assert_eq!(code, Some(78), "{said}");
    for part in ["loaded_by", "ddl --diff"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(world.count("count(*) FROM public.livestream").await, LOADED, "nothing was loaded");
    // A producer of this version works meanwhile.
    let mut producer = world.start("producer");
    world.until_published(&mut producer).await;
    // And what is missing is made while the ingester runs.
    let diff = service::run("ingester", &["ddl", "--diff"], &world.config).unwrap();
    send(&world, &String::from_utf8(diff.stdout).unwrap()).await;
    world.until_loaded(world.wanted(), &mut [&mut producer, &mut ingester]).await;
    producer.stop(STOP).await.unwrap();
    ingester.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);
}
