//! One demo, from an empty folder to the verdict.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::config::{self, Shape, pipeline};
use crate::judge::{self, Verdict};
use crate::service::{self, Service};
use crate::standins::{PASSWORD, USER, plan, session};
use anyhow::{Context, bail, ensure};
use chrono::Utc;
use shared::human::bytes;
use state::status::feed::{self, Answer};
use state::status::snapshot::{IngesterSnapshot, ProducerSnapshot};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_postgres::Client;

use super::keeper::{self, Keeper};
use super::progress::{Counts, Progress};

/// With no row more for this long, the demo gives up and judges what there is.
const STALLED: Duration = Duration::from_secs(90);
/// Longest time a service may take to stop in order: its own limit is 30 s.
const STOP: Duration = Duration::from_secs(40);
/// Bytes a service may hold.
const MEMORY: u64 = 200 << 20;
/// How long a killed service stays away.
const AWAY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Distinct hits to stream; duplicates and malformed lines come on top.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    records: u64,
    /// Hits a second; as fast as they are taken, if not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// What the hits are made from: the same seed gives the same hits.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kills no service.
    #[arg(long)]
    no_kills: bool,
    /// Keeps the stand-ins up after the verdict, until Ctrl-C; the services are stopped.
    #[arg(long)]
    keep: bool,
    /// Where everything is left.
    #[arg(long, default_value = "target/demo")]
    dir: PathBuf,
}

/// The running parts.
struct Demo {
    dir: PathBuf,
    /// Where the producer's page is.
    page: SocketAddr,
    config: PathBuf,
    keeper: Keeper,
    producer: Service,
    ingester: Service,
    judge: Client,
}

/// What services say of themselves.
struct Dump {
    /// Records the producer recognised as sent before.
    duplicates: u64,
    /// Loads that compared their rows with the table.
    staged: u64,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let started = Utc::now();
    let mut end = Interrupt::new()?;
    // In a task of its own: dropping it ends the services at once and closes the stand-ins' input.
    let mut judged = tokio::spawn({
        let options = options.clone();
        async move { run_and_judge(&options, started.timestamp()).await }
    });
    let (ok, keeper) = tokio::select! {
        done = &mut judged => done??,
        () = end.comes() => {
            judged.abort();
            let _ = judged.await;
            keeper::gone(&options.dir).await;
            println!("interrupted: everything the demo started is stopped; its files are in {}", options.dir.display());
            return Ok(ExitCode::from(130));
        }
    };
    if options.keep {
        end.comes().await;
    }
    keeper.stop().await;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ctrl-C, SIGTERM, or the terminal is closed.
struct Interrupt(Vec<Signal>);

impl Interrupt {
    fn new() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        kinds.into_iter().map(signal).collect::<Result<_, _>>().map(Self)
    }

    async fn comes(&mut self) {
        let signals = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures_util::future::select_all(signals).await;
    }
}

/// Whether it ended clean, and the stand-ins, which still run.
async fn run_and_judge(options: &Options, start_epoch: i64) -> anyhow::Result<(bool, Keeper)> {
    let dir = std::path::absolute(&options.dir)?;
    clear(&dir)?;
    println!("stand-ins for Adobe, S3 and Redshift start in {}", options.dir.display());
    let keeper = Keeper::start(&keeper::Options {
        dir: dir.clone(),
        records: options.records,
        seed: options.seed,
        start_epoch,
        rate: options.rate,
    })
    .await?;
    let config = dir.join("pipeline.toml");
    let pages = [free_port(9464)?, free_port(9465)?];
    fs::write(&config, with_pages(&pipeline(&dir, &keeper.endpoints, &Shape::default()), pages))?;
    let judge = judge::connect(&keeper.endpoints.postgres).await?;
    create_tables(&keeper, &config).await?;

    let begun = Instant::now();
    let logs = dir.join("logs");
    let producer = Service::start("producer", &config, &logs)?;
    let ingester = Service::start("ingester", &config, &logs)?;
    let [first, second] = [producer.pid(), ingester.pid()].map(|pid| pid.map_or(0, u64::from));
    println!("producer and ingester run as processes {first} and {second}");
    println!("their page: http://{}/", pages[0]);
    let mut demo = Demo { dir, page: pages[0], config, keeper, producer, ingester, judge };
    let watched = demo.watch(options).await;
    let seconds = begun.elapsed().as_secs_f64();
    let mut complaints: Vec<String> = watched.err().into_iter().map(|error| format!("{error:#}")).collect();
    for service in [&mut demo.ingester, &mut demo.producer] {
        // One that ended by itself, or does not end when asked to, is part of the verdict.
        if let Err(error) = service.stop(STOP).await {
            complaints.push(format!("{error:#}"));
            let _ = service.kill();
        }
        if service.peak_rss() > MEMORY {
            complaints.push(format!("{} held {}", service.name(), bytes(service.peak_rss())));
        }
    }
    let dump = demo.dump()?;
    println!("judging every row by its hit id");
    let plan = plan(options.seed, options.records, start_epoch);
    let generator = adobe::Generator::new(plan);
    let mut verdict = judge::judge(&generator, &demo.keeper.endpoints.postgres, &demo.dir.join("s3")).await?;
    verdict.complaints.extend(complaints);
    let ok = demo.say_verdict(options, &verdict, &dump, seconds);
    Ok((ok, demo.keeper))
}

