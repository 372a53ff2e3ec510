//! The soak: the services run for hours at a steady rate with a fault a minute, and what they take of the machine stays flat. The
//! same two processes run to the end of a piece: a kill would hide what grows.
//!
//! `make soak` runs one piece and adds it to `docs/soak.csv`, from which the picture and the table of docs/TESTING.md are made.

mod sample;
mod plot;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use fastrand::Rng;
use rustix::process::Signal;
use sandbox::config::Shape;
use sandbox::judge::Verdict;
use sandbox::service::Service;

use crate::chaos::script;
use crate::world::{World, options};
use sample::{Sample, Series};

/// Hits a second.
const RATE: u64 = 2_000;
const FAULT_EVERY: Duration = Duration::from_secs(60);
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// One fault in so many halts a service for a while.
const HALTS: u32 = 10;
/// Of the faults, so many in ten strike: some wait for a request that does not come.
const STRIKING: u64 = 8;
/// A shorter piece says nothing of what grows slowly.
const SHORTEST: u64 = 3_600;
/// What the stand-in of Adobe holds for a producer that is away.
const HELD: u64 = 120 * RATE;
/// The middle of the hits that are not yet loaded, in 1,000, at most: two minutes of the stream.
const BEHIND: f64 = (120 * RATE) as f64 / 1e3;
/// Longest time until what the last faults have left is loaded.
const SETTLE: Duration = Duration::from_secs(1_800);
/// Until then memory fills its caches.
const WARM: f64 = 600.0;
/// The middle of the last quarter by that of the first one, at most.
const FLAT: f64 = 1.2;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make soak runs it for as long as SOAK_SECONDS says"]
async fn nothing_grows_while_hours_go_by() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seconds = number("SOAK_SECONDS").expect("make soak says how long");
    let seed = number("SOAK_SEED").unwrap_or_else(|| UNIX_EPOCH.elapsed().unwrap().as_secs() % 1_000_000);
    println!("soak: seed {seed}, {seconds} s at {RATE} hits/s");
    assert!(seconds >= SHORTEST, "a piece of the soak takes {SHORTEST} s at least");
    let (samples, faults, verdict) = Soak::new(seed, seconds).await.run(Duration::from_secs(seconds)).await;
    assert!(verdict.is_clean(), "{verdict:#?}");
    let minutes = seconds / FAULT_EVERY.as_secs();
    assert!(faults * 10 >= minutes * STRIKING, "{faults} faults in {minutes} minutes");
    let grows = |series: &&Series| series.must_be_flat() && series.grows(&samples, WARM) > FLAT;
    let growing: Vec<_> = Series::ALL.iter().filter(grows).collect();
    assert!(
        growing.is_empty(),
        "more than {FLAT} times what it was: {growing:?}\n{}",
        table(&samples, faults, &verdict)
    );
    let [_, behind, _] = Series::Behind.spread(&samples, WARM);
    assert!(behind < BEHIND, "{behind} thousand hits are not yet loaded");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let all = sample::add(&docs.join("soak.csv"), &samples);
    fs::write(docs.join("images/soak.svg"), plot::svg(&all)).unwrap();
    let table = table(&all, faults, &verdict);
    print!("{table}");
}

/// What `make soak` puts into docs/TESTING.md.
fn table(all: &[Sample], faults: u64, verdict: &Verdict) -> String {
    let pieces = all.iter().map(|sample| sample.piece).max().unwrap_or(0) + 1;
    let seconds: f64 =
        (0..pieces).filter_map(|piece| all.iter().rfind(|sample| sample.piece == piece)).map(|s| s.at).sum();
    let mut text = format!(
        "{:.1} hours in {pieces} pieces; in the last one {} hits sent, {faults} faults, lost {}, doubled {}\n\n{:<28}{:>10}{:>10}{:>10}{:>12}\n",
        seconds / 3_600.0,
        verdict.sent,
        verdict.lost,
        verdict.doubled,
        "the last piece",
        "least",
        "middle",
        "most",
        "last/first"
    );
    let last: Vec<Sample> = all.iter().filter(|sample| sample.piece + 1 == pieces).copied().collect();
    for series in Series::ALL {
        let [least, middle, most] = series.spread(&last, WARM);
        let grows = series.grows(&last, WARM);
        text += &format!("{:<28}{least:>10.1}{middle:>10.1}{most:>10.1}{grows:>12.2}\n", series.name());
    }
    text
}

