//! Files in every form, whole, cut and damaged.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use shared::schema::Schema;
use state::log::{KeptRecord, RejectLine};

use bytes::Bytes;
use chrono::DateTime;
use shared::ids::Instance;
use tokio::sync::mpsc;

use crate::append::{Block, ConnectionEvent, Decoded};
use crate::commands::replay::read::{Reader, Stop, not_lines};
use crate::counters::Counters;
use crate::decode::blocks::BlockBuilder;
use crate::decode::frame::HEAD_BYTES;
use crate::transform::Transform;

const MAX: usize = 1024;

fn reader(out: mpsc::Sender<ConnectionEvent>) -> Reader {
    let mut columns = Schema::default().columns;
    columns.retain(|column| column.name == "pagename");
    let transform = Transform::new(&Schema::new(columns, "test").unwrap(), &[]).unwrap();
    Reader::new(BlockBuilder::new(transform, Arc::new(Counters::new(&[]))), MAX, out)
}

/// The rows and rejects of one file, and how its reading ended. Without `end` the bytes are cut off.
fn read(content: &[u8], skip: u64, end: bool) -> (Vec<String>, Result<u64, Stop>) {
    let (out, mut blocks) = mpsc::channel(100);
    let (to_reader, pieces) = mpsc::channel(10_000);
    for piece in content.chunks(7) {
        to_reader.blocking_send(Bytes::copy_from_slice(piece)).unwrap();
    }
    if end {
        to_reader.blocking_send(Bytes::new()).unwrap();
    }
    drop(to_reader);
    let mut reader = reader(out);
    let ended = reader.read(pieces, skip, |_| {});
    let mut all = Vec::new();
    while let Ok(ConnectionEvent::Block(_, block)) = blocks.try_recv() {
        all.extend(told(&block));
    }
    assert_eq!(reader.sent(), all.len() as u64);
    (all, ended)
}

fn told(block: &Block) -> Vec<String> {
    let mut start = 0;
    let tell = |record: &Decoded| match record {
        Decoded::Row { end, .. } => {
            let row = String::from_utf8_lossy(&block.rows[start..*end - 1]).into_owned();
            start = *end;
            row
        }
        Decoded::Rejected { record: KeptRecord::Full(record), reason, .. } => {
            format!("{}: {reason}", record.escape_ascii())
        }
        Decoded::Rejected { record, code, reason } => format!("{record:?}: {code}: {reason}"),
        Decoded::Filtered { rule, .. } => format!("filtered by {rule}"),
        Decoded::Known { hit, .. } => format!("known {hit:?}"),
    };
    block.records.iter().map(tell).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(text, 1).unwrap()
}

fn reject(record: &[u8], reason: &str) -> String {
    let text = std::str::from_utf8(record).ok();
    let line = RejectLine {
        at: DateTime::UNIX_EPOCH,
        instance: Instance::try_from("web-1".to_owned()).unwrap(),
        code: Some("not_json".to_owned()),
        reason: reason.to_owned(),
        record: text.map(str::to_owned),
        record_base64: text.is_none().then(|| shared::object_store::base64(record)),
        protected: None,
        bytes: None,
        hash: None,
    };
    serde_json::to_string(&line).unwrap()
}

const TWO: &[u8] = b"{\"pageName\":\"a\"}\r\n\r\n{\"pageName\":\"b\"}";

#[test]
fn a_file_is_read_in_the_form_its_first_bytes_tell() {
    let (one, two) = TWO.split_at(9);
    for content in
        [TWO.to_vec(), gzip(TWO), zstd(TWO), [gzip(one), gzip(two)].concat(), [zstd(one), zstd(two)].concat()]
    {
        let (records, ended) = read(&content, 0, true);
        assert_eq!(records, ["a", "b"]);
        assert!(matches!(ended, Ok(2)), "{ended:?}");
        let (records, ended) = read(&content, 1, true);
        assert_eq!(records, ["b"]);
        assert!(matches!(ended, Ok(2)), "{ended:?}");
    }
    for (content, expected) in [(&b""[..], 0), (b"\n", 0), (b"{}", 1)] {
        assert!(matches!(read(content, 0, true).1, Ok(records) if records == expected));
    }
}