/// That port of loopback, or another one if it is taken.
fn free_port(wanted: u16) -> std::io::Result<SocketAddr> {
    let bound = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    bound(wanted).or_else(|_| bound(0))?.local_addr()
}

fn with_pages(pipeline: &str, [producer, ingester]: [SocketAddr; 2]) -> String {
    pipeline
        .replace("producer_listen = \"\"", &format!("producer_listen = \"{producer}\""))
        .replace("ingester_listen = \"\"", &format!("ingester_listen = \"{ingester}\""))
}

/// Removes what an earlier demo left, and nothing that is not a demo's.
fn clear(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        let written = fs::read_to_string(dir.join("pipeline.toml")).unwrap_or_default();
        let ours = fs::read_dir(dir)?.next().is_none() || written.starts_with(config::MARK);
        ensure!(ours, "{} holds something else: give another --dir", dir.display());
        // The database may stand elsewhere, if its user cannot reach this folder: then this is a link.
        if let Ok(elsewhere) = fs::read_link(dir.join("postgres")) {
            let _ = fs::remove_dir_all(elsewhere);
        }
        fs::remove_dir_all(dir).with_context(|| format!("cannot clear {}", dir.display()))?;
    }
    Ok(fs::create_dir_all(dir.join("logs"))?)
}

/// Runs what `ingester ddl` prints, through the stand-in.
async fn create_tables(keeper: &Keeper, config: &Path) -> anyhow::Result<()> {
    let ddl = service::run("ingester", &["ddl"], config)?;
    if !ddl.status.success() {
        bail!("ingester ddl: {}", String::from_utf8_lossy(&ddl.stderr));
    }
    let client = session(keeper.endpoints.redshift, USER, PASSWORD).await?;
    client.batch_execute(&String::from_utf8(ddl.stdout)?).await.context("creating table and ledger")
}

