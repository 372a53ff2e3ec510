//! A changed configuration under load, taken on SIGHUP: wholly or not at all, without a restart, without connecting anew, and
//! with services that are killed in between.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use redshift::{Fault, Kind};
use rustix::process::Signal;
use sandbox::config::Shape;
use sandbox::judge::{LEDGER, files_below};
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};
use sandbox::standins::{CLIENT_SECRET, PASSWORD};
use serde_json::Value;

use crate::columns::{ADDED, DROPPED, json, second_schema};
use crate::schema::send;
use crate::watched::{Watched, metrics};
use crate::world::{STOP, World, assert_clean, options};

const SHAPE: Shape = Shape {
    max_file_age: "500ms",
    max_batch_age: "2s",
    records_per_file: 100,
    files_per_batch: 3,
    compression: "zstd",
};
const RELOADED: &str = "configuration reloaded";
const REFUSED: &str = "the configuration is not reloaded";

/// Asks a service to read its configuration, and waits until it says what came of it.
async fn reload(world: &World, service: &Service, outcome: &str) {
    let before = service.said().matches(outcome).count();
    service.signal(Signal::HUP).unwrap();
    let told = async || service.said().matches(outcome).count() > before;
    world.until(&format!("{}: {outcome}", service.name()), &mut [], told).await;
}

