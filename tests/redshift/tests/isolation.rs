//! What concurrent loaders see of each other, at both of Redshift's levels. These tests show that the stand-in
//! punishes a loader that does not lock its ledger, or looks before it does.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{HOW, Session, World, start};
use redshift::{Fault, Kind, OrphanEnd};

const LOOK: &str = "SELECT batch FROM ledger WHERE batch = 'b'";
const ENTER: &str = "INSERT INTO ledger VALUES ('b')";

async fn tables(serializable: bool) -> (World, Session) {
    let world = start().await;
    world.redshift.ways().set_serializable(serializable);
    let judge = world.session().await;
    judge.ok("CREATE TABLE t (id int); CREATE TABLE ledger (batch varchar(9))").await;
    world.put("in/0.csv", b"1\n2\n");
    (world, judge)
}

fn copy() -> String {
    format!("COPY t FROM 's3://bucket/in/' {HOW}")
}

/// Runs a load as far as it goes: the first error, which ends the transaction, or none.
async fn load(session: &Session, statements: &[&str]) -> Result<(), String> {
    for sql in statements {
        match session.query(sql).await {
            // Loaded before.
            Ok(rows) if *sql == LOOK && !rows.is_empty() => {
                session.ok("ROLLBACK").await;
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => {
                let message = error.as_db_error().unwrap().message().to_owned();
                let _ = session.query("ROLLBACK").await;
                return Err(message);
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_lock_two_loaders_double_a_batch_at_snapshot_and_one_fails_at_serializable() {
    for (serializable, rows) in [(false, "4"), (true, "2")] {
        let (world, judge) = tables(serializable).await;
        let (first, second, copy) = (world.session().await, world.session().await, copy());
        first.ok("BEGIN").await;
        second.ok("BEGIN").await;
        assert!(first.ok(LOOK).await.is_empty());
        assert!(second.ok(LOOK).await.is_empty());
        let first = load(&first, &[&copy, ENTER, "COMMIT"]).await;
        let second = load(&second, &[&copy, ENTER, "COMMIT"]).await;
        assert_eq!(first, Ok(()));
        assert_eq!(second, if serializable { Err("1023".to_owned()) } else { Ok(()) });
        assert_eq!(judge.one("SELECT count(*) FROM t").await, rows);
        assert_eq!(world.redshift.faults().conflicts(), u64::from(serializable));
    }
}

/// Two loaders at once: the second begins while the first one copies.
async fn both(world: &World, order: [&'static str; 2]) -> Result<(), String> {
    let (first, second, copy) = (world.session().await, world.session().await, copy());
    world.redshift.faults().push(Fault::Slow(Kind::Copy, Duration::from_millis(500)));
    let load_first = async { load(&first, &["BEGIN", order[0], order[1], &copy, ENTER, "COMMIT"]).await };
    let load_second = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        load(&second, &["BEGIN", order[0], order[1], &copy, ENTER, "COMMIT"]).await
    };
    let (first, second) = tokio::join!(load_first, load_second);
    assert_eq!(first, Ok(()));
    second
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_before_the_look_makes_the_second_loader_see_the_first_at_both_levels() {
    for serializable in [false, true] {
        let (world, judge) = tables(serializable).await;
        assert_eq!(both(&world, ["LOCK ledger", LOOK]).await, Ok(()));
        assert_eq!(judge.one("SELECT count(*) FROM t").await, "2");
        assert_eq!(judge.one("SELECT count(*) FROM ledger").await, "1");
        assert_eq!(world.redshift.faults().conflicts(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_before_the_lock_sees_what_was_before_the_lock() {
    for (serializable, rows) in [(false, "4"), (true, "2")] {
        let (world, judge) = tables(serializable).await;
        let second = both(&world, [LOOK, "LOCK ledger"]).await;
        assert_eq!(second, if serializable { Err("1023".to_owned()) } else { Ok(()) });
        assert_eq!(judge.one("SELECT count(*) FROM t").await, rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_two_transactions_change_are_a_conflict_in_the_words_of_the_level() {
    for (serializable, level, words) in [
        (false, "Snapshot Isolation", "could not complete because of conflict with concurrent transaction"),
        (true, "Serializable", "1023"),
    ] {
        let (world, judge) = tables(serializable).await;
        assert_eq!(judge.one("SELECT trim(isolation_level) FROM stv_db_isolation_level").await, level);
        judge.ok(ENTER).await;
        let (first, second) = (world.session().await, world.session().await);
        for session in [&first, &second] {
            session.ok("BEGIN; SELECT batch FROM ledger").await;
        }
        first.ok("UPDATE ledger SET batch = 'c'; COMMIT").await;
        let (state, message, detail) = second.error("UPDATE ledger SET batch = 'd'").await;
        assert_eq!((state.as_str(), message.as_str()), ("XX000", words));
        assert_eq!(detail.contains("Serializable isolation violation on table"), serializable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_be_held_before_and_after_a_statement_and_outlive_its_client() {
    let (world, judge) = tables(false).await;
    let faults = world.redshift.faults();
    // Let go, it ends as if nothing had been.
    for applied in [false, true] {
        faults.push(Fault::Hold { kind: Kind::Commit, applied, orphan: None });
        let session = world.session().await;
        session.ok("BEGIN; INSERT INTO t VALUES (1)").await;
        let before: u64 = judge.one("SELECT count(*) FROM t").await.parse().unwrap();
        let (done, after) = tokio::join!(session.query("COMMIT"), async {
            faults.until_held().await;
            let after: u64 = judge.one("SELECT count(*) FROM t").await.parse().unwrap();
            faults.release();
            after
        });
        done.unwrap();
        assert_eq!(after - before, u64::from(applied));
    }
    assert_eq!(judge.one("SELECT count(*) FROM t").await, "2");
    // Its client goes while it is held.
    let late = Duration::from_millis(300);
    for (applied, orphan, rows) in [
        (false, None, "2"),
        (false, Some((late, OrphanEnd::Rollback)), "2"),
        (false, Some((late, OrphanEnd::Commit)), "3"),
        (true, None, "4"),
    ] {
        faults.push(Fault::Hold { kind: Kind::Commit, applied, orphan });
        let (client, connection) = world.config().connect(tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.simple_query("BEGIN; LOCK ledger; INSERT INTO t VALUES (1)").await.unwrap();
        let held = tokio::spawn(async move { client.simple_query("COMMIT").await.map(drop) });
        faults.until_held().await;
        // As a process that is killed: nothing more is said or read.
        connection.abort();
        held.abort();
        // Waits for the lock of what is left of it.
        judge.ok("BEGIN; LOCK ledger").await;
        assert_eq!(judge.one("SELECT count(*) FROM t").await, rows, "{applied} {orphan:?}");
        judge.ok("COMMIT").await;
    }
    assert_eq!(faults.struck().get("commit stopped"), Some(&6));
}
