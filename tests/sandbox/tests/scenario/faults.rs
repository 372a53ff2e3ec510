//! Adobe and Redshift misbehave; each fault has its side.

use std::time::Duration;

use adobe::{Door, Fault as StreamFault};
use redshift::{Failure, Fault, Kind, OrphanEnd};
use sandbox::config::Shape;
use shared::config::{Config, Secrets};
use shared::object_store::ObjectStore;
use shared::seal::Manifest;

use crate::world::{STOP, World, assert_clean};

fn small_batches() -> Shape {
    Shape { records_per_file: 100, files_per_batch: 5, ..Shape::default() }
}

/// Loads everything while `faults` strike one after the other; all of them must have struck.
async fn loads_exactly_once_under(faults: Vec<Fault>) {
    let world = World::new(4_000, &small_batches()).await;
    for fault in faults {
        world.standins.redshift.faults().push(fault);
    }
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    let verdict = world.finish(producer, ingester).await;
    assert_clean(&verdict);
    assert_eq!(world.standins.redshift.faults().pending(), 0, "faults that never struck");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_lost_at_commit_after_the_effect_loads_nothing_twice() {
    loads_exactly_once_under(vec![
        Fault::AppliedThenLost(Kind::Commit),
        Fault::AppliedThenLost(Kind::Commit),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_before_the_effect_loads_nothing_too_little() {
    let kinds = [Kind::Begin, Kind::Lock, Kind::Copy, Kind::Insert, Kind::Commit];
    loads_exactly_once_under(kinds.into_iter().map(Fault::Refused).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaned_session_that_lives_on_loads_nothing_twice() {
    let hold = Duration::from_secs(3);
    loads_exactly_once_under(vec![Fault::Orphan { kind: Kind::Commit, hold, end: OrphanEnd::Commit }]).await;
    loads_exactly_once_under(vec![Fault::Orphan { kind: Kind::Copy, hold, end: OrphanEnd::Rollback }]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_pass_are_tried_again() {
    let failures =
        [Failure::SerializableIsolation, Failure::ResizeMode, Failure::S3SlowDown, Failure::DiskFull];
    loads_exactly_once_under(failures.into_iter().map(|failure| Fault::Fails(Kind::Copy, failure)).collect())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_off_in_mid_record_is_read_again_without_hole_or_double() {
    let world = World::new(6_000, &small_batches()).await;
    let faults = world.standins.adobe.faults();
    faults.push(StreamFault::Cut { after: 1_000 });
    faults.push(StreamFault::End { after: 500 });
    faults.push(StreamFault::Refuse { door: Door::Front, status: 500, body: None });
    faults.push(StreamFault::NotAuthorized { after: 200 });
    faults.push(StreamFault::ExpireToken);
    faults.push(StreamFault::Cut { after: 1_500 });
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    let verdict = world.finish(producer, ingester).await;
    assert_clean(&verdict);
    assert_eq!(world.standins.adobe.faults().pending(), 0, "faults that never struck");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_a_host_that_is_not_listed_never_gets_the_token() {
    let world = World::new(10, &Shape::default()).await;
    // A host the token could be sent to (http on loopback), but for the list, which names `localhost` only.
    let thief = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    thief.set_nonblocking(true).unwrap();
    let to = format!("http://{}/steal", thief.local_addr().unwrap());
    world.standins.adobe.faults().push(StreamFault::RedirectTo(to));
    let ended = sandbox::service::run("producer", &["run"], &world.config).unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(69), "{said}");
    assert!(said.contains("adobe.redirect_hosts") && said.contains("127.0.0.1"), "{said}");
    assert!(thief.accept().is_err(), "somebody called");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_fewer_rows_in_its_files_than_in_its_seal_is_not_loaded() {
    let shape = Shape { max_file_age: "500ms", max_batch_age: "1s", ..small_batches() };
    let world = World::new(450, &shape).await;
    let mut producer = world.start("producer");
    world.until_published(&mut producer).await;
    // It would publish the batch once more.
    producer.stop(STOP).await.unwrap();
    // COPY is told of one file less; the files themselves are as sealed.
    let config = Config::load(&world.config, Secrets::Ingester).unwrap();
    let store = ObjectStore::connect(&config.s3).await;
    let listed = store.list(&config.s3.to_ingest, None).await.unwrap();
    let manifest = &listed.iter().find(|object| object.key.ends_with("manifest.json")).unwrap().key;
    let whole = store.get(manifest).await.unwrap();
    let mut cut: Manifest = serde_json::from_slice(&whole).unwrap();
    cut.entries.pop();
    store.put(manifest, serde_json::to_vec(&cut).unwrap().into()).await.unwrap();
    let mut ingester = world.start("ingester");
    let noticed = async || {
        let dump = sandbox::service::run("state", &["dump"], &world.config).unwrap();
        String::from_utf8_lossy(&dump.stdout).contains("incomplete, ")
    };
    world.until("the difference noticed", &mut [&mut ingester], noticed).await;
    let rows: i64 =
        world.judge.query_one("SELECT count(*) FROM public.livestream", &[]).await.unwrap().get(0);
    assert!(
        u64::try_from(rows).unwrap() < world.wanted() && u64::try_from(rows).unwrap() == world.loaded().await
    );
    store.put(manifest, whole).await.unwrap();
    producer.start_again().unwrap();
    assert_clean(&world.finish(producer, ingester).await);
}
