//! After an outage: `cargo bench --workspace --bench catchup`, after `cargo build --release --workspace --bins`.
//!
//! The real programs run between stand-ins in another process. First at full speed with nothing in the way; then S3 and
//! Redshift are away, and a backlog gathers in the producer's log; then S3 is back, and the backlog gathers in S3; then Redshift
//! is. Meanwhile live hits go on. `-- 1000000` takes a smaller backlog.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark fails by panicking"
)]

mod door;
mod livestream;
mod stand_ins;
mod watch;
mod live;
mod backlog;
mod phases;
mod report;

use std::path::Path;

use bench::schema_of_75;
use bench::stand_ins::announced;
use bench::world::World;
use shared::human::count;
use stand_ins::Saw;
use tokio::runtime::Builder;
use watch::Watch;

const BACKLOG: u64 = 10_000_000;
/// A part at full speed is so much of the backlog, and not less than this, or its rate says nothing.
const PART_OF: u64 = 20;
const LEAST_PART: u64 = 200_000;
/// Files of the default sizes; batches of 10,000 rows, since a rate is not seen in few large ones. The last one of a part is not
/// full, and is waited for.
const BATCHING: &str = "[batch]\nmin_batch_age = \"0s\"\nmax_file_age = \"5s\"\nmax_batch_age = \"10s\"\n";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(at) = args.iter().position(|arg| arg == stand_ins::STAND_INS) {
        let number = |at: usize| args[at].parse().unwrap();
        return runtime.block_on(stand_ins::run(Path::new(&args[at + 1]), number(at + 2), number(at + 3)));
    }
    let backlog = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(BACKLOG);
    runtime.block_on(measure(backlog.next_multiple_of(PART_OF * livestream::BLOCK)));
}

async fn measure(backlog: u64) {
    let part = LEAST_PART.max(backlog / PART_OF);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut process = stand_ins::start(dir.path(), part, backlog);
    let endpoints = announced(dir.path()).unwrap();
    let schema = schema_of_75().unwrap();
    let world = World::new(dir.path(), &endpoints, &schema, &[BATCHING]).await.unwrap();
    // Redshift writes no log of what it loads, and PostgreSQL would write every row twice.
    world.table.batch_execute("ALTER TABLE public.livestream SET UNLOGGED").await.unwrap();
    let (ingester, producer) = (world.ingester().await.unwrap(), world.producer().unwrap());
    process.hear().unwrap();
    println!(
        "{} rows of 75 columns; {} cores, shared with the stand-ins; {} live hits/s meanwhile\n",
        count(backlog),
        std::thread::available_parallelism().unwrap(),
        count(livestream::LIVE)
    );
    let mut watch = Watch { world, producer, ingester, samples: Vec::new() };
    let seen = phases::run(&mut watch, &mut process, dir.path(), part, backlog).await;
    let saw: Saw = serde_json::from_str(&process.end().unwrap()).unwrap();
    report::print(&seen, &watch, &saw);
}
