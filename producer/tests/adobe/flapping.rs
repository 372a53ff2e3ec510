//! One of three connections breaks again and again, before what Adobe holds can be read again. Seconds stand for
//! minutes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adobe::{Adobe, Options, Plan};
use chrono::{DateTime, Utc};
use producer::{ConnectionEvent, Counters, Decoded, Shared, run_connections};
use shared::clock::Clock;
use shared::shutdown::Shutdown;
use state::log::{Log, Settings};
use tokio::sync::mpsc;

use crate::{at, transform};

/// Hits Adobe holds, and that wait at the beginning.
const HELD: u64 = 9_000;
/// Hits per second meanwhile, for so many seconds.
const RATE: u64 = 200;
const SECONDS: u64 = 28;
/// Hits per second a connection is sent at most: three read what is held in 2 seconds, two in 3.5.
const PER_CONNECTION: u64 = 1_500;
const BREAKS_AFTER: Duration = Duration::from_secs(1);

/// Stages what comes, as the append thread does.
fn stage(log: &mut Log, event: ConnectionEvent, now: DateTime<Utc>) {
    match event {
        ConnectionEvent::Started(connection) => drop(log.session_started(connection, now).unwrap()),
        ConnectionEvent::Ended(connection, why) => drop(log.session_ended(connection, &why, now).unwrap()),
        ConnectionEvent::Complete => {}
        ConnectionEvent::Block(connection, block) => {
            let mut start = 0;
            for record in &block.records {
                match record {
                    Decoded::Row { end, hit, received } => {
                        log.stage_row(connection, *hit, *received, &block.rows[start..*end], now);
                        start = *end;
                    }
                    Decoded::Known { hit, received } => log.stage_known(connection, *hit, *received, now),
                    Decoded::Filtered { .. } | Decoded::Rejected { .. } => {}
                }
            }
            log.commit(now).unwrap();
        }
    }
}

fn log(dir: &Path, config: &shared::config::Config) -> Log {
    let schema = config.schema.load().unwrap();
    let settings = Settings { dir: dir.to_owned(), ..Settings::of(config, &schema) };
    Log::open(settings, Clock::system().now()).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_reach_the_live_edge_and_stay_near_it_and_no_hit_is_missing() {
    shared::tls::install();
    let clock = Clock::system();
    let hits = HELD + SECONDS * RATE;
    let received = clock.wall().timestamp() - 3_600;
    let plan = Plan { hits, start_epoch: received, malformed_per_mille: 0, ..Plan::default() };
    let adobe = Adobe::start(Options {
        plan,
        rate: Some(RATE),
        backlog: HELD,
        hold: HELD,
        connection_rate: Some(PER_CONNECTION),
        flapping: Some(BREAKS_AFTER),
        ..Options::default()
    })
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = at(&adobe, "max_connections = 3\nconnections = 3\nretry_max = \"1s\"");
    let mut log = log(&dir.path().join("log"), &config);
    let transform = transform(&config);
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let (out, mut read) = mpsc::channel(4);
    let cache = dir.path().join("token.json");
    let shared = Shared::new(&config.adobe, Some(cache), counters, out, log.known(), clock.clone()).unwrap();
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let running = tokio::spawn(async move { run_connections(shared, transform, false, &stop).await });

    let begun = clock.steady();
    let (mut live, mut first, mut longest, mut breaks) = (begun, None, Duration::ZERO, 0);
    while log.totals().rows < hits {
        match tokio::time::timeout(Duration::from_secs(10), read.recv()).await {
            Ok(Some(event)) => {
                breaks += u32::from(
                    matches!(&event, ConnectionEvent::Ended(_, why) if why == "another connection broke"),
                );
                stage(&mut log, event, clock.wall());
            }
            Ok(None) => panic!("the connections ended"),
            Err(_) => panic!("nothing comes: {} of {hits}", log.totals().rows),
        }
        let (rows, head) = (log.totals().rows, adobe.sent());
        if rows + 2 * RATE >= head {
            longest = longest.max(first.map_or(Duration::ZERO, |_| live.until(clock.steady())));
            first.get_or_insert(begun.until(clock.steady()));
            live = clock.steady();
        }
        let bound = Duration::from_secs(if first.is_some() { 10 } else { 20 });
        assert!(
            live.until(clock.steady()) < bound,
            "{rows} of {head} after {:?}, {breaks} restarts",
            begun.until(clock.steady())
        );
    }
    println!("at the live edge after {first:?}, away from it for {longest:?} at most, {breaks} restarts");
    // Two others each time; it stays away twice as long as these took, so it does not break often.
    assert!(breaks >= 4, "it broke too seldom to prove anything: {breaks}");
    assert_eq!(log.totals().rows, hits, "each hit once");
    shutdown.stop();
    drop(read);
    running.await.unwrap().unwrap();
}
