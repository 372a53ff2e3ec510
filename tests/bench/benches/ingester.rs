//! What a batch costs the ingester: `cargo bench --workspace --bench ingester`, after `cargo build --release --bins`.
//!
//! 500 batches of ten files wait in the S3 stand-in, and the real program loads and archives them into the Redshift
//! stand-in. Measured is the processor time of its process, user and system, from its start until all is done; beside
//! it that of a process that sends the same requests to S3 and as many statements, and does nothing else.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bench::batches::{self, Batch};
use bench::{Rows, cpu_time_of};
use sandbox::config::{Shape, pipeline};
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};
use sandbox::standins::{PASSWORD, Standins, USER, plan, session};
use shared::config::{Config, Secrets};
use shared::ids::RunId;
use shared::layout::{MANIFEST, SEAL};
use shared::object_store::ObjectStore;
use shared::schema::Schema;
use shared::seal::Compared;

const BATCHES: usize = 500;
const FILES: usize = 10;
const ROWS_PER_FILE: usize = 10;
/// The program starts itself with this argument and a configuration, to send the same requests and nothing else.
const REQUESTS: &str = "--requests";
/// What a batch may cost beyond the requests, of what these cost.
const MOST: f64 = 2.0;
/// Batches in the ledger; its mark has no instance.
const LOADED: &str = "SELECT count(instance) FROM public.livestream_ledger";
/// SET, BEGIN, LOCK, SET, look, COPY, count, id, ledger row, COMMIT. What other runs loaded is not asked of rows without times.
const STATEMENTS: usize = 10;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match args.iter().position(|arg| arg == REQUESTS) {
        Some(at) => runtime.block_on(requests(Path::new(&args[at + 1]), args[at + 2].parse().unwrap())),
        None => runtime.block_on(measure()),
    }
}

async fn measure() {
    println!(
        "{BATCHES} batches of {FILES} files; CPU ms a batch, user and system; a start without batches taken off\n"
    );
    println!(
        "{:>8}  {:>16}  {:>10}  {:>21}  {:>14}  {:>7}",
        "archive", "batches per COPY", "ingester", "the requests alone", "the ingester's", "seconds"
    );
    let mut wholes = Vec::new();
    // The first way comes once more at the end.
    for (archive, together) in [("keep", 50), ("keep", 1), ("move", 50), ("move", 1), ("keep", 50)] {
        let idle = turn(archive, together, 0).await.0;
        let (whole, requests, wall) = turn(archive, together, BATCHES).await;
        let each = |time: Duration| time.as_secs_f64() * 1e3 / BATCHES as f64;
        let (whole, requests) = (each(whole.saturating_sub(idle)), each(requests));
        // Below zero where the two differ by less than the machine's noise.
        let own = whole - requests;
        println!(
            "{archive:>8}  {together:>16}  {whole:>10.2}  {requests:>21.2}  {:>14.2}  {:>7.1}",
            own,
            wall.as_secs_f64()
        );
        wholes.push(whole);
        assert!(own < MOST * requests, "a batch costs the ingester more than {MOST} times its requests");
    }
    let differ = 100.0 * (wholes[4] - wholes[0]).abs() / wholes[0];
    println!("\nthe last line is the first one again: {differ:.0} % apart");
}

