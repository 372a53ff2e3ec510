//! From compressed bytes to decoded records: every case of framing, and however the bytes are cut.

mod damage;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use shared::schema::Schema;
use state::log::KeptRecord;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::append::{ConnectionEvent, Decoded};
use crate::counters::Counters;
use crate::transform::{CurrentTransform, Filter, FilterTest, HitId, Outcome, Transform};

const MAX: usize = 300;

fn transform() -> Transform {
    let mut columns = Schema::default().columns;
    columns.retain(|column| column.name == "pagename");
    let excluded = Filter {
        name: "excluded".to_owned(),
        path: "exclude.value".to_owned(),
        test: FilterTest::Equals(vec!["yes".to_owned()]),
    };
    Transform::new(&Schema::new(columns, "test").unwrap(), &[excluded]).unwrap()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// As Adobe sends it: one member that is flushed now and then and does not end.
fn endless(texts: &[&[u8]]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for text in texts {
        encoder.write_all(text).unwrap();
        encoder.flush().unwrap();
    }
    encoder.get_ref().clone()
}

/// What a record became, without the place it has in its block.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Became {
    Row(String, Option<HitId>),
    Known(HitId),
    Filtered,
    Rejected(Vec<u8>, String),
}

fn decoded(pieces: &[&[u8]]) -> (Vec<Became>, Ended) {
    decoded_by(MAX, pieces)
}

fn decoded_by(reading: impl Into<Reading>, pieces: &[&[u8]]) -> (Vec<Became>, Ended) {
    let (blocks, ended) = body(transform(), reading.into(), pieces.iter().copied());
    let mut all = Vec::new();
    for block in blocks {
        let mut start = 0;
        for record in block.records {
            all.push(match record {
                Decoded::Row { end, hit, .. } => {
                    let row = String::from_utf8(block.rows[start..end].to_vec()).unwrap();
                    start = end;
                    Became::Row(row, hit)
                }
                Decoded::Known { hit, .. } => Became::Known(hit),
                Decoded::Filtered { rule, .. } => {
                    assert_eq!(rule, 0);
                    Became::Filtered
                }
                Decoded::Rejected { record: KeptRecord::Full(record), reason, .. } => {
                    Became::Rejected(record, reason)
                }
                Decoded::Rejected { record, .. } => panic!("{record:?}"),
            });
        }
        assert_eq!(start, block.rows.len());
    }
    (all, ended)
}

/// Cut as a whole, in single bytes, and in sevens: each must tell the same.
#[track_caller]
fn however_cut(body: &[u8]) -> (Vec<Became>, Ended) {
    let whole = decoded(&[body]);
    for size in [1, 7] {
        let (records, ended) = decoded(&body.chunks(size).collect::<Vec<_>>());
        assert_eq!(records, whole.0, "in pieces of {size}");
        assert_eq!(std::mem::discriminant(&ended), std::mem::discriminant(&whole.1), "{ended:?}");
    }
    whole
}

fn row(page: &str) -> Became {
    Became::Row(format!("{page}\n"), None)
}

fn hit(page: &str, low: u64) -> Became {
    Became::Row(format!("{page}\n"), Some(HitId { high: 1, low }))
}

fn rejected(record: &[u8], reason: &str) -> Became {
    Became::Rejected(record.to_vec(), reason.to_owned())
}

#[test]
fn line_ends_empty_lines_and_members_are_no_matter() {
    let text = b"{\"pageName\":\"a\",\"hitIdHigh\":1,\"hitIdLow\":2}\r\n\r\n{\"pageName\":\"b\"}\n\n  \r\n{\"exclude\":{\"value\":\"yes\"}}\r\n{\"pageName\":\"c\"}";
    let expected = [hit("a", 2), row("b"), Became::Filtered, row("c")];
    assert_eq!(however_cut(&gzip(text)), (expected.to_vec(), Ended::Input));
    // A member may end within a record, and even within its line end.
    for at in 0..text.len() {
        let (one, two) = text.split_at(at);
        let members = [gzip(one), gzip(b""), gzip(two)].concat();
        assert_eq!(decoded(&[&members]), (expected.to_vec(), Ended::Input), "cut at {at}");
    }
}

#[test]
fn a_record_over_the_limit_is_a_reject_that_shows_its_head() {
    let long = vec![b'x'; 100_000];
    let text = [&long[..], b"\r\n{\"pageName\":\"a\"}\r\n"].concat();
    let reason = "longer than adobe.max_record_bytes: 100000 bytes, of which the first are kept";
    let (records, ended) = however_cut(&gzip(&text));
    assert_eq!(records, [rejected(&long[..MAX], reason), row("a")]);
    assert_eq!(ended, Ended::Input);
}

