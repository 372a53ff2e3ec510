//! The producer's front against a stream that does everything Adobe's may do, an hour of it in minutes: what stands in
//! S3 in the end is exactly the set of distinct hits that were sent, less what a recorded gap accounts for, and the
//! gaps recorded are those the script caused, no more and no fewer. A hit that came again when its id was forgotten stands
//! there again, in a batch whose seal says so: the load compares it with the table.
//!
//! `STREAM_HITS=2000000 STREAM_SEED=7 cargo test --release --workspace --test stream -- --nocapture` is the long run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod oracle;
mod script;
mod world;

use adobe::Plan;
use world::World;

const HOUR: u64 = 3_600;

fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// So many hits, received by Adobe in so many seconds until about now.
fn plan(seed: u64, hits: u64, seconds: u64) -> Plan {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    Plan {
        seed,
        hits,
        duplicates_per_mille: 10,
        excluded_per_mille: 0,
        malformed_per_mille: 2,
        start_epoch: now - i64::try_from(seconds).unwrap(),
        hits_per_second: (hits / seconds).max(1),
        late_seconds: 20,
        ..Plan::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_every_fault_leaves_no_hole_and_no_double_and_every_gap_is_recorded() {
    let (hits, seed) = (number_from_env("STREAM_HITS", 100_000), number_from_env("STREAM_SEED", 7));
    let mut world = World::new(plan(seed, hits, HOUR), 1).await;
    let faults = script::write(&world.adobe, seed);
    println!("seed {seed}, {hits} hits; script: {faults}");
    let kills = world.run_with_kills(seed).await;
    let (adobe, found) = world.stop_and_look().await;
    println!("{kills} kills; {found}");
    found.judge(&adobe);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_connections_share_one_log_and_one_window() {
    let hits = number_from_env("STREAM_HITS", 100_000) / 3;
    let mut world = World::new(plan(11, hits, HOUR / 6), 3).await;
    script::cuts(&world.adobe, 11);
    let kills = world.run_with_kills(11).await;
    let (adobe, found) = world.stop_and_look().await;
    println!("{kills} kills; {found}");
    found.judge(&adobe);
    assert_eq!(found.connections, (3, 3));
}