/// What the seals say of rows, each with the schema and the key of pseudonyms of its batch.
fn seals(world: &World) -> Vec<Value> {
    let files = files_below(&world.path("s3").join(BUCKET)).unwrap();
    let files = files.iter().filter(|path| path.ends_with("batch.json"));
    files.map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

fn dump(world: &World) -> Value {
    serde_json::from_str(&world.dump_as(&["--json"])).unwrap()
}

/// A world with a schema file that only says what the built-in schema says.
async fn world_with_schema(hits: u64, rate: u64) -> World {
    let configure = |text: &str| {
        let dir = text.split("dir = \"").nth(1).unwrap().split("/producer\"").next().unwrap();
        fs::write(format!("{dir}/schema.toml"), "mode = 'extend'\n").unwrap();
        format!("{text}\n[schema]\nfile = '{dir}/schema.toml'\n")
    };
    let adobe = adobe::Options { rate: Some(rate), ..options(hits) };
    World::altered(adobe, &SHAPE, configure, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_changes_under_load_while_services_are_killed_and_each_batch_has_rows_of_one() {
    // Enough for every step below, however busy the machine is.
    let world = world_with_schema(12_000, 400).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(300, &mut [&mut producer, &mut ingester]).await;
    let first = json(&world, &["schema", "--json"]);
    let file = world.path("schema.toml");
    let built_in = fs::read_to_string(&file).unwrap();
    fs::write(&file, second_schema(first["columns"].as_array().unwrap())).unwrap();
    let second = json(&world, &["schema", "--json"]);

    // The table cannot take its rows yet: an ingester that started now would refuse to.
    reload(&world, &ingester, REFUSED).await;
    let why = dump(&world)["ingester"]["snapshot"]["configuration"]["failed"]["why"].to_string();
    assert!(why.contains(ADDED) && why.contains("ingester ddl --diff"), "{why}");
    let loaded = world.loaded().await;
    world.until_loaded(loaded + 200, &mut [&mut producer, &mut ingester]).await;

    let diff = service::run("ingester", &["ddl", "--diff"], &world.config).unwrap();
    send(&world, &String::from_utf8(diff.stdout).unwrap()).await;
    let sessions = world.snapshot().await.unwrap().sessions.len();
    reload(&world, &producer, RELOADED).await;
    let durable = world.snapshot().await.unwrap().totals.rows;
    world.until_durable(durable + 250, &mut [&mut producer, &mut ingester]).await;
    assert_eq!(world.snapshot().await.unwrap().sessions.len(), sessions, "it reads on in the same session");
    producer.kill().unwrap();
    producer.start_again().unwrap();
    reload(&world, &ingester, RELOADED).await;
    world.until_durable(durable + 500, &mut [&mut producer, &mut ingester]).await;
    ingester.kill().unwrap();
    ingester.start_again().unwrap();

    // Back again, and a kill while the change is under way, at a time that nobody chose.
    for (text, pause) in
        [(&built_in, 0), (&second_schema(first["columns"].as_array().unwrap()), 2), (&built_in, 7)]
    {
        fs::write(&file, text).unwrap();
        let until = Instant::now() + std::time::Duration::from_millis(pause);
        let ready = async || world.snapshot().await.is_some_and(|snapshot| snapshot.components.len() > 1);
        world.until("the producer answers", &mut [&mut producer], ready).await;
        producer.signal(Signal::HUP).unwrap();
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        producer.kill().unwrap();
        producer.start_again().unwrap();
        let durable = world.until_more_durable(150, &mut [&mut producer, &mut ingester]).await;
        assert!(durable > 0);
    }
    reload(&world, &ingester, RELOADED).await;
    let verdict = world.finish(producer, ingester).await;
    assert_clean(&verdict);

    let fingerprints = [&first, &second].map(|schema| schema["fingerprint"].as_str().unwrap());
    let mut rows = [0, 0];
    for seal in seals(&world) {
        let which = fingerprints.iter().position(|of| seal["schema"] == **of).unwrap();
        let has = |name: &str| seal["columns"].as_array().unwrap().iter().any(|column| column == name);
        assert_eq!((has(DROPPED), has(ADDED)), (which == 0, which == 1), "{seal}");
        rows[which] += seal["rows"].as_u64().unwrap();
    }
    assert!(rows[0] > 500 && rows[1] > 250, "{rows:?}");
    for (of, rows) in fingerprints.into_iter().zip(rows) {
        let of = format!(
            "coalesce(sum(rows_loaded + rows_known), 0)::bigint FROM {LEDGER} AND schema_fingerprint = '{of}'"
        );
        assert_eq!(world.count(&of).await, rows);
    }
    let table = "count(*) FROM public.livestream WHERE";
    assert!(world.count(&format!("{table} {ADDED} IS NOT NULL")).await >= 250);
    assert_eq!(world.count(&format!("{table} {ADDED} <> hitidlow")).await, 0);
    assert_eq!(world.count(&format!("{table} {ADDED} IS NOT NULL AND {DROPPED} IS NOT NULL")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_protections_level_secrets_and_targets_change_in_the_same_session_and_a_wrong_file_changes_nothing()
 {
    let watched = Watched::new(400_000, Some(300)).await;
    let world = &watched.world;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(300, &mut [&mut producer, &mut ingester]).await;
    let processes = (producer.pid(), ingester.pid());
    let sessions = world.snapshot().await.unwrap().sessions.len();

    let key = world.path("pseudonym_key");
    let keys = ["0123456789abcdef0123456789abcdef-first", "0123456789abcdef0123456789abcdef-second"];
    fs::write(&key, keys[0]).unwrap();
    world.configure(
        "[log]\n",
        &format!(
            "[[filter]]\nname = \"chance\"\nfield = \"hitIdLow\"\nends_with = [\"7\"]\n\n[protect]\n\
             pseudonym = [\"{DROPPED}\"]\npseudonym_key_file = \"{}\"\n\n[log]\n",
            key.display()
        ),
    );
    world.configure("[logging]\n", "[logging]\nlevel = \"debug\"\n");
    let json = watched.webhook.url("/json");
    world.configure(&json, &watched.webhook.url("/elsewhere"));
    world.configure("[s3]\n", "[s3]\nuploads = 3\n");
    for service in [&producer, &ingester] {
        reload(world, service, RELOADED).await;
    }
    let said = producer.said();
    let line = said.lines().find(|line| line.contains(RELOADED)).unwrap();
    for taken in
        ["filter", "protect.pseudonym,", "protect.pseudonym_key_file", "logging.level", "alert_target"]
    {
        assert!(line.contains(taken), "{taken}: {line}");
    }
    assert!(!line.contains("s3.uploads") && said.contains("keys=\"s3.uploads\""), "{said}");
    for secret in [keys[0], CLIENT_SECRET, &watched.webhook.url("")] {
        assert!(!said.contains(secret) && !ingester.said().contains(secret), "{secret} is told");
    }
    let (text, snapshot) = (world.dump(), dump(world));
    assert!(text.contains("producer: configuration reloaded"), "{text}");
    assert!(crate::world::squeezed(&text).contains("restart it to take s3.uploads"), "{text}");
    for service in ["producer", "ingester"] {
        let status = &snapshot[service]["snapshot"]["configuration"];
        assert_eq!(status["waiting"], serde_json::json!(["s3.uploads"]), "{status}");
        assert_eq!((&status["reloads"], &status["failed"]), (&1.into(), &Value::Null), "{status}");
    }
    world.until_more_durable(600, &mut [&mut producer, &mut ingester]).await;
    let by_filter = world.snapshot().await.unwrap().counters.unwrap().filtered;
    assert!(by_filter["chance"] > 20 && by_filter["excluded"] > 0, "{by_filter:?}");
    assert!(producer.said().contains("DEBUG"), "it logs more");

    // Another key, and then a file that nobody can take.
    fs::write(&key, keys[1]).unwrap();
    reload(world, &producer, RELOADED).await;
    world.until_more_durable(600, &mut [&mut producer, &mut ingester]).await;
    world.configure("ends_with = [\"7\"]", "matches = [\"(\"]");
    let cause = Instant::now();
    reload(world, &producer, REFUSED).await;
    // It has no filters.
    reload(world, &ingester, RELOADED).await;
    let told = async || watched.webhook.taken("/elsewhere").iter().any(is_of_reload("begun"));
    world.until("the alert", &mut [&mut producer, &mut ingester], told).await;
    println!("told after {:?}", cause.elapsed());
    assert!(watched.events("producer_reload_refused").is_empty(), "that target went");
    let why = dump(world)["producer"]["snapshot"]["configuration"]["failed"]["why"].to_string();
    assert!(why.contains("chance") && why.contains("regex"), "{why}");
    assert!(world.dump().contains("config    NOT RELOADED for"), "{}", world.dump());
    let shown = metrics(watched.listen[0]);
    assert!(shown.contains("livestream_producer_config_last_reload_successful 0.0\n"), "{shown}");
    world.configure("matches = [\"(\"]", "ends_with = [\"7\"]");
    for service in [&producer, &ingester] {
        reload(world, service, RELOADED).await;
    }
    let over = async || watched.webhook.taken("/elsewhere").iter().any(is_of_reload("resolved"));
    world.until("its end", &mut [&mut producer, &mut ingester], over).await;
    let shown = metrics(watched.listen[0]);
    assert!(shown.contains("livestream_producer_config_last_reload_successful 1.0\n"), "{shown}");
    assert!(shown.contains("livestream_producer_config_keys_waiting_for_restart 1.0\n"), "{shown}");

    assert_eq!(world.snapshot().await.unwrap().sessions.len(), sessions, "it reads on in the same session");
    assert_eq!((producer.pid(), ingester.pid()), processes);
    let durable = world.snapshot().await.unwrap().totals.rows;
    world.until_loaded(durable, &mut [&mut producer, &mut ingester]).await;
    producer.stop(STOP).await.unwrap();
    ingester.stop(STOP).await.unwrap();
    let ids: BTreeSet<_> = seals(world).iter().map(|seal| seal["pseudonym_key"].to_string()).collect();
    assert_eq!(ids.len(), 3, "none, and two keys: {ids:?}");
}

/// Whether a target was told of a refused reload.
fn is_of_reload(event: &'static str) -> impl Fn(&sandbox::webhook::Taken) -> bool {
    move |taken| taken.body["name"] == "producer_reload_refused" && taken.body["event"] == event
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_was_wrong_is_replaced_while_the_services_run() {
    let world = World::with_rate(400_000, Some(300), &SHAPE).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(200, &mut [&mut producer, &mut ingester]).await;
    let sessions = world.snapshot().await.unwrap().sessions.len();
    world.configure(CLIENT_SECRET, "wrong-secret");
    world.configure(PASSWORD, "wrong-password");
    reload(&world, &producer, RELOADED).await;
    reload(&world, &ingester, RELOADED).await;
    // What was opened with the old ones goes on.
    world.until_more_durable(200, &mut [&mut producer, &mut ingester]).await;
    assert_eq!(world.snapshot().await.unwrap().sessions.len(), sessions);

    world.standins.adobe.faults().push(adobe::Fault::NotAuthorized { after: 50 });
    let refused = async || world.dump().contains("Adobe IMS refused a token");
    world.until("the secret is refused", &mut [&mut producer], refused).await;
    let (code, said) = world.ask(&["pause", "--for", "1h"]);
    assert_eq!(code, Some(0), "{said}");
    world.until("it pauses", &mut [&mut ingester], async || world.dump().contains("paused   ")).await;
    let (code, said) = world.ask(&["resume"]);
    assert_eq!(code, Some(0), "{said}");
    let refused = async || ingester.said().contains("redshift.password");
    world.until("the password is refused", &mut [], refused).await;

    world.configure("wrong-secret", CLIENT_SECRET);
    world.configure("wrong-password", PASSWORD);
    let begun = Instant::now();
    reload(&world, &producer, RELOADED).await;
    reload(&world, &ingester, RELOADED).await;
    let durable = world.until_more_durable(100, &mut [&mut producer, &mut ingester]).await;
    assert!(begun.elapsed().as_secs() < 30, "it waits for no back-off: {:?}", begun.elapsed());
    world.until_loaded(durable, &mut [&mut producer, &mut ingester]).await;
    for said in [producer.said(), ingester.said()] {
        assert!(!said.contains("wrong-secret") && !said.contains("wrong-password"), "{said}");
    }
    producer.stop(STOP).await.unwrap();
    ingester.stop(STOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_not_taken_with_a_login_that_is_refused_and_is_taken_while_redshift_is_away() {
    let world = world_with_schema(400_000, 300).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(100, &mut [&mut producer, &mut ingester]).await;
    let first = json(&world, &["schema", "--json"]);
    fs::write(world.path("schema.toml"), second_schema(first["columns"].as_array().unwrap())).unwrap();
    let diff = service::run("ingester", &["ddl", "--diff"], &world.config).unwrap();
    send(&world, &String::from_utf8(diff.stdout).unwrap()).await;
    let status = || dump(&world)["ingester"]["snapshot"]["configuration"].clone();

    world.configure(PASSWORD, "wrong-password");
    reload(&world, &ingester, REFUSED).await;
    let why = status()["failed"]["why"].to_string();
    assert!(why.contains("redshift.password") && !why.contains("wrong-password"), "{why}");
    assert_eq!(status()["reloads"], 0, "neither the schema nor the password");
    let loaded = world.loaded().await;
    world.until_loaded(loaded + 200, &mut [&mut producer, &mut ingester]).await;

    world.configure("wrong-password", PASSWORD);
    let away = Fault::Refused(Kind::Select);
    world.standins.redshift.faults().push_at(1, "svv_columns", away);
    reload(&world, &ingester, RELOADED).await;
    assert_eq!((&status()["reloads"], &status()["failed"]), (&1.into(), &Value::Null));
    assert!(ingester.said().contains("the loader does it later"), "{}", ingester.said());
    reload(&world, &producer, RELOADED).await;
    let durable = world.until_more_durable(300, &mut [&mut producer, &mut ingester]).await;
    world.until_loaded(durable, &mut [&mut producer, &mut ingester]).await;
    let table = "count(*) FROM public.livestream WHERE";
    assert!(world.count(&format!("{table} {ADDED} IS NOT NULL")).await > 0);
    producer.stop(STOP).await.unwrap();
    ingester.stop(STOP).await.unwrap();
}

/// Waits until the process catches SIGHUP, which its very first moments do not.
async fn until_it_listens(world: &World, service: &Service) {
    let listens = async || {
        let status =
            fs::read_to_string(format!("/proc/{}/status", service.pid().unwrap())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default().trim();
        u64::from_str_radix(caught, 16).is_ok_and(|caught| caught & 1 == 1)
    };
    world.until("it listens", &mut [], listens).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_during_start_or_stop_ends_no_service_and_of_two_the_last_file_counts() {
    let world = World::with_rate(100_000, Some(300), &SHAPE).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    for service in [&producer, &ingester] {
        until_it_listens(&world, service).await;
        for _ in 0..20 {
            service.signal(Signal::HUP).unwrap();
        }
    }
    world.until_loaded(100, &mut [&mut producer, &mut ingester]).await;
    for service in [&producer, &ingester] {
        world.until("it was reloaded", &mut [], async || service.said().contains(RELOADED)).await;
    }

    let other = fs::read_to_string(&world.config).unwrap();
    world.configure("[s3]\n", "[s3]\nuploads = 3\n");
    producer.signal(Signal::HUP).unwrap();
    fs::write(&world.config, other.replace("[s3]\n", "[s3]\ntimeout = \"9s\"\n")).unwrap();
    producer.signal(Signal::HUP).unwrap();
    let last = async || {
        dump(&world)["producer"]["snapshot"]["configuration"]["waiting"] == serde_json::json!(["s3.timeout"])
    };
    world.until("the last file counts", &mut [&mut producer], last).await;
    assert!(world.snapshot().await.is_some());

    for service in [&mut producer, &mut ingester] {
        service.signal(Signal::TERM).unwrap();
        service.signal(Signal::HUP).unwrap();
        let status = service.wait(STOP).await.unwrap();
        assert!(status.success(), "{status}: {}", service.said());
    }
}
