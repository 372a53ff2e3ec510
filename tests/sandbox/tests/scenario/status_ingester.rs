//! What `state dump`, its JSON and the metrics tell of an ingester while something is wrong, and that they stop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use redshift::{Failure, Fault, Kind};
use sandbox::config::Shape;
use sandbox::s3::{self, Operation, Refusal, Side};
use sandbox::service::Service;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::schema::send;
use crate::watched::{free_port, metrics};
use crate::world::{STOP, World, assert_clean, squeezed};

/// The cause shows within this time.
const SOON: Duration = Duration::from_secs(15);
/// A server that answers nothing shows within this time.
const FROZEN: Duration = Duration::from_secs(60);

fn shape() -> Shape {
    Shape {
        records_per_file: 100,
        files_per_batch: 5,
        max_file_age: "500ms",
        max_batch_age: "1s",
        ..Shape::default()
    }
}

/// All that an operator may look at.
struct Told {
    dump: String,
    json: Value,
    metrics: String,
}

impl Told {
    /// The component in the JSON.
    fn component(&self, name: &str) -> Option<&Value> {
        let components = self.json["ingester"]["snapshot"]["components"].as_array()?;
        components.iter().find(|component| component["component"] == name)
    }

    /// The sample of a metric, labels included.
    fn metric(&self, name: &str) -> f64 {
        let sample = self.metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        sample.map_or(0.0, |value| value.parse().unwrap())
    }

    fn failing_seconds(&self, component: &str) -> f64 {
        self.metric(&format!("livestream_ingester_failing_seconds{{component=\"{component}\"}}"))
    }

    /// Whether dump, JSON and metrics agree that the component meets failures of this class, for this reason.
    fn fails(&self, component: &str, state: &str, class: &str, why: &str) -> bool {
        let failing = self.component(component).map_or(&Value::Null, |component| &component["failing"]);
        let counted =
            format!("livestream_ingester_failures_total{{component=\"{component}\",class=\"{class}\"}}");
        let words = squeezed(&self.dump);
        words.contains(&format!("{component} {state} for"))
            && words.contains(why)
            && failing["class"] == class
            && failing["next"].is_string()
            && self.failing_seconds(component) > 0.0
            && self.metric(&counted) > 0.0
    }

    fn works(&self, component: &str) -> bool {
        self.component(component).is_none_or(|component| component["failing"].is_null())
            && self.failing_seconds(component) == 0.0
    }
}

/// A world whose ingester has metrics there.
async fn world(hits: u64) -> (World, SocketAddr) {
    let world = World::new(hits, &shape()).await;
    let at = free_port();
    world.configure("ingester_listen = \"\"", &format!("ingester_listen = \"{at}\""));
    (world, at)
}

impl World {
    fn told(&self, at: SocketAddr) -> Told {
        // Empty when nobody answered in time: that shows nothing.
        let json = serde_json::from_str(&self.dump_as(&["--json"])).unwrap_or(Value::Null);
        Told { dump: self.dump(), json, metrics: metrics(at) }
    }

