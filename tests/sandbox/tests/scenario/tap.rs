//! `state tap`: what passes is seen with what became of it, and a tap that nobody reads holds up nothing.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use adobe::{Fault as StreamFault, Options};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::config::Shape;
use sandbox::service;
use serde_json::Value;

use crate::world::{STOP, World, options};

const PATIENCE: Duration = Duration::from_secs(60);

struct Tap(Child);

impl Tap {
    fn start(args: &[&str], config: &Path, output: Stdio) -> Self {
        let mut command = service::command("state", &[&["tap"], args].concat(), config).unwrap();
        Self(command.stdout(output).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap(), signal).unwrap();
    }

    async fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.0.stderr.take().unwrap(), &mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn became<'l>(lines: &'l [Value], kind: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["became"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_duplicates_filtered_records_and_rejects_are_seen_as_they_pass() {
    let shape = Shape { max_file_age: "500ms", max_batch_age: "1s", ..Shape::default() };
    let world = World::with(Options { rate: Some(600), ..options(6_000) }, &shape).await;
    // Adobe sends again what was in flight.
    world.standins.adobe.faults().push(StreamFault::Cut { after: 2_500 });
    let not_running = service::run("state", &["tap"], &world.config).unwrap();
    let said = String::from_utf8_lossy(&not_running.stderr).into_owned();
    assert!(not_running.status.code() == Some(69) && said.contains("the producer does not run"), "{said}");

    let mut producer = world.start("producer");
    world.until_durable(1, &mut [&mut producer]).await;
    let (all, few) = (world.path("all"), world.path("few"));
    let tap = Tap::start(&["--json", "--full"], &world.config, File::create(&all).unwrap().into());
    let rejects =
        Tap::start(&["--rejects", "--json", "-n", "2"], &world.config, File::create(&few).unwrap().into());
    let (code, said) = rejects.end().await;
    assert_eq!(code, Some(0), "{said}");
    let few = lines(&few);
    assert_eq!((became(&few, "rejected").len(), became(&few, "row").len()), (2, 0), "{few:?}");
    assert!(few[0]["code"].is_string() && few[0]["reason"].is_string(), "{few:?}");

    world.until_published(&mut producer).await;
    let seen = async || {
        let seen = lines(&all);
        ["row", "duplicate", "filtered", "rejected"].iter().all(|kind| !became(&seen, kind).is_empty())
    };
    world.until("every kind of record seen", &mut [&mut producer], seen).await;
    let seen = lines(&all);
    let row = became(&seen, "row")[0];
    let record: Value = serde_json::from_str(row["record"].as_str().unwrap()).unwrap();
    let hit = format!("{}-{}", record["hitIdHigh"], record["hitIdLow"]).replace('"', "");
    assert_eq!(row["hit"], hit, "{row}");
    assert!(became(&seen, "filtered")[0]["filter"].is_string());
    let not_shown: u64 = seen.iter().filter_map(|line| line["not_shown"].as_u64()).sum();
    let received = world.snapshot().await.unwrap().totals.received;
    let passed = seen.iter().filter(|line| line["became"].is_string()).count() as u64 + not_shown;
    assert!(passed > 3_000 && passed <= received, "{passed} of {received}");
    // What passed is nowhere but on standard output.
    assert!(!producer.said().contains(&hit), "{}", producer.said());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(world.path("producer").join("feed.sock")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);

    // Ctrl-C ends it in order, the end of the producer does not.
    tap.signal(Signal::INT);
    assert_eq!(tap.end().await.0, Some(0));
    let tap = Tap::start(&[], &world.config, Stdio::null());
    tokio::time::sleep(Duration::from_millis(500)).await;
    producer.stop(STOP).await.unwrap();
    let (code, said) = tap.end().await;
    assert!(code == Some(69) && said.contains("hung up: it was stopped or restarted"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_that_takes_nothing_does_not_hold_up_the_stream_and_tells_what_it_missed() {
    const HITS: u64 = 40_000;
    let world = World::with(Options { rate: Some(8_000), ..options(HITS) }, &Shape::default()).await;
    let mut producer = world.start("producer");
    world.until_durable(1, &mut [&mut producer]).await;
    let output = world.path("tapped");
    let tap = Tap::start(&["--json", "--full"], &world.config, File::create(&output).unwrap().into());
    let begun = async || !lines(&output).is_empty();
    world.until("the tap has begun", &mut [&mut producer], begun).await;
    tap.signal(Signal::STOP);
    let (before, began) = (world.snapshot().await.unwrap().totals.rows, Instant::now());
    assert!(before < HITS / 2, "{before} had passed before the tap stalled");
    let wanted = world.wanted();
    world.until_durable(wanted, &mut [&mut producer]).await;
    let (rows, took) = (wanted - before, began.elapsed());
    // At the rate of the stream, not at that of the tap, which is a thousand in a second at most.
    assert!(took < Duration::from_millis(rows / 2), "{rows} rows took {took:?}");
    tap.signal(Signal::CONT);
    let told = async || lines(&output).iter().any(|line| line["not_shown"].as_u64() > Some(HITS / 4));
    world.until("what was missed is told", &mut [&mut producer], told).await;
    tap.signal(Signal::TERM);
    assert_eq!(tap.end().await.0, Some(0));
    producer.stop(STOP).await.unwrap();
}
