//! Many batches wait: they go into few COPYs, and one that is not fit or at fault does not hold the others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ingester::{Connector, Target, ensure_mark};
use ingester::{How, Loaded, Loading, load};
use redshift::{Failure, Fault, Kind};
use sandbox::config::Shape;
use sandbox::judge::files_below;
use sandbox::s3::{self, BUCKET, Operation, Refusal, Side};
use sandbox::service::{self, Service};
use shared::config::{Config, Secrets};
use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use shared::seal::Seal;

use crate::world::{STOP, World, assert_clean, squeezed};

/// Batches of one file with ten rows.
fn tiny_batches() -> Shape {
    Shape { records_per_file: 10, files_per_batch: 1, ..Shape::default() }
}

/// A world in which all of `hits` is published and nothing loaded; the producer has stopped.
async fn backlog(hits: u64) -> World {
    let world = World::new(hits, &tiny_batches()).await;
    world.publish().await;
    world
}

/// The seals in S3, oldest batch first, and the folders they stand in.
fn seals(world: &World) -> Vec<(PathBuf, Seal)> {
    let below = files_below(&world.path("s3").join(BUCKET).join("ToIngest")).unwrap();
    let mut seals: Vec<_> = below
        .iter()
        .filter(|path| path.ends_with("batch.json"))
        .map(|path| {
            let folder = path.parent().unwrap();
            let batch = folder.file_name().unwrap().to_str().unwrap().parse().unwrap();
            (folder.to_owned(), Seal::read(batch, &std::fs::read(path).unwrap()).unwrap())
        })
        .collect();
    seals.sort_by_key(|(_, seal)| seal.batch);
    seals
}

fn copies(world: &World) -> Vec<String> {
    let statements = world.standins.redshift.faults().statements();
    statements.into_iter().filter(|seen| seen.kind == Kind::Copy).map(|seen| seen.sql).collect()
}

/// What stands in the manifest that `copy` reads.
fn manifest_of(world: &World, copy: &str) -> String {
    let (_, from) = copy.split_once(&format!("s3://{BUCKET}/")).unwrap();
    let (key, _) = from.split_once('\'').unwrap();
    std::fs::read_to_string(world.path("s3").join(BUCKET).join(key)).unwrap()
}

fn loads(world: &World) -> Vec<PathBuf> {
    let below = world.path("s3").join(BUCKET).join("Loads");
    files_below(&below).unwrap_or_default()
}