#[test]
fn what_is_no_record_is_a_reject_as_received() {
    let text = b"\xff\xfe\n{\"pageName\":\"a\"}\nnot json\r\n[1]\n{\"pageName\":\"b\"";
    let (records, ended) = however_cut(&gzip(text));
    assert_eq!(records[0], rejected(b"\xff\xfe", "not UTF-8 from byte 0"));
    assert_eq!(records[1], row("a"));
    assert!(
        matches!(&records[2], Became::Rejected(record, why) if record == b"not json" && why.starts_with("not JSON:"))
    );
    assert_eq!(records[3], rejected(b"[1]", "not a JSON object"));
    // The body and its member ended in order: this is what was sent.
    assert!(matches!(&records[4], Became::Rejected(record, _) if record == b"{\"pageName\":\"b\""));
    assert_eq!((records.len(), ended), (5, Ended::Input));
}

#[test]
fn a_body_that_ends_within_a_member_may_end_in_a_whole_record_but_in_no_reject() {
    let whole = endless(&[b"{\"pageName\":\"a\"}\r\n", b"{\"pageName\":\"b\"}"]);
    let (records, ended) = however_cut(&whole);
    assert_eq!(records, [row("a"), row("b")]);
    assert_eq!(ended, Ended::Within(format!("a gzip member, after {} bytes", whole.len())));
    let (records, ended) = however_cut(&endless(&[b"{\"pageName\":\"a\"}\r\n", b"{\"pageName\":\"b"]));
    assert_eq!(records, [row("a")]);
    assert_eq!(ended, Ended::Within("a record, of which 14 bytes came".to_owned()));
}

#[test]
fn garbage_in_mid_stream_ends_it_after_all_that_came_before() {
    let good = gzip(b"{\"pageName\":\"a\"}\n{\"pageName\":\"b\"}\n");
    let trailing = [&good[..], b"HTTP/1.1 500 Oops"].concat();
    let (records, ended) = however_cut(&trailing);
    assert_eq!(records, [row("a"), row("b")]);
    let why = format!("gzip data is followed by something else at byte {}", good.len());
    assert_eq!(ended, Ended::Damaged(why));
    // A block of the reserved type 3.
    let damaged = [&endless(&[b"{\"pageName\":\"a\"}\n{\"pageName\":\"b\"}\n"])[..], &[0xff; 100]].concat();
    let (records, ended) = however_cut(&damaged);
    assert_eq!(records, [row("a"), row("b")]);
    assert!(matches!(&ended, Ended::Damaged(why) if why.contains("damaged near byte")), "{ended:?}");
}

#[test]
fn a_body_that_is_no_gzip_is_damage_with_its_first_bytes() {
    let (records, ended) = however_cut(b"<html><title>502 Bad Gateway</title></html>");
    assert_eq!(records, []);
    let why = "the response is not gzip: it is like a web page (first byte 0x3c, 40 bytes looked at)";
    assert_eq!(ended, Ended::Damaged(why.to_owned()));
}

#[test]
fn not_authorized_as_a_line_or_as_the_body_ends_the_token() {
    for body in [&b"not authorized"[..], b"not authorized\n", b"{\"error\":\"not authorized\"}\r\n"] {
        assert_eq!(however_cut(body), (vec![], Ended::NotAuthorized));
    }
    let line = b"{\"pageName\":\"a\"}\r\nnot authorized\r\n{\"pageName\":\"b\"}\r\n";
    for body in [gzip(line), endless(&[line])] {
        assert_eq!(however_cut(&body), (vec![row("a")], Ended::NotAuthorized));
    }
    for body in [gzip(b"not authorized"), endless(&[b"not authorized"])] {
        assert_eq!(however_cut(&body), (vec![], Ended::NotAuthorized));
    }
    // Within a record it is content.
    let (records, ended) = however_cut(&gzip(b"{\"pageName\":\"not authorized\"}\n"));
    assert_eq!((records, ended), (vec![row("not authorized")], Ended::Input));
}

