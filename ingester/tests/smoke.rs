#![allow(missing_docs, clippy::all)]
use std::path::Path;
use std::time::Duration;
use bytes::Bytes;
use chrono::Utc;
use redshift::{Failure as F, Fault, Kind, OrphanEnd};
use sandbox::config::{Shape, pipeline};
use sandbox::s3::{BUCKET, S3};
use sandbox::standins::Endpoints;
use shared::config::Config;
use shared::ids::{BatchId, Instance};
use shared::layout::{self, Compression, MANIFEST, SEAL};
use shared::object_store::ObjectStore;
use shared::seal::*;
use shared::shutdown::Shutdown;
use state::snapshot::IngesterSnapshot;

const SCHEMA: &str = "[[column]]\nname='hitidhigh'\npath='hitIdHigh'\nkind='unsigned'\ntype='decimal(20,0)'\n[[column]]\nname='language'\npath='language'\nkind='text'\ntype='varchar(8)'\n[[column]]\nname='receivedtimegmt'\npath='receivedTimeGMT'\nkind='timestamp'\ntype='timestamp'\n";

async fn publish(store: &ObjectStore, fp: &str, from: u64, bad: bool) -> BatchId {
    let batch = BatchId::new();
    republish(store, fp, from, bad, batch, true).await;
    batch
}
async fn republish(store: &ObjectStore, fp: &str, from: u64, bad: bool, batch: BatchId, seal_it: bool) {
    let folder = layout::folder("ToIngest/", batch);
    let mut files = vec![];
    for n in 0..3u32 {
        let mut text = String::new();
        for row in 0..10u64 {
            let lang = if bad && n == 1 && row == 4 { "much too long for this" } else { "en~x" };
            text.push_str(&format!("{}~\"{lang}\"~2026-01-02 03:04:05\n", from + u64::from(n) * 10 + row));
        }
        let body = Bytes::from(zstd::encode_all(text.as_bytes(), 1).unwrap());
        let name = layout::file_name(n, Compression::Zstd);
        let stored = store.put(&format!("{folder}{name}"), body.clone()).await.unwrap();
        files.push(SealedFile { name, rows: 10, bytes: body.len() as u64, crc32: stored.crc32, etag: stored.etag });
    }
    let keys: Vec<String> = files.iter().map(|f| format!("{folder}{}", f.name)).collect();
    let manifest = Manifest::of(BUCKET, keys.iter().map(String::as_str));
    store.put(&format!("{folder}{MANIFEST}"), serde_json::to_vec(&manifest).unwrap().into()).await.unwrap();
    let seal = Seal { format: 1, batch, instance: Instance::try_from("x".to_owned()).unwrap(), created: Utc::now(), sealed: Utc::now(),
        schema: fp.to_owned(), compression: Compression::Zstd, rows: 30, bytes: files.iter().map(|f| f.bytes).sum(), files,
        first_received: None, last_received: Some(Utc::now()), counts: Counts { received: 30, rows: 30, ..Counts::default() } };
    if seal_it { store.put(&format!("{folder}{SEAL}"), serde_json::to_vec(&seal).unwrap().into()).await.unwrap(); }
}

struct Bed { config: Config, store: ObjectStore, fp: String, pg: tokio_postgres::Client, red: redshift::Redshift, _s3: S3, _dir: tempfile::TempDir }