    /// Waits until everything tells it.
    async fn until_told(
        &self,
        at: SocketAddr,
        limit: Duration,
        what: &str,
        shown: impl Fn(&Told) -> bool,
    ) -> Told {
        let begun = Instant::now();
        loop {
            let told = self.told(at);
            if shown(&told) {
                println!("shown after {:?}: {what}", begun.elapsed());
                return told;
            }
            assert!(
                begun.elapsed() < limit,
                "not shown within {limit:?}: {what}\n{}\n{}\n{}",
                told.dump,
                told.json["ingester"]["snapshot"]["components"],
                told.metrics
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn end_ingester(&self, mut ingester: Service) {
        let wanted = self.wanted();
        self.until_loaded(wanted, &mut [&mut ingester]).await;
        ingester.stop(STOP).await.unwrap();
        assert_clean(&self.verdict().await);
    }
}

/// Lets connections to `from` through to Redshift from now on.
async fn open(from: SocketAddr, redshift: SocketAddr) {
    let listener = TcpListener::bind(from).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(redshift).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redshift_that_refuses_connections_shows_with_and_without_a_batch_that_waits() {
    let (world, at) = world(600).await;
    let (redshift, closed) = (world.standins.redshift.addr(), free_port());
    world.configure(&format!("port = {}\n", redshift.port()), &format!("port = {}\n", closed.port()));
    let ingester = world.start("ingester");
    let refused = |told: &Told| told.fails("load", "held up", "passing", "connecting to Redshift");
    let told = world.until_told(at, SOON, "Redshift away, nothing waits", refused).await;
    assert!(
        told.dump.contains("nothing is pending") && told.dump.contains("onnection refused"),
        "{}",
        told.dump
    );
    world.publish().await;
    let waiting = |told: &Told| {
        refused(told) && told.dump.contains("    passing, ") && told.dump.contains(", next in ")
    };
    let told = world.until_told(at, 2 * SOON, "Redshift away, batches wait", waiting).await;
    assert!(told.dump.contains("  retrying\n") && !told.dump.contains("#0"), "{}", told.dump);
    open(closed, redshift).await;
    world.until_told(at, 2 * SOON, "Redshift is back", |told| told.works("load")).await;
    world.end_ingester(ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redshift_that_never_answers_shows_with_the_statement_within_a_minute() {
    let (world, at) = world(400).await;
    world.publish().await;
    let faults = world.standins.redshift.faults();
    let hold = |kind| faults.push(Fault::Hold { kind, applied: false, orphan: None });
    // A start takes a LOCK to compare the owner of ledger and prefixes.
    hold(Kind::Lock);
    let ingester = world.start("ingester");
    faults.until_held().await;
    let starting = |told: &Told| told.dump.contains("load      LOCK for ");
    world.until_told(at, SOON, "frozen at the start", starting).await;
    hold(Kind::Copy);
    faults.release();
    faults.until_held().await;
    let attempt =
        |told: &Told| told.dump.contains("    loading #1 for ") && told.dump.contains(", at COPY\n");
    world.until_told(at, SOON, "at COPY", attempt).await;
    let words = "load      waiting for Redshift's answer to COPY for ";
    let frozen = |told: &Told| {
        let step = told.component("load").map_or(&Value::Null, |load| &load["step"]);
        told.dump.contains(words)
            && step["waits_for"] == "Redshift"
            && told.metric("livestream_ingester_step_seconds{component=\"load\"}") >= 30.0
    };
    world.until_told(at, FROZEN, "Redshift frozen", frozen).await;
    faults.release();
    let goes_on = |told: &Told| !told.dump.contains(words) && !told.dump.contains("loading #1");
    world.until_told(at, SOON, "Redshift answers again", goes_on).await;
    world.end_ingester(ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_cannot_be_assumed_shows_as_what_holds_up_loading() {
    let (world, at) = world(400).await;
    world.publish().await;
    let role = "Not authorized to get credentials of role arn:aws:iam::123456789012:role/sandbox";
    let refused = || Fault::Fails(Kind::Copy, Failure::Text { message: role.to_owned(), code: 8001 });
    let faults = world.standins.redshift.faults();
    (0..2).for_each(|_| faults.push(refused()));
    let ingester = world.start("ingester");
    let shown = |told: &Told| {
        told.fails("load", "held up", "configuration", "Not authorized to get credentials of role")
            && told.dump.contains("    ALERT configuration, ")
    };
    world.until_told(at, SOON, "the role is wrong", shown).await;
    world.until_told(at, 3 * SOON, "the role is right", |told| told.works("load")).await;
    world.end_ingester(ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_quarantine_show_with_column_and_reason_and_no_longer_after_a_replay() {
    let (world, at) = world(400).await;
    world.publish().await;
    world.configure("[ingester]", "[quarantine]\nmax_share = 0.9\n\n[ingester]");
    send(&world, "ALTER TABLE public.livestream ALTER COLUMN evar1 TYPE varchar(34);").await;
    let mut ingester = world.start("ingester");
    let reason = "column evar1: String length exceeds DDL length";
    let rows = "livestream_ingester_quarantined_rows";
    let in_quarantine = |load: &&Value| load["quarantined"].as_u64() > Some(0);
    let shown = |told: &Told| {
        let Some(loads) = told.json["ingester"]["snapshot"]["loads"].as_array() else { return false };
        told.dump.contains("in quarantine  ")
            && told.dump.contains(reason)
            && told.metric(rows) > 0.0
            && loads.iter().any(|load| in_quarantine(&load))
            && loads.iter().filter(in_quarantine).all(|load| load["quarantine"]["first"]["column"] == "evar1")
    };
    let told = world.until_told(at, SOON, "rows in quarantine", shown).await;
    let loads = told.json["ingester"]["snapshot"]["loads"].as_array().unwrap();
    let batch = loads.iter().find(in_quarantine).unwrap()["batch"].as_str().unwrap();
    let wanted = world.wanted();
    world.until_loaded(wanted, &mut [&mut ingester]).await;

    send(&world, "ALTER TABLE public.livestream ALTER COLUMN evar1 TYPE varchar(255);").await;
    let (code, said) = world.ask(&["replay", "--all"]);
    assert_eq!(code, Some(0), "{said}");
    let gone = |told: &Told| !told.dump.contains("in quarantine  ") && told.metric(rows) == 0.0;
    world.until_told(at, SOON, "nothing in quarantine", gone).await;
    let archived = async || world.dump_as(&["--batch", batch]).contains("s3://livestream/Ingested/");
    world.until("the place of an archived batch", &mut [&mut ingester], archived).await;
    let one = world.dump_as(&["--batch", batch]);
    assert!(one.contains("place        s3://livestream/Ingested/"), "{one}");
    let (kept, replayed) = (one.find("  rows in quarantine").unwrap(), one.find("  replayed").unwrap());
    assert!(kept < replayed, "{one}");
    ingester.stop(STOP).await.unwrap();
    assert!(world.dump().contains("ingester  not running since 20"), "{}", world.dump());
    assert_clean(&world.verdict().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_that_refuses_the_ingester_shows_at_listing_and_at_archiving() {
    let (world, at) = world(400).await;
    world.publish().await;
    let faults = world.standins.s3.faults();
    let refuse = |operation| {
        let fault = s3::Fault::of(operation, Side::Refused(Refusal::AccessDenied));
        (0..500).for_each(|_| faults.push(fault.clone()));
    };
    refuse(Operation::List);
    let ingester = world.start("ingester");
    let listing = |told: &Told| told.fails("discovery", "S3 fails", "configuration", "AccessDenied");
    world.until_told(at, SOON, "listings refused", listing).await;
    faults.clear();
    refuse(Operation::Copy);
    let archiving = |told: &Told| {
        told.works("discovery") && told.fails("archive", "S3 fails", "configuration", "cannot be archived")
    };
    world.until_told(at, 2 * SOON, "copies refused", archiving).await;
    faults.clear();
    world.until_told(at, SOON, "S3 allows both", |told| told.works("archive")).await;
    world.end_ingester(ingester).await;
}
