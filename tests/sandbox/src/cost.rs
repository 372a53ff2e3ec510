//! What a million hits cost in requests to S3, COPYs and Redshift time, by the size of the site. Requests and COPYs are
//! counted: the real services put batches of the site's size into the stand-ins, and load them. Time is worked out, since a
//! stand-in is no measure of Redshift.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::Utc;
use redshift::Kind;
use shared::human::count;

use crate::config::{Shape, pipeline};
use crate::judge::files_below;
use crate::s3::{BUCKET, Operation, Requests};
use crate::service::{self, Service};
use crate::standins::{PASSWORD, Standins, USER, session};

/// US dollars of Amazon in us-east-1, S3 Standard and Redshift Serverless. Nobody compared them with today's lists: put yours here.
mod price {
    /// A thousand PUT, COPY, POST or LIST requests to S3. DELETE is free.
    pub(super) const WRITES: f64 = 0.005;
    /// A thousand GET or HEAD requests.
    pub(super) const READS: f64 = 0.0004;
    /// One RPU for an hour.
    pub(super) const RPU_HOUR: f64 = 0.375;
    /// RPUs of a small workgroup.
    pub(super) const RPUS: f64 = 8.0;
    /// Seconds that whatever wakes the workgroup is billed at least.
    pub(super) const WAKE_SECONDS: f64 = 60.0;
}

/// Sites, and their hits a day.
const SITES: [(&str, f64); 3] = [("small", 1e6), ("medium", 2e7), ("large", 3e8)];
/// `ingester.load_interval`, in seconds.
const LOAD_INTERVALS: [(&str, f64); 3] = [("0s", 0.0), ("10m", 600.0), ("1h", 3_600.0)];
/// The defaults of `[batch]`, `ingester.load_rows`, `list_interval` and `reconcile_interval`.
const ROWS_PER_FILE: f64 = 1_000.0;
const MIN_FILE_BYTES: f64 = 8_388_608.0;
const FILE_SECONDS: f64 = 60.0;
const FILES_PER_BATCH: f64 = 10.0;
const MIN_BATCH_SECONDS: f64 = 10.0;
const BATCH_SECONDS: f64 = 300.0;
/// Of 75 columns.
const ROW_BYTES: f64 = 600.0;
const LOAD_ROWS: f64 = 1_000_000.0;
const LISTINGS_PER_HOUR: f64 = 60.0;
const RECONCILES_PER_HOUR: f64 = 1.0;
/// A load with its transaction takes about so long on a small workgroup: batches that come meanwhile go together.
const LOAD_SECONDS: f64 = 5.0;
/// Batches that are counted, and rows of each of their files.
const BATCHES: u64 = 10;
const ROWS_COUNTED: u32 = 500;
const PATIENCE: Duration = Duration::from_secs(120);

/// Requests of S3's two prices for one batch.
#[derive(Debug, Clone, Copy, Default)]
struct PerBatch {
    writes: f64,
    reads: f64,
}

/// By which numbers a site makes its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batching {
    Defaults,
    /// The same without `min_file_bytes` and `min_batch_age`.
    Daemon,
}

/// The size of a site's batches.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Size {
    rows: f64,
    files: u32,
}

impl Size {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    fn of(hits_per_second: f64, batching: Batching) -> Self {
        let (file, seconds) = match batching {
            Batching::Defaults => (ROWS_PER_FILE.max(MIN_FILE_BYTES / ROW_BYTES), MIN_BATCH_SECONDS),
            Batching::Daemon => (ROWS_PER_FILE, 0.0),
        };
        let file = file.min(hits_per_second * FILE_SECONDS);
        let enough = (ROWS_PER_FILE * FILES_PER_BATCH).max(hits_per_second * seconds);
        let rows = enough.min(hits_per_second * BATCH_SECONDS).min(file * FILES_PER_BATCH);
        Self { rows, files: (rows / file).ceil() as u32 }
    }
}

pub(crate) async fn run() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("livestream-cost-{}", std::process::id()));
    let counted = table(&dir).await;
    let _ = fs::remove_dir_all(&dir);
    counted
}

async fn table(dir: &Path) -> anyhow::Result<()> {
    println!(
        "{:<7} {:>12} {:>9} {:>14} {:>8} {:>7} {:>10} {:>10} {:>9} {:>10} {:>7}",
        "site",
        "hits a day",
        "batching",
        "load_interval",
        "batches",
        "COPYs",
        "S3 writes",
        "S3 reads",
        "S3 $",
        "Redshift s",
        "$"
    );
    // Requests depend on the number of files only.
    let mut counted: Vec<(u32, [PerBatch; 2])> = Vec::new();
    for (site, hits_per_day) in SITES {
        for batching in [Batching::Defaults, Batching::Daemon] {
            let size = Size::of(hits_per_day / 86_400.0, batching);
            let known = counted.iter().find(|(files, _)| *files == size.files).map(|(_, costs)| *costs);
            let costs = match known {
                Some(costs) => costs,
                None => {
                    let folder = |name: &str| dir.join(format!("{}-{name}", size.files));
                    let alone = per_batch(&folder("alone"), size.files, 1).await?;
                    let costs = [alone, per_batch(&folder("together"), size.files, BATCHES).await?];
                    counted.push((size.files, costs));
                    costs
                }
            };
            // The daemon held nothing back.
            let intervals =
                if batching == Batching::Defaults { &LOAD_INTERVALS[..] } else { &LOAD_INTERVALS[..1] };
            for interval in intervals {
                line((site, hits_per_day, batching), *interval, size, costs);
            }
        }
    }
    Ok(())
}

