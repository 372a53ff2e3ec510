//! The page of both services in a browser, while something is broken on purpose: what it then shows, and that it ends.
//! Every scenario leaves pictures in `target/page`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sandbox::config::Shape;
use sandbox::s3::{Fault, Operation, Refusal, Side};
use sandbox::service::{self, Service};

use crate::bridge::Bridge;
use crate::browser::Browser;
use crate::schema::send;
use crate::watched::{free_port, listening};
use crate::world::{STOP, World, options};

/// A cause and its end show within this time.
const SOON: Duration = Duration::from_secs(30);
const TOKEN: &str = "a-token-of-the-scenarios";
const ENTER: char = '\u{e007}';
const ESCAPE: char = '\u{e00c}';
const TAB: char = '\u{e004}';

fn shape() -> Shape {
    Shape {
        records_per_file: 100,
        files_per_batch: 2,
        max_file_age: "1s",
        max_batch_age: "2s",
        ..Shape::default()
    }
}

/// A world whose services have pages.
struct Paged {
    world: World,
    producer: SocketAddr,
    ingester: SocketAddr,
}

impl Paged {
    async fn new(hits: u64, rate: u64, shape: &Shape) -> Self {
        let adobe = adobe::Options { rate: Some(rate), ..options(hits) };
        let (producer, ingester) = (free_port(), free_port());
        let listen = |text: &str| listening(text, [producer, ingester]);
        Self { world: World::altered(adobe, shape, listen, None).await, producer, ingester }
    }

    fn start(&self) -> (Service, Service) {
        (self.world.start("producer"), self.world.start("ingester"))
    }
}

async fn stop(mut producer: Service, mut ingester: Service) {
    producer.stop(STOP).await.unwrap();
    ingester.stop(STOP).await.unwrap();
}

