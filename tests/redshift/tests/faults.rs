//! Faults on request.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{HOW, start};
use redshift::{Failure, Fault, Kind, OrphanEnd};

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_refused_or_applied_and_lost() {
    let world = start().await;
    let judge = world.session().await;
    judge.ok("CREATE TABLE t (id int)").await;
    for (fault, expected) in
        [(Fault::Refused(Kind::Commit), "0"), (Fault::AppliedThenLost(Kind::Commit), "1")]
    {
        world.redshift.faults().push(fault);
        let session = world.session().await;
        session.ok("BEGIN; INSERT INTO t VALUES (1)").await;
        let error = session.query("COMMIT").await.unwrap_err();
        assert!(error.as_db_error().is_none(), "{error:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(judge.one("SELECT count(*) FROM t").await, expected);
    }
    assert_eq!(world.redshift.faults().pending(), 0);
    let seen = world.redshift.faults().statements();
    assert_eq!(seen.iter().filter(|seen| seen.kind == Kind::Commit && seen.sql == "COMMIT").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_fail_with_the_text_asked_for_and_slow_ones_wait() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id int)").await;
    let faults = world.redshift.faults().clone();
    faults.push(Fault::Fails(Kind::Insert, Failure::ResizeMode));
    assert!(session.internal("INSERT INTO t VALUES (1)").await.contains("resize mode"));
    faults.push(Fault::Fails(Kind::Insert, Failure::DiskFull));
    assert!(session.error("INSERT INTO t VALUES (1)").await.2.contains("code:      1016"));
    faults.push(Fault::Fails(Kind::Commit, Failure::SerializableIsolation));
    session.ok("BEGIN; INSERT INTO t VALUES (1)").await;
    assert_eq!(session.internal("COMMIT").await, "1023");
    assert_eq!(session.one("SELECT count(*) FROM t").await, "0");
    faults.push(Fault::Slow(Kind::Any, Duration::from_millis(300)));
    let began = Instant::now();
    session.ok("SELECT 1").await;
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_keeps_its_lock_and_may_commit_late() {
    let world = start().await;
    let judge = world.session().await;
    judge.ok("CREATE TABLE t (id int); CREATE TABLE ledger (batch varchar(9))").await;
    world.put("in/0.csv", b"1\n2\n");
    for (kind, end, expected) in
        [(Kind::Copy, OrphanEnd::Rollback, "0"), (Kind::Commit, OrphanEnd::Commit, "2")]
    {
        world.redshift.faults().push(Fault::Orphan { kind, hold: Duration::from_millis(600), end });
        let session = world.session().await;
        let load = format!("BEGIN; LOCK ledger; COPY t FROM 's3://bucket/in/' {HOW}; COMMIT");
        let began = Instant::now();
        assert!(session.query(&load).await.unwrap_err().as_db_error().is_none());
        assert!(began.elapsed() < Duration::from_millis(500), "the client is lost at once");
        judge.ok("BEGIN; LOCK ledger").await;
        assert!(began.elapsed() >= Duration::from_millis(600), "the orphan held the lock");
        assert_eq!(judge.one("SELECT count(*) FROM t").await, expected);
        judge.ok("COMMIT").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_ends_when_it_is_cancelled_and_at_its_time_limit() {
    let world = start().await;
    let session = world.session().await;
    let faults = world.redshift.faults().clone();
    let slow = || Fault::Slow(Kind::Select, Duration::from_secs(60));
    faults.push(slow());
    let token = session.client.cancel_token();
    let began = Instant::now();
    let cancelled = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    });
    let (state, message, _) = session.error("SELECT 1").await;
    cancelled.await.unwrap();
    assert!(state == "57014" && message.contains("on user's request"), "{state} {message}");
    assert_eq!(faults.cancels(), 1);
    session.ok("SET statement_timeout TO 500").await;
    faults.push(slow());
    assert_eq!(session.error("SELECT 1").await.0, "57014");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(faults.cancels(), 1, "nobody asked");
}