impl Demo {
    /// Watches until everything sent is loaded, killing the services on the way.
    async fn watch(&mut self, options: &Options) -> anyhow::Result<()> {
        let generator = adobe::Generator::new(plan(options.seed, options.records, 0));
        let sent = generator.counts(0..options.records);
        // What must be loaded at the end, and what must have been received to get there.
        let rows = sent.hits;
        let mut progress = Progress::new(rows);
        let mut counts = Counts::default();
        let (mut kill_producer, mut kill_ingester) = (!options.no_kills, !options.no_kills);
        let mut moved = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.producer.look()?;
            self.ingester.look()?;
            let before = counts;
            let waiting = self.count(&mut counts).await?;
            progress.show(&counts);
            if counts.moved_since(&before) {
                moved = Instant::now();
            }
            if kill_producer && counts.durable >= rows / 3 {
                kill_producer = false;
                self.producer.kill()?;
                progress.say("kill -9 producer");
                tokio::time::sleep(AWAY).await;
                self.producer.start_again()?;
                progress.say("producer started again");
                // What it says of itself is old until it has read on.
                tokio::time::sleep(AWAY).await;
                continue;
            }
            if kill_ingester && counts.loaded > 0 && (counts.loaded >= rows / 2 || !kill_producer) {
                kill_ingester = false;
                self.ingester.kill()?;
                progress.say("kill -9 ingester");
                tokio::time::sleep(AWAY).await;
                self.ingester.start_again()?;
                progress.say("ingester started again");
            }
            let killed = !kill_producer && !kill_ingester;
            let loaded = counts.sent >= options.records && counts.loaded >= rows && waiting == Some(0);
            if killed && loaded && self.ingester_answers().await {
                break;
            }
            if moved.elapsed() > STALLED {
                progress.say("nothing moves any more: judging what there is");
                break;
            }
        }
        progress.end();
        Ok(())
    }

    /// Whether the ingester has got as far as answering questions since it was started last.
    async fn ingester_answers(&self) -> bool {
        feed::snapshot::<IngesterSnapshot>(&self.dir.join("ingester").join("feed.sock")).await.is_ok()
    }

    /// Looks at every part; returns the rejects that wait for their way to S3, if the producer answers.
    async fn count(&mut self, counts: &mut Counts) -> anyhow::Result<Option<u64>> {
        counts.sent = self.keeper.status.borrow().sent;
        let ledger = "SELECT coalesce(sum(rows_loaded), 0)::bigint FROM public.livestream_ledger";
        let loaded: i64 = self.judge.query_one(ledger, &[]).await?.get(0);
        counts.loaded = u64::try_from(loaded).unwrap_or(0);
        counts.rss = (self.producer.peak_rss(), self.ingester.peak_rss());
        let asked = feed::snapshot::<ProducerSnapshot>(&self.dir.join("producer").join("feed.sock")).await;
        let Ok(Answer { snapshot, .. }) = asked else { return Ok(None) };
        counts.received = snapshot.totals.received;
        counts.durable = snapshot.totals.rows;
        counts.in_s3 = snapshot.totals.rows.saturating_sub(snapshot.rows_to_upload);
        // Batches are loaded oldest first: the first one beyond the rows loaded is the oldest that waits.
        let known: u64 = snapshot.batches.iter().map(|batch| batch.rows).sum();
        let mut rows = snapshot.totals.rows.saturating_sub(known);
        let oldest = snapshot.batches.iter().find(|batch| {
            rows += batch.rows;
            rows > counts.loaded
        });
        let lag = oldest.and_then(|batch| (Utc::now() - batch.opened).to_std().ok());
        counts.lag = Duration::from_millis(u64::try_from(lag.unwrap_or_default().as_millis() / 100 * 100)?);
        Ok(Some(snapshot.rejects_waiting))
    }

    /// What both services say of themselves when they have stopped.
    fn dump(&self) -> anyhow::Result<Dump> {
        let dump = service::run("state", &["dump", "--json"], &self.config)?;
        ensure!(dump.status.success(), "state dump: {}", String::from_utf8_lossy(&dump.stderr));
        let dump: serde_json::Value = serde_json::from_slice(&dump.stdout)?;
        let number = |pointer: &str| {
            let number = dump.pointer(pointer).and_then(serde_json::Value::as_u64);
            number.with_context(|| format!("state dump shows no {pointer}"))
        };
        Ok(Dump {
            duplicates: number("/producer/snapshot/totals/duplicates")?,
            staged: number("/ingester/snapshot/sums/staged_loads")?,
        })
    }

    fn say_verdict(&self, options: &Options, verdict: &Verdict, dump: &Dump, seconds: f64) -> bool {
        let Dump { duplicates, staged } = dump;
        let dir = options.dir.display();
        for complaint in &verdict.complaints {
            println!("WRONG: {complaint}");
        }
        let (producer, ingester) = (self.producer.peak_rss(), self.ingester.peak_rss());
        println!("peak memory: producer {}, ingester {}", bytes(producer), bytes(ingester));
        if *staged > 0 {
            println!(
                "{staged} batches were compared with the table as they were loaded; it had {} of their rows already",
                verdict.known
            );
        }
        println!("look around:");
        println!("  target/release/state dump --config {dir}/pipeline.toml");
        println!("  find {dir}/s3/{} -type f | sort | head -30", crate::s3::BUCKET);
        let query = "SELECT batch_id, rows_loaded, loaded_at FROM public.livestream_ledger ORDER BY 1";
        println!("  target/release/demo psql --dir {dir} -- -c '{query}'");
        if options.keep {
            println!(
                "both services are stopped; the stand-ins run until Ctrl-C. Start the services from another shell:"
            );
            for service in ["producer", "ingester"] {
                println!("  target/release/{service} run --config {dir}/pipeline.toml &");
            }
            println!("their page: http://{}/", self.page);
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate"
        )]
        let rate = (verdict.loaded as f64 / seconds) as u64;
        let Verdict { sent, loaded, filtered, rejected, lost, doubled, .. } = verdict;
        println!(
            "sent={sent} loaded={loaded} duplicates={duplicates} filtered={filtered} rejected={rejected} \
             lost={lost} doubled={doubled} seconds={seconds:.1} rows_per_s={rate}"
        );
        verdict.is_clean()
    }
}
