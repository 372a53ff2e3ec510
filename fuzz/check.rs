//! What must hold for any bytes whatever: they decode without a panic, to the same records however they are cut, and
//! every row is one line that a reader of CSV takes apart into the schema's columns.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a finding is a panic")]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use producer::{Block, Decoded};
use producer::{Filter, FilterTest, Transform};
use shared::schema::{MAX_ROW_BYTES, Schema};

/// So that a fuzzer reaches it.
const MAX_RECORD_BYTES: usize = 1024;

/// Decodes the bytes after the first, which says what they are: compressed as they stand (even), or a text that is
/// compressed here (odd), since a checksum is hard to guess. Its other bits say where members and pieces are cut.
pub(crate) fn check(input: &[u8]) {
    let Some((how, input)) = input.split_first() else { return };
    let step = usize::from(how >> 1);
    let sent = if how & 1 == 0 { input.to_vec() } else { compress(input, 64 + 16 * step) };
    let transform = TRANSFORM.with(Clone::clone);
    let (whole, ended) = producer::body(transform.clone(), MAX_RECORD_BYTES.into(), [&sent[..]]);
    let (cut, cut_ended) = producer::body(transform, MAX_RECORD_BYTES.into(), sent.chunks(1 + step));
    let (records, cut) = (one_by_one(&whole), one_by_one(&cut));
    assert!(records == cut, "cut into pieces of {}: {cut:?}\nas a whole: {records:?}", 1 + step);
    let same = std::mem::discriminant(&ended) == std::mem::discriminant(&cut_ended);
    assert!(same, "cut into pieces of {} it ended {cut_ended:?}, as a whole {ended:?}", 1 + step);
    records.iter().for_each(|(row, _)| check_row(row));
}

thread_local! {
    static COLUMNS: usize = schema().columns.len();
    static TRANSFORM: Transform = {
        let filter = |test| Filter { name: "f".to_owned(), path: "reportSuite".to_owned(), test };
        let filters = [
            filter(FilterTest::Equals(vec!["no".to_owned()])),
            filter(FilterTest::Greater(1e3)),
        ];
        Transform::new(&schema(), &filters).unwrap()
    };
}

fn schema() -> Schema {
    Schema::from_toml_on(&Schema::default(), include_str!("schema.toml"), "fuzz/schema.toml").unwrap()
}

/// In members of so many bytes, each flushed in its middle.
fn compress(text: &[u8], member: usize) -> Vec<u8> {
    let mut sent = Vec::new();
    for part in text.chunks(member) {
        let (one, two) = part.split_at(part.len() / 2);
        let mut encoder = GzEncoder::new(&mut sent, Compression::fast());
        encoder.write_all(one).unwrap();
        encoder.flush().unwrap();
        encoder.write_all(two).unwrap();
        encoder.finish().unwrap();
    }
    sent
}

/// What each record became, with its row if it is one; where blocks end is no matter.
fn one_by_one(blocks: &[Block]) -> Vec<(&[u8], String)> {
    let mut all = Vec::new();
    for block in blocks {
        let mut start = 0;
        for record in &block.records {
            all.push(match record {
                Decoded::Row { end, hit, received } => {
                    let row = &block.rows[start..*end];
                    start = *end;
                    (row, format!("{hit:?} {received:?}"))
                }
                other => (&[][..], format!("{other:?}")),
            });
        }
        assert_eq!(start, block.rows.len(), "rows that belong to no record");
    }
    all
}

fn check_row(row: &[u8]) {
    if row.is_empty() {
        return;
    }
    assert!(row.len() <= MAX_ROW_BYTES && std::str::from_utf8(row).is_ok());
    let mut reader = csv::ReaderBuilder::new().delimiter(b'~').has_headers(false).from_reader(row);
    let read: Vec<_> = reader.byte_records().collect::<Result<_, _>>().unwrap();
    let columns = COLUMNS.with(|columns| *columns);
    assert!(read.len() == 1 && read[0].len() == columns && row.ends_with(b"\n"), "{}", row.escape_ascii());
}
