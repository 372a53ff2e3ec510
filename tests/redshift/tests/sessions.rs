//! Who holds a lock, how long another waits for it, and how a session is ended from another.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Session, World, start};
use redshift::{Fault, Kind, OrphanEnd};
use tokio_postgres::NoTls;

const HOLDERS: &str = "SELECT pid, txn_owner, txn_start, granted FROM svv_transactions \
     WHERE relation = (SELECT oid FROM pg_class WHERE relname = 'the_lock') AND lock_mode = 'AccessExclusiveLock'";

async fn world() -> (World, Session) {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE the_lock (x int); CREATE TABLE t (id int)").await;
    (world, session)
}

/// A session of another person.
async fn stranger(world: &World) -> Session {
    world.redshift.door().admit("reader", "their own");
    let mut config = world.config();
    config.user("reader").password("their own");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    Session { client, notices: std::sync::Arc::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_waited_for_as_long_as_the_limit_says() {
    let (world, holder) = world().await;
    let waiter = world.session().await;
    holder.ok("BEGIN; LOCK the_lock").await;
    waiter.ok("SET statement_timeout TO 60000").await;
    let began = Instant::now();
    waiter.ok("BEGIN; SET statement_timeout TO 300").await;
    let (state, message, _) = waiter.error("LOCK the_lock").await;
    assert!((250..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(state, "57014");
    assert!(
        message.starts_with("Query (") && message.ends_with(") cancelled on user's request"),
        "{message}"
    );
    // What was set in a transaction that is undone is undone too.
    waiter.ok("ROLLBACK").await;
    waiter.ok("SELECT pg_sleep(0.5)").await;
    // And set back right behind the LOCK it does no harm.
    holder.ok("COMMIT").await;
    waiter.ok("SET statement_timeout TO 300").await;
    waiter.ok("BEGIN").await;
    waiter.ok("LOCK the_lock").await;
    waiter.ok("SET statement_timeout TO 60000").await;
    waiter.ok("SELECT pg_sleep(0.5)").await;
    waiter.ok("COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_keeps_to_a_limit_that_was_set_back() {
    let (world, session) = world().await;
    session.ok("SET statement_timeout TO 60000; BEGIN; SET statement_timeout TO 100; ROLLBACK").await;
    world.redshift.faults().push(Fault::Slow(Kind::Select, Duration::from_millis(400)));
    session.ok("SELECT 1").await;
    session.ok("SET statement_timeout TO 100; BEGIN").await;
    world.redshift.faults().push(Fault::Slow(Kind::Lock, Duration::from_secs(5)));
    assert_eq!(session.error("LOCK the_lock").await.0, "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_lock_is_told_of_ones_own_sessions() {
    let (world, judge) = world().await;
    let holder = world.session().await;
    let pid = holder.one("SELECT pg_backend_pid()").await;
    assert!(judge.ok(HOLDERS).await.is_empty());
    holder.ok("BEGIN; LOCK the_lock").await;
    let held = judge.ok(HOLDERS).await;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0][0].as_deref(), Some(pid.as_str()));
    assert_eq!(held[0][1].as_deref(), Some("loader"));
    assert_eq!(held[0][3].as_deref(), Some("t"));
    let since = held[0][2].clone().unwrap();
    let ago = judge.one(&format!("SELECT datediff_seconds FROM (SELECT extract(epoch FROM getdate() - '{since}'::timestamp)::int AS datediff_seconds) AS s")).await;
    assert!((-2..5).contains(&ago.parse::<i32>().unwrap()), "{since}");

    let waiter = world.session().await;
    waiter.ok("SET statement_timeout TO 2000").await;
    let waiting = tokio::spawn(async move { waiter.error("BEGIN; LOCK the_lock").await.0 });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let granted: Vec<_> = judge.ok(HOLDERS).await.into_iter().map(|row| row[3].clone().unwrap()).collect();
    assert_eq!(granted.iter().filter(|granted| *granted == "f").count(), 1, "{granted:?}");
    assert_eq!(waiting.await.unwrap(), "57014");

    // A stranger's session is not shown, and does not see ours.
    let stranger = stranger(&world).await;
    assert!(stranger.ok(HOLDERS).await.is_empty());
    holder.ok("COMMIT").await;
    stranger.ok("BEGIN; LOCK the_lock").await;
    assert!(judge.ok(HOLDERS).await.is_empty());
    assert!(judge.ok("SELECT 1 FROM svv_transactions WHERE txn_owner <> 'loader'").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_session_can_be_ended_and_what_it_did_is_undone() {
    let (world, judge) = world().await;
    let sessions = |pid: &str| {
        [
            format!("SELECT trim(user_name), starttime FROM stv_sessions WHERE process = {pid}"),
            format!(
                "SELECT trim(database_name), start_time FROM sys_session_history WHERE session_id = {pid} AND trim(status) = 'active'"
            ),
        ]
    };
    let holder = world.session().await;
    let pid = holder.one("SELECT pg_backend_pid()").await;
    holder.ok("BEGIN; LOCK the_lock; INSERT INTO t VALUES (1)").await;
    for (sql, name) in sessions(&pid).iter().zip(["loader", "dev"]) {
        assert_eq!(judge.ok(sql).await[0][0].as_deref(), Some(name));
    }
    let stranger = stranger(&world).await;
    for sql in sessions(&pid) {
        assert!(stranger.ok(&sql).await.is_empty());
    }
    assert_eq!(stranger.error(&format!("SELECT pg_terminate_backend({pid})")).await.0, "42501");
    judge.ok(&format!("SELECT pg_terminate_backend({pid})")).await;
    judge.ok("SET statement_timeout TO 3000; BEGIN; LOCK the_lock; COMMIT").await;
    assert_eq!(judge.one("SELECT count(*) FROM t").await, "0");
    assert!(judge.ok(&sessions(&pid)[0]).await.is_empty());
    let error = holder.query("COMMIT").await.unwrap_err();
    assert!(error.is_closed() || error.as_db_error().is_some_and(|error| error.code().code() == "57P01"));
    // Of a session that is gone nothing is left to end.
    judge.ok(&format!("SELECT pg_terminate_backend({pid})")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_can_be_ended_before_its_commit() {
    let (world, judge) = world().await;
    let faults = world.redshift.faults();
    let (kind, hold, end) = (Kind::Commit, Duration::from_secs(2), OrphanEnd::Commit);
    faults.push(Fault::Orphan { kind, hold, end });
    let session = world.session().await;
    let pid = session.one("SELECT pg_backend_pid()").await;
    session.ok("BEGIN; LOCK the_lock; INSERT INTO t VALUES (1)").await;
    session.query("COMMIT").await.unwrap_err();
    let began = Instant::now();
    assert_eq!(judge.ok(HOLDERS).await[0][0].as_deref(), Some(pid.as_str()));
    judge.ok(&format!("SELECT pg_terminate_backend({pid})")).await;
    judge.ok("BEGIN; LOCK the_lock; COMMIT").await;
    assert!(began.elapsed() < Duration::from_secs(1));
    tokio::time::sleep(hold).await;
    assert_eq!(judge.one("SELECT count(*) FROM t").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_forbidden_is() {
    let (world, session) = world().await;
    let ways = world.redshift.ways();
    ways.set_terminating_forbidden(true);
    ways.set_session_tables_forbidden(true);
    for sql in ["SELECT pg_terminate_backend(1)", "SELECT 1 FROM stv_sessions", HOLDERS] {
        assert_eq!(session.error(sql).await.0, "42501", "{sql}");
    }
    ways.set_session_tables_forbidden(false);
    ways.set_serverless(true);
    assert_eq!(session.error("SELECT 1 FROM stv_sessions").await.0, "42P01");
    session.ok("SELECT 1 FROM sys_session_history; SELECT 1 FROM svv_transactions").await;
}
