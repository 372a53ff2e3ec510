//! Several connections of one stream in one process.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adobe::{Adobe, Door, Fault, Options, Plan};
use producer::{ConnectionEvent, Counters, Decoded, Shared, run_connections};
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::shutdown::Shutdown;
use state::log::{HitId, KnownHits};
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
    read: mpsc::Receiver<ConnectionEvent>,
    counters: Arc<Counters>,
    ended: JoinHandle<Result<(), Failure>>,
    shutdown: Shutdown,
}

fn start(config: &Config, dir: &Path) -> Running {
    start_with(config, dir, KnownHits::default())
}

fn start_with(config: &Config, dir: &Path, known: KnownHits) -> Running {
    shared::tls::install();
    let (out, read) = mpsc::channel(4);
    let shutdown = Shutdown::new();
    let cache = dir.join("token.json");
    let transform = transform(config);
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let shared =
        Shared::new(&config.adobe, Some(cache), counters.clone(), out, known, Clock::system()).unwrap();
    let stop = shutdown.clone();
    let ended = tokio::spawn(async move { run_connections(shared, transform, false, &stop).await });
    Running { read, counters, ended, shutdown }
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
        match event.expect("hits are missing").expect("the connections ended") {
            ConnectionEvent::Started(connection) => started.push(connection),
            ConnectionEvent::Ended(..) | ConnectionEvent::Complete => {}
            ConnectionEvent::Block(connection, block) => {
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
        if let ConnectionEvent::Ended(connection, why) = event {
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
    while !matches!(running.read.recv().await, Some(ConnectionEvent::Started(0))) {}
    adobe.faults().push(Fault::Refuse { door: Door::Front, status: 424, body: None });
    let mut ended = Vec::new();
    let ending = async {
        while let Some(event) = running.read.recv().await {
            if let ConnectionEvent::Ended(connection, _) = event {
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
            Clock::system().sleep(Duration::from_millis(700)).await;
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

/// Reads until this many distinct hits came as rows; with how many records were rejects, and why sessions ended.
async fn read_hits(running: &mut Running, hits: u64) -> (u64, Vec<String>) {
    let (mut seen, mut rejects, mut ends) = (HashSet::new(), 0, Vec::new());
    while (seen.len() as u64) < hits {
        let event = tokio::time::timeout(Duration::from_secs(30), running.read.recv()).await;
        match event.expect("hits are missing").expect("the connections ended") {
            ConnectionEvent::Ended(_, why) => ends.push(why),
            ConnectionEvent::Block(_, block) => {
                for record in &block.records {
                    match record {
                        Decoded::Row { hit: Some(hit), .. } => drop(seen.insert((hit.high, hit.low))),
                        Decoded::Rejected { .. } => rejects += 1,
                        _ => {}
                    }
                }
            }
            ConnectionEvent::Started(_) | ConnectionEvent::Complete => {}
        }
    }
    (rejects, ends)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_damaged_on_its_way_is_asked_for_again_and_no_hit_is_missing() {
    let plan = Plan { hits: HITS, malformed_per_mille: 0, excluded_per_mille: 0, ..Plan::default() };
    let adobe = Adobe::start(Options { plan, rate: Some(HITS / 3), ..Options::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = at(&adobe, "max_connections = 3\nconnections = 3\ndamaged_after = 100");
    let mut running = start(&config, dir.path());
    adobe.faults().push(Fault::Damage { after: 300 });
    let (rejects, ends) = read_hits(&mut running, HITS).await;
    assert_eq!(rejects, 100, "those before the damage was certain");
    let damaged: Vec<_> = ends.iter().filter(|why| why.starts_with("damaged: 100 records")).collect();
    assert_eq!(damaged.len(), 1, "{ends:?}");
    assert_eq!(running.counters.damaged.load(Ordering::Relaxed), 1);
    running.shutdown.stop();
    drop(running.read);
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_connections_that_are_always_unreadable_are_read_on_too() {
    let plan = Plan { hits: 30_000, malformed_per_mille: 0, ..Plan::default() };
    let adobe = Adobe::start(Options { plan, ..Options::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // More than there are sessions.
    (0..200).for_each(|_| adobe.faults().push(Fault::Damage { after: 50 }));
    let mut running = start(&at(&adobe, "max_connections = 3\nconnections = 3"), dir.path());
    let mut rejects = [0; 3];
    while rejects.iter().any(|rejects| *rejects < 5_000) {
        let event = tokio::time::timeout(Duration::from_secs(30), running.read.recv()).await;
        if let ConnectionEvent::Block(connection, block) =
            event.expect("it does not read on").expect("it ended")
        {
            let rejected = |record: &&Decoded| matches!(record, Decoded::Rejected { .. });
            rejects[usize::from(connection)] += block.records.iter().filter(rejected).count();
        }
    }
    let damaged = running.counters.damaged.load(Ordering::Relaxed);
    assert!((3..=12).contains(&damaged), "three or four of each connection at most: {damaged}, {rejects:?}");
    running.shutdown.stop();
    drop(running.read);
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_always_unreadable_is_read_on_after_three_sessions_that_wait_longer_each_time() {
    let plan = Plan { hits: HITS, malformed_per_mille: 0, ..Plan::default() };
    let adobe = Adobe::start(Options { plan, ..Options::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Each session takes one.
    (0..10).for_each(|_| adobe.faults().push(Fault::Damage { after: 50 }));
    let (clock, begun) = (Clock::system(), Clock::system().steady());
    let mut running = start(&at(&adobe, ""), dir.path());
    let (mut started, mut rejects) = (0, 0);
    while rejects < 5_000 {
        let event = tokio::time::timeout(Duration::from_secs(30), running.read.recv()).await;
        match event.expect("it does not read on").expect("the connections ended") {
            ConnectionEvent::Started(_) => started += 1,
            ConnectionEvent::Block(_, block) => {
                let rejected = |record: &&Decoded| matches!(record, Decoded::Rejected { .. });
                rejects += block.records.iter().filter(rejected).count();
            }
            ConnectionEvent::Ended(_, why) => {
                assert!(why.starts_with("damaged: 200 records in a row"), "{why}");
            }
            ConnectionEvent::Complete => {}
        }
    }
    assert_eq!(started, 4, "three sessions, and one that goes on");
    let took = begun.until(clock.steady());
    assert!(took >= Duration::from_millis(125 + 250 + 500), "{took:?}");
    assert_eq!(running.counters.damaged.load(Ordering::Relaxed), 3);
    running.shutdown.stop();
    drop(running.read);
    running.ended.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_that_the_log_has_come_as_known_and_only_the_others_as_rows() {
    // An excluded hit is filtered, and the log knows nothing of it.
    let plan = Plan { hits: HITS, excluded_per_mille: 0, ..Plan::default() };
    let adobe = Adobe::start(Options { plan, rate: Some(HITS / 3), ..Options::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let generator = adobe.generator();
    let is_old = |index: &u64| index.is_multiple_of(3);
    let id = |index| {
        let (high, low) = generator.hit_id(index);
        HitId { high, low }
    };
    let known = (0..HITS).filter(is_old).map(id).collect();
    let old: HashSet<_> = (0..HITS).filter(is_old).map(|index| generator.hit_id(index)).collect();
    let mut running = start_with(&at(&adobe, ""), dir.path(), known);
    let (mut rows, mut again) = (HashSet::new(), HashSet::new());
    while rows.len() + again.len() < HITS as usize {
        let event = tokio::time::timeout(Duration::from_secs(30), running.read.recv()).await;
        let ConnectionEvent::Block(_, block) =
            event.expect("hits are missing").expect("the connections ended")
        else {
            continue;
        };
        for record in &block.records {
            match record {
                Decoded::Row { hit: Some(hit), .. } => drop(rows.insert((hit.high, hit.low))),
                Decoded::Known { hit, received } => {
                    assert!(received.is_some(), "{hit:?}");
                    again.insert((hit.high, hit.low));
                }
                Decoded::Filtered { .. } | Decoded::Rejected { .. } | Decoded::Row { .. } => {}
            }
        }
    }
    assert!(again.is_subset(&old), "a new hit was taken for a known one");
    // One record in eight has such a key deeper down too: which of them is the hit's, only the transform can tell.
    assert!(again.len() * 10 > old.len() * 8, "{} of {} recognised", again.len(), old.len());
    running.shutdown.stop();
    drop(running.read);
    running.ended.await.unwrap().unwrap();
}
