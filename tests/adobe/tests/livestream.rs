//! What a reader of the stream gets.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::HashSet,
    io::Read,
    thread,
    time::{Duration, Instant},
};

use adobe::{Adobe, Generator, Options, Plan};
use common::{Stage, get, headers};

fn plan(hits: u64) -> Plan {
    Plan {
        hits,
        duplicates_per_mille: 50,
        excluded_per_mille: 30,
        malformed_per_mille: 40,
        ..Plan::default()
    }
}

fn stage(hits: u64, hold: u64) -> Stage {
    Stage::new(Options { plan: plan(hits), hold, ..Options::default() })
}

fn text_of(generator: &Generator, indexes: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut text = Vec::new();
    indexes.for_each(|index| generator.write(index, &mut text));
    text
}

/// The lines of these indexes that are not empty.
fn lines_of(generator: &Generator, indexes: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    let text = text_of(generator, indexes);
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\r"));
    lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

fn hit_line(generator: &Generator, index: u64) -> Vec<u8> {
    let mut line = Vec::new();
    generator.write_hit(index, &mut line);
    line.truncate(line.len() - 2);
    line
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn nobody_reads(adobe: &Adobe) {
    wait_until("the connection is given up", || adobe.connections() == 0);
}

#[test]
fn the_stream_inflates_to_exactly_the_lines_of_the_generator() {
    let stage = stage(20_000, 50_000);
    let mut answer = stage.ask(&stage.token(), "");
    let expected = text_of(&stage.adobe.generator(), 0..20_000);
    let mut found = vec![0; expected.len()];
    let started = Instant::now();
    flate2::read::MultiGzDecoder::new(&mut answer.body).read_exact(&mut found).unwrap();
    assert!(found == expected, "every byte, whatever the chunks");
    let seconds = started.elapsed().as_secs_f64();
    let ratio = found.len() as f64 / stage.adobe.bytes_sent() as f64;
    println!("over HTTP: {:.0} records/s, gzip ratio {ratio:.2}", 20_000.0 / seconds);
    let sizes: HashSet<usize> = answer.body.sizes.iter().copied().collect();
    assert!(sizes.len() > 100, "chunks of every size: {}", sizes.len());
    assert_eq!(stage.adobe.sent(), 20_000);
    assert_eq!(stage.adobe.distinct_sent(), 20_000);
    assert_eq!(stage.adobe.counts_sent(), stage.adobe.generator().counts(0..20_000));
}

#[test]
fn after_the_last_record_empty_lines_keep_the_stream_open() {
    let stage = stage(1, 50_000);
    let mut stream = stage.connect(&stage.token(), "");
    assert_eq!(stream.lines(1), [hit_line(&stage.adobe.generator(), 0)]);
    let started = Instant::now();
    for _ in 0..3 {
        assert_eq!(stream.next().unwrap(), Some(&b""[..]));
    }
    assert!((1_500..9_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert_eq!(stage.adobe.connections(), 1);
}

#[test]
fn the_front_redirects_to_another_host_name_and_keeps_the_query() {
    let stage = stage(10, 50);
    let token = stage.token();
    let answer =
        get(&format!("{}?maxConnections=3&reset=smallest", stage.adobe.stream_url()), &headers(&token));
    assert_eq!(answer.status, 302);
    let location = answer.header("location").unwrap().to_owned();
    assert!(location.starts_with("http://localhost:"), "{location}");
    assert!(location.ends_with("/api/1/stream/example-stream?maxConnections=3&reset=smallest"), "{location}");
    assert!(stage.adobe.stream_url().starts_with("http://127.0.0.1:"));
    let without = headers(&token)[1..].to_vec();
    assert_eq!(get(&location, &without).status, 401, "the streaming host asks again");
}

#[test]
fn a_reconnection_goes_on_from_the_last_position_or_from_where_it_asks() {
    // The hold is larger than what fits between the two ends of a connection.
    let stage = stage(400_000, 60_000);
    let generator = stage.adobe.generator();
    let token = stage.token();
    let mut first = stage.connect(&token, "");
    assert_eq!(first.lines(5_000), lines_of(&generator, 0..5_000)[..5_000]);
    drop(first);
    nobody_reads(&stage.adobe);

    let stopped = stage.adobe.sent();
    assert_eq!(stage.connect(&token, "").lines(1), [hit_line(&generator, stopped)]);
    nobody_reads(&stage.adobe);

    let head = stage.adobe.sent();
    let mut smallest = stage.connect(&token, "?reset=smallest");
    assert_eq!(smallest.lines(1), [hit_line(&generator, head.saturating_sub(60_000))]);
    drop(smallest);
    nobody_reads(&stage.adobe);

    let head = stage.adobe.sent();
    assert_eq!(stage.connect(&token, "?reset=largest").lines(1), [hit_line(&generator, head)]);
}

#[test]
fn with_a_rate_the_stream_keeps_the_clock_and_delivers_at_once() {
    let stage = Stage::new(Options { plan: plan(100_000), rate: Some(500), ..Options::default() });
    let token = stage.token();
    assert_eq!(stage.adobe.sent(), 0);
    let started = Instant::now();
    let mut stream = stage.connect(&token, "");
    let expected = lines_of(&stage.adobe.generator(), 0..500);
    assert_eq!(stream.lines(expected.len()), expected);
    let took = started.elapsed().as_millis();
    assert!((950..5_000).contains(&took), "{took} ms for a second's worth");
    drop(stream);
    nobody_reads(&stage.adobe);
    let before = stage.adobe.sent();
    thread::sleep(Duration::from_millis(200));
    assert!(stage.adobe.sent() >= before + 90, "hits happen while nobody reads");
}

#[test]
fn several_connections_share_the_hits_and_none_is_left_out() {
    let stage = stage(20_000, 4_000);
    let token = stage.token();
    let generator = stage.adobe.generator();
    let mut streams: Vec<_> = (0..3).map(|_| stage.connect(&token, "?maxConnections=3")).collect();
    assert_eq!(stage.ask(&token, "?maxConnections=3").status, 409);
    assert_eq!(stage.ask(&token, "?maxConnections=2").status, 409);
    let expected: HashSet<Vec<u8>> = (0..20_000).map(|index| hit_line(&generator, index)).collect();
    let found: Vec<HashSet<Vec<u8>>> = thread::scope(|scope| {
        let readers: Vec<_> = streams
            .iter_mut()
            .map(|stream| {
                scope.spawn(|| {
                    let mut found = HashSet::new();
                    let mut quiet = 0;
                    // Two empty lines in a row, a second apart, come when all is read.
                    while quiet < 2 {
                        let line = stream.next().unwrap().unwrap();
                        quiet = if line.is_empty() { quiet + 1 } else { 0 };
                        found.insert(line.to_vec());
                    }
                    found
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let all: HashSet<_> = found.iter().flatten().cloned().collect();
    assert!(expected.is_subset(&all));
    assert!(
        found.iter().all(|one| one.len() > 3_000),
        "{:?}",
        found.iter().map(HashSet::len).collect::<Vec<_>>()
    );
    assert_eq!(stage.adobe.distinct_sent(), 20_000);
}

#[test]
fn stopping_closes_connections_and_doors() {
    let stage = stage(10, 50);
    let mut stream = stage.connect(&stage.token(), "");
    stream.lines(1);
    stage.adobe.stop();
    while let Ok(line) = stream.next() {
        assert!(line.is_some(), "not a clean end");
    }
    nobody_reads(&stage.adobe);
    let address = stage.adobe.token_url().replace("http://", "").replace("/ims/token/v3", "");
    wait_until("the door closes", || std::net::TcpStream::connect(&address).is_err());
}
