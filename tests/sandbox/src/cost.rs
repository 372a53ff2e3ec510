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
const FILE_SECONDS: f64 = 60.0;
const FILES_PER_BATCH: f64 = 10.0;
const BATCH_SECONDS: f64 = 300.0;
const LOAD_ROWS: f64 = 1_000_000.0;
const LISTINGS_PER_HOUR: f64 = 60.0;
const RECONCILES_PER_HOUR: f64 = 1.0;
/// A load with its transaction takes about so long on a small workgroup: batches that come meanwhile go together.
const LOAD_SECONDS: f64 = 5.0;
/// Batches that are counted.
const BATCHES: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(120);

/// Requests of S3's two prices for one batch.
#[derive(Debug, Clone, Copy, Default)]
struct PerBatch {
    writes: f64,
    reads: f64,
}

/// The size of a site's batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    rows_per_file: u32,
    files: u32,
}

impl Size {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    fn of(hits_per_second: f64) -> Self {
        let rows_per_file = ROWS_PER_FILE.min(hits_per_second * FILE_SECONDS);
        let files = FILES_PER_BATCH.min(BATCH_SECONDS * hits_per_second / rows_per_file);
        Self { rows_per_file: rows_per_file as u32, files: files as u32 }
    }

    fn rows(self) -> f64 {
        f64::from(self.rows_per_file * self.files)
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
        "{:<7} {:>12} {:>14} {:>8} {:>7} {:>10} {:>10} {:>9} {:>10} {:>7}",
        "site",
        "hits a day",
        "load_interval",
        "batches",
        "COPYs",
        "S3 writes",
        "S3 reads",
        "S3 $",
        "Redshift s",
        "$"
    );
    let mut counted: Vec<(Size, [PerBatch; 2])> = Vec::new();
    for (site, hits_per_day) in SITES {
        let size = Size::of(hits_per_day / 86_400.0);
        let known = counted.iter().find(|(of, _)| *of == size).map(|(_, costs)| *costs);
        let costs = match known {
            Some(costs) => costs,
            None => {
                let [alone, together] = ["alone", "together"].map(|name| dir.join(format!("{site}-{name}")));
                let costs = [per_batch(&alone, size, 1).await?, per_batch(&together, size, BATCHES).await?];
                counted.push((size, costs));
                costs
            }
        };
        for interval in LOAD_INTERVALS {
            line(site, hits_per_day, interval, size, costs);
        }
    }
    Ok(())
}

/// One line of the table: everything for a million hits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts for people")]
fn line(site: &str, hits_per_day: f64, (name, interval): (&str, f64), size: Size, costs: [PerBatch; 2]) {
    let hits_per_hour = hits_per_day / 24.0;
    let hours = 1e6 / hits_per_hour;
    let batches_per_hour = hits_per_hour / size.rows();
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
        "{site:<7} {:>12} {name:>14} {:>8} {:>7} {:>10} {:>10} {s3:>9.4} {:>10} {redshift:>7.2}",
        whole(hits_per_day),
        whole(batches),
        whole(loads_per_hour * hours),
        whole(writes),
        whole(reads),
        whole(seconds),
    );
}

/// Counts with [`BATCHES`] batches, of which one COPY loads up to `together`. The listing at the start of the ingester is
/// among its requests.
async fn per_batch(dir: &Path, size: Size, together: u64) -> anyhow::Result<PerBatch> {
    fs::create_dir_all(dir)?;
    let hits = u64::from(size.rows_per_file * size.files) * BATCHES;
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
        records_per_file: size.rows_per_file,
        files_per_batch: size.files,
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
