//! A night of outages: each neighbour goes away and comes back, the log is full, rows are refused, loading is paused, and each
//! service is killed. For each it is looked at all that an operator may look at: the page and its data, `state watch`, `state
//! dump`, and what the webhook is told. `make scenario NAME=night::` prints the table of when each showed it.

mod table;
mod views;

use std::time::{Duration, Instant};

use adobe::{Door, Fault as StreamFault, Options};
use sandbox::config::Shape;
use sandbox::s3::{Fault, Operation, Refusal, Side};
use serde_json::Value;
use tokio::runtime::Builder;

use crate::schema::send;
use crate::world::{World, options};

use table::Row;
use views::{Night, Outage, PageOf, ToldBy};

/// More refusals than an outage can use up.
const ALL: usize = 20_000;

#[test]
fn every_view_names_every_outage_and_the_alert_is_told_and_resolved_within_a_minute() {
    // An outage takes a minute, and waits more than it computes: three worlds side by side, each with a runtime of its own,
    // since the views are looked at by calls that block.
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let worlds = [
            scope.spawn(|| in_a_runtime(adobe_a_pause_and_a_dead_producer)),
            scope.spawn(|| in_a_runtime(s3_a_dead_ingester_and_a_full_log)),
            scope.spawn(|| in_a_runtime(redshift_and_refused_rows)),
        ];
        worlds.into_iter().flat_map(|world| world.join().unwrap()).collect()
    });
    table::print(&rows);
    table::assert_in_time(&rows);
}

fn in_a_runtime(night: impl AsyncFnOnce() -> Vec<Row>) -> Vec<Row> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(night())
}

fn steady(rate: u64) -> Options {
    Options { rate: Some(rate), ..options(1_000_000) }
}

fn small_batches() -> Shape {
    Shape { records_per_file: 100, files_per_batch: 2, ..Shape::default() }
}

/// Whether a component of a service meets nothing but failures.
fn fails(data: &Value, service: &str, component: &str) -> bool {
    let components = data[service]["snapshot"]["components"].as_array();
    let is_it = |status: &Value| status["component"] == component && !status["failing"].is_null();
    components.is_some_and(|components| components.iter().any(is_it))
}

/// S3 refuses these requests to both services.
fn refuse(world: &World, operations: &[Operation]) {
    for operation in operations {
        let fault = Fault::of(*operation, Side::Refused(Refusal::AccessDenied));
        (0..ALL).for_each(|_| world.standins.s3.faults().push(fault.clone()));
    }
}

static ADOBE_AWAY: Outage = Outage {
    name: "Adobe away",
    page_of: PageOf::Ingester,
    data: |data| fails(data, "producer", "stream"),
    page: &["not connected for ", "answer: 500"],
    watch: &["✗ not connected", "stream not connected for "],
    dump: &["not connected for ", "answered 500"],
    told_by: ToldBy::Alerts(&["stream_failing"]),
};

static PAUSE: Outage = Outage {
    name: "loading paused",
    page_of: PageOf::Producer,
    data: |data| data["ingester"]["snapshot"]["paused"]["by"] == "hand",
    page: &["Loading is paused by hand", "paused by hand", "resize of the cluster"],
    watch: &["▲ paused", "loading is paused until `ingester resume`"],
    dump: &["paused until `ingester resume`", "resize of the cluster"],
    told_by: ToldBy::Nobody("after 2h, since it was meant"),
};

static PRODUCER_DEAD: Outage = Outage {
    name: "producer killed",
    page_of: PageOf::Ingester,
    data: |data| data["producer"]["pid"].is_null(),
    page: &["The producer does not answer", "producer does not answer"],
    watch: &["producer ○ not running since "],
    dump: &["producer not running since "],
    told_by: ToldBy::Heartbeat("producer"),
};

async fn adobe_a_pause_and_a_dead_producer() -> Vec<Row> {
    let mut night = Night::new(steady(100), &small_batches()).await;
    night.run().await;
    let mut rows = Vec::new();

    night.open(&ADOBE_AWAY).await;
    let faults = night.world().standins.adobe.faults();
    faults.push(StreamFault::Cut { after: 0 });
    for _ in 0..ALL {
        faults.push(StreamFault::Refuse { door: Door::Front, status: 500, body: None });
    }
    let begun = night.begun(&ADOBE_AWAY, Instant::now()).await;
    night.world().standins.adobe.faults().clear();
    let ended = night.ended(&ADOBE_AWAY, Instant::now()).await;
    rows.push(Row::new(&ADOBE_AWAY, begun, ended));

    night.open(&PAUSE).await;
    let (code, said) = night.world().ask(&["pause", "--reason", "resize of the cluster"]);
    assert_eq!(code, Some(0), "{said}");
    let begun = night.begun(&PAUSE, Instant::now()).await;
    let (code, said) = night.world().ask(&["resume"]);
    assert_eq!(code, Some(0), "{said}");
    let ended = night.ended(&PAUSE, Instant::now()).await;
    assert!(night.watched.told("paused").is_empty(), "a pause is told only if it may have been forgotten");
    rows.push(Row::new(&PAUSE, begun, ended));

    rows.push(killed(&mut night, "producer", &PRODUCER_DEAD).await);
    night.stop().await;
    rows
}

/// kill -9, and a start when every view has named it.
async fn killed(night: &mut Night, name: &'static str, outage: &Outage) -> Row {
    night.open(outage).await;
    night.service(name).kill().unwrap();
    let begun = night.begun(outage, Instant::now()).await;
    night.service(name).start_again().unwrap();
    let ended = night.ended(outage, Instant::now()).await;
    Row::new(outage, begun, ended)
}