struct Soak {
    world: World,
    random: Rng,
    services: [Service; 2],
    halted: u64,
}

impl Soak {
    async fn new(seed: u64, seconds: u64) -> Self {
        let adobe = adobe::Options { rate: Some(RATE), hold: HELD, ..options(RATE * seconds) };
        let adobe = adobe::Options { plan: adobe::Plan { seed, ..adobe.plan }, ..adobe };
        // Files and batches of the sizes that a new installation has. The hit ids that are remembered reach their limit before
        // anything is compared.
        let configure = |text: &str| {
            text.replace("[log]\n", "[log]\ndedup_hits = 1000000\n")
                .replace("min_file_bytes = \"0B\"\n", "")
                .replace("min_batch_age = \"0s\"\n", "")
                .replace("retry_max = \"10s\"", "retry_first = \"200ms\"\nretry_max = \"5s\"")
        };
        let shape = Shape { max_file_age: "10s", max_batch_age: "30s", ..Shape::default() };
        let world = World::altered(adobe, &shape, configure, None).await;
        // Redshift writes no log of what it loads, and PostgreSQL would write every row twice.
        world.judge.batch_execute("ALTER TABLE public.livestream SET UNLOGGED").await.unwrap();
        let services = [world.start("producer"), world.start("ingester")];
        Self { world, random: Rng::with_seed(seed), services, halted: 0 }
    }

    async fn run(mut self, time: Duration) -> (Vec<Sample>, u64, Verdict) {
        let begun = Instant::now();
        let (mut samples, mut faulty) = (Vec::new(), begun);
        while begun.elapsed() < time {
            tokio::time::sleep(SAMPLE_EVERY).await;
            self.services.iter_mut().for_each(|service| service.look().unwrap());
            samples.push(self.sample(begun).await);
            if faulty.elapsed() >= FAULT_EVERY {
                faulty = Instant::now();
                self.fault().await;
            }
        }
        let standins = &self.world.standins;
        let (adobe, s3, redshift) =
            (standins.adobe.faults(), standins.s3.faults(), standins.redshift.faults());
        let struck = [adobe.struck(), s3.struck(), redshift.struck()];
        let faults = struck.iter().flat_map(|counts| counts.values()).sum::<u64>() + self.halted;
        adobe.clear();
        s3.clear();
        redshift.clear();
        println!("so far: {}", table(&samples, faults, &Verdict::default()));
        // A fault may have left much.
        let (wanted, begun) = (self.world.wanted(), Instant::now());
        while self.world.loaded().await < wanted && begun.elapsed() < SETTLE {
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
        let [producer, ingester] = self.services;
        (samples, faults, self.world.finish(producer, ingester).await)
    }

    async fn fault(&mut self) {
        let standins = &self.world.standins;
        if self.random.u32(..HALTS) == 0 {
            self.halted += 1;
            let service = self.random.choice(self.services.iter_mut()).unwrap();
            service.signal(Signal::STOP).unwrap();
            tokio::time::sleep(Duration::from_secs(3)).await;
            service.signal(Signal::CONT).unwrap();
            return;
        }
        match self.random.u32(..3) {
            0 => script::redshift(&mut self.random, &standins.redshift),
            1 => script::s3(&mut self.random, &standins.s3),
            _ => script::adobe(&mut self.random, &standins.adobe, RATE),
        }
    }

    async fn sample(&self, begun: Instant) -> Sample {
        let of = |service: &Service| sample::process(service.pid().unwrap());
        let sent = self.world.standins.adobe.distinct_sent();
        let loaded = self.world.loaded().await;
        let dir = |name: &str| disk(&self.world.path(name));
        Sample {
            piece: 0,
            at: begun.elapsed().as_secs_f64(),
            producer: of(&self.services[0]),
            ingester: of(&self.services[1]),
            log: dir("producer"),
            loads: dir("ingester"),
            behind: sent.saturating_sub(loaded),
        }
    }
}

/// Bytes of blocks below a folder.
fn disk(dir: &PathBuf) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}