async fn bed(archive: &str) -> Bed {
    let _ = tracing_subscriber::fmt().with_env_filter("info,ingester=debug,sled=warn").with_test_writer().try_init();
    let dir = tempfile::Builder::new().prefix("smoke").tempdir().unwrap();
    let _ = std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755));
    let s3 = S3::start(&dir.path().join("s3")).await.unwrap();
    let red = sandbox::standins::redshift(dir.path(), s3.endpoint()).await.unwrap();
    std::fs::write(dir.path().join("schema.toml"), SCHEMA).unwrap();
    let at = Endpoints { token_url: "http://127.0.0.1:1/".into(), stream_url: "http://127.0.0.1:1/".into(), redirect_host: "x".into(), s3: s3.endpoint().into(), redshift: red.addr(), postgres: red.postgres_url().into() };
    let text = pipeline(dir.path(), &at, &Shape::default())
        .replace("retry_max = \"10s\"", &format!("retry_max = \"2s\"\nretry_first=\"100ms\"\narchive=\"{archive}\""))
        .replace("list_interval = \"5s\"", "list_interval = \"700ms\"")
        + &format!("\n[schema]\nfile = \"{}\"\n[shutdown]\ntimeout = \"4s\"\n", dir.path().join("schema.toml").display());
    let file = dir.path().join("pipeline.toml");
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file).unwrap();
    let store = ObjectStore::connect(&config.s3).await;
    let (pg, c) = red.postgres_config().connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(c);
    Bed { fp: config.schema.load().unwrap().fingerprint(), config, store, pg, red, _s3: s3, _dir: dir }
}

