//! What comparing with the table costs a load: `cargo bench --workspace --bench staged`, after
//! `cargo build --release --workspace --bins`.
//!
//! The real ingester loads batches of 10,000 rows into the Redshift stand-in, in turns the plain way and the staged way,
//! into a table that has nothing else, then a million, then five million rows of other times. Measured is the time from
//! BEGIN to COMMIT, as the stand-in saw the statements come. Of a staged batch the table has one row in ten.
//!
//! PostgreSQL, which is behind the stand-in, has no zone maps, by which Redshift reads only those blocks of a sorted
//! column that can hold the batch's times. In their place this makes a BRIN index, which is the same thing made
//! separately: first and last value of so many pages. And a join on equal ids is a hash join in Redshift, so PostgreSQL,
//! which guesses how many rows there are, is not left the choice.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use adobe::{Generator, Plan};
use bench::batches::{self, Batch};
use bench::{Rows, median, schema_file, schema_of_75, spread};
use chrono::DateTime;
use redshift::{Kind, Seen};
use sandbox::config::{Shape, pipeline};
use sandbox::judge;
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};
use sandbox::standins::{PASSWORD, Standins, USER, plan, session};
use shared::ids::{BatchId, RunId};
use shared::schema::Schema;
use shared::seal::Compared;
use tempfile::TempDir;

/// Rows of a batch, and how many of the staged one the table has.
const ROWS: u64 = 10_000;
const KNOWN: u64 = ROWS / 10;
/// Rows of a file.
const FILE: usize = 1_000;
/// Loads of each way into each table; the middle one counts.
const TURNS: u32 = 7;
/// Rows of other times in the table.
const TABLES: [u64; 3] = [0, 1_000_000, 5_000_000];
/// What a staged load may take of a plain one's time.
const MOST: f64 = 3.0;
/// By how much its share of a plain one's time may grow from the second table to the last: so much two equal turns differ, where
/// the turns of plain loads do not lie apart further.
const GROWTH: f64 = 1.25;
/// A batch is loaded within this time.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let mut world = World::new().await;
    println!(
        "{ROWS} rows of 75 columns, {KNOWN} of the staged ones known; median of {TURNS} loads, BEGIN to COMMIT; \
         spread: how far the middle half of the plain ones lies apart\n"
    );
    println!(
        "{:>23}  {:>8}  {:>9}  {:>12}  {:>24}  {:>6}",
        "rows of other times", "plain ms", "staged ms", "of the plain", "of the first one staged", "spread"
    );
    let mut staged_first = None;
    let mut before = 0;
    let mut grown = Vec::new();
    for rows in TABLES {
        world.fill(before..rows).await;
        before = rows;
        let (plain, staged, noise) = world.turns().await;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let first = *staged_first.get_or_insert(staged);
        let (of_plain, of_first) = (ms(staged) / ms(plain), ms(staged) / ms(first));
        println!(
            "{rows:>23}  {:>8.0}  {:>9.0}  {of_plain:>12.2}  {of_first:>24.2}  {noise:>5.0}%",
            ms(plain),
            ms(staged)
        );
        assert!(of_plain <= MOST, "a staged load takes {of_plain:.2} times a plain one");
        grown.push((of_plain, noise));
    }
    let ((second, _), (last, noise)) = (grown[1], grown[2]);
    let growth = last / second;
    println!("\nfrom 1 to 5 million rows a staged load grows by {growth:.2} beside a plain one");
    assert!(growth <= GROWTH.max(1.0 + noise / 100.0), "it grows with the table");
    world.stop().await;
}

struct World {
    dir: TempDir,
    standins: Standins,
    config: PathBuf,
    direct: tokio_postgres::Client,
    ingester: Service,
    schema: Schema,
    run: RunId,
    made: u64,
}

