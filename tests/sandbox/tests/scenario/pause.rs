//! Pauses of loading.

use std::process::Output;
use std::time::Duration;

use sandbox::config::Shape;
use sandbox::judge::files_below;
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};

use crate::world::{World, assert_clean};

fn short() -> Shape {
    Shape { records_per_file: 100, files_per_batch: 2, max_batch_age: "500ms", ..Shape::default() }
}

impl World {
    fn run(&self, args: &[&str]) -> String {
        let output: Output = service::run("ingester", args, &self.config).unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.dump_as(&["--json"])).unwrap()
    }

    async fn until_pending(&self, batches: usize, services: &mut [&mut Service]) {
        let found = async || self.dump().lines().filter(|line| line.ends_with("  paused")).count() >= batches;
        self.until(&format!("{batches} batches found"), services, found).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_ingester_discovers_and_shows_why_loads_nothing_and_is_still_paused_after_a_kill() {
    let world = World::new(2_000, &short()).await;
    // Before it ever ran: in its database.
    let said = world.run(&["pause", "--reason", "cluster resize"]);
    assert!(said.contains("does not run; started, it loads nothing until `ingester resume`"), "{said}");
    assert!(said.contains("cluster resize"), "{said}");
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_pending(3, &mut [&mut producer, &mut ingester]).await;
    let dump = world.dump();
    let last = dump.lines().last().unwrap();
    assert!(last.starts_with("paused   until `ingester resume`, by `ingester pause` since 20"), "{dump}");
    assert!(last.ends_with(": cluster resize"), "{dump}");
    let json = world.json();
    assert_eq!(json["ingester"]["snapshot"]["paused"]["by"], "hand", "{json}");
    assert!(json["pending"]["batches"].as_u64().unwrap() >= 3, "{json}");
    assert!(ingester.said().contains("loading is paused until `ingester resume`"), "{}", ingester.said());

    ingester.kill().unwrap();
    let door = world.standins.redshift.door();
    door.forget();
    assert!(world.dump().lines().last().unwrap().ends_with(": cluster resize"), "shown from the database");
    ingester.start_again().unwrap();
    world.until_pending(3, &mut [&mut producer, &mut ingester]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.loaded().await, 0);
    assert_eq!(door.seen(), [], "nobody logs in to Redshift");

    let said = world.run(&["resume"]);
    assert!(said.contains(&format!("process {}, loads (", ingester.pid().unwrap())), "{said}");
    world.until_loaded(200, &mut [&mut producer, &mut ingester]).await;
    assert!(world.json()["ingester"]["snapshot"]["paused"].is_null());
    assert!(ingester.said().contains("the pause is over"), "{}", ingester.said());
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_asked_of_a_running_ingester_lets_the_load_end_and_archiving_go_on_and_ends_by_itself() {
    let world = World::with_rate(4_000, Some(500), &short()).await;
    let faults = world.standins.redshift.faults();
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(200, &mut [&mut producer, &mut ingester]).await;
    faults.push(redshift::Fault::Slow(redshift::Kind::Copy, Duration::from_secs(3)));
    let copying = async || faults.pending() == 0;
    world.until("a COPY under way", &mut [&mut producer, &mut ingester], copying).await;
    let before = world.loaded().await;
    let said = world.run(&["pause", "--for", "30s"]);
    assert!(said.contains(&format!("process {}, loads nothing until 20", ingester.pid().unwrap())), "{said}");
    let ended = async || world.loaded().await > before;
    world.until("the load under way", &mut [&mut producer, &mut ingester], ended).await;
    let loaded = world.loaded().await;
    let bucket = world.path("s3").join(BUCKET).join("Ingested");
    let archived = async || {
        let seals = files_below(&bucket).unwrap().iter().filter(|path| path.ends_with("batch.json")).count();
        u64::try_from(seals).unwrap() == world.batches().await
    };
    world.until("what is loaded is archived", &mut [&mut producer, &mut ingester], archived).await;
    world.until_pending(2, &mut [&mut producer, &mut ingester]).await;
    assert_eq!(world.loaded().await, loaded, "nothing is loaded in a pause");
    // It ends by itself.
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_window_of_the_configuration_nothing_is_loaded_and_resume_does_not_end_it() {
    let world = World::new(600, &short()).await;
    let now = chrono::Utc::now();
    let time = |minutes: i64| (now + chrono::TimeDelta::minutes(minutes)).format("%H:%M").to_string();
    let good = std::fs::read_to_string(&world.config).unwrap();
    let window = format!("{}-{}", time(-10), time(30));
    std::fs::write(&world.config, good.replace("[ingester]", &format!("[ingester]\npause = [\"{window}\"]")))
        .unwrap();
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_pending(2, &mut [&mut producer, &mut ingester]).await;
    let dump = world.dump();
    assert!(dump.lines().last().unwrap().ends_with(&format!("by ingester.pause {window} UTC")), "{dump}");
    assert!(world.run(&["resume"]).contains("loads nothing until 20"), "the window is not over");
    assert_eq!(world.loaded().await, 0);
    ingester.stop(Duration::from_secs(20)).await.unwrap();
    std::fs::write(&world.config, good).unwrap();
    ingester.start_again().unwrap();
    assert_clean(&world.finish(producer, ingester).await);
}