impl Bed {
    async fn ddl(&self) {
        let mut out = Vec::new();
        ingester::ddl::print(&self.config, &mut out).unwrap();
        let (client, c) = tokio_postgres::Config::new().host("127.0.0.1").port(self.red.addr().port()).user("demo").password("demo-password").dbname("demo").connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(c);
        client.batch_execute(&String::from_utf8(out).unwrap()).await.unwrap();
    }
    async fn rows(&self) -> (i64, i64, i64) {
        let q = |sql: &'static str| async move { match self.pg.query_one(sql, &[]).await { Ok(r) => r.get::<_, i64>(0), Err(_) => -1 } };
        (q("select count(*) from public.livestream").await, q("select count(distinct hitidhigh) from public.livestream").await, q("select count(*) from public.livestream_ledger").await)
    }
    async fn until(&self, want: (i64, i64, i64), secs: u64) {
        for _ in 0..secs * 10 { if self.rows().await == want { return; } tokio::time::sleep(Duration::from_millis(100)).await; }
        panic!("{:?} is not {want:?}", self.rows().await);
    }
    async fn left(&self, n: usize) {
        for _ in 0..100 { if self.store.list("ToIngest/", None).await.unwrap().len() == n { return; } tokio::time::sleep(Duration::from_millis(100)).await; }
        panic!("left {:?}", self.store.list("ToIngest/", None).await.unwrap());
    }
    fn start(&self) -> (Shutdown, tokio::task::JoinHandle<Result<(), shared::exit::Failure>>) {
        let stop = Shutdown::new();
        (stop.clone(), tokio::spawn(ingester::run::run(self.config.clone(), stop)))
    }
    async fn snap(&self) -> IngesterSnapshot { state::feed::snapshot(&self.config.ingester_socket()).await.unwrap().snapshot }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults() {
    let b = bed("move").await;
    let (stop, task) = b.start();
    let one = publish(&b.store, &b.fp, 0, false).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("{:?}", b.snap().await);
    let mut out = Vec::new();
    println!("check {:?}", ingester::check::check(&b.config, Path::new("p"), &mut out).await.map_err(|e| (e.exit(), e.to_string())));
    println!("{}", String::from_utf8(out).unwrap());
    b.ddl().await;
    b.until((30, 30, 1), 10).await;
    b.left(0).await;
    let mut from = 30;
    let mut n = 1;
    for fault in [
        Fault::Refused(Kind::Lock), Fault::Refused(Kind::Copy), Fault::AppliedThenLost(Kind::Copy), Fault::Refused(Kind::Commit), Fault::AppliedThenLost(Kind::Commit),
        Fault::Fails(Kind::Copy, F::SerializableIsolation), Fault::Fails(Kind::Commit, F::SnapshotConflict), Fault::Fails(Kind::Copy, F::DiskFull),
        Fault::Fails(Kind::Copy, F::S3SlowDown), Fault::Fails(Kind::Copy, F::S3AccessDenied), Fault::Fails(Kind::Lock, F::ResizeMode),
        Fault::Orphan { kind: Kind::Insert, hold: Duration::from_secs(2), end: OrphanEnd::Commit },
        Fault::Orphan { kind: Kind::Insert, hold: Duration::from_secs(2), end: OrphanEnd::Rollback },
        Fault::Orphan { kind: Kind::Commit, hold: Duration::from_secs(2), end: OrphanEnd::Commit },
    ] {
        let name = format!("{fault:?}");
        println!("=== {name}");
        b.red.faults().push(fault);
        publish(&b.store, &b.fp, from, false).await;
        from += 30;
        n += 1;
        b.until((30 * n, 30 * n, n), 15).await;
        assert_eq!(b.red.faults().pending(), 0);
    }
    // a batch with a bad row, and one after it
    println!("=== bad row");
    publish(&b.store, &b.fp, 100_000, true).await;
    let good = publish(&b.store, &b.fp, from, false).await;
    n += 1;
    b.until((30 * n, 30 * n, n), 15).await;
    println!("{:?}", b.snap().await.loads.iter().filter(|l| l.batch != good).last());
    b.left(5).await;
    println!("=== published again");
    republish(&b.store, &b.fp, 0, false, one, true).await;
    b.left(5).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(b.rows().await, (30 * n, 30 * n, n));
    // incomplete and wrong schema
    println!("=== incomplete, wrong schema");
    let cut = publish(&b.store, &b.fp, 200_000, false).await;
    b.store.delete(&format!("{}1.csv.zst", layout::folder("ToIngest/", cut))).await.unwrap();
    publish(&b.store, "ffffffffffffffff", 300_000, false).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for l in b.snap().await.loads.iter().rev().take(4) { println!("{l:?}"); }
    let begun = std::time::Instant::now();
    stop.stop();
    task.await.unwrap().unwrap();
    println!("stopped in {:?}", begun.elapsed());
    // leftovers: no bookkeeping, no seal
    println!("=== lost bookkeeping, leftover");
    std::fs::remove_dir_all(&b.config.ingester.dir).unwrap();
    republish(&b.store, &b.fp, 0, false, one, false).await;
    let before = b.store.list("ToIngest/", None).await.unwrap().len();
    b.red.faults().push(Fault::Slow(Kind::Copy, Duration::from_secs(30)));
    let (stop, task) = b.start();
    for _ in 0..100 { if b.store.list("ToIngest/", None).await.unwrap().len() < before { break; } tokio::time::sleep(Duration::from_millis(100)).await; }
    assert!(b.store.list("ToIngest/", None).await.unwrap().len() <= before - 4);
    // stop while a COPY hangs
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = std::time::Instant::now();
    stop.stop();
    task.await.unwrap().unwrap();
    println!("stopped in {:?}", begun.elapsed());
    b.red.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keep() {
    let b = bed("keep").await;
    b.ddl().await;
    for i in 0..5 { publish(&b.store, &b.fp, i * 30, false).await; }
    let (stop, task) = b.start();
    let (stop2, task2) = { let mut c = b.config.clone(); c.ingester.dir = c.ingester.dir.join("../second"); let s = Shutdown::new(); (s.clone(), tokio::spawn(ingester::run::run(c, s))) };
    b.until((150, 150, 5), 20).await;
    stop.stop(); task.await.unwrap().unwrap();
    stop2.stop(); task2.await.unwrap().unwrap();
    std::fs::remove_dir_all(&b.config.ingester.dir).unwrap();
    b.red.faults().forget_statements();
    let (stop, task) = b.start();
    tokio::time::sleep(Duration::from_secs(4)).await;
    for s in b.red.faults().statements() { println!("{:?} {}", s.kind, &s.sql[..s.sql.len().min(90)]); }
    publish(&b.store, &b.fp, 150, false).await;
    b.until((180, 180, 6), 20).await;
    println!("{:?}", b.snap().await);
    stop.stop(); task.await.unwrap().unwrap();
    b.red.stop().await;
}
