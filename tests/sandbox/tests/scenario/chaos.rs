//! The fault campaign: two producers of one stream, each with a log of its own, and two ingesters run while everything
//! goes wrong that the stand-ins can do, by a seed, and operators do what they do; then the faults stop, all settles, and the
//! judge looks from outside. A campaign of ten minutes or more fails when it did not meet every kind of fault and every
//! rare way through the code ([`met`]).
//!
//! `CHAOS_SECONDS` says how long (two minutes if not given), `CHAOS_SEED` what happens. Time is real, so the same seed
//! repeats the script and not every interleaving.

mod met;
mod operator;
pub(crate) mod script;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use fastrand::Rng;
use redshift::Redshift;
use rustix::process::Signal;
use sandbox::config::Shape;
use sandbox::judge::{Done, LEDGER, Narrow, Verdict, files_below};
use sandbox::s3::{BUCKET, S3};
use sandbox::service::{Service, tail};

use crate::world::{STOP, World, options};
use met::Struck;
use operator::Operator;

/// Hits a second, by the clock.
const RATE: u64 = 200;
const PRODUCERS: [&str; 2] = ["producer-a", "producer-b"];
const INGESTERS: [&str; 2] = ["ingester-a", "ingester-b"];
/// What Adobe holds for a producer that comes back: more than it can be away.
const HELD: u64 = 60 * RATE;
/// Longest time from the last fault until everything is settled, of a short campaign. A long one may have left more: there
/// is hardly a batch without a refused row, so each is loaded alone and searched, on a machine that may be busy.
const SETTLE: Duration = Duration::from_secs(300);
/// A campaign of so many seconds meets everything.
const LONG: u64 = 600;
/// Of the hits, at least this share in 1,000 is refused by the narrow column.
const REFUSED_PER_MILLE: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_nothing_is_lost_or_doubled_and_every_count_adds_up() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = number("CHAOS_SEED").unwrap_or_else(|| UNIX_EPOCH.elapsed().unwrap().as_secs() % 1_000_000);
    let seconds = number("CHAOS_SECONDS").unwrap_or(120);
    let again = format!("make chaos CHAOS_SEED={seed} CHAOS_SECONDS={seconds}");
    println!("chaos: seed {seed}, {seconds} s");
    let mut campaign = Campaign::new(seed, seconds).await;
    let dir = campaign.world.keep();
    let outcome = campaign.run(Duration::from_secs(seconds)).await;
    println!("{}", campaign.describe());
    match outcome {
        Ok(verdict) if verdict.is_clean() => {
            let Verdict { sent, loaded, quarantined, known, filtered, rejected, lost, doubled, .. } = verdict;
            println!(
                "sent={sent} loaded={loaded} known={known} quarantined={quarantined} filtered={filtered} rejected={rejected} \
                 lost={lost} doubled={doubled}; every batch adds up\nagain: {again}"
            );
            assert_eq!(sent, loaded + quarantined + filtered);
            let missing = campaign.struck().missing(&campaign.rare());
            assert!(seconds < LONG || missing.is_empty(), "never met: {missing:?}\nagain: {again}");
            campaign.world.forget();
        }
        Ok(verdict) => panic!("{verdict:#?}\nits files: {}\nagain: {again}", dir.display()),
        Err(why) => panic!("{why}\nits files: {}\nagain: {again}", dir.display()),
    }
}

struct Campaign {
    world: World,
    random: Rng,
    serializable: bool,
    producers: Vec<Service>,
    ingesters: Vec<Service>,
    /// What was done to services, and how often.
    disturbed: BTreeMap<String, u64>,
    operator: Operator,
    batches: i64,
    loaders: i64,
    settled: Duration,
}

impl Campaign {
    async fn new(seed: u64, seconds: u64) -> Self {
        let hits = RATE * seconds;
        // Whoever takes over from a producer that is gone gets some thousand hits again, and some come to both anyway.
        let delivery = adobe::Delivery { handover: 2, twice_per_mille: 20, ..adobe::Delivery::default() };
        let adobe = adobe::Options { rate: Some(RATE), hold: HELD, delivery, ..options(hits) };
        let adobe = adobe::Options { plan: adobe::Plan { seed, ..adobe.plan }, ..adobe };
        let shape = Shape { records_per_file: 250, files_per_batch: 4, ..Shape::default() };
        let narrow = narrow(&adobe::Generator::new(adobe.plan));
        let mut world = World::altered(adobe, &shape, configure, Some(narrow)).await;
        let serializable = seed % 2 == 1;
        world.standins.redshift.ways().set_serializable(serializable);
        let producers = PRODUCERS.map(|name| world.start_another("producer", name)).into();
        let ingesters = INGESTERS.map(|name| world.start_ingester(name)).into();
        let configs = |names: [&str; 2]| names.map(|name| world.path(&format!("{name}.toml"))).into();
        let trims = seed.is_multiple_of(3);
        let operator = Operator::new(configs(PRODUCERS), configs(INGESTERS), trims);
        world.done = Done { trimmed: trims, ..world.done };
        let random = Rng::with_seed(seed);
        let (disturbed, settled) = (BTreeMap::new(), Duration::ZERO);
        Self {
            world,
            random,
            serializable,
            producers,
            ingesters,
            disturbed,
            operator,
            batches: 0,
            loaders: 0,
            settled,
        }
    }

