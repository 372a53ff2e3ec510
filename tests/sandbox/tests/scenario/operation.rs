//! The services as they are run: stopped, restarted one without the other, misconfigured, and looked at.

use std::process::Output;
use std::time::{Duration, Instant};

use redshift::{Fault, Kind};
use rustix::process::Signal;
use sandbox::config::Shape;
use sandbox::judge::files_below;
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};
use sandbox::standins::{CLIENT_SECRET, PASSWORD};
use shared::seal::Seal;

use crate::world::{World, assert_clean};

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_is_delivered_by_age_and_its_batches_are_archived() {
    let world =
        World::new(10, &Shape { max_file_age: "500ms", max_batch_age: "1s", ..Shape::default() }).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(world.wanted(), &mut [&mut producer, &mut ingester]).await;
    let bucket = world.path("s3").join(BUCKET);
    let moved = async || {
        files_below(&bucket.join("ToIngest")).unwrap().is_empty()
            && files_below(&bucket.join("Ingested")).unwrap().iter().any(|path| path.ends_with("batch.json"))
    };
    world.until("archived", &mut [&mut producer, &mut ingester], moved).await;
    for path in
        files_below(&bucket.join("Ingested")).unwrap().iter().filter(|path| path.ends_with("batch.json"))
    {
        let folder = path.parent().unwrap();
        let batch = folder.file_name().unwrap().to_str().unwrap().parse().unwrap();
        for file in Seal::read(batch, &std::fs::read(path).unwrap()).unwrap().files {
            assert_eq!(
                std::fs::metadata(folder.join(&file.name)).unwrap().len(),
                file.bytes,
                "{}",
                file.name
            );
        }
        assert!(folder.join("manifest.json").exists());
    }
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ingester_works_while_the_producer_is_down_and_in_every_compression() {
    for compression in ["gzip", "none"] {
        let shape = Shape { max_file_age: "500ms", max_batch_age: "1s", compression, ..Shape::default() };
        let world = World::new(1_500, &shape).await;
        world.publish().await;
        let mut ingester = world.start("ingester");
        world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
        ingester.stop(Duration::from_secs(40)).await.unwrap();
        assert_clean(&world.verdict().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_in_mid_stream_both_services_end_in_order_and_lose_nothing() {
    let world = World::with_rate(6_000, Some(2_000), &Shape::default()).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_durable(1_000, &mut [&mut producer, &mut ingester]).await;
    let begun = Instant::now();
    producer.stop(Duration::from_secs(35)).await.unwrap();
    ingester.stop(Duration::from_secs(35)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    producer.start_again().unwrap();
    ingester.start_again().unwrap();
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_dump_shows_the_same_whether_the_services_run_or_not() {
    let shape = Shape { max_file_age: "1h", max_batch_age: "1h", files_per_batch: 2, ..Shape::default() };
    let world = World::new(5_000, &shape).await;
    let mut producer = world.start("producer");
    world.until_durable(world.wanted(), &mut [&mut producer]).await;
    let published = async || {
        let batches = world.snapshot().await.map(|snapshot| snapshot.batches).unwrap_or_default();
        batches.iter().filter(|batch| batch.published.is_some()).count() == 2
    };
    world.until("two batches published", &mut [&mut producer], published).await;

    let running = stdout(&service::run("state", &["dump"], &world.config).unwrap());
    assert!(running.contains("producer  running, process"), "{running}");
    assert!(running.contains("ingester  never ran"), "{running}");
    assert_eq!(running.matches("published").count(), 2, "{running}");
    assert_eq!(running.matches("filling").count(), 1, "{running}");
    assert!(running.lines().all(|line| line.chars().count() <= 100), "{running}");

    let json = || {
        let dump = stdout(&service::run("state", &["dump", "--json"], &world.config).unwrap());
        serde_json::from_str::<serde_json::Value>(&dump).unwrap()
    };
    let before = json();
    let batch = before["producer"]["snapshot"]["batches"][2]["batch"].as_str().unwrap();
    let of_batch = || {
        let dump =
            stdout(&service::run("state", &["dump", "--json", "--batch", batch], &world.config).unwrap());
        serde_json::from_str::<serde_json::Value>(&dump).unwrap()["producer"]["snapshot"].clone()
    };
    let batch_before = of_batch();
    assert_eq!(batch_before["file_list"].as_array().map(Vec::len), Some(1), "{batch_before}");
    let verified = || stdout(&service::run("state", &["verify"], &world.config).unwrap());
    assert!(verified().contains("✓ producer: running, process"), "{}", verified());
    producer.kill().unwrap();
    assert!(verified().contains("✓ producer: not running"), "{}", verified());
    assert_eq!(of_batch(), batch_before);
    let stopped = stdout(&service::run("state", &["dump"], &world.config).unwrap());
    assert!(
        stopped.contains("producer  not running since 20") && stopped.contains(": read from its database"),
        "{stopped}"
    );
    let after = json();
    assert_eq!(after["producer"]["snapshot"]["batches"], before["producer"]["snapshot"]["batches"]);
    assert_eq!(after["pending"], before["pending"]);
    assert_eq!(after["format"], 2);
    assert!(after["producer"]["pid"].is_null(), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_ends_every_program_before_anything_is_opened() {
    let world = World::new(10, &Shape::default()).await;
    let text = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, text.replace("max_file_age", "max_flie_age")).unwrap();
    for (name, command) in [("producer", "run"), ("ingester", "run"), ("state", "dump"), ("ingester", "ddl")]
    {
        let ended = service::run(name, &[command], &world.config).unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(78), "{name}: {said}");
        assert!(
            said.contains("batch.max_flie_age: unknown key; did you mean `max_file_age`?"),
            "{name}: {said}"
        );
    }
    assert!(!world.path("producer").exists() && !world.path("ingester").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_every_step_and_says_what_to_do() {
    let world = World::new(10, &Shape::default()).await;
    let all = stdout(&service::run("producer", &["check"], &world.config).unwrap());
    assert!(!all.contains('✗') && all.contains("✓ Livestream"), "{all}");
    stdout(&service::run("ingester", &["check"], &world.config).unwrap());

    let text = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(&world.config, text.replace(CLIENT_SECRET, "wrong-secret")).unwrap();
    let failed = service::run("producer", &["check"], &world.config).unwrap();
    let said = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert_eq!(failed.status.code(), Some(78), "{said}");
    assert!(said.contains("✗ Adobe token") && said.contains("Adobe Developer Console"), "{said}");
    let run = service::run("producer", &["run"], &world.config).unwrap();
    assert_eq!(
        run.status.code(),
        Some(78),
        "a wrong secret at the start: {}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_nobody_reads_is_no_failure_and_alters_no_code() {
    let world = World::new(10, &Shape::default()).await;
    let text = std::fs::read_to_string(&world.config).unwrap();
    let wrong = world.path("wrong.toml");
    std::fs::write(&wrong, text.replace(CLIENT_SECRET, "wrong-secret")).unwrap();
    let nobody = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        std::process::Stdio::from(writer)
    };
    let cases: [(&str, &[&str], &std::path::Path, Option<i32>); 6] = [
        ("producer", &["schema"], &world.config, Some(0)),
        ("producer", &["schema", "--json"], &world.config, Some(0)),
        ("producer", &["run"], &wrong, Some(78)),
        ("ingester", &["ddl"], &world.config, Some(0)),
        ("state", &["dump", "--json"], &world.config, None),
        ("state", &["dump", "--batch", "019caeda"], &world.config, None),
    ];
    for (name, args, config, code) in cases {
        let command = || {
            let mut command = std::process::Command::new(service::binary(name).unwrap());
            command.args(args).arg("--config").arg(config).stdin(std::process::Stdio::null());
            command
        };
        let code = code.or_else(|| command().output().unwrap().status.code());
        let ended = command().stdout(nobody()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), code, "{name} {args:?}: {said}");
        assert!(!said.to_lowercase().contains("pipe") && !said.contains("panicked"), "{said}");
        let ended = command().stdout(nobody()).stderr(nobody()).output().unwrap();
        assert_eq!(ended.status.code(), code, "{name} {args:?} without standard error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_services_store_is_for_nobody_else_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;

    let shape = Shape { max_file_age: "500ms", max_batch_age: "1s", ..Shape::default() };
    let world = World::new(500, &shape).await;
    // As the tests do, most programs run with a umask that lets everybody read.
    std::fs::create_dir_all(world.path("producer/kept")).unwrap();
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(world.wanted(), &mut [&mut producer, &mut ingester]).await;
    let mut seen = 0;
    for service in ["producer", "ingester"] {
        let mut dirs = vec![world.path(service)];
        while let Some(dir) = dirs.pop() {
            // Copies and snapshots come and go.
            let below = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
            for path in below.chain([dir.clone()]) {
                let Ok(meta) = std::fs::metadata(&path) else { continue };
                let mode = meta.permissions().mode();
                assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
                seen += 1;
                if meta.is_dir() && path != dir {
                    dirs.push(path);
                }
            }
        }
    }
    assert!(seen > 10, "{seen}");
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_producer_on_the_same_log_ends_at_once_and_names_the_first() {
    let world = World::with_rate(1_000, Some(100), &Shape::default()).await;
    let mut producer = world.start("producer");
    world.until_durable(1, &mut [&mut producer]).await;
    let second = service::run("producer", &["run"], &world.config).unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("in use by process {}", producer.pid().unwrap())), "{said}");
    producer.look().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_token_reaches_a_log_even_at_trace_level() {
    let shape = Shape::default();
    let world = World::new(500, &shape).await;
    let text = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(
        &world.config,
        text.replace("[logging]", "[logging]\nlevel = \"trace\"\nformat = \"json\""),
    )
    .unwrap();
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
    let logs = files_below(&world.path("logs")).unwrap();
    assert!(logs.iter().any(|path| path.extension().is_some_and(|extension| extension == "log")), "{logs:?}");
    for path in logs {
        let text = std::fs::read_to_string(&path).unwrap();
        for secret in [CLIENT_SECRET, PASSWORD, sandbox::s3::SECRET_KEY, "Bearer ey"] {
            assert!(!text.contains(secret), "{} shows {secret}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_stops_the_stream_and_goes_on_by_itself_and_can_be_stopped_while_full() {
    let shape =
        Shape { records_per_file: 1_000, files_per_batch: 1_000, max_batch_age: "1h", ..Shape::default() };
    let world = World::new(60_000, &shape).await;
    let good = std::fs::read_to_string(&world.config).unwrap();
    let endpoint = world.standins.s3.endpoint().to_owned();
    // S3 is away, and there is room for a part of the stream only.
    let away = good.replace(&endpoint, "http://127.0.0.1:9").replace("[log]", "[log]\nmax_bytes = \"16MiB\"");
    std::fs::write(&world.config, &away).unwrap();
    let mut producer = world.start("producer");
    let full = async || producer.said().contains("the log is full");
    world.until("the log is full", &mut [], full).await;
    producer.stop(Duration::from_secs(20)).await.unwrap();
    let before = producer.said().matches("the log is full").count();
    producer.start_again().unwrap();
    let full_again = async || producer.said().matches("the log is full").count() > before;
    world.until("the log is full again", &mut [], full_again).await;
    producer.kill().unwrap();
    // S3 is back: what is in the log goes there, and the stream is read on.
    std::fs::write(&world.config, good.replace("max_batch_age = \"1h\"", "max_batch_age = \"1s\"")).unwrap();
    producer.start_again().unwrap();
    let ingester = world.start("ingester");
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ingesters_and_a_lost_bookkeeping_load_nothing_twice_whatever_becomes_of_the_folders() {
    for archive in ["move", "keep", "delete"] {
        let world =
            World::new(5_000, &Shape { records_per_file: 100, files_per_batch: 3, ..Shape::default() }).await;
        let text = std::fs::read_to_string(&world.config).unwrap();
        let text = text.replace("[ingester]", &format!("[ingester]\narchive = \"{archive}\""));
        std::fs::write(&world.config, &text).unwrap();
        let second_config = world.path("second.toml");
        let dir = |name: &str| format!("{}\"", world.path(name).display());
        std::fs::write(&second_config, text.replace(&dir("ingester"), &dir("second"))).unwrap();
        let (mut producer, mut first) = (world.start("producer"), world.start("ingester"));
        let mut second = Service::start("ingester", &second_config, &world.path("logs-second")).unwrap();
        world.until_loaded(world.wanted() / 3, &mut [&mut producer, &mut first, &mut second]).await;
        first.kill().unwrap();
        std::fs::remove_dir_all(world.path("ingester")).unwrap();
        first.start_again().unwrap();
        world.until_loaded(world.wanted(), &mut [&mut producer, &mut first, &mut second]).await;
        second.stop(Duration::from_secs(40)).await.unwrap();
        assert_clean(&world.finish(producer, first).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_service_at_once_and_loses_nothing() {
    let world = World::new(2_000, &Shape { max_batch_age: "1s", ..Shape::default() }).await;
    let faults = world.standins.redshift.faults();
    faults.push(Fault::Slow(Kind::Copy, Duration::from_secs(20)));
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    let copying = async || faults.pending() == 0;
    world.until("a COPY under way", &mut [&mut producer, &mut ingester], copying).await;
    ingester.signal(Signal::TERM).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    ingester.look().unwrap();
    ingester.signal(Signal::TERM).unwrap();
    let status = ingester.wait(Duration::from_secs(2)).await.unwrap();
    assert_eq!(status.code(), Some(130));
    ingester.start_again().unwrap();
    assert_clean(&world.finish(producer, ingester).await);
}
