//! From the log to `Rejected/`: what a crash between the PUT and the drop does.

use std::time::Duration;

use chrono::Utc;
use producer::append::Shipped;
use producer::ship::Shipping;
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use state::log::{Log, Settings};
use tokio::sync::{broadcast, mpsc};

use crate::World;

const PATIENCE: Duration = Duration::from_secs(60);

fn open(world: &World) -> (Log, state::log::Resumed) {
    Log::open(Settings::of(&world.config(), "0123456789abcdef".to_owned()), Utc::now()).unwrap()
}

/// Ships what is in the log until the first rejects are in S3, and gives what was reported then.
async fn ship_once(world: &World, log: &Log, left: state::log::Resumed) -> Shipped {
    let config = world.config();
    let store = ObjectStore::connect(&config.s3).await;
    let (shipped, mut reports) = mpsc::channel(1);
    let (feed, _) = broadcast::channel(1);
    let (_to_ship, work) = mpsc::unbounded_channel();
    let shutdown = Shutdown::new();
    let shipping = Shipping::new(&config, store, log.reader(), shipped, feed);
    let running = tokio::spawn(shipping.run(left, work, shutdown.clone()));
    let report = tokio::time::timeout(PATIENCE, reports.recv()).await.unwrap().unwrap();
    shutdown.stop();
    running.await.unwrap().unwrap();
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_that_went_up_and_were_not_dropped_go_up_under_the_same_key() {
    let world = World::new().await;
    let (mut log, left) = open(&world);
    let records: [&[u8]; 3] = [b"not json \x00 \"at\" all", b"\xff\xfe", "{\"é\":".as_bytes()];
    for record in records {
        log.stage_reject(0, record, "a reason", Utc::now());
    }
    log.commit(Utc::now()).unwrap();
    // Up, and the process dies before it is noted.
    let Shipped::Rejects(0, 2, _) = ship_once(&world, &log, left).await else { panic!("no rejects") };
    let first = world.keys("Rejected");
    assert_eq!(first.len(), 1, "{first:?}");
    drop(log);

    // The next one ships the same, and what came since, under the same key.
    let (mut log, left) = open(&world);
    log.stage_reject(0, b"later", "a reason", Utc::now());
    log.commit(Utc::now()).unwrap();
    let Shipped::Rejects(from, to, _) = ship_once(&world, &log, left).await else { panic!("no rejects") };
    assert_eq!((from, to), (0, 3));
    assert_eq!(world.keys("Rejected"), first);
    let lines = world.rejects();
    let received: Vec<_> = lines
        .iter()
        .map(|line| match (&line.record, &line.record_base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(text)) => shared::object_store::from_base64(text).unwrap(),
            _ => panic!("{line:?}"),
        })
        .collect();
    assert_eq!(received, [records[0], records[1], records[2], b"later"]);
    assert!(lines.iter().all(|line| line.reason == "a reason" && line.instance.to_string() == "sandbox-1"));

    // Only now, noted, are they dropped; a later one has a key of its own.
    assert_eq!(log.reader().rejects(10, usize::MAX).unwrap().len(), 4);
    log.rejects_shipped(from, to).unwrap();
    assert!(log.reader().rejects(10, usize::MAX).unwrap().is_empty());
    assert_eq!(log.waiting_bytes(), 0);
    log.stage_reject(0, b"last", "a reason", Utc::now());
    log.commit(Utc::now()).unwrap();
    let Shipped::Rejects(4, 4, _) = ship_once(&world, &log, Default::default()).await else {
        panic!("no rejects")
    };
    assert_eq!(world.keys("Rejected").len(), 2);
    assert_eq!(world.rejects().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_object_of_rejects_does_not_wait_for_the_batch_to_age() {
    let world = World::new().await;
    let (mut log, left) = open(&world);
    let config = world.config();
    let store = ObjectStore::connect(&config.s3).await;
    let (shipped, mut reports) = mpsc::channel(1);
    let (feed, _) = broadcast::channel(1);
    let (_to_ship, work) = mpsc::unbounded_channel();
    let shutdown = Shutdown::new();
    let shipping = Shipping::new(&config, store, log.reader(), shipped, feed);
    let shipping = Shipping { rejects_every: Duration::from_secs(3600), ..shipping };
    let running = tokio::spawn(shipping.run(left, work, shutdown.clone()));
    // What is there at the start goes at once, few as they are; then it takes a thousand, and the rest stays.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for n in 0..1010 {
        log.stage_reject(0, format!("no record {n}").as_bytes(), "a reason", Utc::now());
    }
    log.commit(Utc::now()).unwrap();
    let Shipped::Rejects(0, 999, noted) =
        tokio::time::timeout(PATIENCE, reports.recv()).await.unwrap().unwrap()
    else {
        panic!("no rejects")
    };
    log.rejects_shipped(0, 999).unwrap();
    noted.send(()).unwrap();
    let more = tokio::time::timeout(Duration::from_secs(7), reports.recv()).await;
    assert!(more.is_err(), "{more:?}");
    shutdown.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_nothing_but_rejects_fills_up_and_empties_again() {
    let world = World::new().await;
    let settings =
        Settings { max_bytes: 16 << 20, ..Settings::of(&world.config(), "0123456789abcdef".to_owned()) };
    let (mut log, mut left) = Log::open(settings, Utc::now()).unwrap();
    let record = vec![b'x'; 100_000];
    let mut staged = 0_u64;
    let mut most = 0;
    while !log.is_full() {
        log.stage_reject(0, &record, "a reason", Utc::now());
        staged += 1;
        most += record.len();
        if log.commit_is_due() {
            assert!(most < 5 << 20, "{most} bytes wait in memory");
            most = 0;
            log.commit(Utc::now()).unwrap();
        }
    }
    assert!(staged * 100_000 < 25 << 20, "{staged}");
    log.commit(Utc::now()).unwrap();
    while log.waiting_bytes() > 0 {
        let Shipped::Rejects(from, to, _) = ship_once(&world, &log, left).await else { panic!("no rejects") };
        log.rejects_shipped(from, to).unwrap();
        left = Default::default();
    }
    assert!(!log.is_full());
    assert!(world.keys("Rejected").len() > 1);
    assert_eq!(world.rejects().len() as u64, staged);
}
