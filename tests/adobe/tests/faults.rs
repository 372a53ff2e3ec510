//! Refusals of requests that are wrong, and faults that are scripted.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use adobe::{Door, Fault, Options};
use common::{Stage, get, headers, request};

fn stage() -> Stage {
    Stage::new(Options::default())
}

#[test]
fn each_wrong_request_is_refused_with_the_status_adobe_documents() {
    let stage = stage();
    let url = stage.adobe.stream_url();
    let good = headers(&stage.token());
    let without = |left_out: &str| {
        let kept: Vec<_> = good.iter().filter(|(name, _)| *name != left_out).cloned().collect();
        get(&url, &kept).status
    };
    assert_eq!(without("Authorization"), 401);
    assert_eq!(without("x-api-key"), 401);
    assert_eq!(without("Accept-Encoding"), 406);
    assert_eq!(get(&url.replace("example", "other"), &good).status, 404);
    assert_eq!(get(&format!("{url}?maxConnections=9"), &good).status, 400);
    assert_eq!(get(&format!("{url}?reset=latest"), &good).status, 400);
    assert_eq!(request("POST", "HTTP/1.1", &url, &good, "").status, 405);
    assert_eq!(request("GET", "HTTP/1.0", &url, &good, "").status, 505);
    let answer = get(&url, &headers("stale"));
    assert_eq!(answer.status, 401);
    assert!(answer.body().contains("error_description"));
}

#[test]
fn a_client_that_speaks_http_2_is_told_505() {
    let stage = stage();
    let url = stage.adobe.stream_url();
    let host = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let mut socket = TcpStream::connect(host).unwrap();
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let mut start = [0; 12];
    socket.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 505");
}

#[test]
fn a_script_of_refusals_is_answered_in_order_at_each_door() {
    let stage = stage();
    let token = stage.token();
    let faults = stage.adobe.faults();
    faults.push(Fault::Refuse { door: Door::Front, status: 503, body: None });
    faults.push(Fault::Refuse { door: Door::Stream, status: 409, body: Some("{\"mine\":1}".into()) });
    faults.push(Fault::RedirectTo("https://elsewhere.example/steal".into()));
    faults.push(Fault::ExpireToken);
    assert_eq!(stage.ask(&token, "").status, 503);
    let conflict = stage.ask(&token, "");
    assert_eq!((conflict.status, conflict.body()), (409, "{\"mine\":1}".into()));
    let away = get(&stage.adobe.stream_url(), &headers(&token));
    assert_eq!(away.header("location"), Some("https://elsewhere.example/steal"));
    assert_eq!(stage.ask(&token, "").status, 401);
    assert_eq!(faults.pending(), 0);
    stage.connect(&stage.token(), "").lines(1);
}

#[test]
fn a_cut_comes_in_the_middle_of_a_record_which_the_next_connection_gets_whole() {
    for rate in [None, Some(2_000)] {
        let stage = Stage::new(Options { rate, ..Options::default() });
        let token = stage.token();
        stage.adobe.faults().push(Fault::Cut { after: 700 });
        let mut stream = stage.connect(&token, "");
        let mut expected = Vec::new();
        (0..700).for_each(|index| stage.adobe.generator().write(index, &mut expected));
        let mut found = Vec::new();
        while let Ok(line) = stream.next() {
            assert!(line.is_some(), "not a clean end");
            found.extend_from_slice(&stream.line);
        }
        assert!(found == expected);
        let mut cut = Vec::new();
        stage.adobe.generator().write_hit(700, &mut cut);
        assert!(!stream.line.is_empty() && cut.starts_with(&stream.line), "half of record 700");
        cut.truncate(cut.len() - 2);
        assert_eq!(stage.connect(&token, "").lines(1), [cut]);
    }
}

#[test]
fn a_fault_that_a_client_did_not_wait_for_is_left_to_the_next_one() {
    let stage = Stage::new(Options { rate: Some(100), ..Options::default() });
    let token = stage.token();
    stage.adobe.faults().push(Fault::End { after: 1_000_000 });
    stage.connect(&token, "").lines(1);
    while stage.adobe.faults().pending() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    stage.connect(&token, "").lines(1);
}

#[test]
fn an_end_is_clean_and_a_stall_is_silent() {
    let stage = stage();
    let token = stage.token();
    stage.adobe.faults().push(Fault::Stall { after: 10, lasting: Duration::from_millis(1_500) });
    stage.adobe.faults().push(Fault::End { after: 10 });
    let started = Instant::now();
    let mut stream = stage.connect(&token, "");
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    while stream.next().unwrap().is_some() {
        found.extend_from_slice(&stream.line);
    }
    (0..20).for_each(|index| stage.adobe.generator().write(index, &mut expected));
    assert!(found == expected, "nothing but records");
    assert!(started.elapsed() >= Duration::from_millis(1_500));
    assert_eq!(stage.adobe.sent(), 20);
}

#[test]
fn the_line_not_authorized_means_a_dead_token_and_no_more_records() {
    let stage = stage();
    let token = stage.token();
    stage.adobe.faults().push(Fault::NotAuthorized { after: 0 });
    let mut stream = stage.connect(&token, "");
    assert_eq!(stream.lines(1), [b"not authorized"]);
    assert_eq!(stream.next().unwrap(), Some(&b""[..]));
    assert_eq!(stage.adobe.sent(), 0);
    drop(stream);
    assert_eq!(stage.ask(&token, "").status, 401);
    assert_eq!(stage.connect(&stage.token(), "").lines(1).len(), 1);
}

#[test]
fn garbage_ends_what_can_be_read_and_a_lapse_is_sent_to_nobody() {
    let stage = stage();
    let token = stage.token();
    stage.adobe.faults().push(Fault::Garbage { after: 100 });
    stage.adobe.faults().push(Fault::Lapse { hits: 50 });
    let mut stream = stage.connect(&token, "");
    let mut expected = Vec::new();
    (0..100).for_each(|index| stage.adobe.generator().write(index, &mut expected));
    let mut found = Vec::new();
    let broken = loop {
        match stream.next() {
            Ok(Some(line)) => found.extend_from_slice(line),
            Ok(None) => panic!("a clean end"),
            Err(error) => break error,
        }
        found.extend_from_slice(b"\r\n");
    };
    assert!(found.starts_with(&expected), "what came before can be read: {broken}");
    drop(stream);
    let lines = stage.connect(&token, "").lines(1);
    let lapse = stage.adobe.lapses().pop().unwrap();
    assert_eq!(lapse.end - lapse.start, 50);
    let mut first = Vec::new();
    stage.adobe.generator().write_hit(lapse.end, &mut first);
    assert_eq!(lines[0], first.trim_ascii_end());
}

#[test]
fn a_replay_starts_further_back_than_anything_is_held() {
    let stage = Stage::new(Options { hold: 100, ..Options::default() });
    let token = stage.token();
    stage.adobe.faults().push(Fault::End { after: 5_000 });
    stage.adobe.faults().push(Fault::Replay { back: 3_000 });
    let mut stream = stage.connect(&token, "");
    while stream.next().unwrap().is_some() {}
    drop(stream);
    let mut first = Vec::new();
    stage.adobe.generator().write_hit(2_000, &mut first);
    assert_eq!(stage.connect(&token, "?reset=smallest").lines(1), [first.trim_ascii_end()]);
}