/// CPU time of the ingester over so many batches, of the requests alone, and how long the ingester took.
async fn turn(archive: &str, together: usize, batches: usize) -> (Duration, Duration, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let adobe = adobe::Options { plan: plan(1, 1, 0), ..adobe::Options::default() };
    let standins = Standins::start(dir.path(), adobe).await.unwrap();
    let config_file = dir.path().join("pipeline.toml");
    let text = pipeline(dir.path(), &standins.endpoints(), &Shape::default());
    let keys = format!("[ingester]\narchive = \"{archive}\"\nbatches_per_copy = {together}");
    std::fs::write(&config_file, text.replace("[ingester]", &keys)).unwrap();
    let ddl = service::run("ingester", &["ddl"], &config_file).unwrap();
    let client = session(standins.redshift.addr(), USER, PASSWORD).await.unwrap();
    client.batch_execute(&String::from_utf8(ddl.stdout).unwrap()).await.unwrap();

    let bucket = dir.path().join("s3").join(BUCKET);
    write_batches(&bucket, batches);
    batches::note_etags(&config_file, &bucket).await.unwrap();
    let begun = Instant::now();
    let mut ingester = Service::start("ingester", &config_file, &dir.path().join("logs")).unwrap();
    let pid = ingester.pid().unwrap();
    loop {
        let rows = client.simple_query(LOADED).await.unwrap();
        let loaded = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse::<usize>().ok(),
            _ => None,
        });
        let left = if archive == "move" { files_left(&bucket.join("ToIngest")) } else { 0 };
        if loaded == Some(batches) && left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let wall = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let whole = cpu_time_of(&pid.to_string());
    ingester.stop(Duration::from_secs(40)).await.unwrap();
    let requests = if batches == 0 {
        Duration::ZERO
    } else {
        // On folders like those that the ingester had.
        let _ = std::fs::remove_dir_all(bucket.join("ToIngest"));
        let _ = std::fs::remove_dir_all(bucket.join("Ingested"));
        write_batches(&bucket, batches);
        alone(&config_file, together)
    };
    drop(client);
    standins.stop().await;
    (whole, requests, wall)
}

fn alone(config: &Path, together: usize) -> Duration {
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args([REQUESTS, config.to_str().unwrap(), &together.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut done = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut done).unwrap();
    let time = cpu_time_of(&child.id().to_string());
    drop(child.stdin.take());
    child.wait().unwrap();
    time
}

/// In a process of its own: what the ingester asks of S3 and Redshift.
async fn requests(config: &Path, together: usize) {
    let config = Config::load(config, Secrets::Ingester).unwrap();
    let store = ObjectStore::connect(&config.s3).await;
    let redshift = &config.redshift;
    let at = SocketAddr::new(redshift.host.parse().unwrap(), redshift.port);
    let client = session(at, USER, PASSWORD).await.unwrap();
    let seals: Vec<_> = store.list("ToIngest/", None).await.unwrap();
    let seals: Vec<String> =
        seals.into_iter().filter(|object| object.key.ends_with(SEAL)).map(|object| object.key).collect();
    let moves = config.ingester.archive == shared::config::Archive::Move;
    for (n, seal) in seals.iter().enumerate() {
        // Discovery reads the seal, the loader reads it once more, the manifest too, and lists the folder.
        store.get(seal).await.unwrap();
        store.get(seal).await.unwrap();
        let folder = seal.trim_end_matches(SEAL);
        store.get(&format!("{folder}{MANIFEST}")).await.unwrap();
        let objects = store.list(folder, None).await.unwrap();
        if n % together == 0 {
            for _ in 0..STATEMENTS {
                client.simple_query("SELECT 1").await.unwrap();
            }
        }
        if moves {
            store.list(folder, None).await.unwrap();
            for object in &objects {
                store.copy(&object.key, &object.key.replace("ToIngest/", "Ingested/")).await.unwrap();
            }
            for object in &objects {
                store.delete(&object.key).await.unwrap();
            }
        }
    }
    std::io::stdout().write_all(b"d").unwrap();
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

fn write_batches(bucket: &Path, batches: usize) {
    let schema = Schema::built_in(1..=1000);
    let rows = Rows::make(&schema, ROWS_PER_FILE).unwrap();
    let (plain, schema, run) = (rows.lines(0..ROWS_PER_FILE), schema.fingerprint(), RunId::new());
    for number in (1..).take(batches) {
        let files = vec![(plain, ROWS_PER_FILE as u64); FILES];
        let compared = Compared { run, number, known: vec![], uncompared: 0 };
        batches::write(bucket, BUCKET, &Batch { files, schema: &schema, received: None, compared }).unwrap();
    }
}

fn files_left(dir: &Path) -> usize {
    sandbox::judge::files_below(dir).unwrap_or_default().len()
}
