//! What the producer shows while the stream, its log or S3 holds it up: in the dump, its JSON, the metrics and the log, each
//! within fifteen seconds, and no longer when it is over.

use std::net::SocketAddr;
use std::process::Output;
use std::time::{Duration, Instant};

use adobe::{Door, Fault as StreamFault};
use sandbox::config::Shape;
use sandbox::judge::files_below;
use sandbox::s3::{ACCESS_KEY, BUCKET, Fault, Operation, Refusal, Side};
use sandbox::service::{self, Service};
use serde_json::Value;

use crate::watched::{free_port, metrics};
use crate::world::{STOP, World, options};

const SHOWN_WITHIN: Duration = Duration::from_secs(15);

/// A world whose producer serves its metrics.
struct Watched {
    world: World,
    listen: SocketAddr,
}

/// What must be seen of a component that is held up.
struct Shown<'s> {
    component: &'s str,
    class: &'s str,
    dump: &'s [&'s str],
    metrics: &'s [&'s str],
    log: &'s [&'s str],
}

impl Watched {
    async fn new(adobe: adobe::Options, shape: &Shape, configure: impl FnOnce(String) -> String) -> Self {
        let listen = free_port();
        let set = format!("producer_listen = \"{listen}\"");
        let configure = |text: &str| configure(text.replace("producer_listen = \"\"", &set));
        Self { world: World::altered(adobe, shape, configure, None).await, listen }
    }

    fn metrics(&self) -> String {
        metrics(self.listen)
    }

    /// What keeps a component from its work, as the JSON says it.
    fn failing(&self, component: &str) -> Option<Value> {
        let dump: Value = serde_json::from_str(&self.world.dump_as(&["--json"])).unwrap();
        let components = dump["producer"]["snapshot"]["components"].as_array()?;
        let found = components.iter().find(|status| status["component"] == component)?;
        Some(found["failing"].clone()).filter(|failing| !failing.is_null())
    }

