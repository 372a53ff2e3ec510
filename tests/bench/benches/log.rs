//! How fast rows become durable: `cargo bench --workspace --bench log`.
//!
//! In one run, in turns, with the same rows and the same number of rows a commit: our log; a plain file with
//! fdatasync, which is the limit that no log on this disk beats; and two other embedded stores for reference.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench::{Rows, cpu_time, log_settings, median, schema, schema_of_75, spread};
use chrono::Utc;
use state::log::Log;

/// Turns; the middle one counts.
const TURNS: usize = 5;
/// Rows of a turn at most.
const ROWS: usize = 200_000;
/// Commits of a turn at most.
const COMMITS: usize = 400;

/// A way to make rows durable: all of them, some at a time, in a new directory.
type Append = fn(&Path, &Rows, &mut dyn Iterator<Item = Range<usize>>);
const WAYS: [(&str, Append); 4] =
    [("plain file", plain_file), ("our log", our_log), ("fjall", fjall), ("redb", redb)];

fn main() {
    // `-- 256 1000` measures these only.
    let asked: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    state::failpoints::watch(|name| {
        if name == "commit.synced" {
            SYNCS.fetch_add(1, Ordering::Relaxed);
        }
    });
    println!("median of {TURNS} turns; spread: how far the middle half of them lies apart");
    for schema in [schema(22, 0, 0).unwrap(), schema_of_75().unwrap()] {
        let rows = Rows::make(&schema, ROWS).unwrap();
        let row_bytes = rows.bytes.len() as f64 / ROWS as f64;
        println!("\nrows of {} columns and {row_bytes:.0} bytes", schema.columns.len());
        println!(
            "{:>11}  {:10}  {:>9}  {:>5}  {:>9}  {:>9}  {:>5}  {:>10}  {:>19}  {:>6}",
            "rows/commit",
            "",
            "rows/s",
            "MB/s",
            "ms/commit",
            "rows/sync",
            "B/row",
            "CPU µs/row",
            "of the plain file's",
            "spread"
        );
        for commit in [64, 256, 1000, 4000] {
            if asked.is_empty() || asked.contains(&commit) {
                compare(&rows, row_bytes, commit);
            }
        }
    }
}

/// All ways in turns, so that they meet the same disk.
fn compare(rows: &Rows, row_bytes: f64, commit: usize) {
    let count = (commit * COMMITS).min(ROWS);
    let mut turns = WAYS.map(|_| Vec::new());
    for _ in 0..TURNS {
        for ((_, append), turns) in WAYS.iter().zip(&mut turns) {
            turns.push(turn(*append, rows, count, commit));
        }
    }
    let middle = |times: Vec<Duration>| median(times).as_secs_f64();
    let speeds = turns.each_ref().map(|turns| middle(turns.iter().map(|turn| turn.time).collect()));
    for (((name, _), turns), time) in WAYS.iter().zip(&turns).zip(speeds) {
        let (count, commits) = (count as f64, count as f64 / commit as f64);
        let cpu = middle(turns.iter().map(|turn| turn.cpu).collect());
        let syncs: u64 = turns.iter().map(|turn| turn.syncs).sum();
        let disk = turns.iter().map(|turn| turn.disk).max().unwrap() as f64;
        println!(
            "{commit:>11}  {name:10}  {:>9.0}  {:>5.0}  {:>9.2}  {:>9.0}  {:>5.0}  {:>10.2}  {:>19.2}  {:>5.0}%",
            count / time,
            count * row_bytes / time / 1e6,
            time * 1e3 / commits,
            count * TURNS as f64 / syncs as f64,
            disk / count,
            cpu * 1e6 / count,
            speeds[0] / time,
            spread(turns.iter().map(|turn| turn.time).collect()),
        );
    }
}

/// Syncs of our log in this turn.
static SYNCS: AtomicU64 = AtomicU64::new(0);

struct Turn {
    time: Duration,
    cpu: Duration,
    disk: u64,
    syncs: u64,
}

fn turn(append: Append, rows: &Rows, count: usize, commit: usize) -> Turn {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut commits = (0..count).step_by(commit).map(|from| from..count.min(from + commit));
    let (start, cpu) = (Instant::now(), cpu_time());
    SYNCS.store(0, Ordering::Relaxed);
    append(dir.path(), rows, &mut commits);
    let (time, cpu) = (start.elapsed(), cpu_time() - cpu);
    let syncs = match SYNCS.load(Ordering::Relaxed) {
        // The other ways sync once a commit.
        0 => count.div_ceil(commit) as u64,
        syncs => syncs,
    };
    Turn { time, cpu, disk: disk(dir.path()), syncs }
}

fn plain_file(dir: &Path, rows: &Rows, commits: &mut dyn Iterator<Item = Range<usize>>) {
    let mut file = File::create(dir.join("rows")).unwrap();
    for range in commits {
        file.write_all(rows.lines(range)).unwrap();
        file.sync_data().unwrap();
    }
}

/// As the producer does it, deduplication and the states of files and batches included.
fn our_log(dir: &Path, rows: &Rows, commits: &mut dyn Iterator<Item = Range<usize>>) {
    let now = Utc::now();
    let (mut log, _) = Log::open(log_settings(dir).unwrap(), now).unwrap();
    for range in commits {
        for row in range {
            log.stage_row(0, Some(rows.hits[row]), Some(now), rows.lines(row..row + 1), now);
        }
        log.submit(now).unwrap();
        while log.try_durable().unwrap().is_some() {}
    }
    log.commit(now).unwrap();
}

/// One value a commit, uncompressed as in the plain file.
fn fjall(dir: &Path, rows: &Rows, commits: &mut dyn Iterator<Item = Range<usize>>) {
    let db = fjall::Database::builder(dir).open().unwrap();
    let chunks = db.keyspace("chunks", fjall::KeyspaceCreateOptions::default).unwrap();
    for range in commits {
        chunks.insert(range.start.to_be_bytes(), rows.lines(range)).unwrap();
        db.persist(fjall::PersistMode::SyncData).unwrap();
    }
}

/// One value a commit, uncompressed as in the plain file.
fn redb(dir: &Path, rows: &Rows, commits: &mut dyn Iterator<Item = Range<usize>>) {
    const CHUNKS: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("chunks");
    let db = redb::Database::create(dir.join("redb")).unwrap();
    for range in commits {
        // Durable at commit unless told otherwise.
        let write = db.begin_write().unwrap();
        write.open_table(CHUNKS).unwrap().insert(range.start as u64, rows.lines(range)).unwrap();
        write.commit().unwrap();
    }
}

/// Blocks that the files of a directory take.
fn disk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            if entry.path().is_dir() { disk(&entry.path()) } else { entry.metadata().unwrap().blocks() * 512 }
        })
        .sum()
}
