//! Several connections of one stream in one process.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adobe::{Adobe, Door, Fault, Options, Plan};
use producer::append::{Decoded, FromStream};
use producer::counters::Counters;
use producer::streams::Streams;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::shutdown::Shutdown;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::{at, transform};

const HITS: u64 = 6_000;

/// Three seconds of hits: connections start a little apart.
fn adobe() -> Adobe {
    let plan = Plan { hits: HITS, ..Plan::default() };
    Adobe::start(Options { plan, rate: Some(HITS / 3), ..Options::default() }).unwrap()
}

struct Running {
    read: mpsc::Receiver<FromStream>,
    ended: JoinHandle<Result<(), Failure>>,
    shutdown: Shutdown,
}

fn start(config: &Config, dir: &Path) -> Running {
    shared::tls::install();
    let (out, read) = mpsc::channel(4);
    let shutdown = Shutdown::new();
    let cache = dir.join("token.json");
    let transform = transform(config);
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let streams = Streams::new(&config.adobe, cache, &transform, counters, &out, false).unwrap();
    let stop = shutdown.clone();
    Running { read, ended: tokio::spawn(async move { streams.run(&stop).await }), shutdown }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_connections_read_everything_with_one_token_and_each_by_its_own_number() {
    let (adobe, dir) = (adobe(), tempfile::tempdir().unwrap());
    let mut running = start(&at(&adobe, "max_connections = 3\nconnections = 3"), dir.path());
    let mut by_connection = HashMap::<u8, u64>::new();
    let mut hits = HashSet::new();
    let mut started = Vec::new();
    // One of them is cut in between: all come back.
    adobe.faults().push(Fault::Cut { after: 50 });
    while hits.len() < HITS as usize {
        let event = tokio::time::timeout(Duration::from_secs(30), running.read.recv()).await;
        match event.expect("hits are missing").expect("the streams ended") {
            FromStream::Started(connection) => started.push(connection),
            FromStream::Ended(..) | FromStream::Complete => {}
            FromStream::Block(connection, block) => {
                for record in &block.records {
                    if let Decoded::Row { hit: Some(hit), .. } = record {
                        hits.insert((hit.high, hit.low));
                        *by_connection.entry(connection).or_default() += 1;
                    }
                }
            }
        }
    }
    assert!(
        (0..3).all(|connection| by_connection.get(&connection).is_some_and(|hits| *hits > 500)),
        "{by_connection:?}"
    );
    assert!(started.len() >= 4, "three, and one again: {started:?}");
    assert_eq!(adobe.token_requests(), 1);
    assert_eq!(adobe.connections(), 3);

    running.shutdown.stop();
    let mut ended = HashSet::new();
    while let Some(event) = running.read.recv().await {
        if let FromStream::Ended(connection, why) = event {
            assert_eq!(why, "the producer was stopped");
            ended.insert(connection);
        }
    }
    assert_eq!(ended.len(), 3, "every session ends in order");
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_person_can_mend_on_one_connection_ends_all() {
    let (adobe, dir) = (adobe(), tempfile::tempdir().unwrap());
    let config = at(&adobe, "max_connections = 2\nconnections = 2");
    let mut running = start(&config, dir.path());
    while !matches!(running.read.recv().await, Some(FromStream::Started(0))) {}
    adobe.faults().push(Fault::Refuse { door: Door::Front, status: 424, body: None });
    let mut ended = Vec::new();
    let ending = async {
        while let Some(event) = running.read.recv().await {
            if let FromStream::Ended(connection, _) = event {
                ended.push(connection);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ending).await.expect("the others go on");
    let failure = running.ended.await.unwrap().unwrap_err();
    assert_eq!(failure.exit(), Exit::Unavailable);
    assert!(failure.to_string().contains("/api/2/enable/"), "{failure}");
    assert_eq!(ended, [0], "the one that read ended in order");
    assert!(running.shutdown.is_stopping());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_holds_back_every_connection_and_nothing_gathers() {
    let (adobe, dir) = (
        Adobe::start(Options { plan: Plan { hits: 2_000_000, ..Plan::default() }, ..Options::default() })
            .unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let running = start(&at(&adobe, "max_connections = 3\nconnections = 3"), dir.path());
    // Nobody takes anything: what is sent must come to rest.
    let mut before = 0;
    let rested = async {
        loop {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let sent = adobe.bytes_sent();
            if sent > 0 && sent == before && adobe.connections() == 3 {
                return sent;
            }
            before = sent;
        }
    };
    let sent = tokio::time::timeout(Duration::from_secs(60), rested).await.expect("it goes on being read");
    println!("compressed bytes taken from the stand-in by 3 connections nobody reads: {sent}");
    assert!(sent < 3 * (8 << 20), "{sent}");
    running.shutdown.stop();
    drop(running.read);
    running.ended.await.unwrap().unwrap();
}