/// Whether the page shows all of these.
fn all<'a>(parts: &'a [&'a str]) -> impl Fn(&str) -> bool + 'a {
    move |text| parts.iter().all(|part| text.contains(part))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_flow_a_redshift_that_is_away_and_that_it_is_back() {
    let paged = Paged::new(1_000_000, 300, &shape()).await;
    let world = &paged.world;
    let bridge = Bridge::to_redshift(world).await;
    let (mut producer, ingester) = paged.start();
    world.until_loaded(400, &mut [&mut producer]).await;

    let browser = Browser::start();
    browser.open(&format!("http://{}/", paged.producer));
    let well = [
        "old is the newest row in the table",
        "No alert stands",
        "connected",
        "archived",
        "through log, S3 and load",
    ];
    let text = browser.until("all is well", SOON, all(&well));
    assert!(text.contains("sandbox-1") && !text.contains("unknown"), "{text}");
    browser.shoot("well");
    browser.dark(true);
    browser.shoot("well-dark");
    browser.dark(false);

    bridge.set(false);
    let away = ["alerts stand", "Loading is held up", "connecting to Redshift", "held up for ", "next try"];
    let away = |text: &str| all(&away[1..])(text) && text.contains("stand");
    browser.until("Redshift is away", SOON, away);
    browser.shoot("redshift-away");
    browser.size(360, 740);
    let width = browser.run("return document.documentElement.scrollWidth");
    assert_eq!(width, 360, "the page is wider than a phone");
    browser.shoot("redshift-away-phone");
    browser.size(1280, 900);
    bridge.set(true);
    browser.until("Redshift is back", SOON, |text| text.contains("No alert stands"));

    // The page of the other service shows the same.
    browser.open(&format!("http://{}/", paged.ingester));
    browser.until(
        "the page of the ingester",
        SOON,
        all(&["old is the newest row in the table", "connected", "records/s"]),
    );
    assert_eq!(browser.complaints(), [""; 0]);
    stop(producer, ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_an_s3_that_refuses_and_a_log_that_is_full() {
    let paged = Paged::new(45_000, 100_000, &Shape { max_batch_age: "5s", ..Shape::default() }).await;
    let world = &paged.world;
    world.configure("[log]\n", "[log]\nmax_bytes = \"16MiB\"\n");
    let s3 = world.standins.s3.faults();
    (0..20_000).for_each(|_| s3.push(Fault::of(Operation::Put, Side::Refused(Refusal::AccessDenied))));
    let (producer, ingester) = paged.start();
    let browser = Browser::start();
    browser.open(&format!("http://{}/", paged.ingester));
    let shown = ["S3 takes no upload", "AccessDenied", "uploads fail for ", "full for ", "the log is full"];
    browser.until("S3 refuses, and the log is full", SOON, all(&shown));
    browser.shoot("log-full");
    s3.clear();
    // An alert ends within a minute of its cause.
    browser.until("S3 takes uploads", 3 * SOON, |text| text.contains("No alert stands"));
    assert_eq!(browser.complaints(), [""; 0]);
    stop(producer, ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_when_a_service_stops_answering_and_since_when() {
    let paged = Paged::new(1_000_000, 300, &shape()).await;
    let (mut producer, mut ingester) = paged.start();
    paged.world.until_loaded(200, &mut [&mut producer, &mut ingester]).await;
    let browser = Browser::start();
    browser.open(&format!("http://{}/", paged.producer));
    browser.until("all is well", SOON, |text| text.contains("No alert stands"));

    ingester.kill().unwrap();
    let gone = [
        "The ingester does not answer",
        "systemctl status livestream-ingester",
        "ingester does not answer",
        "it last wrote ",
    ];
    browser.until("the ingester is gone", SOON, all(&gone));
    // What it answered last is still there.
    assert!(browser.text().contains("last load "), "{}", browser.text());
    browser.shoot("ingester-killed");
    ingester.start_again().unwrap();
    browser.until("the ingester is back", SOON, |text| text.contains("No alert stands"));

    producer.kill().unwrap();
    browser.until(
        "the producer is gone",
        SOON,
        all(&["The producer has not answered since ", "What stands below is from then"]),
    );
    assert_eq!(browser.run("return document.body.className"), "stale");
    browser.shoot("producer-killed");
    producer.start_again().unwrap();
    browser.until("the producer is back", SOON, |text| {
        !text.contains("has not answered") && text.contains("No alert stands")
    });
    assert_eq!(browser.run("return document.body.className"), "");
    stop(producer, ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_goes_on_beside_a_service_that_hangs_and_after_data_that_it_cannot_draw() {
    let paged = Paged::new(1_000_000, 300, &shape()).await;
    let (mut producer, mut ingester) = paged.start();
    paged.world.until_loaded(200, &mut [&mut producer, &mut ingester]).await;
    let browser = Browser::start();
    browser.open(&format!("http://{}/", paged.producer));
    browser.until("all is well", SOON, |text| text.contains("No alert stands"));

    ingester.signal(Signal::STOP).unwrap();
    let silent = ["The ingester does not answer", "stopped or overloaded"];
    browser.until("the ingester hangs", SOON, all(&silent));
    // The producer is shown as it is all the while.
    for _ in 0..3 {
        let as_of = || browser.run("return document.getElementById('as-of').textContent");
        let before = as_of();
        browser.until("the page goes on", SOON, |_| as_of() != before);
        assert!(!browser.text().contains("The producer has not answered"), "{}", browser.text());
    }
    browser.shoot("ingester-hangs");
    ingester.signal(Signal::CONT).unwrap();
    browser.until("the ingester goes on", SOON, |text| text.contains("No alert stands"));

    browser.run("window.asked = fetch; window.fetch = async () => new Response('{\"at\": 1}')");
    browser.until("what comes cannot be drawn", SOON, all(&["the page cannot show what it was told"]));
    browser.run("window.fetch = window.asked");
    browser.until("what comes can be drawn", SOON, |text| {
        !text.contains("cannot show") && text.contains("No alert stands")
    });
    stop(producer, ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_opens_a_batch_with_rows_in_quarantine_by_keyboard() {
    let paged = Paged::new(400, 10_000, &shape()).await;
    let world = &paged.world;
    world.configure("[ingester]", "[quarantine]\nmax_share = 0.9\n\n[ingester]");
    send(world, "ALTER TABLE public.livestream ALTER COLUMN evar1 TYPE varchar(34);").await;
    let (producer, ingester) = paged.start();
    let browser = Browser::start();
    browser.open(&format!("http://{}/", paged.producer));
    let shown = ["in quarantine", "evar1", "String length exceeds DDL length", "rows in quarantine"];
    browser.until("rows in quarantine", SOON, all(&shown));
    browser.shoot("quarantine");

    browser.run("document.querySelector('[data-filter=attention]').focus()");
    browser.press(&ENTER.to_string());
    browser.until("only those that need attention", SOON, |_| {
        browser.run("return document.querySelector('[data-filter=attention]').ariaPressed") == "true"
    });
    // Past the button for the order, to the first batch.
    browser.press(&format!("{TAB}{TAB}{ENTER}"));
    let opened = [
        "Time line",
        "rows went into quarantine",
        "column evar1: String length exceeds DDL length",
        "s3://livestream/Quarantine/",
    ];
    browser.until("the batch", SOON, all(&opened));
    browser.shoot_view(&browser.shoot("batch"));
    browser.press(&ESCAPE.to_string());
    browser.until("the batch is closed", SOON, |text| !text.contains("Time line"));
    let focused = browser.run("return document.activeElement.closest('tr') !== null");
    assert_eq!(focused, true, "the focus is where it was");
    assert_eq!(browser.complaints(), [""; 0]);
    stop(producer, ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_a_pause_and_a_thousand_batches_that_wait_for_its_end() {
    let one = Shape { records_per_file: 2, files_per_batch: 1, max_batch_age: "1s", ..Shape::default() };
    let paged = Paged::new(2_100, 100_000, &one).await;
    let world = &paged.world;
    let pause = ["pause", "--reason", "resize of the cluster"];
    assert!(service::run("ingester", &pause, &world.config).unwrap().status.success());
    let (mut producer, mut ingester) = paged.start();
    let found = async || {
        let dump: serde_json::Value = serde_json::from_str(&world.dump_as(&["--json"])).unwrap_or_default();
        dump["ingester"]["snapshot"]["loads"].as_array().is_some_and(|loads| loads.len() >= 1_000)
    };
    world.until("1,000 batches found", &mut [&mut producer, &mut ingester], found).await;

    let browser = Browser::start();
    browser.open(&format!("http://{}/", paged.ingester));
    let shown = ["Loading is paused by hand", "resize of the cluster", "paused by hand", "Pending 1,0"];
    browser.until("paused", SOON, all(&shown));
    browser.shoot("thousand");
    let begun = Instant::now();
    for page in 1..=5 {
        browser.run("document.querySelector('[data-page=\"1\"]').click()");
        let first = format!("{}–{}", page * 20 + 1, page * 20 + 20);
        assert!(browser.text().contains(&first), "{first}");
    }
    let each = begun.elapsed() / 5;
    println!("a page of batches is there after {each:?}");
    assert!(each < Duration::from_secs(1), "{each:?}");
    let rows = browser.run("return document.querySelectorAll('.batches tbody tr').length");
    assert_eq!(rows, 20, "no more than a page of rows is drawn");

    assert!(service::run("ingester", &["resume"], &world.config).unwrap().status.success());
    browser.until("resumed", SOON, |text| !text.contains("paused"));
    assert_eq!(browser.complaints(), [""; 0]);
    stop(producer, ingester).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_than_on_loopback_the_page_asks_for_the_token() {
    let paged = Paged::new(200, 10_000, &shape()).await;
    let world = &paged.world;
    let everywhere = format!("0.0.0.0:{}", paged.producer.port());
    world.configure(&paged.producer.to_string(), &everywhere);
    let address = format!("http://{}/", paged.producer);
    let browser = Browser::start();
    let mut producer = world.start("producer");
    world.until_durable(10, &mut [&mut producer]).await;
    browser.open(&address);
    browser.until("no page without a token", SOON, |text| text.contains("metrics.token_file"));
    producer.stop(STOP).await.unwrap();

    let file = world.path("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    world.configure("[metrics]\n", &format!("[metrics]\ntoken_file = \"{}\"\n", file.display()));
    producer.start_again().unwrap();
    let listens = async || std::net::TcpStream::connect(paged.producer).is_ok();
    world.until("it listens", &mut [], listens).await;
    browser.open(&address);
    browser.until("it asks", SOON, |text| text.contains("Show the page"));
    browser.press(&format!("wrong{ENTER}"));
    browser.until("the token is wrong", SOON, |text| text.contains("This token is wrong."));
    browser.shoot("token");
    browser.press(&format!("{TOKEN}{ENTER}"));
    browser.until("the page", SOON, |text| text.contains("Pipeline"));
    assert!(!producer.said().contains(TOKEN), "{}", producer.said());
    producer.stop(STOP).await.unwrap();
}

/// `make screenshots`: the pictures of README.md and docs/OPERATIONS.md, of services that have run for minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and writes into docs/images"]
async fn pictures_for_the_documentation() {
    let images = std::path::PathBuf::from(std::env::var_os("IMAGES").expect("IMAGES names a folder"));
    let minutes = |number: u64| tokio::time::sleep(Duration::from_secs(60 * number));
    let shape = Shape { max_file_age: "5s", max_batch_age: "20s", ..Shape::default() };
    // The hits of the stand-in are a millisecond apart.
    let paged = Paged::new(10_000_000, 1_000, &shape).await;
    let world = &paged.world;
    let bridge = Bridge::to_redshift(world).await;
    let (producer, ingester) = paged.start();
    let browser = Browser::start();
    browser.size(1120, 980);
    browser.open(&format!("http://{}/", paged.producer));
    minutes(9).await;
    browser.until("all is well", SOON, |text| text.contains("No alert stands"));
    browser.shoot_view(&images.join("page.png"));
    bridge.set(false);
    minutes(3).await;
    browser.until("Redshift is away", SOON, |text| text.contains("nothing can be loaded"));
    browser.dark(true);
    browser.shoot_view(&images.join("page-redshift-away.png"));
    stop(producer, ingester).await;
}
