//! How fast a killed producer goes on: `cargo test --release -p state --test speed -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::clock::Clock;
use state::log::{Log, Settings, Upload};
use support::{Scratch, append, child, copy, now, number_from_env};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const DIR: &str = "SPEED_DIR";
const ROWS: &str = "SPEED_ROWS";

fn settings(dir: &Path) -> Settings {
    Settings { commit_rows: 256, records_per_file: 1_000, files_per_batch: 10, ..support::settings(dir) }
}

/// Not a test of its own: builds a backlog and waits to be killed.
#[test]
fn builder() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (mut log, _) = Log::open(settings(Path::new(&dir)), now()).unwrap();
    append(&mut log, 0..number_from_env(ROWS, 0), 256, now(), &mut fastrand::Rng::with_seed(1)).unwrap();
    std::io::stdout().write_all(b"\nbuilt\n").unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "prints a measurement"]
fn speed_of_resuming() {
    for rows in [10_000_u64, 1_000_000] {
        let scratch = Scratch::new();
        let mut builder =
            child("builder").env(DIR, scratch.path()).env(ROWS, rows.to_string()).spawn().unwrap();
        let mut lines = BufReader::new(builder.stdout.take().unwrap()).lines();
        let built = lines.any(|line| line.unwrap() == "built");
        builder.kill().unwrap();
        builder.wait().unwrap();
        assert!(built, "the builder ended by itself");
        for what in ["after a kill", "once more"] {
            let started = Clock::system().steady();
            let (log, resumed) = Log::open(settings(scratch.path()), now()).unwrap();
            let ready = started.until(Clock::system().steady()).as_millis();
            assert_eq!((resumed.rows, resumed.hits as u64), (rows, rows));
            println!("{rows} rows pending, opened {what}: ready in {ready} ms with {} hits", resumed.hits);
            drop(log);
        }
    }
}

/// Not a test of its own: a backlog of `ROWS`, closed in order. Nearly every fifth file went to S3, from between what
/// stays, as a free segment needs.
#[test]
fn backlog() {
    let (Some(dir), rows) = (std::env::var_os(DIR), number_from_env(ROWS, 0)) else { return };
    let (mut log, _) = Log::open(settings(Path::new(&dir)), now()).unwrap();
    append(&mut log, 0..rows, 256, now(), &mut fastrand::Rng::with_seed(2)).unwrap();
    // A file holds whole commits, a few more rows than its 1,000.
    for file in (0..rows / 1_100).step_by(5) {
        let (crc32, etag) = ("AAAAAA==".to_owned(), "e".to_owned());
        log.uploaded(file, Upload { bytes: file, crc32, etag, content: None }).unwrap();
    }
    log.close(now()).unwrap();
}

/// Not a test of its own: resumes a backlog, and rows come until it is killed.
#[test]
fn churner() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (now, mut random) = (now(), fastrand::Rng::with_seed(3));
    let (mut log, resumed) = Log::open(settings(Path::new(&dir)), now).unwrap();
    assert!(resumed.rows > 0);
    let mut more = |count| {
        let first = log.totals().rows;
        append(&mut log, first..first + count, 256, now, &mut random).unwrap();
    };
    more(5_000);
    std::io::stdout().write_all(b"\nbuilt\n").unwrap();
    loop {
        more(256);
    }
}

/// Counts how often a copy of a database is read first, which the log says.
struct Copies(AtomicU64);

static COPIES: Copies = Copies(AtomicU64::new(0));

impl Subscriber for &'static Copies {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "state::store::trial"
    }
    fn event(&self, _event: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

/// Bytes that this process has made the disk write so far; 0 on a file system in memory.
fn bytes_written() -> u64 {
    let counts = std::fs::read_to_string("/proc/self/io").unwrap();
    let count = counts.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    count.unwrap().parse().unwrap()
}

/// `SPEED_KILLS` starts of each size, from copies of one backlog; `SPEED_BACKLOG` is another number of rows of the large
/// one. Each line says how the start went: its time, whether a copy of the database had to be read first, and what the
/// start made the disk write.
#[test]
#[ignore = "prints a measurement"]
fn speed_of_starts_after_a_kill() {
    tracing::subscriber::set_global_default(&COPIES).unwrap();
    for rows in [30_000, number_from_env("SPEED_BACKLOG", 2_200_000)] {
        let whole = Scratch::new();
        let built = child("backlog").env(DIR, whole.path()).env(ROWS, rows.to_string()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        for kill in 0..number_from_env("SPEED_KILLS", 5) {
            let scratch = Scratch::new();
            copy(whole.path(), scratch.path());
            let mut churner = child("churner").env(DIR, scratch.path()).spawn().unwrap();
            let mut lines = BufReader::new(churner.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap() == "built"), "the churner ended by itself");
            std::thread::sleep(Duration::from_millis(50 + 37 * kill));
            churner.kill().unwrap();
            churner.wait().unwrap();
            let mib = std::fs::metadata(scratch.join("sled/db")).unwrap().len() >> 20;
            let forget = kill % 2 == 1;
            if forget {
                std::fs::remove_file(scratch.join("spare")).unwrap();
            }
            let (copies, written) = (COPIES.0.load(Ordering::Relaxed), bytes_written());
            let started = Clock::system().steady();
            let (log, _) = Log::open(settings(scratch.path()), now()).unwrap();
            let ready = started.until(Clock::system().steady()).as_millis();
            let written = (bytes_written() - written) >> 20;
            let copied = if COPIES.0.load(Ordering::Relaxed) > copies {
                "a copy was read"
            } else {
                "no copy was needed"
            };
            let how = if forget { "without the file `spare`" } else { "as it was left" };
            println!(
                "{rows} rows, {mib} MiB, {how}: ready {ready} ms after a kill, {copied}, {written} MiB written"
            );
            drop(log);
        }
    }
}
