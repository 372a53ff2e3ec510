//! What the log takes of disk and memory has bounds, and a full disk ends it with a clear word and no loss.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use shared::clock::Clock;
use shared::exit::{Exit, Failure};
use state::log::{Log, LogError, Settings, Upload};
use state::store::StoreError;
use support::{Scratch, append, child, now, number_from_env, own_mounts, skipped};

fn settings(dir: &Path) -> Settings {
    Settings {
        commit_rows: 1_000,
        records_per_file: 1_000,
        files_per_batch: 10,
        dedup_hits: 100_000,
        ..support::settings(dir)
    }
}

fn upload() -> Upload {
    Upload { bytes: 1, crc32: "AAAAAA==".to_owned(), etag: "e".to_owned(), content: None }
}

/// Bytes a directory takes on disk. A file that goes while we look takes none.
fn disk_bytes(dir: &Path) -> u64 {
    let items = fs::read_dir(dir).unwrap();
    items
        .filter_map(|item| {
            let item = item.unwrap();
            let meta = item.metadata().ok()?;
            Some(if meta.is_dir() { disk_bytes(&item.path()) } else { meta.blocks() * 512 })
        })
        .sum()
}

#[test]
fn the_disk_holds_what_waits_and_not_the_history() {
    const ALIVE_FILES: usize = 19;
    let rows = number_from_env("BOUNDS_ROWS", 500_000);
    // The short run would pass 128 MB with all of its rows on disk.
    let bound = if rows >= 5_000_000 { 128 << 20 } else { 32 << 20 };
    let scratch = Scratch::new();
    // Batches small enough that the long run passes the number of them that is kept: a leaf of records that are kept
    // and no longer written keeps a whole segment of sled's on disk.
    let settings = Settings { files_per_batch: 4, ..settings(scratch.path()) };
    let (mut log, _) = Log::open(settings, now()).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let (mut waiting, mut sealed, mut most) = (VecDeque::new(), VecDeque::new(), 0);
    let started = Clock::system().steady();
    for first in (0..rows).step_by(1_000) {
        let (closed, done) = append(&mut log, first..first + 1_000, 1_000, now(), &mut random).unwrap();
        waiting.extend(closed);
        sealed.extend(done);
        while waiting.len() > ALIVE_FILES {
            log.uploaded(waiting.pop_front().unwrap(), upload()).unwrap();
        }
        while let Some(batch) = sealed.front() {
            let record = log.reader().batch(*batch).unwrap();
            if waiting.front().is_some_and(|file| *file < record.first_file + u64::from(record.files)) {
                break;
            }
            log.published(*batch, now()).unwrap();
            sealed.pop_front();
        }
        most = most.max(disk_bytes(scratch.path()));
        assert!(most < bound, "{} MB on disk after {first} rows", most >> 20);
        assert_eq!(fs::read_dir(scratch.join("sled/blobs")).unwrap().count(), 0, "blobs after {first} rows");
        if (first + 1_000) % 1_000_000 == 0 {
            println!("{} rows passed, {} MB on disk at most", first + 1_000, most >> 20);
        }
    }
    let seconds = started.until(Clock::system().steady()).as_secs_f64();
    println!(
        "{rows} rows passed in {seconds:.1} s, {} files waiting at most: {:.1} MB on disk at most",
        ALIVE_FILES + 1,
        most as f64 / f64::from(1 << 20)
    );
}

#[test]
fn a_log_is_full_at_its_limit_and_has_room_again_after_uploads() {
    let scratch = Scratch::new();
    let small = Settings { max_bytes: 200_000, ..settings(scratch.path()) };
    let (mut log, _) = Log::open(small.clone(), now()).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut files = Vec::new();
    for first in (0..).step_by(1_000) {
        assert!(log.waiting_bytes() < 200_000);
        files.extend(append(&mut log, first..first + 1_000, 1_000, now(), &mut random).unwrap().0);
        if log.is_full() {
            break;
        }
    }
    assert!(files.len() > 1 && log.waiting_bytes() < 400_000, "{} bytes", log.waiting_bytes());
    drop(log);
    let (mut log, _) = Log::open(small, now()).unwrap();
    assert!(log.is_full() && !log.has_room(), "a restart makes no room");
    for file in files {
        log.uploaded(file, upload()).unwrap();
        // A twentieth is free by then.
        assert_eq!(log.has_room(), log.waiting_bytes() <= 190_000);
    }
    assert!(!log.is_full() && log.has_room() && log.waiting_bytes() == 0);
}

/// The directory on the small disk, of the children below.
const FULL_DISK: &str = "BOUNDS_FULL_DISK";
const SMALL: &str = "16m";
const ENLARGED: &str = "64m";

/// Not a test of its own: appends until the disk is full, and ends as the producer does.
#[test]
fn full_disk_filler() {
    let Some(dir) = std::env::var_os(FULL_DISK) else { return };
    let failed = fill(Path::new(&dir)).unwrap_err();
    let (kind, text) = match &failed {
        LogError::Store(StoreError::Io { error, .. }) => (error.kind(), failed.to_string()),
        other => panic!("{other:?}"),
    };
    say(&format!("failed {kind:?} {text}"));
    assert_eq!(Failure::from(failed).exit(), Exit::Io);
    say("ended");
}

