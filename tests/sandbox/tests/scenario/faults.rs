//! Adobe and Redshift misbehave; each fault has its side.

use std::time::Duration;

use adobe::{Door, Fault as StreamFault};
use redshift::{Failure, Fault, Kind, OrphanEnd};
use sandbox::config::Shape;

use crate::world::{World, assert_clean};

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
async fn an_orphaned_session_that_commits_later_is_waited_for() {
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
    world.standins.adobe.faults().push(StreamFault::RedirectTo("http://127.0.0.2:1/steal".to_owned()));
    let ended = sandbox::service::run("producer", &["run"], &world.config).unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(69), "{said}");
    assert!(said.contains("adobe.redirect_hosts") && said.contains("127.0.0.2"), "{said}");
}