    /// Waits until everything is shown, for fifteen seconds at most.
    async fn until_shown(&self, producer: &mut Service, shown: &Shown<'_>) {
        let begun = Instant::now();
        loop {
            producer.look().unwrap();
            let (dump, metrics, said) = (self.world.dump(), self.metrics(), producer.said());
            let failing = self.failing(shown.component);
            let class = failing.as_ref().and_then(|failing| failing["class"].as_str()).unwrap_or_default();
            let counted = format!(
                "livestream_producer_failures_total{{component=\"{}\",class=\"{}\"}} ",
                shown.component, shown.class
            );
            let all = |text: &str, parts: &[&str]| parts.iter().all(|part| text.contains(part));
            if all(&dump, shown.dump)
                && class == shown.class
                && metrics.contains(&counted)
                && all(&metrics, shown.metrics)
                && all(&said, shown.log)
            {
                return;
            }
            assert!(
                begun.elapsed() < SHOWN_WITHIN,
                "not shown within {SHOWN_WITHIN:?}\n{dump}\n{failing:?}\n{metrics}\n{}",
                service_tail(&said)
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until_clear(&self, producer: &mut Service, component: &str) {
        let clear = async || self.failing(component).is_none();
        self.world.until(&format!("{component} is well"), &mut [producer], clear).await;
    }
}

fn service_tail(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn small_batches() -> Shape {
    Shape { records_per_file: 100, files_per_batch: 2, ..Shape::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_refused_says_why_and_what_to_do() {
    let adobe = adobe::Options { rate: Some(200), ..options(1_000_000) };
    let fast = |text: String| text.replacen("[adobe]\n", "[adobe]\nretry_max = \"1s\"\n", 1);
    let watched = Watched::new(adobe, &small_batches(), fast).await;
    let world = &watched.world;
    let faults = world.standins.adobe.faults();
    let mut producer = world.start("producer");
    world.until_durable(10, &mut [&mut producer]).await;
    for (status, words) in [(403, "Customer Care"), (503, "adobe.max_connections"), (401, "product profile")]
    {
        faults.push(StreamFault::Cut { after: 0 });
        for _ in 0..200 {
            faults.push(StreamFault::Refuse { door: Door::Front, status, body: None });
        }
        let class = status.to_string();
        let answered = format!("answered {status}");
        let log = [answered.as_str(), "the stream is not connected", "failures=2"];
        let shown = Shown {
            component: "stream",
            class: &class,
            dump: &["not connected for ", words],
            metrics: &["livestream_producer_connections 0.0"],
            log: &log,
        };
        watched.until_shown(&mut producer, &shown).await;
        let dump = world.dump();
        for wrong in ["never connected", "the producer was stopped"] {
            assert!(!dump.contains(wrong), "{dump}");
        }
        let refused = |failing: Value| failing["failures"].as_u64() > Some(1);
        let again = async || watched.failing("stream").is_some_and(refused);
        world.until("one more refusal", &mut [&mut producer], again).await;
        faults.clear();
        watched.until_clear(&mut producer, "stream").await;
        assert!(!world.dump().contains("not connected"), "{}", world.dump());
        let well = "livestream_producer_failing_seconds{component=\"stream\"} 0.0";
        assert!(watched.metrics().contains(well), "{}", watched.metrics());
    }
    producer.stop(STOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_never_brought_a_hit_is_not_behind_and_says_why() {
    let watched = Watched::new(options(100), &small_batches(), |text| text).await;
    let world = &watched.world;
    for _ in 0..200 {
        let fault = StreamFault::Refuse { door: Door::Front, status: 503, body: None };
        world.standins.adobe.faults().push(fault);
    }
    let mut producer = world.start("producer");
    let shown = Shown {
        component: "stream",
        class: "503",
        dump: &["not connected for ", "answered 503", "next in "],
        metrics: &[],
        log: &["failures=1"],
    };
    watched.until_shown(&mut producer, &shown).await;
    assert!(!world.dump().contains("never connected"), "{}", world.dump());
    assert!(!watched.metrics().contains("stream_behind_seconds"), "{}", watched.metrics());
    producer.stop(STOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_is_shown_with_what_waits_of_the_limit_and_does_not_flicker() {
    let shape = Shape { max_batch_age: "1h", files_per_batch: 1_000, ..Shape::default() };
    let narrow = |text: String| text.replacen("[log]\n", "[log]\nmax_bytes = \"16MiB\"\n", 1);
    let watched = Watched::new(options(45_000), &shape, narrow).await;
    let world = &watched.world;
    let s3 = world.standins.s3.faults();
    for _ in 0..20_000 {
        s3.push(Fault::of(Operation::Put, Side::Refused(Refusal::InternalError)));
    }
    let mut producer = world.start("producer");
    let full = async || producer.said().contains("the log is full");
    world.until("the log is full", &mut [], full).await;
    let shown = Shown {
        component: "log",
        class: "full",
        dump: &["FULL for ", "of 16.0 MiB (log.max_bytes) wait for S3; the stream is not read", " on disk, "],
        metrics: &[
            "livestream_producer_log_full 1.0",
            "livestream_producer_log_max_bytes 16777216.0",
            "livestream_producer_log_waiting_bytes 1",
        ],
        log: &["the log is full"],
    };
    watched.until_shown(&mut producer, &shown).await;
    s3.clear();
    let room = async || producer.said().contains("the log has room again");
    world.until("the log has room again", &mut [], room).await;
    watched.until_clear(&mut producer, "log").await;
    assert!(watched.metrics().contains("livestream_producer_log_full 0.0"), "{}", watched.metrics());
    assert!(!world.dump().contains("FULL"), "{}", world.dump());
    // What else comes fits, and it does not say so twice.
    world.until_durable(world.wanted(), &mut [&mut producer]).await;
    assert_eq!(producer.said().matches("the log is full").count(), 1, "{}", producer.said());
    producer.stop(STOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_that_refuses_or_is_away_is_shown_and_one_success_wakes_all_uploads() {
    let adobe = adobe::Options { rate: Some(300), ..options(1_000_000) };
    let watched = Watched::new(adobe, &small_batches(), |text| text).await;
    let world = &watched.world;
    let s3 = world.standins.s3.faults();
    let mut producer = world.start("producer");
    let published = async || producer.said().contains("batch published");
    world.until("a batch is published", &mut [], published).await;
    let kinds = [
        ("configuration", Side::Refused(Refusal::AccessDenied), "check s3.bucket"),
        ("passing", Side::Cut, "check the network"),
    ];
    for (class, side, words) in kinds {
        for _ in 0..20_000 {
            s3.push(Fault::of(Operation::Put, side));
        }
        let class_in_log = format!("class=\"{class}\"");
        let log = ["of batch 0", "failed; again in", class_in_log.as_str()];
        let shown = Shown {
            component: "upload",
            class,
            dump: &["S3 fails for ", " batch 0", words],
            metrics: &[],
            log: &log,
        };
        watched.until_shown(&mut producer, &shown).await;
        let many = async || watched.failing("upload").is_some_and(|it| it["failures"].as_u64() > Some(16));
        world.until("more failures", &mut [&mut producer], many).await;
        let back = producer.said().matches("S3 takes uploads again").count();
        s3.clear();
        let is_back = async || producer.said().matches("S3 takes uploads again").count() > back;
        world.until("S3 takes uploads again", &mut [], is_back).await;
        watched.until_clear(&mut producer, "upload").await;
        assert!(!world.dump().contains("S3 fails"), "{}", world.dump());
    }
    // One line at the start of each outage, and not four a refusal.
    let said = producer.said();
    let lines = said.matches("failed; again in").count();
    assert!((2..8).contains(&lines), "{lines} lines\n{}", service_tail(&said));
    producer.stop(STOP).await.unwrap();
}

/// Runs a command of the producer with a key that is good for every prefix.
fn run(world: &World, args: &[&str]) -> (Output, String) {
    let mut command = service::command("producer", args, &world.config).unwrap();
    let output = command.env("LIVESTREAM__S3__ACCESS_KEY_ID", ACCESS_KEY).output().unwrap();
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    (output, String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_leaves_nothing_behind_and_what_is_half_at_the_old_place_is_finished_there() {
    let shape = Shape { max_batch_age: "1h", records_per_file: 100, files_per_batch: 3, ..Shape::default() };
    let world = World::new(950, &shape).await;
    // The second file of each batch is refused.
    let s3 = world.standins.s3.faults();
    for _ in 0..20_000 {
        let refused = Fault::of(Operation::Put, Side::Refused(Refusal::AccessDenied));
        s3.push(Fault { key: "/1.csv".to_owned(), ..refused });
    }
    let mut producer = world.start("producer");
    world.until_durable(world.wanted(), &mut [&mut producer]).await;
    let half = async || {
        let snapshot = world.snapshot().await;
        snapshot.is_some_and(|snapshot| snapshot.batches.iter().any(|batch| batch.files_uploaded > 0))
    };
    world.until("a half-written batch", &mut [&mut producer], half).await;
    producer.stop(STOP).await.unwrap();
    s3.clear();

    world.configure("[s3]\n", "[s3]\nto_ingest = \"Moved/\"\n");
    let (_, said) = run(&world, &["check"]);
    assert!(
        said.contains("uploaded to s3://livestream/ToIngest/: `producer run` finishes it there"),
        "{said}"
    );
    let (drained, said) = run(&world, &["run", "--drain"]);
    assert_eq!(drained.status.code(), Some(0), "{said}");
    assert!(said.contains("it is finished there") && said.contains("the log is drained"), "{said}");
    assert!(!said.contains("reading the stream"), "{said}");
    let dump: Value = serde_json::from_str(&world.dump_as(&["--json"])).unwrap();
    let batches = dump["producer"]["snapshot"]["batches"].as_array().unwrap();
    assert!(batches.len() > 2 && batches.iter().all(|batch| batch["status"] == "published"), "{batches:?}");
    let bucket = world.path("s3").join(BUCKET);
    let seals = |prefix: &str| {
        let files = files_below(&bucket.join(prefix)).unwrap();
        files.iter().filter(|path| path.ends_with("batch.json")).count()
    };
    let (old, moved) = (seals("ToIngest"), seals("Moved"));
    assert!(old > 0 && moved > 0 && old + moved == batches.len(), "{old} and {moved} of {}", batches.len());
    // A second one has nothing to do.
    let (again, said) = run(&world, &["run", "--drain"]);
    assert!(again.status.success() && !said.contains("draining the log"), "{said}");
}
