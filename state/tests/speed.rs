//! How fast a killed producer goes on: `cargo test --release -p state --test speed -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Instant;

use chrono::Utc;
use state::log::{Log, Settings};
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
