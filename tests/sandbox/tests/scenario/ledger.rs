//! The ledger: who may look at it, who holds its lock, whose it is, since when it speaks for the table, and what happens
//! when it forgets.

mod others;

use std::path::PathBuf;
use std::time::Duration;

use sandbox::config::Shape;
use sandbox::judge::{Done, LEDGER, files_below};
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};
use sandbox::standins::USER;

use crate::schema::send;
use crate::world::{STOP, World, ask, assert_clean, options};

fn small_batches() -> Shape {
    Shape { records_per_file: 100, files_per_batch: 3, max_batch_age: "1s", ..Shape::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_the_ledger_holds_up_nothing() {
    let world = World::new(2_000, &small_batches()).await;
    // From before the first load on, and not a word more.
    let reader = world.person().await;
    let look = "SELECT count(*) FROM public.livestream_ledger; SELECT count(*) FROM public.livestream";
    reader.batch_execute(&format!("BEGIN; {look}")).await.unwrap();
    world.standins.redshift.door().admit("reader", "their own");
    let another = world.session("reader", "their own").await;
    another.batch_execute(&format!("BEGIN; {look}")).await.unwrap();
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
    for reader in [&reader, &another] {
        reader.batch_execute(&format!("{look}; COMMIT")).await.unwrap();
    }
    let locks = world.standins.redshift.faults().statements();
    let locks = locks.iter().filter(|seen| seen.sql.starts_with("LOCK"));
    assert!(locks.map(|seen| &seen.sql).all(|sql| sql == "LOCK \"public\".\"livestream_ledger_lock\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_the_lock_is_named_after_a_short_time_and_loading_goes_on_behind_them() {
    let world = World::new(500, &small_batches()).await;
    world.configure("[redshift]\n", "[redshift]\nlock_timeout = \"1s\"\n");
    world.configure("retry_max = \"10s\"", "retry_max = \"1s\"");
    world.publish().await;
    world.standins.redshift.door().admit("stranger", "their own");
    let lock = "BEGIN; LOCK public.livestream_ledger_lock";
    let (ours, theirs) = (world.person().await, world.session("stranger", "their own").await);
    let pid: String = ours
        .simple_query("SELECT pg_backend_pid()")
        .await
        .unwrap()
        .iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .unwrap();
    ours.batch_execute(lock).await.unwrap();
    let mut ingester = world.start("ingester");
    let named = format!("session {pid} of {USER} holds it since 20");
    let told = async || ingester.said().contains(&named);
    world.until("who holds the lock", &mut [], told).await;
    let said = ingester.said();
    assert!(said.contains("could not be locked within 1s (redshift.lock_timeout)"), "{said}");
    // A stranger's session is not shown. Theirs waits behind ours, before what the ingester tries next.
    let (_, locked) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            ours.batch_execute("COMMIT").await.unwrap();
        },
        theirs.batch_execute(lock)
    );
    locked.unwrap();
    if world.loaded().await < world.wanted() {
        let hidden = async || ingester.said().contains("a session that redshift.user is not shown holds it");
        world.until("that it is a stranger", &mut [], hidden).await;
    }
    theirs.batch_execute("COMMIT").await.unwrap();
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);
}

/// A configuration of another pipeline: pieces replaced, the folders its own, its tables made.
async fn another_pipeline(world: &World, changes: &[(&str, &str)]) -> PathBuf {
    let path = world.config_of("ingester", "another");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = changes.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    std::fs::write(&path, text).unwrap();
    let ddl = service::run("ingester", &["ddl"], &path).unwrap();
    assert!(ddl.status.success(), "{}", String::from_utf8_lossy(&ddl.stderr));
    send(world, &String::from_utf8(ddl.stdout).unwrap()).await;
    path
}

const OTHER_TABLE: (&str, &str) =
    ("[redshift]\n", "[redshift]\ntable = \"public.other\"\nledger = \"public.other_ledger\"\n");
const OTHER_LEDGER: (&str, &str) = ("[redshift]\n", "[redshift]\nledger = \"public.second_ledger\"\n");
const ONE_LEDGER: (&str, &str) = ("[redshift]\n", "[redshift]\ntable = \"public.other\"\n");
const OTHER_INGESTED: (&str, &str) =
    ("[s3]\n", "[s3]\ningested = \"Other/Ingested/\"\nquarantine = \"Other/Quarantine/\"\n");
const OTHER_TO_INGEST: (&str, &str) =
    ("[s3]\n", "[s3]\nto_ingest = \"Other/ToIngest/\"\nquarantine = \"Other/Quarantine/\"\n");
const OTHER_BUT_QUARANTINE: (&str, &str) =
    ("[s3]\n", "[s3]\nto_ingest = \"Other/ToIngest/\"\ningested = \"Other/Ingested/\"\n");
const NOTHING_SHARED: (&str, &str) = (
    "[s3]\n",
    "[s3]\nto_ingest = \"Other/ToIngest/\"\ningested = \"Other/Ingested/\"\nquarantine = \"Other/Quarantine/\"\n",
);

#[tokio::test(flavor = "multi_thread")]
async fn two_pipelines_that_share_a_prefix_or_a_ledger_are_refused_at_start_and_by_check() {
    let world = World::new(300, &small_batches()).await;
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
    let prefix_of_both = ["public.livestream_ledger", "public.other_ledger", "belongs to pipeline"];
    for (changes, named) in [
        (vec![OTHER_TABLE], prefix_of_both),
        (vec![OTHER_TABLE, OTHER_INGESTED], prefix_of_both),
        (vec![OTHER_TABLE, OTHER_TO_INGEST], prefix_of_both),
        (vec![OTHER_TABLE, OTHER_BUT_QUARANTINE], prefix_of_both),
        (vec![OTHER_LEDGER], ["public.livestream_ledger", "public.second_ledger", "belongs to pipeline"]),
        (vec![ONE_LEDGER, NOTHING_SHARED], ["public.livestream,", "public.other", "speaks of the table"]),
    ] {
        let config = another_pipeline(&world, &changes).await;
        // Whoever checks before a first start makes nothing: what is checked is what an ingester meets.
        for command in ["run", "check"] {
            let (code, said) = ask(&config, &[command]);
            assert_eq!(code, Some(78), "{command} {changes:?}: {said}");
            for part in named {
                assert!(said.contains(part), "{command} {changes:?}, {part}: {said}");
            }
        }
    }
    assert_eq!(world.count("count(*) FROM public.other").await, 0, "nothing was taken");
    // With everything its own it works, beside the other.
    let config = another_pipeline(&world, &[OTHER_TABLE, NOTHING_SHARED]).await;
    let mut other = Service::start("ingester", &config, &world.path("logs-other")).unwrap();
    let started = async || other.said().contains("ingester started");
    world.until("it started", &mut [], started).await;
    let path = world.path("s3").join(BUCKET).join("Other/ToIngest/.pipeline.json");
    assert!(std::fs::read_to_string(path).unwrap().contains("public.other_ledger"));
    other.stop(STOP).await.unwrap();
    let (code, said) = ask(&config, &["check"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = world.ask(&["check"]);
    assert_eq!(code, Some(0), "{said}");
}

/// Starts an ingester that knows of nothing, and waits until it has compared log, S3 and ledger and listed everything.
async fn list_everything(world: &World) -> Service {
    let _ = std::fs::remove_dir_all(world.path("ingester"));
    let said = || std::fs::read_to_string(world.path("logs").join("ingester.out")).unwrap();
    let before = said().matches("log, S3 and ledger compared").count();
    let mut ingester = world.start("ingester");
    let compared = async || said().matches("log, S3 and ledger compared").count() > before;
    world.until("everything compared", &mut [&mut ingester], compared).await;
    // A LIST, what it finds looked up, and loaded.
    tokio::time::sleep(Duration::from_secs(3)).await;
    ingester
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_trimmed_makes_no_batch_load_again_whatever_becomes_of_the_folders() {
    for archive in ["keep", "delete", "move"] {
        let mut world = World::new(1_200, &small_batches()).await;
        world.configure("[ingester]", &format!("[ingester]\narchive = \"{archive}\""));
        world.configure("list_interval = \"5s\"", "list_interval = \"500ms\"");
        let (producer, ingester) = (world.start("producer"), world.start("ingester"));
        assert_clean(&world.finish(producer, ingester).await);
        let (batches, loaded) = (world.batches().await, world.loaded().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (code, said) = world.ask(&["ledger", "trim", "--older-than", "1s", "--yes"]);
        assert_eq!(code, Some(0), "{archive}: {said}");
        world.done = Done { trimmed: true, ..world.done };
        // What still stands in ToIngest/ stays in the ledger.
        assert_eq!(world.batches().await, if archive == "keep" { batches } else { 0 }, "{archive}: {said}");
        let plain = world.staged_and_plain().1;
        if archive == "move" {
            // A person brings everything back.
            let bucket = world.path("s3").join(BUCKET);
            std::fs::create_dir_all(bucket.join("ToIngest")).unwrap();
            for object in files_below(&bucket.join("Ingested")).unwrap() {
                let key = object.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned();
                world.copy_object(&key, &key.replace("Ingested/", "ToIngest/")).await;
            }
        }
        let mut ingester = list_everything(&world).await;
        if archive == "move" {
            world.until_put_away(&mut [&mut ingester]).await;
            let known = format!("coalesce(sum(rows_known), 0)::bigint FROM {LEDGER}");
            assert_eq!(world.count(&known).await, loaded, "each row is known");
        }
        ingester.stop(STOP).await.unwrap();
        assert_clean(&world.verdict().await);
        assert_eq!(world.count("count(*) FROM public.livestream").await, loaded, "{archive}");
        assert_eq!(world.staged_and_plain().1, plain, "{archive}: nothing goes the plain way again");
    }
}

impl World {
    /// Copies an object over S3, which keeps a checksum of what it is given.
    async fn copy_object(&self, from: &str, to: &str) {
        let config = shared::config::Config::load(&self.config, shared::config::Secrets::Ingester).unwrap();
        let store = shared::object_store::ObjectStore::connect(&config.s3).await;
        store.copy(from, to).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_trimmed_by_hand_as_the_docs_say_loads_staged() {
    let mut world = World::new(1_200, &small_batches()).await;
    world.configure("[ingester]", "[ingester]\narchive = \"keep\"");
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
    let loaded = world.loaded().await;
    let mark = "batch_id = '00000000-0000-7000-8000-000000000000'";
    send(
        &world,
        &format!(
            "BEGIN;
             LOCK public.livestream_ledger_lock;
             UPDATE public.livestream_ledger SET first_received =
                 (SELECT max(last_received) + INTERVAL '1 second' FROM public.livestream_ledger) WHERE {mark};
             DELETE FROM public.livestream_ledger WHERE loaded_at < SYSDATE;
             COMMIT;"
        ),
    )
    .await;
    assert_eq!(world.batches().await, 0);
    assert_eq!(world.count("count(*) FROM public.livestream_ledger").await, 1, "the mark stays");
    world.done = Done { trimmed: true, ..world.done };
    let plain = world.staged_and_plain().1;
    let mut ingester = list_everything(&world).await;
    let known = format!("coalesce(sum(rows_known), 0)::bigint FROM {LEDGER}");
    let all = async || world.count(&known).await == loaded;
    world.until("each row is known", &mut [&mut ingester], all).await;
    ingester.stop(STOP).await.unwrap();
    assert_eq!(world.staged_and_plain().1, plain);
    assert_eq!(world.count("count(*) FROM public.livestream").await, loaded);
    assert_clean(&world.verdict().await);
}
