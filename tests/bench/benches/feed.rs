//! Whether those who look slow the log down, and how long they wait: `cargo bench -p bench --bench feed`.
//!
//! A log with 1,000 batches that wait, its socket, and appends of 256 rows a commit: nobody asks, or some ask for
//! snapshots again and again, each as fast as it is answered. Turns alternate, so that both meet the same disk.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench::{Rows, log_settings, median, schema_of_75};
use chrono::Utc;
use shared::shutdown::Shutdown;
use state::feed::serve;
use state::log::Log;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const TURNS: usize = 12;
/// A turn is to take some seconds: several snapshots.
const COMMITS: usize = 4_000;
/// Rows that are appended again and again.
const ROWS: usize = 100 * ROWS_PER_COMMIT;
const ROWS_PER_COMMIT: usize = 256;

fn main() {
    let rows = Rows::make(&schema_of_75().unwrap(), ROWS).unwrap();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut log = waiting_log(dir.path());
    let socket = dir.path().join("feed.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let owner = Arc::new(log.reader());
    let served = socket.clone();
    runtime.spawn(async move { serve(&served, owner, Shutdown::new()).await });
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }

    let start = Instant::now();
    drop(log.reader().snapshot().unwrap());
    println!("a snapshot takes {:.1} ms when nothing else is done", start.elapsed().as_secs_f64() * 1e3);
    println!("1,000 batches wait; {ROWS_PER_COMMIT} rows a commit, median of {TURNS} turns\n");
    println!(
        "{:>7}  {:>9}  {:>11}  {:>8}  {:>12}",
        "readers", "rows/s", "of none's", "answers", "ms an answer"
    );
    let askers = [0, 1, 10, 100];
    let mut times = askers.map(|_| Vec::new());
    let mut answers = askers.map(|_| (0, Duration::ZERO));
    for turn in 0..TURNS {
        // Each comes first and last as often as the others.
        for no in 0..askers.len() {
            let no = (no + turn) % askers.len();
            let (asking, times, answers) = (&askers[no], &mut times[no], &mut answers[no]);
            let stop = Arc::new(AtomicBool::new(false));
            let tasks: Vec<_> = (0..*asking)
                .map(|_| runtime.spawn(ask_again_and_again(socket.clone(), stop.clone())))
                .collect();
            let start = Instant::now();
            append(&mut log, &rows);
            times.push(start.elapsed());
            stop.store(true, Ordering::Relaxed);
            for task in tasks {
                let (count, waited) = runtime.block_on(task).unwrap();
                answers.0 += count;
                answers.1 += waited;
            }
        }
    }
    let none = median(times[0].clone()).as_secs_f64();
    for ((asking, times), (answers, time)) in askers.iter().zip(&times).zip(&answers) {
        let own = median(times.clone()).as_secs_f64();
        println!(
            "{asking:>7}  {:>9.0}  {:>11.2}  {answers:>8}  {:>12.0}",
            (COMMITS * ROWS_PER_COMMIT) as f64 / own,
            none / own,
            time.as_secs_f64() * 1e3 / (*answers).max(1) as f64
        );
    }
}

/// What an answer says is nobody's business here: reading it costs the asker, not the service.
async fn ask_again_and_again(socket: PathBuf, stop: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut answer, mut count, mut waited) = (Vec::new(), 0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(b"\"snapshot\"\n").await.unwrap();
        answer.clear();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"{\"pid\":"));
        count += 1;
        waited += asked.elapsed();
    }
    (count, waited)
}

/// A log in which 1,000 sealed batches of ten files wait for S3.
fn waiting_log(dir: &Path) -> Log {
    let now = Utc::now();
    let small = state::log::Settings { records_per_file: 1, ..log_settings(dir).unwrap() };
    let (mut log, _) = Log::open(small, now).unwrap();
    for n in 0..10_000_u64 {
        log.stage_row(0, None, Some(now), format!("{n}~row\n").as_bytes(), now);
        log.submit(now).unwrap();
        while log.try_settled().unwrap().is_some() {}
    }
    log.commit(now).unwrap();
    drop(log);
    // What the turns append goes into a few large files, so that the thousand batches stay what there is to tell.
    let large = state::log::Settings {
        records_per_file: u64::MAX,
        max_file_bytes: 1 << 30,
        ..log_settings(dir).unwrap()
    };
    Log::open(large, now).unwrap().0
}

fn append(log: &mut Log, rows: &Rows) {
    let now = Utc::now();
    for commit in 0..COMMITS {
        for row in commit * ROWS_PER_COMMIT..(commit + 1) * ROWS_PER_COMMIT {
            let row = row % ROWS;
            log.stage_row(0, None, Some(now), rows.lines(row..row + 1), now);
        }
        log.submit(now).unwrap();
        while log.try_settled().unwrap().is_some() {}
    }
    log.commit(now).unwrap();
}