/// One line of the table: everything for a million hits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts for people")]
fn line(
    (site, hits_per_day, batching): (&str, f64, Batching),
    (name, interval): (&str, f64),
    size: Size,
    costs: [PerBatch; 2],
) {
    let batching = match batching {
        Batching::Defaults => "defaults",
        Batching::Daemon => "daemon's",
    };
    let hits_per_hour = hits_per_day / 24.0;
    let hours = 1e6 / hits_per_hour;
    let batches_per_hour = hits_per_hour / size.rows;
    let mut loads_per_hour = batches_per_hour.min(3_600.0 / LOAD_SECONDS);
    if interval > 0.0 {
        loads_per_hour = loads_per_hour.min((3_600.0 / interval).max(hits_per_hour / LOAD_ROWS));
    }
    let batches = batches_per_hour * hours;
    let [alone, together] = costs;
    let each = if batches_per_hour >= 2.0 * loads_per_hour { together } else { alone };
    let writes = batches * each.writes + LISTINGS_PER_HOUR * hours;
    let reads = batches * each.reads;
    let wakes = loads_per_hour + RECONCILES_PER_HOUR;
    let seconds = (wakes * price::WAKE_SECONDS).min(3_600.0) * hours;
    let s3 = (writes * price::WRITES + reads * price::READS) / 1_000.0;
    let redshift = seconds / 3_600.0 * price::RPUS * price::RPU_HOUR;
    let whole = |number: f64| count(number.round() as u64);
    println!(
        "{site:<7} {:>12} {batching:>9} {name:>14} {:>8} {:>7} {:>10} {:>10} {s3:>9.4} {:>10} {redshift:>7.2}",
        whole(hits_per_day),
        whole(batches),
        whole(loads_per_hour * hours),
        whole(writes),
        whole(reads),
        whole(seconds),
    );
}

/// Counts with [`BATCHES`] batches of so many files, of which one COPY loads up to `together`. The listing at the start of the ingester is
/// among its requests.
async fn per_batch(dir: &Path, files: u32, together: u64) -> anyhow::Result<PerBatch> {
    fs::create_dir_all(dir)?;
    let hits = u64::from(ROWS_COUNTED * files) * BATCHES;
    let plan = adobe::Plan {
        hits,
        duplicates_per_mille: 0,
        excluded_per_mille: 0,
        malformed_per_mille: 0,
        start_epoch: Utc::now().timestamp(),
        ..adobe::Plan::default()
    };
    let standins = Standins::start(dir, adobe::Options { plan, ..adobe::Options::default() }).await?;
    let config = dir.join("pipeline.toml");
    let shape = Shape {
        max_file_age: "1h",
        max_batch_age: "1h",
        records_per_file: ROWS_COUNTED,
        files_per_batch: files,
        ..Shape::default()
    };
    // Held back until all are found, those that go together.
    let interval = if together > 1 { "1h" } else { "0s" };
    let keys = format!(
        "[ingester]\nbatches_per_copy = {together}\nlist_all_interval = \"1h\"\nload_interval = \"{interval}\"\nload_rows = {hits}"
    );
    let text = pipeline(dir, &standins.endpoints(), &shape)
        .replace("list_interval = \"5s\"", "list_interval = \"1h\"")
        .replace("[ingester]", &keys);
    fs::write(&config, text)?;
    let ddl = service::run("ingester", &["ddl"], &config)?;
    ensure!(ddl.status.success(), "{}", String::from_utf8_lossy(&ddl.stderr));
    let client = session(standins.redshift.addr(), USER, PASSWORD).await?;
    client.batch_execute(&String::from_utf8(ddl.stdout)?).await?;
    drop(client);

    let to_ingest = dir.join("s3").join(BUCKET).join("ToIngest");
    let files = || files_below(&to_ingest).unwrap_or_default();
    let seals = || files().iter().filter(|path| path.ends_with("batch.json")).count() as u64;
    let logs = dir.join("logs");
    let mut producer = Service::start("producer", &config, &logs)?;
    until("all batches are published", || seals() == BATCHES).await?;
    producer.stop(PATIENCE).await?;
    let mut ingester = Service::start("ingester", &config, &logs)?;
    // The object that says whose the prefix is stays.
    until("all batches are archived", || seals() == 0 && files().len() <= 1).await?;
    ingester.stop(PATIENCE).await?;

    let asked = standins.s3.requests();
    let statements = standins.redshift.faults().statements();
    let copies = statements.iter().filter(|statement| statement.kind == Kind::Copy).count() as u64;
    ensure!(copies == BATCHES / together, "{copies} COPYs loaded {BATCHES} batches, {together} at once");
    standins.stop().await;
    let of = |operations: &[Operation]| per_one(&asked, operations);
    Ok(PerBatch {
        writes: of(&[Operation::Put, Operation::Copy, Operation::List, Operation::Other]),
        reads: of(&[Operation::Get, Operation::Head]),
    })
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn per_one(asked: &Requests, operations: &[Operation]) -> f64 {
    operations.iter().map(|operation| asked.of(*operation)).sum::<u64>() as f64 / BATCHES as f64
}

async fn until(what: &str, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.with_context(|| format!("it takes too long until {what}"))
}
