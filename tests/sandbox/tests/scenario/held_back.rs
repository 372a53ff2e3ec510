//! Batches held back so that one COPY loads many (`ingester.load_interval`, `ingester.load_rows`).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sandbox::config::Shape;
use serde_json::Value;

use crate::world::{STOP, World, assert_clean};

const BATCHES: usize = 3;

/// Three batches of some 200 rows, published.
async fn published(keys: &str) -> World {
    let shape = Shape { records_per_file: 100, files_per_batch: 2, ..Shape::default() };
    let world = World::new(600, &shape).await;
    world.publish().await;
    world.configure("[ingester]", &format!("[ingester]\n{keys}"));
    world
}

impl World {
    fn ingester_snapshot(&self) -> Value {
        let dump: Value = serde_json::from_str(&self.dump_as(&["--json"])).unwrap();
        dump["ingester"]["snapshot"].clone()
    }
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_held_back_over_a_kill_and_go_together_when_they_have_the_rows() {
    let world = published("load_interval = \"1h\"").await;
    let rows = world.wanted();
    let keys = |load_rows: u64| format!("load_interval = \"1h\"\nload_rows = {load_rows}\n");
    world.configure("load_interval = \"1h\"\n", &keys(rows + 1));
    let mut ingester = world.start("ingester");
    let all_held = async || world.ingester_snapshot()["held_back"]["batches"] == BATCHES;
    world.until("all batches held back", &mut [&mut ingester], all_held).await;
    let snapshot = world.ingester_snapshot();
    let (held, loads) = (&snapshot["held_back"], snapshot["loads"].as_array().unwrap());
    let found = loads.iter().map(|load| time(&load["discovered"])).min().unwrap();
    let until = time(&held["until"]);
    assert!((until - found - TimeDelta::hours(1)).abs() < TimeDelta::seconds(2), "{found} {held}");
    assert_eq!((&held["rows"], &held["load_rows"]), (&rows.into(), &(rows + 1).into()));
    let dump = world.dump();
    assert!(
        dump.lines().last().unwrap().starts_with(&format!("held     3 batches, {rows} rows: loaded at 20")),
        "{dump}"
    );
    assert_eq!(dump.lines().filter(|line| line.ends_with("  held")).count(), BATCHES, "{dump}");

    ingester.kill().unwrap();
    ingester.start_again().unwrap();
    world.until("still held back", &mut [&mut ingester], all_held).await;
    let again = time(&world.ingester_snapshot()["held_back"]["until"]);
    assert!(
        (again - until).abs() < TimeDelta::seconds(2),
        "a restart does not put the load off: {until} {again}"
    );
    assert_eq!(world.loaded().await, 0);
    ingester.stop(STOP).await.unwrap();

    world.configure(&keys(rows + 1), &keys(rows));
    ingester.start_again().unwrap();
    world.until_loaded(rows, &mut [&mut ingester]).await;
    assert!(world.ingester_snapshot()["held_back"].is_null());
    ingester.stop(STOP).await.unwrap();
    assert!(ingester.said().contains("together=3"), "{}", ingester.said());
    assert_clean(&world.verdict().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_is_loaded_when_the_oldest_is_old_enough() {
    let world = published("load_interval = \"4s\"").await;
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    let snapshot = world.ingester_snapshot();
    let loads = snapshot["loads"].as_array().unwrap();
    let waited = |load: &Value| time(&load["loaded"]) - time(&load["discovered"]);
    let oldest = loads.iter().map(waited).max().unwrap();
    assert!(oldest >= TimeDelta::from_std(Duration::from_secs(4)).unwrap(), "{oldest}");
    ingester.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);
}
