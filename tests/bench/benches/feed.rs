//! Whether those who look slow the log down, and how long they wait: `cargo bench --workspace --bench feed`.
//!
//! A log with 1,000 batches that wait, its socket, and appends of 256 rows a commit: nobody asks, or some ask for
//! snapshots again and again, each as fast as it is answered, from a process of their own, as in life. A disk and a
//! machine shared with others change their speed from one second to the next by more than what is looked for here:
//! so each turn with askers stands beside one without, in either order, and what counts is the middle of the ratios.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::helper::{self, Helper};
use bench::pending::{Pending, ROWS_PER_COMMIT, quarter};
use shared::clock::Clock;
use shared::shutdown::Shutdown;
use state::status::feed::serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Pairs of turns for each number of askers; even, so that each order comes as often as the other.
const PAIRS: usize = 16;
/// A turn is to take some seconds: several snapshots.
const COMMITS: usize = 4_000;
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
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut log = Pending::new(dir.path(), COMMITS).unwrap();
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
    for askers in [0, 1, 10, 100] {
        compare(&mut log, &socket, askers);
    }
}

/// Turns with so many askers beside turns without. With none of them too, both turns are alike: what their ratio
/// scatters by is the machine's doing.
fn compare(log: &mut Pending, socket: &Path, askers: usize) {
    let (mut ratios, mut speeds, mut answers) = (Vec::new(), Vec::new(), (0, 0.0));
    for pair in 0..PAIRS {
        let mut times = [0.0; 2];
        for turn in [pair % 2, 1 - pair % 2] {
            // They ask from before the turn begins.
            let args = [ASK, socket.to_str().unwrap(), &askers.to_string()];
            let asking = (turn == 1 && askers > 0).then(|| Helper::start(&args).unwrap());
            let (time, ready) = log.append().unwrap();
            times[turn] = time.as_secs_f64();
            if let Some(asking) = asking {
                let said = asking.end().unwrap();
                let (count, waited) = said.trim().split_once(' ').unwrap();
                answers.0 += count.parse::<u64>().unwrap();
                answers.1 += waited.parse::<f64>().unwrap();
            }
            log.upload(ready).unwrap();
        }
        ratios.push(times[0] / times[1]);
        speeds.push(log.rows() / times[1]);
    }
    let half = format!("{:.2} to {:.2}", quarter(&ratios, 1), quarter(&ratios, 3));
    println!(
        "{askers:>7}  {:>9.0}  {:>11.2}  {half:>14}  {:>8}  {:>12.0}",
        quarter(&speeds, 2),
        quarter(&ratios, 2),
        answers.0,
        answers.1 / f64::max(answers.0 as f64, 1.0)
    );
}

/// Asks until standard input ends. Those who wait for an answer then are not waited for.
fn ask(socket: &Path, askers: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..askers {
        runtime.spawn(ask_again_and_again(socket.to_owned(), told.clone()));
    }
    runtime.block_on(async { tokio::task::spawn_blocking(helper::ready).await.unwrap().unwrap() });
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
