//! A power cut loses nothing that was accepted. A child process writes a real log, in several lives, under strace;
//! every change it made to a file is replayed up to some moment, but of what no fsync had covered by then only a part
//! reaches the disk: some sectors and not others, some entries of a directory and not those after them. Every such
//! disk must open and hold what had been accepted.
//!
//! `POWER_CUTS=2000 POWER_SEED=5 cargo test --release --workspace --test powercut` is a long run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod disk;
#[path = "../support/mod.rs"]
mod support;
mod trace;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use state::log::{Log, Settings, Upload};

use disk::Disk;
use support::{Scratch, append, number_from_env, settings, start};
use trace::{Event, Trace};

const DIR: &str = "POWERCUT_DIR";
const LIFE: &str = "POWERCUT_LIFE";
/// Lives of the child: it is there again after each, without a power cut in between.
const LIVES: u64 = 4;
const COMMITS: u64 = 60;
const ROWS_PER_COMMIT: u64 = 200;

fn log_settings(dir: &Path) -> Settings {
    Settings { cache: 8 << 20, commit_rows: 500, records_per_file: 1_000, ..settings(dir) }
}

/// Not a test of its own: a life of the child.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let life: u64 = std::env::var(LIFE).unwrap().parse().unwrap();
    let now = start();
    let (mut log, resumed) = Log::open(log_settings(Path::new(&dir)), now).unwrap();
    let mut random = fastrand::Rng::with_seed(life);
    let (mut closed, mut sealed) = (resumed.closed, resumed.sealed);
    log.session_started(0, now).unwrap();
    for commit in 0..COMMITS {
        let first = log.totals().rows;
        let rows = first..first + ROWS_PER_COMMIT;
        let (more, done) = append(&mut log, rows, ROWS_PER_COMMIT, now, &mut random).unwrap();
        closed.extend(more);
        sealed.extend(done);
        say(&format!("accepted {}", log.totals().rows));
        if commit % 10 == 9 {
            for file in closed.drain(..) {
                let upload =
                    Upload { bytes: file, crc32: "AAAAAA==".to_owned(), etag: "e".to_owned(), content: None };
                log.uploaded(file, upload).unwrap();
            }
            for batch in sealed.drain(..) {
                log.published(batch, now).unwrap();
                say(&format!("published {batch}"));
            }
        }
    }
    if life.is_multiple_of(2) {
        log.close(now).unwrap();
    } else {
        // As a kill leaves it.
        std::process::exit(0);
    }
}

/// One write, so that strace shows it as one call.
fn say(what: &str) {
    std::io::stdout().write_all(format!("\n{what}\n").as_bytes()).unwrap();
}

fn trace_of_all_lives(dir: &Path) -> Trace {
    let (log, out) = (dir.join("log"), dir.join("trace"));
    let mut trace = Trace::new(&log);
    for life in 0..LIVES {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-xx", "-s", "100000000", "-e"]).arg(format!("trace={}", trace::CALLS));
        command.arg("-o").arg(&out).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        command.env(DIR, &log).env(LIFE, life.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().expect("strace is missing: .ci/prerequisites installs it");
        assert!(status.success(), "{status}");
        trace.read(&fs::read_to_string(&out).unwrap());
    }
    trace
}

#[test]
fn after_a_power_cut_at_any_moment_everything_accepted_is_there() {
    let scratch = Scratch::new();
    let trace = trace_of_all_lives(scratch.path());
    let (cuts, seed) = (number_from_env("POWER_CUTS", 60), number_from_env("POWER_SEED", 1));
    let accepts = trace.events.iter().filter(|event| matches!(event, Event::Said(_))).count();
    assert!(accepts as u64 >= LIVES * COMMITS, "{accepts}");
    let mut unsynced = 0;
    for cut in 0..cuts {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(cut));
        // Before the first word nothing was promised, but whatever stands there then must not be in the way.
        let last = if cut % 4 == 0 { 40 } else { trace.events.len() };
        let at = random.usize(0..=last);
        let (mut disk, mut accepted, mut published) = (Disk::default(), 0, None);
        for (no, event) in trace.events[..at].iter().enumerate() {
            match event {
                Event::Said(word) => match word.split_once(' ').unwrap() {
                    ("accepted", rows) => accepted = rows.parse().unwrap(),
                    (_, batch) => published = Some(batch.parse::<u64>().unwrap()),
                },
                event => disk.apply(no, event),
            }
        }
        unsynced += u64::from(disk.has_unsynced());
        let image = scratch.join(&format!("image-{cut}"));
        disk.write(&image, &mut random);
        let about = format!("cut {cut} (seed {seed}), event {at}, {accepted} accepted");
        let (mut log, _) =
            Log::open(log_settings(&image), start()).unwrap_or_else(|error| panic!("{about}: {error}"));
        let rows = log.totals().rows;
        assert!((accepted..=accepted + ROWS_PER_COMMIT).contains(&rows), "{about}: {rows} rows after it");
        for checked in log.reader().verify().unwrap() {
            assert!(checked.faults.is_empty(), "{about}: {:?}", checked.faults);
        }
        if let Some(batch) = published {
            let published = log.reader().batch(batch).unwrap().published;
            assert!(published.is_some(), "{about}: batch {batch} is not published any more");
        }
        // And the log goes on.
        append(&mut log, rows..rows + 5, 5, start(), &mut random).unwrap();
        assert_eq!(log.totals().rows, rows + 5, "{about}: a row that was never accepted is known");
        log.close(start()).unwrap();
        fs::remove_dir_all(&image).unwrap();
    }
    assert!(unsynced > cuts / 4, "only {unsynced} of {cuts} cuts had anything to lose");
    println!(
        "{cuts} power cuts, {unsynced} of them with something on its way; {} events",
        trace.events.len()
    );
}