static S3_REFUSES: Outage = Outage {
    name: "S3 refuses",
    page_of: PageOf::Producer,
    data: |data| fails(data, "producer", "upload"),
    page: &["uploads fail for ", "AccessDenied"],
    watch: &["✗ fails", "upload S3 fails for "],
    dump: &["upload S3 fails for ", "AccessDenied"],
    told_by: ToldBy::Alerts(&["upload_failing"]),
};

static INGESTER_DEAD: Outage = Outage {
    name: "ingester killed",
    page_of: PageOf::Producer,
    data: |data| data["ingester"]["pid"].is_null(),
    page: &["The ingester does not answer", "ingester does not answer"],
    watch: &["ingester ○ not running since "],
    dump: &["ingester not running since "],
    told_by: ToldBy::Heartbeat("ingester"),
};

static LOG_FULL: Outage = Outage {
    name: "log full",
    page_of: PageOf::Ingester,
    data: |data| fails(data, "producer", "log"),
    page: &["full for ", "the log is full"],
    watch: &["✗ FULL", "log FULL for "],
    dump: &["log FULL for "],
    told_by: ToldBy::Alerts(&["log_full"]),
};

async fn s3_a_dead_ingester_and_a_full_log() -> Vec<Row> {
    let mut night = Night::new(steady(100), &small_batches()).await;
    night.run().await;
    night.open(&S3_REFUSES).await;
    refuse(night.world(), &[Operation::Put, Operation::List]);
    let begun = night.begun(&S3_REFUSES, Instant::now()).await;
    night.world().standins.s3.faults().clear();
    let ended = night.ended(&S3_REFUSES, Instant::now()).await;
    let refused = Row::new(&S3_REFUSES, begun, ended);
    let dead = killed(&mut night, "ingester", &INGESTER_DEAD).await;
    night.stop().await;

    // A log that is full within seconds. Nothing of it gets into S3.
    let shape = Shape { max_batch_age: "5s", ..Shape::default() };
    let mut night = Night::new(Options { rate: Some(100_000), ..options(45_000) }, &shape).await;
    night.world().configure("[log]\n", "[log]\nmax_bytes = \"16MiB\"\n");
    night.service("ingester");
    night.open(&LOG_FULL).await;
    refuse(night.world(), &[Operation::Put]);
    night.service("producer");
    let cause = loop {
        let before = Instant::now();
        if night.service("producer").said().contains("the log is full") {
            break before;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let begun = night.begun(&LOG_FULL, cause).await;
    night.world().standins.s3.faults().clear();
    let ended = night.ended(&LOG_FULL, Instant::now()).await;
    let full = Row::new(&LOG_FULL, begun, ended);
    night.stop().await;
    vec![refused, full, dead]
}

static REDSHIFT_AWAY: Outage = Outage {
    name: "Redshift away",
    page_of: PageOf::Producer,
    data: |data| fails(data, "ingester", "load"),
    page: &["held up for ", "connecting to Redshift"],
    watch: &["✗ held up", "load held up for "],
    dump: &["load held up for ", "connecting to Redshift"],
    told_by: ToldBy::Alerts(&["load_failing"]),
};

static ROWS_REFUSED: Outage = Outage {
    name: "rows in quarantine",
    page_of: PageOf::Ingester,
    data: |data| {
        let loads = data["ingester"]["snapshot"]["loads"].as_array();
        loads.is_some_and(|loads| loads.iter().any(|load| load["quarantined"].as_u64() > Some(0)))
    },
    page: &[" rows in quarantine", "String length exceeds DDL length"],
    watch: &["rows that Redshift refused wait in quarantine"],
    dump: &["in quarantine ", "column evar1: String length exceeds DDL length"],
    told_by: ToldBy::Alerts(&["rows_quarantined"]),
};

async fn redshift_and_refused_rows() -> Vec<Row> {
    let mut night = Night::new(steady(100), &small_batches()).await;
    night.run().await;
    night.open(&REDSHIFT_AWAY).await;
    night.redshift.set(false);
    let begun = night.begun(&REDSHIFT_AWAY, Instant::now()).await;
    night.redshift.set(true);
    let ended = night.ended(&REDSHIFT_AWAY, Instant::now()).await;
    let away = Row::new(&REDSHIFT_AWAY, begun, ended);
    night.stop().await;

    // Rows that are too long for a column come from the start of the stream on: a table with rows keeps its columns.
    let mut night = Night::new(Options { rate: Some(200), ..options(400) }, &small_batches()).await;
    night.world().configure("[ingester]", "[quarantine]\nmax_share = 0.9\n\n[ingester]");
    let alter =
        |bytes: u32| format!("ALTER TABLE public.livestream ALTER COLUMN evar1 TYPE varchar({bytes});");
    send(night.world(), &alter(34)).await;
    night.service("ingester");
    night.open(&ROWS_REFUSED).await;
    night.service("producer");
    let begun = night.begun(&ROWS_REFUSED, Instant::now()).await;
    let wanted = night.world().wanted();
    night.world().until_loaded(wanted, &mut []).await;
    send(night.world(), &alter(255)).await;
    let (code, said) = night.world().ask(&["replay", "--all"]);
    assert_eq!(code, Some(0), "{said}");
    let ended = night.ended(&ROWS_REFUSED, Instant::now()).await;
    let refused = Row::new(&ROWS_REFUSED, begun, ended);
    night.stop().await;
    vec![away, refused]
}
