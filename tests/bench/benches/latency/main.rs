//! From the socket to the table: `cargo bench --workspace --bench latency`, after
//! `cargo build --release --workspace --bins`.
//!
//! The real programs run between stand-ins in another process. The Livestream sends so many hits a second and notes when it
//! writes each; a reader asks the table every few milliseconds which of them it sees. Once with the product's own batching,
//! and once with the keys of `deploy/low_latency.toml`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

mod stand_ins;
mod livestream;
mod batching;
mod reader;
mod turn;
mod table;

use std::path::Path;
use std::thread;

use batching::Batching;
use livestream::Stream;
use table::Line;
use tokio::runtime::Builder;

/// Hits a second.
const RATES: [u64; 3] = [10, 1_000, 20_000];
/// What the low-latency keys promise at 1,000 hits a second, in milliseconds.
const GOAL: (u64, f64) = (1_000, 2_000.0);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(at) = args.iter().position(|arg| arg == stand_ins::STAND_INS) {
        return runtime.block_on(stand_ins::run(Path::new(&args[at + 1]), Path::new(&args[at + 2])));
    }
    // `-- 1000` takes this rate only.
    let asked: Option<u64> = args.iter().find_map(|arg| arg.parse().ok());
    let rates: Vec<u64> = RATES.into_iter().filter(|rate| asked.is_none_or(|asked| asked == *rate)).collect();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let all = [Batching::default_of_the_product(), Batching::low_latency()];
    let streams = thread::scope(|scope| {
        let make = |rate: u64| {
            let (file, seconds) = (dir.path().join(rate.to_string()), longest(&all, rate));
            scope.spawn(move || Stream::make(file, rate, seconds))
        };
        let threads: Vec<_> = rates.iter().map(|rate| make(*rate)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    table::head(&streams);
    let mut reached = None;
    for stream in &streams {
        for batching in &all {
            let turn = |_| runtime.block_on(turn::turn(stream, batching));
            let turns: Vec<_> = (0..batching.turns(stream.rate)).map(turn).collect();
            let line = Line::of(&turns);
            table::print(stream.rate, batching, &line);
            if stream.rate == GOAL.0 && batching.is_low_latency() {
                reached = Some(line.p99);
            }
        }
    }
    if let Some(p99) = reached {
        let (rate, goal) = GOAL;
        assert!(
            p99 < goal,
            "p99 of {p99:.0} ms at {rate} hits/s with deploy/low_latency.toml; the goal is {goal} ms"
        );
    }
}

/// Seconds that the longest turn at this rate sends.
fn longest(all: &[Batching], rate: u64) -> u64 {
    all.iter().map(|batching| batching.seconds(rate)).max().unwrap()
}
