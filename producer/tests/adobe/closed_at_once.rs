//! One of two connections is closed as soon as it is open; the other one still catches up.

use std::sync::Arc;
use std::time::Duration;

use adobe::{Adobe, Options, Plan};
use producer::{Connection, ConnectionEvent, Counters, Decoded, Shared};
use shared::clock::Clock;
use shared::shutdown::Shutdown;
use state::log::HitId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::{at, transform};

const HITS: u64 = 6_000;

/// Accepts every connection, answers that the stream follows, and closes it: as a load balancer does whose streaming
/// hosts are gone. Where it is.
async fn closing_at_once() -> String {
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 4_096]).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = socket.write_all(answer).await;
        }
    });
    format!("http://localhost:{port}/api/1/stream/test")
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_one_that_is_closed_at_once_another_rereads_all_that_adobe_holds() {
    shared::tls::install();
    let plan = Plan { hits: HITS, malformed_per_mille: 0, excluded_per_mille: 0, ..Plan::default() };
    let adobe = Adobe::start(Options { plan, ..Options::default() }).unwrap();
    let generator = adobe.generator();
    let known = |index| {
        let (high, low) = generator.hit_id(index);
        HitId { high, low }
    };
    let config = at(&adobe, "max_connections = 2\nconnections = 2\nretry_max = \"1s\"");
    let transform = transform(&config);
    let (out, mut read) = mpsc::channel(1);
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let clock = Clock::system();
    let known = (0..HITS).map(known).collect();
    let shared = Shared::new(&config.adobe, None, counters, out, known, clock.clone()).unwrap();
    let mut flapping = shared.clone();
    flapping.config.stream_url = closing_at_once().await;
    let shutdown = Shutdown::new();
    let connections =
        [Connection::new(0, flapping, transform.clone(), true), Connection::new(1, shared, transform, true)];
    let running = connections.map(|connection| {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { connection.run(&shutdown).await })
    });
    // Some three seconds for all: more than the longest wait of a connection that is alone.
    let slowly = Duration::from_micros(500);
    let (mut reread, mut breaks) = (0, 0);
    let reading = async {
        while reread < HITS * 3 / 4 {
            match read.recv().await.expect("the connections ended") {
                ConnectionEvent::Started(1) => reread = 0,
                ConnectionEvent::Ended(0, _) => breaks += 1,
                ConnectionEvent::Block(1, block) => {
                    let known = |record: &&Decoded| matches!(record, Decoded::Known { .. });
                    reread += block.records.iter().filter(known).count() as u64;
                    let records = u32::try_from(block.records.len()).unwrap();
                    clock.sleep(slowly * records).await;
                }
                _ => {}
            }
        }
    };
    let begun = clock.steady();
    let read_all = tokio::time::timeout(Duration::from_secs(60), reading).await;
    assert!(read_all.is_ok(), "it never gets further than the next break");
    println!("{breaks} breaks in {:?}", begun.until(clock.steady()));
    shutdown.stop();
    drop(read);
    for connection in running {
        connection.await.unwrap().unwrap();
    }
}