    async fn run(&mut self, time: Duration) -> Result<Verdict, String> {
        let (begun, mut is_wide) = (Instant::now(), false);
        while begun.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(self.random.u64(50..700))).await;
            self.look()?;
            if !is_wide && begun.elapsed() > time * 2 / 3 {
                is_wide = true;
                self.operator.widen(&self.world).await;
            }
            match self.random.u32(..100) {
                0..38 => script::redshift(&mut self.random, &self.world.standins.redshift),
                38..70 => script::s3(&mut self.random, &self.world.standins.s3),
                70..80 => script::adobe(&mut self.random, &self.world.standins.adobe, RATE),
                80..88 => self.kill().await?,
                88..92 => self.stop_for_a_while().await?,
                92..98 => {
                    let services = self.producers.iter_mut().chain(&mut self.ingesters).collect();
                    self.operator.act(&mut self.random, &self.world, services).await?;
                }
                // What comes through meanwhile is what the next faults strike.
                _ => tokio::time::sleep(Duration::from_secs(3)).await,
            }
        }
        self.settle(SETTLE + time / 2).await
    }

    fn redshift(&self) -> &Redshift {
        &self.world.standins.redshift
    }

    fn s3(&self) -> &S3 {
        &self.world.standins.s3
    }

    fn services(&mut self) -> Vec<&mut Service> {
        self.producers.iter_mut().chain(self.ingesters.iter_mut()).collect()
    }

    /// None may end by itself, whatever happens.
    fn look(&mut self) -> Result<(), String> {
        self.services()
            .into_iter()
            .try_for_each(|service| service.look().map_err(|error| format!("{error:#}")))
    }

    /// One of the four.
    fn any(&mut self) -> (&'static str, usize) {
        let n = self.random.usize(..4);
        (if n < PRODUCERS.len() { "producer" } else { "ingester" }, n)
    }

    /// Rejects that have not gone to S3; none if a producer cannot be asked.
    async fn rejects(&self) -> Option<u64> {
        let mut waiting = 0;
        for name in PRODUCERS {
            waiting += self.world.snapshot_of(name).await?.rejects_waiting;
        }
        Some(waiting)
    }

    /// Whether a producer has something that is not published.
    async fn unpublished(&self) -> bool {
        for name in PRODUCERS {
            let Some(snapshot) = self.world.snapshot_of(name).await else { return true };
            if snapshot.batches.iter().any(|batch| batch.published.is_none()) {
                return true;
            }
        }
        false
    }

    async fn kill(&mut self) -> Result<(), String> {
        let (name, n) = self.any();
        let away = Duration::from_millis(self.random.u64(..1_500));
        *self.disturbed.entry(format!("{name} killed")).or_default() += 1;
        let service = self.services().remove(n);
        service.kill().map_err(|error| format!("{error:#}"))?;
        tokio::time::sleep(away).await;
        service.start_again().map_err(|error| format!("{error:#}"))
    }

    /// A process that the machine does not get round to.
    async fn stop_for_a_while(&mut self) -> Result<(), String> {
        let (name, n) = self.any();
        let lasting = Duration::from_millis(self.random.u64(200..5_000));
        *self.disturbed.entry(format!("{name} halted")).or_default() += 1;
        let service = self.services().remove(n);
        service.signal(Signal::STOP).map_err(|error| format!("{error:#}"))?;
        tokio::time::sleep(lasting).await;
        service.signal(Signal::CONT).map_err(|error| format!("{error:#}"))
    }

    /// No fault any more: all that was sent must come to its end.
    async fn settle(&mut self, patience: Duration) -> Result<Verdict, String> {
        let begun = Instant::now();
        self.world.standins.adobe.faults().clear();
        self.s3().faults().clear();
        self.redshift().faults().clear();
        self.operator.end(&self.world).await?;
        let hits = self.world.standins.adobe.generator().plan().hits;
        let wanted = self.world.wanted();
        loop {
            self.look()?;
            let sent = self.world.standins.adobe.distinct_sent();
            let loaded = self.loaded().await;
            let (rejects, unpublished) = (self.rejects().await, self.unpublished().await);
            let folders = files_below(&self.world.path("s3").join(BUCKET).join("ToIngest"));
            let left = folders.map_err(|error| error.to_string())?.len();
            if sent == hits && loaded >= wanted && rejects == Some(0) && !unpublished && left == 0 {
                break;
            }
            if begun.elapsed() > patience {
                let said: Vec<_> = self.services().iter().map(|service| tail(&service.said())).collect();
                return Err(format!(
                    "not settled {patience:?} after the last fault: {sent} of {hits} sent, {loaded} of {wanted} loaded, \
                     {rejects:?} rejects wait, {left} objects to load\n{}",
                    said.join("\n----\n")
                ));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.settled = begun.elapsed();
        self.operator.agree().await?;
        // Time for what should not come: a second load of something.
        tokio::time::sleep(Duration::from_secs(6)).await;
        for service in self.services() {
            service.stop(STOP).await.map_err(|error| format!("{error:#}"))?;
        }
        let count = format!("SELECT count(*), count(DISTINCT loaded_by) FROM {LEDGER}");
        let count = self.world.judge.query_one(&count, &[]).await.map_err(|error| error.to_string())?;
        (self.batches, self.loaders) = (count.get(0), count.get(1));
        let mut verdict = self.world.verdict().await;
        let seals = files_below(&self.world.path("s3").join(BUCKET).join("Ingested")).unwrap_or_default();
        let seals = seals.iter().filter(|path| path.ends_with("batch.json")).count();
        if i64::try_from(seals) != Ok(self.batches) && !self.world.done.trimmed {
            verdict.complaints.push(format!("{} batches in the ledger, {seals} archived", self.batches));
        }
        Ok(verdict)
    }

    /// Rows of the table and in quarantine: the ledger may have been trimmed.
    async fn loaded(&self) -> u64 {
        let quarantined = format!("(SELECT coalesce(sum(rows_quarantined), 0) FROM {LEDGER})");
        self.world.count(&format!("(count(*) + {quarantined})::bigint FROM public.livestream")).await
    }

    /// How often each kind of fault struck, and each thing was done.
    fn struck(&self) -> Struck {
        Struck {
            redshift: self.redshift().faults().struck(),
            s3: self.s3().faults().struck(),
            adobe: self.world.standins.adobe.faults().struck(),
            services: self.disturbed.clone(),
            operators: self.operator.done.clone(),
        }
    }

    /// How often each rare way was gone.
    fn rare(&self) -> BTreeMap<&'static str, usize> {
        let name = |service: &'static str, name: &str| self.world.path(&format!("logs-{name}/{service}.out"));
        let producers = PRODUCERS.iter().map(|producer| name("producer", producer));
        met::rare(producers.chain(INGESTERS.iter().map(|ingester| name("ingester", ingester))))
    }

    /// What was survived.
    fn describe(&self) -> String {
        let mut lines = Vec::new();
        let mut all = 0;
        for (name, counts, of_faults) in self.struck().groups() {
            let sum: u64 = counts.values().sum();
            all += if of_faults { sum } else { 0 };
            lines.push(format!("{name} ({sum}):"));
            lines.extend(counts.iter().map(|(what, times)| format!("  {times:>5} {what}")));
        }
        lines.push("rare ways, by what the services said:".to_owned());
        lines.extend(self.rare().iter().map(|(what, times)| format!("  {times:>5} {what}")));
        let level = if self.serializable { "serializable" } else { "snapshot" };
        let (conflicts, requests) = (self.redshift().faults().conflicts(), self.s3().requests().total());
        lines.push(format!(
            "{all} faults at {level} isolation, {conflicts} conflicts of its own; {requests} requests to S3; {} batches \
             by {} processes, {} COPYs into stages; settled {:.1} s after the last fault",
            self.batches,
            self.loaders,
            self.world.staged_and_plain().0,
            self.settled.as_secs_f64()
        ));
        lines.join("\n")
    }
}

