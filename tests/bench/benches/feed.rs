//! Whether those who look slow the log down, and how long they wait: `cargo bench --workspace --bench feed`.
//!
//! A log with 1,000 batches that wait, its socket, and appends of 256 rows a commit: nobody asks, or some ask for
//! snapshots again and again, each as fast as it is answered, from a process of their own, as in life. A disk and a
//! machine shared with others change their speed from one second to the next by more than what is looked for here:
//! so each turn with askers stands beside one without, in either order, and what counts is the middle of the ratios.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::{Rows, log_settings, schema_of_75};
use chrono::Utc;
use shared::clock::Clock;
use shared::shutdown::Shutdown;
use state::log::{Committed, Log, Upload};
use state::status::feed::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Pairs of turns for each number of askers; even, so that each order comes as often as the other.
const PAIRS: usize = 16;
/// A turn is to take some seconds: several snapshots.
const COMMITS: usize = 4_000;
/// Rows that are appended again and again.
const ROWS: usize = 100 * ROWS_PER_COMMIT;
const ROWS_PER_COMMIT: usize = 256;
/// The program starts itself with this argument, a socket and a number, to be those who ask.
const ASK: &str = "--ask";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().position(|arg| arg == ASK) {
        Some(at) => ask(Path::new(&args[at + 1]), args[at + 2].parse().unwrap()),
        None => measure(),
    }
}

fn measure() {
    let rows = Rows::make(&schema_of_75().unwrap(), ROWS).unwrap();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut log = waiting_log(dir.path());
    let socket = dir.path().join("feed.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let owner = Arc::new(log.reader());
    let served = socket.clone();
    runtime.spawn(async move { serve(&served, owner, Clock::system(), Shutdown::new()).await });
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }

    let start = Instant::now();
    drop(log.reader().snapshot().unwrap());
    println!("a snapshot takes {:.1} ms when nothing else is done", start.elapsed().as_secs_f64() * 1e3);
    println!("1,000 batches wait; {ROWS_PER_COMMIT} rows a commit; the middle of {PAIRS} pairs of turns\n");
    println!(
        "{:>7}  {:>9}  {:>11}  {:>14}  {:>8}  {:>12}",
        "readers", "rows/s", "of none's", "middle half", "answers", "ms an answer"
    );
    let ready = append(&mut log, &rows);
    upload(&mut log, ready);
    for askers in [0, 1, 10, 100] {
        compare(&mut log, &rows, &socket, askers);
    }
}

/// Turns with so many askers beside turns without. With none of them too, both turns are alike: what their ratio
/// scatters by is the machine's doing.
fn compare(log: &mut Log, rows: &Rows, socket: &Path, askers: usize) {
    let (mut ratios, mut speeds, mut answers) = (Vec::new(), Vec::new(), (0, 0.0));
    for pair in 0..PAIRS {
        let mut times = [0.0; 2];
        for turn in [pair % 2, 1 - pair % 2] {
            let asking = (turn == 1 && askers > 0).then(|| Asking::start(socket, askers));
            let start = Instant::now();
            let ready = append(log, rows);
            times[turn] = start.elapsed().as_secs_f64();
            if let Some(asking) = asking {
                let (count, waited) = asking.end();
                answers = (answers.0 + count, answers.1 + waited);
            }
            upload(log, ready);
        }
        ratios.push(times[0] / times[1]);
        speeds.push((COMMITS * ROWS_PER_COMMIT) as f64 / times[1]);
    }
    let at = |values: &mut Vec<f64>, quarter: usize| {
        values.sort_unstable_by(f64::total_cmp);
        let (below, above) = ((values.len() - 1) * quarter / 4, ((values.len() - 1) * quarter).div_ceil(4));
        f64::midpoint(values[below], values[above])
    };
    let half = format!("{:.2} to {:.2}", at(&mut ratios, 1), at(&mut ratios, 3));
    println!(
        "{askers:>7}  {:>9.0}  {:>11.2}  {half:>14}  {:>8}  {:>12.0}",
        at(&mut speeds, 2),
        at(&mut ratios, 2),
        answers.0,
        answers.1 / f64::max(answers.0 as f64, 1.0)
    );
}

/// The process of those who ask.
struct Asking(Child);

impl Asking {
    fn start(socket: &Path, askers: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([ASK, socket.to_str().unwrap(), &askers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // They ask from before the turn begins.
        let mut ready = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        Self(child)
    }

    /// How many answers came, and the milliseconds waited for all of them.
    fn end(mut self) -> (u64, f64) {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(self.0.wait().unwrap().success());
        let (count, waited) = said.trim().split_once(' ').unwrap();
        (count.parse().unwrap(), waited.parse().unwrap())
    }
}

/// Asks until standard input ends. Those who wait for an answer then are not waited for.
fn ask(socket: &Path, askers: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..askers {
        runtime.spawn(ask_again_and_again(socket.to_owned(), told.clone()));
    }
    std::io::stdout().write_all(b".").unwrap();
    std::io::stdout().flush().unwrap();
    runtime.block_on(async {
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    });
    let (mut count, mut waited) = (0, Duration::ZERO);
    while let Ok(answer) = answers.try_recv() {
        count += 1;
        waited += answer;
    }
    println!("{count} {}", waited.as_secs_f64() * 1e3);
}

async fn ask_again_and_again(socket: PathBuf, told: tokio::sync::mpsc::UnboundedSender<Duration>) {
    let mut answer = Vec::new();
    loop {
        let asked = Instant::now();
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(b"\"snapshot\"\n").await.unwrap();
        answer.clear();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"{\"pid\":"));
        told.send(asked.elapsed()).unwrap();
    }
}

/// A log in which 1,000 sealed batches of ten files wait for S3.
fn waiting_log(dir: &Path) -> Log {
    let now = Utc::now();
    let small = state::log::Settings { records_per_file: 1, ..log_settings(dir).unwrap() };
    let (mut log, _) = Log::open(small, now).unwrap();
    for n in 0..10_000_u64 {
        log.stage_row(0, None, Some(now), format!("{n}~row\n").as_bytes(), now);
        log.submit(now).unwrap();
        while log.try_durable().unwrap().is_some() {}
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

/// What was closed and sealed meanwhile.
fn append(log: &mut Log, rows: &Rows) -> Committed {
    let now = Utc::now();
    let mut ready = Committed::default();
    let mut add = |done: Committed| {
        ready.closed.extend(done.closed);
        ready.sealed.extend(done.sealed);
    };
    for commit in 0..COMMITS {
        for row in commit * ROWS_PER_COMMIT..(commit + 1) * ROWS_PER_COMMIT {
            let row = row % ROWS;
            log.stage_row(0, None, Some(now), rows.lines(row..row + 1), now);
        }
        log.submit(now).unwrap();
        while let Some(done) = log.try_durable().unwrap() {
            add(done);
        }
    }
    add(log.seal_all(now).unwrap());
    ready
}

/// What a turn appended goes to S3, so that every turn finds the same log.
fn upload(log: &mut Log, ready: Committed) {
    for file in ready.closed {
        let (crc32, etag) = ("AAAAAA==".to_owned(), "e".to_owned());
        log.uploaded(file, Upload { bytes: 1, crc32, etag, content: None }).unwrap();
    }
    for batch in ready.sealed {
        log.published(batch, Utc::now()).unwrap();
    }
}
