//! The deciding parts of both services in one process, on one thread, with a clock that is set by hand: log, upload, discovery,
//! plan, circuit breaker, the transaction of a load, archive, pauses and alerts are the product's own. S3 and Redshift are
//! simulated behind the SDK and the PostgreSQL client, the stream behind the log. A seed draws the faults. Each seed runs twice
//! and must leave the same trace.
//!
//! `SIMULATE_SECONDS` is how long to go on, `SIMULATE_SEED` runs one seed and prints its trace. What failed once stands in
//! `regressions.txt` and runs first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::needless_pass_by_value,
    clippy::if_same_then_else,
    reason = "an answer is handed over, and each question has a line of its own"
)]

mod bucket;
mod ingester;
mod outside;
mod producer;
mod rules;
mod run;
mod setup;
mod sql;
mod warehouse;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use run::Outcome;
use shared::clock::Clock;

/// Without `SIMULATE_SECONDS`.
const SECONDS: u64 = 20;
/// So many times as long at most, until everything was met.
const PATIENCE: u32 = 10;
const REGRESSIONS: &str = include_str!("regressions.txt");

/// Kinds of fault and rare paths. A run that never met one of them proves less than it says.
const MUST_BE_MET: &[&str] = &[
    "left manifests are looked for",
    "S3 is away",
    "S3 refuses: access denied",
    "S3 refuses: internal error",
    "S3 refuses: slow down",
    "S3 request lost",
    "S3 answer lost",
    "S3 request late",
    "killed before an S3 request",
    "killed after an S3 request",
    "Redshift is away",
    "Redshift refuses: 1023",
    "Redshift refuses: disk full",
    "Redshift refuses: unknown",
    "Redshift refuses: permission",
    "Redshift statement lost",
    "Redshift answer lost",
    "COMMIT carried out, answer lost",
    "COMMIT lost and carried out later",
    "COMMIT lost and rolled back later",
    "orphan session",
    "killed before a statement",
    "killed after a statement",
    "killed after COMMIT",
    "the producer is killed within a step",
    "the producer is killed between two steps",
    "the ingester is killed within a step",
    "the ingester is killed between two steps",
    "the stream breaks",
    "the clock is set forward",
    "the clock is set back",
    "the clock is set right",
    "the operator pauses loading",
    "the operator resumes loading",
    "the configuration is reloaded",
    "the target of alerts takes nothing",
    "the log is full",
    "the lock is held",
    "an orphan session is ended",
    "one COPY of several batches",
    "staged load",
    "the table had hits of a batch",
    "a batch is found again after it was archived",
    "a batch failed three times in a row",
    "a step of the loader in a pause",
    "an alert tells of an outage of Redshift",
    "the circuit breaker holds loading",
    "an alert is told",
    "an alert is told again",
    "the end of an alert is told",
];

/// A directory in memory, where there is one: what a disk does is not simulated.
fn scratch() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

fn once(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = scratch();
    runtime.block_on(run::run(seed, dir.path()))
}

/// Runs a seed twice. Panics with the end of its trace when a promise was broken, or the runs differ.
fn simulate(seed: u64, met: &mut BTreeMap<&'static str, u64>) -> Duration {
    let (first, second) = (once(seed), once(seed));
    let told = format!(
        "SIMULATE_SEED={seed} make simulate; add the seed to tests/sandbox/tests/simulation/regressions.txt"
    );
    let from = first.trace.len().saturating_sub(40);
    let end = first.trace[from..].join("\n");
    assert!(first.wrong.is_empty(), "{end}\n{}\nrepeat it: {told}", first.wrong.join("\n"));
    if first.trace != second.trace {
        let at = first.trace.iter().zip(&second.trace).take_while(|(a, b)| a == b).count();
        let around = |trace: &[String]| trace[at.saturating_sub(10)..trace.len().min(at + 3)].join("\n");
        panic!(
            "the same seed ran differently from line {at} on:\n{}\nand then\n{}\nrepeat it: {told}",
            around(&first.trace),
            around(&second.trace)
        );
    }
    for outcome in [&first, &second] {
        outcome.met.iter().for_each(|(what, times)| *met.entry(what).or_default() += times);
    }
    first.simulated + second.simulated
}

/// What all seeds came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    simulated: Duration,
    met: BTreeMap<&'static str, u64>,
}

impl Sum {
    fn add(&mut self, simulated: Duration, met: &BTreeMap<&'static str, u64>) {
        self.seeds += 1;
        self.simulated += simulated;
        met.iter().for_each(|(what, times)| *self.met.entry(what).or_default() += times);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn never_met(met: &BTreeMap<&'static str, u64>) -> Vec<&'static str> {
    MUST_BE_MET.iter().copied().filter(|what| !met.contains_key(what)).collect()
}

#[test]
fn every_seed_keeps_the_promises_and_runs_the_same_twice() {
    if let Some(seed) = number("SIMULATE_SEED") {
        println!("{}", once(seed).trace.join("\n"));
        simulate(seed, &mut BTreeMap::new());
        return;
    }
    let clock = Clock::system();
    let began = clock.steady();
    let limit = Duration::from_secs(number("SIMULATE_SECONDS").unwrap_or(SECONDS));
    let committed = REGRESSIONS.lines().filter_map(|line| line.split('#').next()?.trim().parse::<u64>().ok());
    let first = number("SIMULATE_FROM").unwrap_or(1);
    let (next, sum) = (Mutex::new(committed.chain(first..)), Mutex::new(Sum::default()));
    // A seed runs on one thread, and as many seeds run side by side as there are cores.
    let seed_after_seed = || {
        loop {
            let seed = next.lock().unwrap().next().unwrap();
            let mut own = BTreeMap::new();
            let simulated = simulate(seed, &mut own);
            let mut sum = sum.lock().unwrap();
            sum.add(simulated, &own);
            // A slow machine needs longer to meet everything.
            let elapsed = began.until(clock.steady());
            if elapsed > limit && (never_met(&sum.met).is_empty() || elapsed > limit * PATIENCE) {
                break;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(seed_after_seed);
        }
    });
    let Sum { seeds, simulated, met } = sum.into_inner().unwrap();
    let took = began.until(clock.steady()).as_secs_f64();
    let days = simulated.as_secs_f64() / 86_400.0;
    println!("{seeds} seeds, each twice: {days:.0} days in {took:.0} s, {:.0} a minute", days * 60.0 / took);
    met.iter().for_each(|(what, times)| println!("{times:>8} {what}"));
    let never = never_met(&met);
    assert!(never.is_empty(), "never met: {never:?}");
}
