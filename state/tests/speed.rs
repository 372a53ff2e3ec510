//! How fast a killed producer goes on: `cargo test --release -p state --test speed -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::Utc;
use state::log::{Log, Settings, Upload};
use support::{Scratch, append, child, number_from_env};

const DIR: &str = "SPEED_DIR";
const ROWS: &str = "SPEED_ROWS";

fn settings(dir: &Path) -> Settings {
    Settings { commit_rows: 256, records_per_file: 1_000, files_per_batch: 10, ..support::settings(dir) }
}

/// Not a test of its own: builds a backlog and waits to be killed.
#[test]
fn builder() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (mut log, _) = Log::open(settings(Path::new(&dir)), Utc::now()).unwrap();
    append(&mut log, 0..number_from_env(ROWS, 0), 256, Utc::now(), &mut fastrand::Rng::with_seed(1)).unwrap();
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
            let started = Instant::now();
            let (log, resumed) = Log::open(settings(scratch.path()), Utc::now()).unwrap();
            let ready = started.elapsed().as_millis();
            assert_eq!((resumed.rows, resumed.hits as u64), (rows, rows));
            println!("{rows} rows pending, opened {what}: ready in {ready} ms with {} hits", resumed.hits);
            drop(log);
        }
    }
}

/// Not a test of its own: a backlog of `ROWS` that was resumed once, as a free segment needs, and goes on until it is
/// killed: rows come, and those of the oldest files go to S3.
#[test]
fn churner() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let (now, mut random) = (Utc::now(), fastrand::Rng::with_seed(2));
    for life in 0..2 {
        let (mut log, resumed) = Log::open(settings(dir), now).unwrap();
        let first = log.totals().rows;
        let more = if life == 0 { number_from_env(ROWS, 0) } else { 5_000 };
        append(&mut log, first..first + more, 256, now, &mut random).unwrap();
        if life == 0 {
            // A tenth of it goes, from between what stays.
            for file in 0..more / 10_000 * 2 {
                let (crc32, etag) = ("AAAAAA==".to_owned(), "e".to_owned());
                log.uploaded(file * 5, Upload { bytes: file, crc32, etag, content: None }).unwrap();
            }
            log.close(now).unwrap();
            continue;
        }
        assert!(resumed.rows > 0);
        std::io::stdout().write_all(b"\nbuilt\n").unwrap();
        loop {
            let first = log.totals().rows;
            append(&mut log, first..first + 256, 256, now, &mut random).unwrap();
        }
    }
}

#[test]
#[ignore = "prints a measurement"]
fn speed_of_starts_after_a_kill() {
    for rows in [30_000_u64, 2_200_000] {
        for kill in 0..number_from_env("SPEED_KILLS", 5) {
            let scratch = Scratch::new();
            let mut churner =
                child("churner").env(DIR, scratch.path()).env(ROWS, rows.to_string()).spawn().unwrap();
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
            let started = Instant::now();
            let (log, _) = Log::open(settings(scratch.path()), Utc::now()).unwrap();
            let how = if forget { "without the file `spare`" } else { "as it was left" };
            println!("{mib} MiB, {how}: ready {} ms after a kill", started.elapsed().as_millis());
            drop(log);
        }
    }
}
