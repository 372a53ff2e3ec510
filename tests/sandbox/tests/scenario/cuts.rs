//! The load of one batch, cut at each point: the connection, and the process. The next attempt ends what is left of the
//! last one, or waits for it if it may not, looks, and loads again only what was not loaded.

use std::time::Duration;

use redshift::OrphanEnd::{Commit, Rollback};
use redshift::{Fault, Kind, OrphanEnd};
use sandbox::config::Shape;
use sandbox::judge::LEDGER;

use crate::transactions::{Transaction, assert_as_modelled};
use crate::world::{STOP, World, assert_clean};

const SHORT: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);
/// Longer than any of it takes: a session that lives so long is ended before.
const HOUR: Duration = Duration::from_secs(3_600);
/// Longer than an ingester takes to come to its first statement on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What cuts the load, and what follows from it.
struct Cut {
    fault: Fault,
    /// Whether the batch is loaded all the same.
    loads: bool,
    /// How long what is left of the session lives on.
    orphan: Duration,
}

/// The connection is cut.
fn cut(fault: Fault, loads: bool) -> Cut {
    Cut { fault, loads, orphan: Duration::ZERO }
}

/// The connection is cut, and the session lives on.
fn orphan(kind: Kind, hold: Duration, end: OrphanEnd) -> Cut {
    Cut { fault: Fault::Orphan { kind, hold, end }, loads: end == Commit, orphan: hold }
}

/// The process is killed when this statement has come, or has had its effect; its session ends at once.
fn killed(kind: Kind, applied: bool, loads: bool) -> Cut {
    cut(Fault::Hold { kind, applied, orphan: None }, loads)
}

/// The process is killed, and the session lives on.
fn killed_orphan(kind: Kind, applied: bool, hold: Duration, end: OrphanEnd) -> Cut {
    let fault = Fault::Hold { kind, applied, orphan: Some((hold, end)) };
    Cut { fault, loads: end == Commit, orphan: hold }
}

/// What may be done about a session that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orphans {
    /// The next connection ends it.
    Ended,
    /// Nobody may see or end it.
    WaitedFor,
}

/// A world in which one batch lies in S3, and stays there when it is loaded; it was loaded once, so that the ledger has
/// its mark.
async fn one_batch(orphans: Orphans) -> World {
    let shape = Shape {
        max_file_age: "2s",
        max_batch_age: "2s",
        records_per_file: 10_000,
        files_per_batch: 1,
        ..Shape::default()
    };
    let keep = |text: &str| text.replace("[ingester]", "[ingester]\narchive = \"keep\"");
    let world = World::altered(crate::world::options(300), &shape, keep, None).await;
    let mut producer = world.start("producer");
    world.until_published(&mut producer).await;
    assert_eq!(world.snapshot().await.unwrap().batches.len(), 1, "more than one batch");
    producer.stop(STOP).await.unwrap();
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    world.standins.redshift.ways().set_session_tables_forbidden(orphans == Orphans::WaitedFor);
    world
}