impl World {
    /// The stand-ins, an empty table, and an ingester that waits.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let adobe = adobe::Options { plan: plan(1, 1, 0), ..adobe::Options::default() };
        let standins = Standins::start(dir.path(), adobe).await.unwrap();
        let schema = schema_of_75().unwrap();
        let file = dir.path().join("schema.toml");
        std::fs::write(&file, schema_file(&schema)).unwrap();
        let config = dir.path().join("pipeline.toml");
        let text = pipeline(dir.path(), &standins.endpoints(), &Shape::default());
        let text = text.replace("list_interval = \"5s\"", "list_interval = \"1s\"");
        let schema_of_file = format!("\n[schema]\nfile = '{}'\n", file.display());
        std::fs::write(&config, text + &schema_of_file).unwrap();
        let ddl = service::run("ingester", &["ddl"], &config).unwrap();
        let client = session(standins.redshift.addr(), USER, PASSWORD).await.unwrap();
        client.batch_execute(&String::from_utf8(ddl.stdout).unwrap()).await.unwrap();
        let direct = judge::connect(&standins.endpoints().postgres).await.unwrap();
        for sql in [
            "CREATE INDEX ON public.livestream USING brin (receivedtimegmt)",
            "ALTER DATABASE demo SET enable_nestloop = off",
            "ALTER DATABASE demo SET enable_mergejoin = off",
        ] {
            direct.batch_execute(sql).await.unwrap();
        }
        let ingester = Service::start("ingester", &config, &dir.path().join("logs")).unwrap();
        let mut world = Self { dir, standins, config, direct, ingester, schema, run: RunId::new(), made: 0 };
        // Its ledger must be made before anything else is in the table, or it speaks for none of it.
        world.load(0..ROWS, 0).await;
        world
    }

    /// Rows with these numbers, of the year 2020, as another tool would load them.
    async fn fill(&self, rows: Range<u64>) {
        let sql = format!(
            "INSERT INTO public.livestream (hitidhigh, hitidlow, receivedtimegmt) \
             SELECT n, n, timestamp '2020-01-01' + n * interval '1 second' FROM generate_series({}, {}) AS n",
            rows.start,
            rows.end.saturating_sub(1)
        );
        if !rows.is_empty() {
            self.direct.batch_execute(&sql).await.unwrap();
        }
        self.direct.batch_execute("VACUUM (ANALYZE) public.livestream").await.unwrap();
        self.direct.batch_execute("CHECKPOINT").await.unwrap();
    }

    /// Middle times of a plain and a staged load, and the spread of the plain ones.
    async fn turns(&mut self) -> (Duration, Duration, f64) {
        let (mut plain, mut staged) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            plain.push(self.load(0..ROWS, 0).await);
            staged.push(self.load(ROWS - KNOWN..2 * ROWS - KNOWN, KNOWN).await);
        }
        (median(plain.clone()), median(staged), spread(plain))
    }

    /// Has a batch of these hits loaded, so many of which were not compared; hits from 0 on are new ones.
    async fn load(&mut self, hits: Range<u64>, uncompared: u64) -> Duration {
        self.made += u64::from(hits.start == 0);
        let generator = Generator::new(Plan {
            seed: self.made,
            hits: u64::MAX,
            start_epoch: Plan::default().start_epoch + i64::try_from(3_600 * self.made).unwrap(),
            ..Plan::default()
        });
        let rows = Rows::of(&generator, &self.schema, hits.clone()).unwrap();
        assert_eq!(rows.hits.len() as u64, ROWS);
        let files = (0..rows.hits.len()).step_by(FILE).map(|at| (rows.lines(at..at + FILE), FILE as u64));
        let received = |index| DateTime::from_timestamp(generator.received_at(index), 0).unwrap();
        let batch = Batch {
            files: files.collect(),
            schema: &self.schema.fingerprint(),
            received: Some((received(hits.start), received(hits.end - 1))),
            compared: Compared {
                run: self.run,
                number: 2 * self.made + u64::from(uncompared > 0),
                known: vec![],
                uncompared,
            },
        };
        let bucket = self.dir.path().join("s3").join(BUCKET);
        self.standins.redshift.faults().forget_statements();
        let batch = batches::write(&bucket, BUCKET, &batch).unwrap();
        batches::note_etags(&self.config, &bucket).await.unwrap();
        let known = self.known(batch).await;
        assert_eq!(known, i64::try_from(uncompared).unwrap(), "rows that the table had");
        self.took(batch, uncompared > 0)
    }

    /// Waits for its ledger row, which says how many of its rows the table had.
    async fn known(&mut self, batch: BatchId) -> i64 {
        let sql = "SELECT rows_known FROM public.livestream_ledger WHERE batch_id = $1";
        let begun = Instant::now();
        loop {
            if let Some(row) = self.direct.query_opt(sql, &[&batch.to_string()]).await.unwrap() {
                return row.get(0);
            }
            self.ingester.look().unwrap();
            assert!(begun.elapsed() < PATIENCE, "{}", self.ingester.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// From BEGIN to COMMIT of the transaction that entered this batch.
    fn took(&self, batch: BatchId, staged: bool) -> Duration {
        let statements = self.standins.redshift.faults().statements();
        let enters = |seen: &Seen| seen.kind == Kind::Insert && seen.sql.contains(&batch.to_string());
        let entered = statements.iter().rposition(enters).unwrap();
        let pid = statements[entered].pid;
        let of_kind = |seen: &&Seen, kind| seen.pid == pid && seen.kind == kind;
        let begun = statements[..entered].iter().rfind(|seen| of_kind(seen, Kind::Begin)).unwrap().at;
        let ended = statements[entered..].iter().find(|seen| of_kind(seen, Kind::Commit)).unwrap().at;
        let compares = statements.iter().any(|seen| of_kind(&seen, Kind::Delete) && seen.at > begun);
        assert_eq!(compares, staged, "the way it went");
        ended - begun
    }

    async fn stop(mut self) {
        self.ingester.stop(Duration::from_secs(40)).await.unwrap();
        self.standins.stop().await;
    }
}