fn fill(dir: &Path) -> Result<(), LogError> {
    let (mut log, _) = Log::open(settings(dir), now())?;
    let mut random = fastrand::Rng::with_seed(1);
    for first in (0..).step_by(1_000) {
        append(&mut log, first..first + 1_000, 1_000, now(), &mut random)?;
        say(&format!("accepted {}", log.totals().rows));
    }
    Ok(())
}

/// Not a test of its own: reopens on the enlarged disk, and goes on.
#[test]
fn full_disk_reopener() {
    let Some(dir) = std::env::var_os(FULL_DISK) else { return };
    let (mut log, resumed) = Log::open(settings(Path::new(&dir)), now()).unwrap();
    let (reader, mut rows, mut found, mut file) = (log.reader(), Vec::new(), 0, 0);
    while let Ok(record) = reader.file(file) {
        reader.rows(file, &mut rows).unwrap();
        (found, file) = (found + record.rows, file + 1);
    }
    let lines = rows.iter().filter(|byte| **byte == b'\n').count() as u64;
    assert_eq!((found, lines, found), (resumed.rows, found, log.totals().rows));
    let mut random = fastrand::Rng::with_seed(2);
    append(&mut log, 10_000_000..10_005_000, 1_000, now(), &mut random).unwrap();
    log.close(now()).unwrap();
    say(&format!("found {found}"));
}

/// Not a test of its own: makes the small disk, in a mount namespace that ends with it.
#[test]
fn full_disk_stage() {
    let Some(dir) = std::env::var_os(FULL_DISK) else { return };
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        let status = command.args(["-t", "tmpfs", "-o", options, "none"]).arg(&dir).status().unwrap();
        assert!(status.success(), "mount -o {options}");
    };
    mount(&format!("size={SMALL}"));
    run_child("full_disk_filler", Path::new(&dir));
    // A service manager starts it again before anybody has made space.
    run_child("full_disk_filler", Path::new(&dir));
    mount(&format!("remount,size={ENLARGED}"));
    run_child("full_disk_reopener", Path::new(&dir));
}

fn run_child(name: &str, dir: &Path) {
    let mut child = child(name).env(FULL_DISK, dir).stdout(Stdio::inherit()).spawn().unwrap();
    let deadline = Clock::system().steady() + Duration::from_secs(60);
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return assert!(status.success(), "{name}: {status}"),
            None if Clock::system().steady() > deadline => {
                child.kill().unwrap();
                panic!("{name} hangs");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn say(line: &str) {
    io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

#[test]
fn a_full_disk_ends_the_log_with_a_clear_error_and_loses_nothing_accepted() {
    let Some(way) = own_mounts() else {
        return skipped("a full disk: this user may mount nothing");
    };
    let scratch = Scratch::new();
    let mut command = Command::new(way[0]);
    command.args(&way[1..]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "full_disk_stage", "--nocapture"]);
    let output = command.env(FULL_DISK, scratch.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let number = |word: &str| {
        let mut lines = said.lines().rev().filter_map(|line| line.strip_prefix(word));
        lines.next().map_or(0, |number| number.trim().parse().unwrap())
    };
    let (accepted, found): (u64, u64) = (number("accepted "), number("found "));
    let failures: Vec<&str> = said.lines().filter(|line| line.starts_with("failed ")).collect();
    let tail = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{failures:?}; {accepted} accepted, {found} found\n{tail}");
    assert_eq!(failures.len(), 2, "{failures:?}");
    for failed in failures {
        assert!(failed.starts_with("failed StorageFull"), "{failed}");
        assert!(
            failed.contains("the disk is full") && failed.contains("nothing accepted is lost"),
            "{failed}"
        );
    }
    // The commit that failed may be there: whole, or not at all.
    assert!(accepted > 0 && (found == accepted || found == accepted + 1_000), "{accepted} {found}");
}

/// The directory of the child below.
const MEMORY: &str = "BOUNDS_MEMORY";

/// Not a test of its own: goes on appending to a log with a long backlog, and says what memory that took.
#[test]
fn memory_child() {
    let Some(dir) = std::env::var_os(MEMORY) else { return };
    let settings = Settings { dedup_hits: 10_000, ..settings(Path::new(&dir)) };
    let (mut log, _) = Log::open(settings, now()).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    for first in (0..1_000_000).step_by(10_000) {
        append(&mut log, first..first + 10_000, 1_000, now(), &mut random).unwrap();
    }
    say(&format!("peak {}", peak_memory()));
}

/// The most memory this process ever had, in bytes.
fn peak_memory() -> u64 {
    let mut status = String::new();
    fs::File::open("/proc/self/status").unwrap().read_to_string(&mut status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_million_rows_that_wait_stand_on_disk_and_not_in_memory() {
    // The cache of 32 MiB, and what the program, zstd and the hits take.
    const MOST: u64 = 48 << 20;
    let scratch = Scratch::new();
    let output = child("memory_child").env(MEMORY, scratch.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let peak = said.lines().find_map(|line| line.strip_prefix("peak ")).unwrap().parse::<u64>().unwrap();
    println!("{} MB of memory at most, {} MB on disk", peak >> 20, disk_bytes(scratch.path()) >> 20);
    assert!(peak < MOST, "{} MB", peak >> 20);
}
