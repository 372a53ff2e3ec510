//! `state watch` in a terminal: what it shows while all is well and through outages, and that it gives the terminal back.

use adobe::Options;
use rustix::process::Signal;
use sandbox::config::Shape;
use sandbox::s3::{Fault, Operation, Refusal, Side};
use sandbox::service;

use crate::terminal::Terminal;
use crate::world::{STOP, World, options};

fn shape() -> Shape {
    Shape {
        records_per_file: 200,
        files_per_batch: 5,
        max_file_age: "500ms",
        max_batch_age: "1s",
        ..Shape::default()
    }
}

/// Prints the screen if somebody wants to look at it: `WATCH_SCREENS=1 cargo test … -- --nocapture`.
fn look(what: &str, screen: &str) {
    if std::env::var_os("WATCH_SCREENS").is_some() {
        println!("---- {what}\n{screen}\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_seen_while_it_lasts_and_the_terminal_is_given_back() {
    let world = World::with(Options { rate: Some(300), ..options(60_000) }, &shape()).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(500, &mut [&mut producer, &mut ingester]).await;
    let mut watch = Terminal::start(&["watch", "--interval", "200ms"], &world.config, (110, 30));
    let screen = watch.until(&["● reading", "hits/s", "archived", "● running, process"]).await;
    look("all is well", &screen);

    watch.press("G");
    watch.press("\r");
    let screen = watch.until(&["time (UTC)", "published", "archived", "Esc back"]).await;
    look("a batch", &screen);
    watch.press("\u{1b}");
    watch.until(&["Enter open"]).await;

    let s3 = world.standins.s3.faults();
    for _ in 0..20_000 {
        s3.push(Fault::of(Operation::Put, Side::Refused(Refusal::AccessDenied)));
    }
    let screen = watch.until(&["✗ fails", "✗ upload S3 fails for"]).await;
    look("S3 refuses", &screen);
    watch.press("5");
    let screen = watch.until(&["✗ upload      S3 fails for", "● stream"]).await;
    look("components while S3 refuses", &screen);
    watch.press("1");
    s3.clear();
    watch.until(&["● uploading"]).await;

    ingester.kill().unwrap();
    watch.until(&["ingester  ○ not running since", "r reads again", "○ stopped"]).await;
    ingester.start_again().unwrap();
    watch.until(&["ingester  ● running"]).await;

    ingester.signal(Signal::STOP).unwrap();
    let screen = watch.until(&["ingester  ✗ no answer since", "✗ silent"]).await;
    look("an ingester that hangs", &screen);
    assert!(screen.contains("producer  ● running"), "the other is shown all the same:\n{screen}");
    ingester.signal(Signal::CONT).unwrap();
    watch.until(&["ingester  ● running"]).await;

    watch.resize(60, 14);
    watch.until(&["Adobe ● reading → log"]).await;
    watch.press("q");
    assert_eq!(watch.end().await.code(), Some(0));
    producer.stop(STOP).await.unwrap();
    ingester.stop(STOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_and_a_key_end_it_alike_and_without_terminal_it_names_the_dump() {
    let world = World::new(10, &shape()).await;
    let watch = Terminal::start(&["watch"], &world.config, (80, 24));
    watch.until(&["producer  ○ never ran", "ingester  ○ never ran"]).await;
    watch.signal(Signal::TERM);
    assert_eq!(watch.end().await.code(), Some(0));

    let mut watch = Terminal::start(&["watch"], &world.config, (80, 24));
    watch.until(&["never ran"]).await;
    watch.press("\u{3}");
    assert_eq!(watch.end().await.code(), Some(0));

    let piped = service::run("state", &["watch"], &world.config).unwrap();
    let said = String::from_utf8_lossy(&piped.stderr).into_owned();
    assert!(piped.status.code() == Some(64) && said.contains("use `state dump`"), "{said}");
    assert!(piped.stdout.is_empty());
}
