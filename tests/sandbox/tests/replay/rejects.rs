//! From the log to `Rejected/`: what a crash between the PUT and the drop does.

use std::time::Duration;

use chrono::Utc;
use producer::UploadReport;
use producer::Uploader;
use shared::clock::Clock;
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use state::log::{Chosen, Log, Settings};
use tokio::sync::{broadcast, mpsc};

use crate::World;

const PATIENCE: Duration = Duration::from_secs(60);

fn open(world: &World) -> (Log, state::log::Resumed) {
    Log::open(Settings::of(&world.config(), &shared::schema::Schema::default()), Utc::now()).unwrap()
}

/// Uploads what is in the log until the first rejects are in S3, and says which. Which they are is noted before.
async fn upload_once(world: &World, log: &mut Log, left: state::log::Resumed) -> Chosen {
    let config = world.config();
    let store = ObjectStore::connect(&config.s3).await;
    let (uploaded, mut reports) = mpsc::channel(1);
    let (feed, _) = broadcast::channel(1);
    let (_to_upload, work) = mpsc::unbounded_channel();
    let shutdown = Shutdown::new();
    let uploader = Uploader::new(&config, store, log.reader(), uploaded, feed, Clock::system());
    let running = tokio::spawn(uploader.run(left, work, shutdown.clone()));
    let uploaded = next_uploaded(log, &mut reports).await;
    shutdown.stop();
    running.await.unwrap().unwrap();
    uploaded
}

/// Waits until rejects are in S3, noting what is chosen before; that they are there is not noted.
async fn next_uploaded(log: &mut Log, reports: &mut mpsc::Receiver<UploadReport>) -> Chosen {
    loop {
        match tokio::time::timeout(PATIENCE, reports.recv()).await.unwrap().unwrap() {
            UploadReport::RejectsChosen(chosen, noted) => {
                log.rejects_chosen(chosen).unwrap();
                noted.send(()).unwrap();
            }
            UploadReport::RejectsUploaded(chosen, _) => return chosen,
            _ => panic!("no rejects"),
        }
    }
}

/// Numbers of the rejects in the log.
fn waiting(log: &Log) -> Vec<u64> {
    log.reader().rejects(usize::MAX, usize::MAX).unwrap().0.into_iter().map(|(number, _)| number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_that_went_up_and_were_not_dropped_go_up_under_the_same_key() {
    let world = World::new().await;
    let (mut log, left) = open(&world);
    let records: [&[u8]; 3] = [b"not json \x00 \"at\" all", b"\xff\xfe", "{\"é\":".as_bytes()];
    for record in records {
        log.stage_reject(0, record, "not_json", "a reason", Utc::now());
    }
    log.commit(Utc::now()).unwrap();
    // Up, and the process dies before it is noted.
    let chosen = upload_once(&world, &mut log, left).await;
    assert_eq!((chosen.first, chosen.last), (0, 2));
    let first = world.keys("Rejected");
    assert_eq!(first.len(), 1, "{first:?}");
    drop(log);

    // The next one uploads the same under the same key, whatever came since.
    let (mut log, left) = open(&world);
    log.stage_reject(0, b"later", "not_json", "a reason", Utc::now());
    log.commit(Utc::now()).unwrap();
    assert_eq!(upload_once(&world, &mut log, left).await, chosen);
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
    assert_eq!(received, records);
    assert!(lines.iter().all(|line| line.code.as_deref() == Some("not_json") && line.reason == "a reason"));
    assert!(lines.iter().all(|line| line.instance.to_string() == "sandbox-1"));

    // Only now, noted, are they dropped; later ones have a key of their own.
    assert_eq!(waiting(&log), [0, 1, 2]);
    log.rejects_uploaded(chosen).unwrap();
    assert_eq!(waiting(&log), [3]);
    log.stage_reject(0, b"last", "not_json", "a reason", Utc::now());
    log.commit(Utc::now()).unwrap();
    let chosen = upload_once(&world, &mut log, Default::default()).await;
    assert_eq!((chosen.first, chosen.last), (3, 4));
    log.rejects_uploaded(chosen).unwrap();
    assert!(waiting(&log).is_empty());
    assert_eq!(log.waiting_bytes(), 0);
    assert_eq!(world.keys("Rejected").len(), 2);
    assert_eq!(world.rejects().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_object_of_rejects_does_not_wait_for_the_batch_to_age() {
    let world = World::new().await;
    let (mut log, left) = open(&world);
    let config = world.config();
    let store = ObjectStore::connect(&config.s3).await;
    let (uploaded, mut reports) = mpsc::channel(1);
    let (feed, _) = broadcast::channel(1);
    let (_to_upload, work) = mpsc::unbounded_channel();
    let shutdown = Shutdown::new();
    let uploader = Uploader::new(&config, store, log.reader(), uploaded, feed, Clock::system());
    let uploader = uploader.with_rejects_every(Duration::from_secs(3600));
    let running = tokio::spawn(uploader.run(left, work, shutdown.clone()));
    // What is there at the start goes at once, few as they are; then it takes a thousand, and the rest stays.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for n in 0..1010 {
        log.stage_reject(0, format!("no record {n}").as_bytes(), "not_json", "a reason", Utc::now());
    }
    log.commit(Utc::now()).unwrap();
    let chosen = loop {
        match tokio::time::timeout(PATIENCE, reports.recv()).await.unwrap().unwrap() {
            UploadReport::RejectsChosen(chosen, noted) => {
                log.rejects_chosen(chosen).unwrap();
                noted.send(()).unwrap();
            }
            UploadReport::RejectsUploaded(chosen, noted) => {
                log.rejects_uploaded(chosen).unwrap();
                noted.send(()).unwrap();
                break chosen;
            }
            _ => panic!("no rejects"),
        }
    };
    assert_eq!((chosen.first, chosen.last), (0, 999));
    let more = tokio::time::timeout(Duration::from_secs(7), reports.recv()).await;
    assert!(more.is_err(), "{more:?}");
    shutdown.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_nothing_but_rejects_fills_up_and_empties_again() {
    let world = World::new().await;
    let settings =
        Settings { max_bytes: 16 << 20, ..Settings::of(&world.config(), &shared::schema::Schema::default()) };
    let (mut log, mut left) = Log::open(settings, Utc::now()).unwrap();
    let record = vec![b'x'; 100_000];
    let mut staged = 0_u64;
    let mut most = 0;
    while !log.is_full() {
        log.stage_reject(0, &record, "not_json", "a reason", Utc::now());
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
        let chosen = upload_once(&world, &mut log, left).await;
        log.rejects_uploaded(chosen).unwrap();
        left = Default::default();
    }
    assert!(!log.is_full());
    assert!(world.keys("Rejected").len() > 1);
    assert_eq!(world.rejects().len() as u64, staged);
}