#[test]
fn a_connection_that_is_lost_says_within_what() {
    let lost = |pieces: &[&[u8]]| {
        let counters = Arc::new(Counters::new(&[]));
        let (to_thread, input) = mpsc::channel(10);
        let (out, mut blocks) = mpsc::channel(10);
        let thread = start(0, transform(), MAX.into(), counters.clone(), input, out).unwrap();
        for piece in pieces {
            to_thread.blocking_send(Piece::Bytes(Bytes::copy_from_slice(piece))).unwrap();
        }
        drop(to_thread);
        let ended = thread.join().unwrap().ended;
        assert_eq!(counters.bytes.load(Ordering::Relaxed), pieces.concat().len() as u64);
        while let Some(ConnectionEvent::Block(_, block)) = blocks.blocking_recv() {
            assert!(!block.records.is_empty());
        }
        (ended, counters)
    };
    let (ended, counters) = lost(&[&endless(&[b"{}\r\n\r\n"]), b""]);
    assert_eq!(ended, Ended::Input);
    let counts = [&counters.inflated, &counters.records, &counters.empty_lines];
    assert_eq!(counts.map(|count| count.load(Ordering::Relaxed)), [6, 1, 1]);
    let (ended, counters) = lost(&[&endless(&[b"{}\r\n", b"{\"pageName\":\"all of it\"}"])]);
    assert_eq!(ended, Ended::Within("a record, of which 24 bytes came".to_owned()));
    assert_eq!(counters.records.load(Ordering::Relaxed), 1);
    assert_eq!(lost(&[b"not auth", b"orized"]).0, Ended::NotAuthorized);
}

#[test]
fn records_do_not_wait_for_others_when_no_more_bytes_are_there() {
    let (to_threads, input) = mpsc::channel(1);
    let (out, mut blocks) = mpsc::channel(1);
    let thread = start(0, transform(), MAX.into(), Arc::new(Counters::new(&[])), input, out).unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for _ in 0..3 {
        encoder.write_all(b"{}\r\n").unwrap();
        encoder.flush().unwrap();
        let bytes = std::mem::take(encoder.get_mut());
        to_threads.blocking_send(Piece::Bytes(bytes.into())).unwrap();
        // Nothing follows until this has come.
        let Some(ConnectionEvent::Block(_, block)) = blocks.blocking_recv() else { panic!("no block") };
        assert_eq!(block.records.len(), 1);
    }
    to_threads.blocking_send(Piece::End).unwrap();
    assert!(matches!(thread.join().unwrap().ended, Ended::Within(_)));
}

#[test]
fn another_transform_is_taken_between_two_blocks_of_a_session_and_counts_by_name_go_on() {
    let filter = |name: &str, value: &str| Filter {
        name: name.to_owned(),
        path: "exclude.value".to_owned(),
        test: FilterTest::Equals(vec![value.to_owned()]),
    };
    let of = |columns: &[&str], filters: &[Filter]| {
        let mut all = Schema::default().columns;
        all.retain(|column| columns.contains(&column.name.as_str()));
        Transform::new(&Schema::new(all, "test").unwrap(), filters).unwrap()
    };
    let first = of(&["pagename"], &[filter("yes", "yes")]);
    let second = of(&["pagename", "evar1"], &[filter("new", "new"), filter("yes", "yes")]);
    let counters = Arc::new(Counters::new(first.filter_names()));
    let transforms = watch::Sender::new(first.clone());
    let current = CurrentTransform::new(transforms.subscribe());
    let (to_threads, input) = mpsc::channel(1);
    let (out, mut blocks) = mpsc::channel(1);
    let thread = start(0, current, MAX.into(), counters.clone(), input, out).unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut next = |text: &str| {
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.flush().unwrap();
        to_threads.blocking_send(Piece::Bytes(std::mem::take(encoder.get_mut()).into())).unwrap();
        let Some(ConnectionEvent::Block(_, block)) = blocks.blocking_recv() else { panic!("no block") };
        block
    };
    let hit = "{\"pageName\":\"a\",\"evars\":{\"evars\":{\"eVar1\":\"b\"}}}\r\n";
    let dropped = |value: &str| format!("{{\"exclude\":{{\"value\":\"{value}\"}}}}\r\n");
    // The last record is not whole yet as the transform is replaced.
    let block = next(&format!("{hit}{}{{\"page", dropped("yes")));
    assert_eq!((block.rows.as_slice(), &block.form), (&b"a\n"[..], first.form()));
    transforms.send_replace(second.clone());
    let block = next(&format!("Name\":\"c\"}}\r\n{hit}{}{}", dropped("new"), dropped("yes")));
    assert_eq!(String::from_utf8_lossy(&block.rows).lines().count(), 2);
    assert!(block.rows.ends_with(b"a~b\n") || block.rows.ends_with(b"b~a\n"), "{block:?}");
    assert_eq!(block.form, *second.form());
    assert_ne!(first.form(), second.form());
    let filtered: Vec<_> =
        block.records.iter().filter(|record| matches!(record, Decoded::Filtered { .. })).collect();
    assert_eq!(filtered.len(), 2);
    let by_filter: std::collections::BTreeMap<_, _> = counters.by_filter().into_iter().collect();
    assert_eq!((by_filter["yes"], by_filter["new"]), (2, 1));
    drop(to_threads);
    assert!(matches!(thread.join().unwrap().ended, Ended::Input));
}