/// Waits that fit a campaign of minutes; a batch waits whole only if nearly all of it is refused.
fn configure(text: &str) -> String {
    operator::with_schema(text)
        .replace("[adobe]\n", "[adobe]\nmax_connections = 2\nidle_timeout = \"3s\"\nretry_max = \"2s\"\n")
        .replace("[s3]\n", "[s3]\ntimeout = \"5s\"\n")
        .replace("retry_max = \"10s\"", "retry_first = \"200ms\"\nretry_max = \"5s\"")
        .replace("[redshift]\n", "[redshift]\nlock_timeout = \"20s\"\nstatement_timeout = \"90s\"\n")
        + "\n[quarantine]\nmax_share = 0.9\n"
}

/// A width of `pagename` at which the table refuses a few rows.
fn narrow(generator: &adobe::Generator) -> Narrow {
    let hits = generator.plan().hits.min(5_000);
    let share = |narrow: Narrow| {
        (0..hits).filter(|index| narrow.refuses(generator, *index)).count() as u64 * 1_000 / hits
    };
    let widths = (1..255).rev().map(|bytes| Narrow { column: "pagename", bytes });
    let narrow = widths.into_iter().find(|narrow| share(*narrow) >= REFUSED_PER_MILLE).unwrap();
    println!("pagename is {} bytes wide: {} of 1,000 rows are refused", narrow.bytes, share(narrow));
    assert!(share(narrow) < 100, "too many rows would be refused");
    narrow
}