async fn finish(world: &World, mut ingester: Service) {
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_goes_into_few_copies_and_each_batch_has_its_ledger_row() {
    let world = backlog(1_500).await;
    let batches = seals(&world).len();
    assert!(batches >= 140, "{batches}");
    let ingester = world.start("ingester");
    finish(&world, ingester).await;
    let copies = copies(&world);
    assert!(copies.len() <= batches / 10, "{} COPYs for {batches} batches", copies.len());
    assert_eq!(usize::try_from(world.batches().await).unwrap(), batches);
    assert_eq!(world.staged_and_plain().0, 0);
    assert_eq!(loads(&world), Vec::<PathBuf>::new(), "combined manifests are deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_lost_at_the_commit_of_many_loads_none_of_them_twice() {
    let world = backlog(600).await;
    world.standins.redshift.faults().push(Fault::AppliedThenLost(Kind::Commit));
    world.standins.redshift.faults().push(Fault::AppliedThenLost(Kind::Commit));
    let ingester = world.start("ingester");
    finish(&world, ingester).await;
    assert_eq!(world.standins.redshift.faults().pending(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_in_one_copy_of_many_make_them_go_one_by_one() {
    let world = backlog(300).await;
    let message =
        "Load into table 'livestream' failed.  Check 'stl_load_errors' system table for details.".to_owned();
    let faults = world.standins.redshift.faults();
    faults.push_at(1, "Loads/", Fault::Fails(Kind::Copy, Failure::Text { message, code: 1204 }));
    let batches = seals(&world).len();
    let ingester = world.start("ingester");
    finish(&world, ingester).await;
    let (together, alone): (Vec<_>, Vec<_>) =
        copies(&world).into_iter().partition(|sql| sql.contains("/Loads/"));
    // Those found after that COPY had begun may have gone together.
    let shared = "SELECT count(*), coalesce(sum(batches), 0)::bigint FROM (SELECT count(*) AS batches \
                  FROM public.livestream_ledger GROUP BY copy_query_id HAVING count(*) > 1) AS shared";
    let shared = world.judge.query_one(shared, &[]).await.unwrap();
    let number = |column: usize| usize::try_from(shared.get::<_, i64>(column)).unwrap();
    assert_eq!((together.len(), alone.len()), (1 + number(0), batches - number(1)));
    assert!(alone.len() > 1, "all went together");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_batch_whose_file_has_fewer_rows_is_named_and_the_others_are_loaded() {
    for serverless in [false, true] {
        let world = backlog(300).await;
        world.standins.redshift.ways().set_serverless(serverless);
        // With a line end in a value there are more lines than rows, which prove nothing.
        let plain = |(folder, seal): &(PathBuf, Seal)| {
            let file = zstd::decode_all(&*std::fs::read(folder.join(&seal.files[0].name)).unwrap()).unwrap();
            file.iter().filter(|byte| **byte == b'\n').count() as u64 == seal.rows
        };
        let (folder, seal) = seals(&world).into_iter().skip(5).find(plain).unwrap();
        // Over S3, which keeps a checksum of what it is given.
        let key = folder.strip_prefix(world.path("s3").join(BUCKET)).unwrap().join("batch.json");
        let config = Config::load(&world.config, Secrets::Ingester).unwrap();
        let store = ObjectStore::connect(&config.s3).await;
        let put = async |seal: &Seal| {
            let json = serde_json::to_vec(seal).unwrap();
            store.put(key.to_str().unwrap(), json.into()).await.unwrap();
        };
        let mut wrong = seal.clone();
        wrong.files[0].rows += 1;
        wrong.rows += 1;
        (wrong.counts.rows, wrong.counts.received) = (wrong.counts.rows + 1, wrong.counts.received + 1);
        put(&wrong).await;
        let mut ingester = world.start("ingester");
        world.until_loaded(world.wanted() - seal.rows, &mut [&mut ingester]).await;
        let counted = copies(&world).len();
        assert!(counted <= 8, "the others were loaded together, not one by one: {counted} COPYs");
        let named = format!("COPY read {} lines, the seal says {} rows", seal.rows, wrong.rows);
        // Not while its next attempt is under way.
        let told = async || {
            let table = squeezed(&world.dump());
            table.contains(" incomplete, ")
                && table.contains(": COPY loaded")
                && table.contains("pending 1 batch")
        };
        world.until("it is told", &mut [&mut ingester], told).await;
        let full =
            service::run("state", &["dump", "--batch", &seal.batch.to_string()], &world.config).unwrap();
        let full = squeezed(&String::from_utf8_lossy(&full.stdout));
        assert!(full.contains(&named) && full.contains(&seal.files[0].name), "{full}");
        put(&seal).await;
        finish(&world, ingester).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_a_file_missing_fails_by_itself_and_the_others_go_on() {
    let world = backlog(300).await;
    let (folder, seal) = seals(&world).remove(3);
    let (path, away) = (folder.join(&seal.files[0].name), world.path("away"));
    std::fs::rename(&path, &away).unwrap();
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted() - seal.rows, &mut [&mut ingester]).await;
    assert!(copies(&world).len() <= 12, "the others were loaded together, not one by one");
    let told = async || world.dump().contains("is missing");
    world.until("it is told", &mut [&mut ingester], told).await;
    std::fs::rename(&away, &path).unwrap();
    finish(&world, ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_s3_refuses_of_one_batch_holds_that_one() {
    let world = backlog(300).await;
    world.configure("[ingester]", "[ingester]\nlist_all_interval = \"1s\"");
    world.configure("list_interval = \"5s\"", "list_interval = \"1s\"");
    world.configure("retry_max = \"10s\"", "retry_max = \"3s\"");
    let (_, manifest) = seals(&world).remove(3);
    let (_, sealed) = seals(&world).remove(5);
    let store = world.standins.s3.faults().clone();
    for key in [format!("{}/manifest.json", manifest.batch), format!("{}/batch.json", sealed.batch)] {
        for _ in 0..200 {
            let side = Side::Refused(Refusal::AccessDenied);
            store.push(s3::Fault { operation: Some(Operation::Get), key: key.clone(), side });
        }
    }
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted() - manifest.rows - sealed.rows, &mut [&mut ingester]).await;
    assert!(store.pending() > 0, "it is still refused");
    let told = async || {
        let said = ingester.said();
        said.contains("the seal cannot be read")
            && said.contains(&format!("batch={}", sealed.batch))
            && said.contains("the batch waits whole")
            && said.contains(&format!("batch={}", manifest.batch))
    };
    world.until("both told", &mut [], told).await;
    // Before any other was found, the refused one may have been the only one to judge by.
    let said = ingester.said();
    let (_, since) = said.split_once(" loaded batch=").expect("the others are loaded");
    assert!(!since.contains("loading is held up"), "{said}");
    store.clear();
    finish(&world, ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_error_of_one_batch_does_not_stop_the_others_for_ever() {
    let world = backlog(200).await;
    let (folder, seal) = seals(&world).remove(0);
    let own = format!("{}/manifest.json", Path::new(&folder).file_name().unwrap().to_str().unwrap());
    world.configure("[ingester]", "[ingester]\nbatches_per_copy = 1");
    world.configure("retry_max = \"10s\"", "retry_max = \"2s\"");
    let faults = world.standins.redshift.faults();
    let assert = || Fault::Fails(Kind::Copy, Failure::Text { message: "Assert".to_owned(), code: 1000 });
    (1..=7).for_each(|nth| faults.push_at(nth, &own, assert()));
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted() - seal.rows, &mut [&mut ingester]).await;
    assert!(faults.pending() > 0, "it still fails");
    let alarmed = async || world.dump().contains("ALERT unknown, ");
    world.until("an alert", &mut [&mut ingester], alarmed).await;
    assert!(ingester.said().contains("still not loaded"), "{}", ingester.said());
    finish(&world, ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redshift_calls_forbidden_is_the_batchs_own_when_s3_says_that_it_is_missing() {
    let world = backlog(40).await;
    let masked = || {
        let message = "COPY with MANIFEST parameter requires full path of an S3 object.".to_owned();
        Fault::Fails(Kind::Copy, Failure::Text { message, code: 8001 })
    };
    let faults = world.standins.redshift.faults();
    // With everything there it can only be the role.
    faults.push(masked());
    let mut ingester = world.start("ingester");
    let held = async || ingester_said(&world).contains("loading is held up: COPY: COPY with MANIFEST");
    world.until("loading is held up", &mut [], held).await;
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();

    let world = backlog(40).await;
    let faults = world.standins.redshift.faults();
    faults.push(Fault::Slow(Kind::Copy, Duration::from_secs(3)));
    faults.push(masked());
    let mut ingester = world.start("ingester");
    let copying = async || !copies(&world).is_empty();
    world.until("a COPY under way", &mut [&mut ingester], copying).await;
    // Of a batch that is in it: which were found in time is chance.
    let manifest = manifest_of(&world, &copies(&world)[0]);
    let own = |(_, seal): &(PathBuf, Seal)| manifest.contains(&seal.batch.to_string());
    let (folder, seal) = seals(&world).into_iter().find(own).unwrap();
    let (path, away) = (folder.join(&seal.files[0].name), world.path("away"));
    std::fs::rename(&path, &away).unwrap();
    world.until_loaded(world.wanted() - seal.rows, &mut [&mut ingester]).await;
    assert!(!ingester.said().contains("held up") && world.dump().contains("is missing"), "{}", world.dump());
    std::fs::rename(&away, &path).unwrap();
    finish(&world, ingester).await;
}

fn ingester_said(world: &World) -> String {
    std::fs::read_to_string(world.path("logs").join("ingester.out")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn when_some_are_in_the_ledger_nothing_is_loaded_and_they_are_told() {
    let world = backlog(40).await;
    let config = Config::load(&world.config, Secrets::Ingester).unwrap();
    let target = Target::new(&config, &config.schema.load().unwrap(), "test".to_owned());
    let session =
        Connector::new(&config, "test", shared::clock::Clock::system()).unwrap().open().await.unwrap();
    let seals: Vec<Seal> = seals(&world).into_iter().map(|(_, seal)| seal).collect();
    let (first, second) = (seals[0].clone(), seals[1].clone());
    let store = ObjectStore::connect(&config.s3).await;
    let loading = async |seals: &[&Seal]| -> Loading {
        let seals = seals.iter().map(|seal| (*seal).clone()).collect();
        ingester::combine::loading(&store, &target, seals).await.unwrap()
    };
    let settled = async |seals: &[&Seal]| -> Vec<(BatchId, How)> {
        match load(&session, &target, &loading(seals).await).await.unwrap() {
            Loaded::Batches(all) => all.into_iter().map(|one| (one.batch, one.how)).collect(),
            Loaded::Isolated(apart) => panic!("{apart:?}"),
        }
    };
    ensure_mark(&session, &target).await.unwrap();
    assert_eq!(settled(&[&first]).await, [(first.batch, How::Applied)]);
    assert_eq!(settled(&[&first, &second]).await, [(first.batch, How::Before)]);
    assert_eq!(world.loaded().await, first.rows);
    assert_eq!(settled(&[&second]).await, [(second.batch, How::Applied)]);
    let both = settled(&[&first, &second]).await;
    assert_eq!(both.len(), 2);
    assert!(both.iter().all(|(_, how)| *how == How::Before));
    let ingester = world.start("ingester");
    finish(&world, ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_ingester_lists_once_an_interval_and_asks_redshift_nothing() {
    for archive in ["move", "keep"] {
        let world = backlog(40).await;
        world.configure("list_interval = \"5s\"", "list_interval = \"500ms\"");
        // Log, S3 and ledger need not be compared while nothing happens.
        world.configure("[ingester]", "[ingester]\nreconcile_interval = \"1s\"");
        world.configure("[ingester]", &format!("[ingester]\narchive = \"{archive}\""));
        let mut ingester = world.start("ingester");
        world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let faults = world.standins.redshift.faults();
        faults.forget_statements();
        let before = world.standins.s3.requests();
        tokio::time::sleep(Duration::from_secs(6)).await;
        let after = world.standins.s3.requests();
        let lists = after.of(Operation::List) - before.of(Operation::List);
        assert!((1..=13).contains(&lists), "{archive}: {lists} LISTs in 12 intervals");
        assert_eq!(after.total() - before.total(), lists, "{archive}: and nothing else of S3");
        let asked = faults.statements();
        assert!(asked.is_empty(), "{archive}: {asked:?}");
        ingester.stop(STOP).await.unwrap();
    }
}