#[test]
fn decoding_ends_when_nobody_takes_the_blocks_and_the_bytes_are_no_longer_taken_then() {
    let (to_threads, input) = mpsc::channel(1);
    let (out, blocks) = mpsc::channel(1);
    drop(blocks);
    let thread = start(0, transform(), MAX.into(), Arc::new(Counters::new(&[])), input, out).unwrap();
    let piece: Bytes = endless(&[b"{}\r\n"]).into();
    // The first of these ends the second thread, the second the first, and then the channel is closed.
    while to_threads.blocking_send(Piece::Bytes(piece.clone())).is_ok() {}
    assert_eq!(thread.join().unwrap().ended, Ended::Closed);
}

/// What a plain reading of the text says, line by line.
fn expected(text: &[u8]) -> Vec<Became> {
    let (mut transform, mut all) = (transform(), Vec::new());
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut row = Vec::new();
        if line.len() > MAX {
            all.push(rejected(&line[..MAX], &super::blocks::too_long(line.len() as u64, true)));
        } else if line == b"not authorized" {
            break;
        } else if !line.trim_ascii().is_empty() {
            all.push(match transform.record(line, &mut row) {
                Outcome::Row { hit, .. } => Became::Row(String::from_utf8(row).unwrap(), hit),
                Outcome::Filtered { .. } => Became::Filtered,
                Outcome::Rejected(reject) => rejected(line, &reject.to_string()),
            });
        }
    }
    all
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let page = "[a-zé~\"\\\\]{0,12}".prop_map(|page| serde_json::to_string(&page).unwrap());
    let record = (page, 0_u64..9, any::<bool>()).prop_map(|(page, low, excluded)| {
        let excluded = if excluded { "yes" } else { "no" };
        format!("{{\"pageName\":{page},\"hitIdHigh\":1,\"hitIdLow\":\"{low}\",\"exclude\":{{\"value\":\"{excluded}\"}}}}")
            .into_bytes()
    });
    prop_oneof![
        12 => record,
        2 => Just(Vec::new()),
        2 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (MAX - 2..MAX + 3).prop_map(|length| vec![b'y'; length]),
        1 => (1_usize..20).prop_map(|thousands| vec![b'z'; thousands * 1000]),
        1 => Just(b"{\"pageName\":\"cut o".to_vec()),
    ]
}

/// Cuts `bytes` into as many parts as there are sizes, or more if they do not suffice.
fn cut<'b>(bytes: &'b [u8], sizes: &[usize]) -> Vec<&'b [u8]> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    for size in sizes.iter().cycle() {
        let (part, after) = rest.split_at((*size).min(rest.len()));
        parts.push(part);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    parts
}

proptest! {
    #[test]
    fn however_the_bytes_and_members_are_cut_the_same_records_come_out(
        lines in prop::collection::vec((line(), any::<bool>()), 0..30),
        last_line_ends in any::<bool>(),
        members in prop::collection::vec(1_usize..2_000, 1..6),
        flushes in prop::collection::vec(1_usize..500, 1..6),
        cuts in prop::collection::vec(1_usize..300, 1..30),
    ) {
        let mut text = Vec::new();
        let mut end = 0;
        for (line, crlf) in lines {
            text.extend(line);
            end = text.len();
            text.extend_from_slice(if crlf { b"\r\n" } else { b"\n" });
        }
        if !last_line_ends {
            text.truncate(end);
        }
        let mut sent = Vec::new();
        for member in cut(&text, &members) {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            for part in cut(member, &flushes) {
                encoder.write_all(part).unwrap();
                encoder.flush().unwrap();
            }
            sent.extend(encoder.finish().unwrap());
        }
        let (records, ended) = decoded(&cut(&sent, &cuts));
        prop_assert_eq!(records, expected(&text));
        prop_assert!(matches!(ended, Ended::Input | Ended::NotAuthorized));
    }

    #[test]
    fn damage_ends_the_same_way_however_it_is_cut(
        lines in prop::collection::vec(line(), 1..30),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
        cuts in prop::collection::vec(1_usize..300, 1..30),
    ) {
        let mut sent = gzip(&lines.join(&b'\n'));
        let at = at.index(sent.len());
        sent[at] ^= flip;
        let (records, ended) = decoded(&cut(&sent, &cuts));
        let whole = decoded(&[&sent]);
        prop_assert_eq!(records, whole.0);
        prop_assert_eq!(std::mem::discriminant(&ended), std::mem::discriminant(&whole.1));
    }
}