#[test]
fn a_byte_order_mark_is_passed_over_and_what_is_no_lines_is_refused() {
    for content in [[&b"\xef\xbb\xbf"[..], TWO].concat(), gzip(&[&b"\xef\xbb\xbf"[..], TWO].concat())] {
        let (records, ended) = read(&content, 0, true);
        assert_eq!(records, ["a", "b"]);
        assert!(matches!(ended, Ok(2)), "{ended:?}");
    }
    let pretty = b"{\n  \"pageName\": \"a\"\n}\n";
    for content in [pretty.to_vec(), gzip(pretty), zstd(b"[{\"pageName\":\"a\"}]")] {
        let (records, ended) = read(&content, 0, true);
        assert!(records.is_empty() && matches!(ended, Err(Stop::NotLines(_))), "{ended:?}");
        assert!(not_lines(&content[..]).is_some_and(|why| why.contains("jq -c")));
    }
    assert_eq!(not_lines(TWO), None);
    assert_eq!(not_lines(&gzip(TWO)[..15]), None, "damage is told when it is read");
}

#[test]
fn a_reject_is_unwrapped_and_rejected_again_as_it_was_received() {
    let raw = "{\"pageName\":\"a \\\"reason\\\"\",\"reason\":\"no reject\"}";
    let lines = [
        reject("{\"pageName\":\"é\\u0041\"}".as_bytes(), "not JSON: of old"),
        reject(b"{\"pageName\":\xff}", "not UTF-8 from byte 12"),
        reject(b"xxx", "longer than adobe.max_record_bytes: 70000 bytes, of which the first are kept"),
        raw.to_owned(),
        reject(&[b'y'; MAX + 1], "its row has too many bytes"),
    ];
    let (records, ended) = read(&zstd(lines.join("\n").as_bytes()), 0, true);
    assert!(matches!(ended, Ok(5)));
    assert_eq!(records[0], "éA");
    assert_eq!(records[1], "{\\\"pageName\\\":\\xff}: not UTF-8 from byte 12");
    let too_long = "longer than adobe.max_record_bytes:";
    assert_eq!(records[2], format!("xxx: {too_long} 70000 bytes, of which the first are kept"));
    assert_eq!(records[3], "\"a \"\"reason\"\"\"");
    assert!(records[4].ends_with(&format!("yyy: {too_long} 1025 bytes, of which the first are kept")));
}

#[test]
fn a_record_that_only_grows_in_its_reject_is_not_too_long() {
    let page = "\u{1}".repeat(165);
    let record = format!("{{\"pageName\":{}}}", serde_json::to_string(&page).unwrap());
    assert!(record.len() <= MAX && reject(record.as_bytes(), "x").len() > MAX);
    assert_eq!(read(reject(record.as_bytes(), "x").as_bytes(), 0, true).0, [format!("\"{page}\"")]);
    // A line that can hold no record is kept by its head only.
    let (records, ended) = read(&zstd(&vec![b'x'; 200_000]), 0, true);
    assert!(records[0].contains("200000 bytes") && records[0].len() < 2 * HEAD_BYTES);
    assert!(matches!(ended, Ok(1)));
}

#[test]
fn damage_is_told_with_the_records_before_it() {
    let text = [TWO, b"\n"].concat().repeat(1000);
    for whole in [gzip(&text), zstd(&text)] {
        let (records, ended) = read(&whole[..whole.len() - 6], 0, true);
        assert!(
            matches!(&ended, Err(Stop::Damaged { records: n, .. }) if *n == records.len() as u64),
            "{ended:?}"
        );
        let trailing = [&whole[..], b"HTTP/1.1 500 Oops"].concat();
        let (records, ended) = read(&trailing, 0, true);
        assert!(records.len() >= 1999, "{}", records.len());
        assert!(matches!(ended, Err(Stop::Damaged { .. })), "{ended:?}");
    }
}

#[test]
fn bytes_that_are_cut_off_are_neither_an_end_nor_damage() {
    for content in [TWO.to_vec(), gzip(TWO), zstd(TWO), Vec::new(), vec![0x1f]] {
        let (_, ended) = read(&content, 0, false);
        assert!(matches!(ended, Err(Stop::Cut)), "{ended:?}");
    }
    assert_eq!(read(TWO, 0, false).0, ["a"], "of the second record nobody knows whether it is whole");
}

#[test]
fn a_reject_without_its_record_stays_the_reject_it_is() {
    let line = "{\"at\":\"2026-03-02T12:00:00Z\",\"instance\":\"web-1\",\"code\":\"not_object\",\
                \"reason\":\"not a JSON object\",\"bytes\":7,\"hash\":\"ab\"}\n";
    let (records, ended) = read(line.as_bytes(), 0, true);
    let kept = KeptRecord::Digest { bytes: 7, hash: "ab".to_owned() };
    assert_eq!(records, [format!("{kept:?}: not_object: not a JSON object")]);
    assert!(matches!(ended, Ok(1)), "{ended:?}");
}