/// Loads the batch while it is cut so, and compares what Redshift saw.
async fn settles(world: &World, orphans: Orphans, Cut { fault, loads, orphan }: Cut) {
    let told = format!("{fault:?}, {orphans:?}");
    println!("{told}");
    let ended = orphans == Orphans::Ended && !orphan.is_zero();
    let loads = loads && !ended;
    let forget = format!("TRUNCATE public.livestream; DELETE FROM {LEDGER}");
    world.judge.batch_execute(&forget).await.unwrap();
    let _ = std::fs::remove_dir_all(world.path("ingester"));
    let faults = world.standins.redshift.faults();
    faults.forget_statements();
    let kill = matches!(fault, Fault::Hold { .. });
    faults.push(fault);
    let mut ingester = world.start("ingester");
    if kill {
        tokio::time::timeout(PATIENCE, faults.until_held()).await.expect("it never came there");
        ingester.kill().unwrap();
        ingester.start_again().unwrap();
    }
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    let settled = async || {
        let transactions = Transaction::all(faults);
        transactions.len() > 1 && transactions.last().is_some_and(Transaction::has_ended)
    };
    world.until("settled", &mut [&mut ingester], settled).await;
    // What would be loaded a second time is loaded now.
    tokio::time::sleep(Duration::from_millis(300)).await;
    ingester.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);

    let transactions = Transaction::all(faults);
    assert_as_modelled(&transactions);
    let [first, .., last] = transactions.as_slice() else {
        panic!("{told}: {} attempts", transactions.len())
    };
    let copies = transactions.iter().filter(|one| one.statement(Kind::Copy).is_some()).count();
    let before_copy = usize::from(first.statement(Kind::Copy).is_none());
    assert_eq!(copies, 2 - before_copy - usize::from(loads), "{told}: copies");
    assert_eq!(last.was_loaded_before(), loads, "{told}: how the last attempt ended");
    let (_, locked) = last.locked_at().unwrap();
    let cut_at = [Kind::Commit, Kind::Insert, Kind::Copy, Kind::Lock, Kind::Begin]
        .iter()
        .find_map(|kind| first.statement(*kind))
        .unwrap()
        .at;
    if ended {
        assert!(locked - cut_at < PATIENCE, "{told}: it waited for what was left of the first session");
    } else {
        assert!(locked - cut_at >= orphan, "{told}: it did not wait for what was left of the first session");
    }
    assert_eq!(faults.pending(), 0, "{told}: it never struck");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_at_any_statement_is_settled() {
    let world = one_batch(Orphans::WaitedFor).await;
    for point in [
        cut(Fault::Refused(Kind::Begin), false),
        cut(Fault::AppliedThenLost(Kind::Lock), false),
        cut(Fault::AppliedThenLost(Kind::Copy), false),
        cut(Fault::AppliedThenLost(Kind::Insert), false),
        cut(Fault::Refused(Kind::Commit), false),
        cut(Fault::AppliedThenLost(Kind::Commit), true),
        orphan(Kind::Lock, SHORT, Rollback),
        orphan(Kind::Copy, SHORT, Rollback),
        orphan(Kind::Insert, SHORT, Rollback),
        orphan(Kind::Commit, SHORT, Rollback),
        orphan(Kind::Commit, SHORT, Commit),
    ] {
        settles(&world, Orphans::WaitedFor, point).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_at_any_statement_is_settled() {
    let world = one_batch(Orphans::WaitedFor).await;
    for point in [
        killed(Kind::Begin, false, false),
        killed(Kind::Lock, true, false),
        killed(Kind::Copy, true, false),
        killed(Kind::Insert, true, false),
        killed(Kind::Commit, false, false),
        killed(Kind::Commit, true, true),
        killed_orphan(Kind::Copy, true, SHORT, Rollback),
        killed_orphan(Kind::Commit, false, SHORT, Rollback),
        killed_orphan(Kind::Commit, false, SHORT, Commit),
    ] {
        settles(&world, Orphans::WaitedFor, point).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_ours_that_was_given_up_is_ended_by_the_next_connection() {
    for serverless in [false, true] {
        let world = one_batch(Orphans::Ended).await;
        world.standins.redshift.ways().set_serverless(serverless);
        for point in [
            orphan(Kind::Lock, HOUR, Rollback),
            orphan(Kind::Copy, HOUR, Rollback),
            orphan(Kind::Commit, HOUR, Commit),
            killed_orphan(Kind::Copy, true, HOUR, Rollback),
            killed_orphan(Kind::Commit, false, HOUR, Commit),
        ] {
            settles(&world, Orphans::Ended, point).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_anybody_else_is_never_ended() {
    let world = one_batch(Orphans::Ended).await;
    let forget = format!("TRUNCATE public.livestream; DELETE FROM {LEDGER}");
    world.judge.batch_execute(&forget).await.unwrap();
    std::fs::remove_dir_all(world.path("ingester")).unwrap();
    let person = world.person().await;
    person.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let faults = world.standins.redshift.faults();
    faults.push(Fault::Orphan { kind: Kind::Copy, hold: HOUR, end: Rollback });
    faults.forget_statements();
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    let seen = faults.statements();
    let ended = seen.iter().filter(|seen| seen.sql.contains("pg_terminate_backend"));
    let orphan = seen.iter().find(|seen| seen.kind == Kind::Copy).unwrap().pid;
    let asked: Vec<_> = ended.map(|seen| seen.sql.clone()).collect();
    assert_eq!(asked, [format!("SELECT pg_terminate_backend({orphan})")]);
    person.batch_execute("SELECT 1; COMMIT").await.expect("the session of a person goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_commits_after_a_minute_is_waited_for_by_a_new_process() {
    let world = one_batch(Orphans::WaitedFor).await;
    settles(&world, Orphans::WaitedFor, killed_orphan(Kind::Commit, false, MINUTE, Commit)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_rolls_back_after_a_minute_is_waited_for() {
    let world = one_batch(Orphans::WaitedFor).await;
    settles(&world, Orphans::WaitedFor, orphan(Kind::Copy, MINUTE, Rollback)).await;
}
