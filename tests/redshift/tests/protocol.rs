//! Refusals, transactions and the wire, as a client sees them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Session, options, start};
use redshift::Redshift;
use tokio_postgres::NoTls;

#[tokio::test(flavor = "multi_thread")]
async fn it_looks_like_redshift_and_checks_the_password() {
    let world = start().await;
    let (client, connection) = world.config().connect(NoTls).await.unwrap();
    assert_eq!(connection.parameter("server_version"), Some("8.0.2"));
    tokio::spawn(connection);
    assert!(client.simple_query("SELECT 1").await.is_ok());
    let session = world.session().await;
    assert!(session.one("SELECT version()").await.contains("Redshift 1.0."));

    for (user, password) in [("loader", "wrong"), ("nobody", "open sesame")] {
        let error =
            world.config().user(user).password(password).connect(NoTls).await.map(|_| ()).unwrap_err();
        let db = error.as_db_error().unwrap();
        assert_eq!(db.code().code(), "28000");
        assert_eq!(db.message(), format!("password authentication failed for user \"{user}\""));
        assert_eq!(db.severity(), "FATAL");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redshift_refuses_is_refused() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id int, name varchar(10))").await;
    for sql in [
        "INSERT INTO t VALUES (1, 'a') ON CONFLICT DO NOTHING",
        "INSERT INTO t VALUES (1, 'a') RETURNING id",
        "DELETE FROM t RETURNING id",
        "SAVEPOINT s",
        "ROLLBACK TO SAVEPOINT s",
        "RELEASE SAVEPOINT s",
        "CREATE INDEX i ON t (id)",
        "CREATE SEQUENCE s",
        "CREATE TABLE u (id SERIAL)",
        "CREATE TABLE u (id varchar(65536))",
        "CREATE TABLE u (id jsonb)",
        "CREATE VIEW v AS SELECT 1",
        "LISTEN c",
        "NOTIFY c",
        "SELECT * FROM t FOR UPDATE",
        "SELECT pg_advisory_lock(1)",
        "EXPLAIN SELECT 1",
        "COPY t FROM STDIN",
        "ALTER TABLE t ALTER COLUMN id TYPE bigint",
    ] {
        session.internal(sql).await;
    }
    for sql in ["DISCARD ALL", "ALTER TABLE t ADD COLUMN IF NOT EXISTS x int", "SELEC 1"] {
        assert_eq!(session.error(sql).await.0, "42601", "{sql}");
    }
    let error = session.client.query("SELECT 1", &[]).await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("extended query protocol"));
    assert_eq!(session.one("SELECT count(*) FROM t").await, "0", "the session goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_are_not_enforced_and_lengths_are() {
    let world = start().await;
    let session = world.session().await;
    session
        .ok("CREATE TABLE IF NOT EXISTS t (id bigint ENCODE az64 NOT NULL, \"Name\" varchar(4) DISTKEY, big decimal(20,0), \
             PRIMARY KEY (id), UNIQUE (id)) DISTSTYLE KEY COMPOUND SORTKEY (id)")
        .await;
    session.ok("CREATE TABLE IF NOT EXISTS t (other int)").await;
    session
        .ok("INSERT INTO t VALUES (1, 'a', 18446744073709551615); INSERT INTO t VALUES (1, 'a', NULL)")
        .await;
    assert_eq!(session.one("SELECT count(*) FROM t WHERE name = 'a'").await, "2");
    assert_eq!(
        session.internal("INSERT INTO t (id, name) VALUES (1, 'ééé')").await,
        "Value too long for character type"
    );
    assert!(session.internal("INSERT INTO t (name) VALUES ('x')").await.contains("NULL"));

    session.ok("ALTER TABLE t ADD COLUMN extra varchar(300) ENCODE zstd").await;
    session.ok("ALTER TABLE t ALTER COLUMN name TYPE varchar(8)").await;
    session.ok("INSERT INTO t (id, name) VALUES (2, 'ééé')").await;
    session.ok("ALTER TABLE t DROP COLUMN big").await;
    let columns = session
        .ok("SELECT column_name, data_type, character_maximum_length FROM information_schema.columns WHERE table_name = 't' ORDER BY ordinal_position")
        .await;
    let columns: Vec<String> = columns
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(columns, ["id bigint ", "name character varying 8", "extra character varying 300"]);
    session.ok("DROP TABLE IF EXISTS t").await;
    assert_eq!(session.one("SELECT count(*) FROM svv_columns WHERE table_name = 't'").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backslash_escapes_in_literals_as_in_postgresql_8() {
    let world = start().await;
    let session = world.session().await;
    assert_eq!(session.one(r"SELECT 'a\\b'").await, r"a\b");
    assert_eq!(session.one(r"SELECT 'it\'s; fine'").await, "it's; fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_locks_first_sees_what_the_one_before_it_committed() {
    let world = start().await;
    let (first, second) = (world.session().await, world.session().await);
    first.ok("CREATE TABLE ledger (batch varchar(40))").await;
    first.ok("BEGIN").await;
    first.ok("LOCK ledger").await;
    assert_eq!(first.one("SELECT count(*) FROM ledger").await, "0");

    second.ok("BEGIN").await;
    let waiting = tokio::spawn(async move {
        second.ok("LOCK TABLE ledger").await;
        let seen = second.one("SELECT count(*) FROM ledger").await;
        second.ok("COMMIT").await;
        seen
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    first.ok("INSERT INTO ledger VALUES ('b1')").await;
    first.ok("COMMIT").await;
    assert_eq!(waiting.await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_looks_first_sees_an_old_snapshot_and_conflicts() {
    let world = start().await;
    let (first, second) = (world.session().await, world.session().await);
    first.ok("CREATE TABLE ledger (batch varchar(40)); INSERT INTO ledger VALUES ('a')").await;
    second.ok("BEGIN").await;
    assert_eq!(second.one("SELECT count(*) FROM ledger").await, "1");
    first.ok("UPDATE ledger SET batch = 'b'").await;
    assert_eq!(second.one("SELECT batch FROM ledger").await, "a");
    let (state, message, _) = second.error("UPDATE ledger SET batch = 'c'").await;
    let conflict = "could not complete because of conflict with concurrent transaction";
    assert_eq!((state.as_str(), message.as_str()), ("XX000", conflict), "1023 is what SERIALIZABLE says");
    let (state, message, _) = second.error("SELECT 1").await;
    assert_eq!(state, "25P02");
    assert!(message.starts_with("current transaction is aborted"));
    second.ok("ROLLBACK").await;
    assert_eq!(second.one("SELECT batch FROM ledger").await, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn truncate_commits_and_an_altered_type_wants_no_transaction() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id int, name varchar(3)); INSERT INTO t VALUES (1, 'a')").await;
    session.ok("BEGIN; TRUNCATE t; ROLLBACK").await;
    assert_eq!(session.one("SELECT count(*) FROM t").await, "0");
    session.ok("BEGIN").await;
    let (_, message, _) = session.error("ALTER TABLE t ALTER COLUMN name TYPE varchar(9)").await;
    assert!(message.contains("cannot run inside a transaction block"), "{message}");
    session.ok("ROLLBACK").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_one_a_statement_within_a_transaction_by_the_owner_of_the_table() {
    let world = start().await;
    let session = world.session().await;
    session.ok("CREATE TABLE t (id int); CREATE TABLE l (nothing smallint); INSERT INTO t VALUES (1)").await;
    session.internal("ALTER TABLE t ADD COLUMN a int, ADD COLUMN b int").await;
    let add = "ALTER TABLE t ADD COLUMN a int; ALTER TABLE t ADD COLUMN b varchar(9)";
    session.ok(&format!("BEGIN; LOCK l, t; {add}; ROLLBACK")).await;
    let columns = "SELECT count(*) FROM svv_columns WHERE table_name = 't'";
    assert_eq!(session.one(columns).await, "1");
    session.ok(&format!("BEGIN; LOCK l, t; {add}; COMMIT")).await;
    assert_eq!(session.one(columns).await, "3");
    assert_eq!(session.one("SELECT count(*) FROM t WHERE a IS NULL AND b IS NULL").await, "1");
    let (state, message, _) = session.error("ALTER TABLE t ADD COLUMN a int").await;
    assert_eq!(state, "42701", "{message}");

    world.redshift.door().admit("another", "their own");
    let (client, connection) =
        world.config().user("another").password("their own").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    for alter in
        ["ADD COLUMN c int", "ALTER COLUMN b TYPE varchar(10)", "ALTER SORTKEY (id)", "DROP COLUMN b"]
    {
        let error = client.simple_query(&format!("ALTER TABLE t {alter}")).await.unwrap_err();
        let db = error.as_db_error().unwrap();
        assert_eq!((db.code().code(), db.message()), ("42501", "must be owner of relation t"), "{alter}");
    }
    assert_eq!(session.one(columns).await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_client_even_while_it_waits() {
    let world = start().await;
    let (first, second) = (world.session().await, world.session().await);
    first.ok("CREATE TABLE t (id int)").await;
    first.ok("BEGIN; LOCK t").await;
    let waiting = tokio::spawn(async move { second.query("BEGIN; LOCK t").await.map(drop) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    waiting.abort();
    drop(first);
    let third = world.session().await;
    let began = Instant::now();
    third.ok("BEGIN; LOCK t; COMMIT").await;
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_and_timeout_stop_a_statement() {
    let world = start().await;
    let (first, second) = (world.session().await, world.session().await);
    let pid = first.one("SELECT pg_backend_pid()").await;
    let running = tokio::spawn(async move {
        let error = first.error("SELECT pg_sleep(20)").await;
        (first, error)
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    second.ok(&format!("CANCEL {pid}")).await;
    let (first, (state, message, _)) = running.await.unwrap();
    assert_eq!(state, "57014");
    assert!(message.ends_with("cancelled on user's request"), "{message}");
    first.ok("SET statement_timeout TO 100").await;
    assert_eq!(first.error("SELECT pg_sleep(20)").await.0, "57014");

    let token = second.client.cancel_token();
    let running = tokio::spawn(async move { second.error("SELECT pg_sleep(20)").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    token.cancel_query(NoTls).await.unwrap();
    assert_eq!(running.await.unwrap().0, "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_cluster_starts_again_with_its_tables() {
    let data = tempfile::tempdir().unwrap();
    let setup = options(data.path().join("cluster"), "http://127.0.0.1:1".to_owned());
    for round in 0..2 {
        let redshift = Redshift::start(setup.clone()).await.unwrap();
        let (client, connection) = redshift.postgres_config().connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
            .batch_execute("CREATE TABLE IF NOT EXISTS seen (n int); INSERT INTO seen VALUES (1)")
            .await
            .unwrap();
        let count: i64 = client.query_one("SELECT count(*) FROM seen", &[]).await.unwrap().get(0);
        assert_eq!(count, round + 1);
        if round == 0 {
            redshift.stop().await;
        }
    }
}

async fn layout(session: &Session) -> Vec<String> {
    let rows = session
        .ok("SELECT column_name, encoding, distkey, sortkey FROM svv_redshift_columns \
             WHERE database_name = current_database() AND table_name = 't' ORDER BY ordinal_position")
        .await;
    let row = |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
    rows.into_iter().map(|cells| row(cells).join(" ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_encodings_are_kept_and_altered_as_redshift_does() {
    let world = start().await;
    let session = world.session().await;
    session
        .ok("CREATE TABLE t (a int, b varchar(9), c boolean, d super, e decimal(20,0)) DISTKEY (b) SORTKEY (a, b)")
        .await;
    assert_eq!(
        layout(&session).await,
        ["a none f 1", "b none t 2", "c none f 0", "d zstd f 0", "e az64 f 0"]
    );
    for sql in [
        "ALTER TABLE t ALTER COLUMN e ENCODE az64",
        "ALTER TABLE t ALTER COLUMN b ENCODE az64",
        "ALTER TABLE t ALTER COLUMN d ENCODE bytedict",
        "ALTER TABLE t ALTER COLUMN z ENCODE zstd",
        "ALTER TABLE t ALTER COLUMN b ENCODE best",
        "ALTER TABLE t ALTER COLUMN a ENCODE zstd, ALTER COLUMN b ENCODE zstd",
        "ALTER TABLE t ALTER DISTKEY b",
        "ALTER TABLE t ALTER DISTKEY d",
        "ALTER TABLE t ALTER DISTKEY z",
        "ALTER TABLE t ALTER SORTKEY (a, a)",
        "ALTER TABLE t ALTER SORTKEY (d)",
        "ALTER TABLE t ALTER SORTKEY (z)",
        "ALTER TABLE t ALTER INTERLEAVED SORTKEY (a, b)",
        "ALTER TABLE t DROP COLUMN a",
        "ALTER TABLE t ADD COLUMN f int DISTKEY",
        "ALTER TABLE t ADD COLUMN f int NOT NULL",
        "ALTER TABLE t ADD COLUMN f int UNIQUE",
        "CREATE TABLE u (a int ENCODE text255)",
        "CREATE TABLE u (a int) SORTKEY (z)",
    ] {
        session.error(sql).await;
    }
    session.ok("ALTER TABLE t ALTER COMPOUND SORTKEY (e)").await;
    session.ok("ALTER TABLE t ALTER DISTSTYLE KEY DISTKEY \"E\"").await;
    assert_eq!(layout(&session).await, ["a az64 f 0", "b lzo f 0", "c none f 0", "d zstd f 0", "e none t 1"]);
    // From now on the encodings are ours.
    session.ok("ALTER TABLE t ALTER COLUMN b ENCODE bytedict").await;
    session.ok("ALTER TABLE t ALTER SORTKEY (a)").await;
    session.ok("ALTER TABLE t ALTER DISTSTYLE EVEN").await;
    assert_eq!(
        layout(&session).await,
        ["a none f 1", "b bytedict f 0", "c none f 0", "d zstd f 0", "e none f 0"]
    );
    session.ok("BEGIN").await;
    session.error("ALTER TABLE t ALTER SORTKEY NONE").await;
    session.ok("ROLLBACK").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_is_not_altered_where_redshift_does_not() {
    let world = start().await;
    let session = world.session().await;
    session
        .ok("CREATE TABLE t (a varchar(9) ENCODE bytedict, b varchar(9) DEFAULT 'x', c varchar(9) UNIQUE, d char(9), e varchar(9))")
        .await;
    for column in ["a", "b", "c", "d", "z"] {
        session.error(&format!("ALTER TABLE t ALTER COLUMN {column} TYPE varchar(10)")).await;
    }
    session.ok("ALTER TABLE t ALTER COLUMN e TYPE varchar(10)").await;
    session.ok("ALTER TABLE t ALTER COLUMN a ENCODE zstd").await;
    session.ok("ALTER TABLE t ALTER COLUMN a TYPE varchar(10)").await;
    session.ok("DROP TABLE t; CREATE TABLE t (a varchar(9), b varchar(9)) INTERLEAVED SORTKEY (a, b)").await;
    assert_eq!(layout(&session).await, ["a none f -1", "b none f 2"]);
    session.error("ALTER TABLE t ALTER COLUMN a ENCODE zstd").await;
    session.error("ALTER TABLE t ALTER DISTKEY a").await;
    session.ok("ALTER TABLE t ALTER SORTKEY (b)").await;
    session.ok("ALTER TABLE t ALTER DISTKEY a").await;
    assert_eq!(layout(&session).await, ["a lzo t 0", "b none f 1"]);
}
