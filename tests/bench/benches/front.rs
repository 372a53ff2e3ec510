//! How fast the front is: `cargo bench --workspace --bench front`.
//!
//! In one run, in turns, with the same compressed bytes: bare inflation, which is the limit; and the front, from a
//! socket on loopback through reqwest, the decoding threads (inflate; frame, find the hit id) and deduplication, with
//! as little of a transform as a schema can ask for. The sender only writes what was compressed before. Both once with
//! hits the log has, as they come after a reconnect.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use adobe::{Generator, Plan};
use bench::stream::{self, CHUNK};
use bench::{cpu_time, log_settings, median, schema, spread};
use chrono::Utc;
use producer::Counters;
use producer::Transform;
use producer::{ConnectionEvent, Decoded};
use producer::{Piece, Reading, Resume};
use shared::clock::Clock;
use state::log::{HitId, KnownHits, Log, Staged};
use tokio::sync::mpsc;

const TURNS: usize = 9;
const RECORDS: u64 = 40_000;
const MAX_RECORD: usize = 1 << 20;

struct Stream {
    gzip: Vec<u8>,
    text_bytes: u64,
    hits: Vec<HitId>,
}

impl Stream {
    /// One member, flushed now and then, as Adobe sends it.
    fn make() -> Self {
        let generator = Generator::new(Plan { hits: u64::MAX, ..Plan::default() });
        let id = |index| {
            let (high, low) = generator.hit_id(index);
            HitId { high, low }
        };
        let (encoder, text_bytes) = stream::compress(&generator, 0..RECORDS).unwrap();
        let hits = (0..RECORDS).map(id).collect();
        Self { gzip: encoder.finish().unwrap(), text_bytes, hits }
    }

    /// As an answer over HTTP.
    fn answer(&self) -> Vec<u8> {
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        answer.extend(stream::chunked(&self.gzip).unwrap());
        answer.extend_from_slice(b"0\r\n\r\n");
        answer
    }
}

fn main() {
    shared::tls::install();
    let stream = Stream::make();
    let at = serve(stream.answer());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let http = reqwest::Client::builder().http1_only().no_proxy().build().unwrap();
    let transform = Transform::new(&schema(1, 0, 0).unwrap(), &[]).unwrap();
    println!(
        "{RECORDS} records of {} bytes, gzip {:.1}:1; median of {TURNS} turns; spread: how far the middle half of them lies apart\n",
        stream.text_bytes / RECORDS,
        stream.text_bytes as f64 / stream.gzip.len() as f64
    );
    let known: KnownHits = stream.hits.iter().copied().collect();
    let mut times: [Vec<(Duration, Duration)>; 5] = Default::default();
    for turn in 0..TURNS {
        // Each comes first and last as often as the others.
        for way in 0..times.len() {
            let way = (way + turn) % times.len();
            times[way].push(match way {
                0 => inflate(&stream),
                1 => decode_from_memory(&stream, &transform, None),
                2 => decode_from_memory(&stream, &transform, Some(known.clone())),
                3 => front(&runtime, &http, at, &transform, None),
                _ => front(&runtime, &http, at, &transform, Some(known.clone())),
            });
        }
    }
    println!(
        "{:42}  {:>9}  {:>6}  {:>13}  {:>19}  {:>6}",
        "", "records/s", "MB/s", "CPU µs/record", "of bare inflation's", "spread"
    );
    let names = [
        "bare inflation",
        "the decoding threads' work, on one",
        "  records already known",
        "the front: socket to deduplication",
        "  records already known",
    ];
    let time =
        |times: &[(Duration, Duration)]| median(times.iter().map(|turn| turn.0).collect()).as_secs_f64();
    let bare = time(&times[0]);
    for (name, times) in names.iter().zip(&times) {
        let own = time(times);
        let cpu = median(times.iter().map(|turn| turn.1).collect()).as_secs_f64();
        println!(
            "{name:42}  {:>9.0}  {:>6.0}  {:>13.1}  {:>19.2}  {:>5.0}%",
            RECORDS as f64 / own,
            stream.text_bytes as f64 / own / 1e6,
            cpu * 1e6 / RECORDS as f64,
            bare / own,
            spread(times.iter().map(|turn| turn.0).collect())
        );
    }
}

/// Answers every request on loopback with the same bytes, each on a thread that only writes.
fn serve(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut request = [0; 4096];
            while socket.read(&mut request).is_ok_and(|read| read > 0) {
                socket.write_all(&answer).unwrap();
            }
        }
    });
    at
}

/// Time and CPU time of all threads.
fn since((start, cpu): (Instant, Duration)) -> (Duration, Duration) {
    (start.elapsed(), cpu_time() - cpu)
}

/// The limit.
fn inflate(stream: &Stream) -> (Duration, Duration) {
    let start = (Instant::now(), cpu_time());
    bench::inflate(&stream.gzip, stream.text_bytes).unwrap();
    since(start)
}

fn reading(known: Option<KnownHits>) -> Reading {
    let resume = known.map(|known| Resume::new(known, Clock::system()));
    Reading { resume, ..Reading::from(MAX_RECORD) }
}

/// What the decoding threads do, on one, without socket, channels and deduplication.
fn decode_from_memory(
    stream: &Stream,
    transform: &Transform,
    known: Option<KnownHits>,
) -> (Duration, Duration) {
    let (transform, reading) = (transform.clone(), reading(known));
    let start = (Instant::now(), cpu_time());
    let (blocks, _) = producer::body(transform, reading, stream.gzip.chunks(CHUNK));
    assert_eq!(blocks.iter().map(|block| block.records.len()).sum::<usize>() as u64, RECORDS);
    since(start)
}

fn front(
    runtime: &tokio::runtime::Runtime,
    http: &reqwest::Client,
    at: SocketAddr,
    transform: &Transform,
    known: Option<KnownHits>,
) -> (Duration, Duration) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Rows are staged and never committed: the disk has a benchmark of its own.
    let (mut log, _) = Log::open(log_settings(dir.path()).unwrap(), Utc::now()).unwrap();
    let (transform, counters) = (transform.clone(), Arc::new(Counters::new(&[])));
    let reading = reading(known);
    let start = (Instant::now(), cpu_time());
    let (pieces, input) = mpsc::channel(8);
    let (blocks, mut decoded) = mpsc::channel(4);
    let thread = producer::start(0, transform, reading, counters, input, blocks).unwrap();
    let http = http.clone();
    let reading = runtime.spawn(async move {
        let mut response = http.get(format!("http://{at}/")).send().await.unwrap();
        while let Some(bytes) = response.chunk().await.unwrap() {
            pieces.send(Piece::Bytes(bytes)).await.unwrap();
        }
        pieces.send(Piece::End).await.unwrap();
    });
    let (mut staged, now) = (0, Utc::now());
    while let Some(ConnectionEvent::Block(_, block)) = decoded.blocking_recv() {
        let mut row = 0;
        for record in &block.records {
            match record {
                Decoded::Row { end, hit, received } => {
                    let new = log.stage_row(0, *hit, *received, &block.rows[row..*end], now) == Staged::New;
                    staged += u64::from(new);
                    row = *end;
                }
                Decoded::Known { hit, received } => {
                    log.stage_known(0, *hit, *received, now);
                    staged += 1;
                }
                Decoded::Filtered { .. } | Decoded::Rejected { .. } => {}
            }
        }
    }
    assert_eq!(staged, RECORDS);
    runtime.block_on(reading).unwrap();
    thread.join().unwrap();
    since(start)
}
