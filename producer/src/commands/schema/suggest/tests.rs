use std::fs;
use std::path::Path;

use adobe::{Generator, Plan};
use shared::config::{Config, Secrets};
use state::status::drift::SeenValues;

use super::*;
use crate::commands::schema::file::look;
use crate::transform::Transform;

const RECORDS: u64 = 500;

fn records() -> Vec<Vec<u8>> {
    let generator = Generator::new(Plan { hits: u64::MAX, ..Plan::default() });
    let line = |index| {
        let mut line = Vec::new();
        generator.write_hit(index, &mut line);
        line.trim_ascii_end().to_vec()
    };
    (0..RECORDS).map(line).collect()
}

fn protection(lines: &str) -> Config {
    let example = include_str!("../../../../../deploy/pipeline.example.toml");
    let text = format!("{example}\n[protect]\n{lines}\n");
    Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Unused).unwrap()
}

fn looked(schema: &Schema, records: &[Vec<u8>], protect: &str) -> Looked {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("records.ndjson.gz");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&records.join(&b'\n')).unwrap();
    fs::write(&file, gzip.finish().unwrap()).unwrap();
    let config = protection(protect);
    let transform = Transform::new(schema, &[]).unwrap().with_protection(&config.protect, schema).unwrap();
    look(&file, &config, schema, transform, &Clock::system()).unwrap()
}

fn written(schema: &Schema, looked: &Looked, protect: &str) -> (String, Schema) {
    let mut out = Vec::new();
    suggest(schema, looked, &protection(protect).protect, &Clock::system(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let read = Schema::from_toml_on(&Schema::default(), &text, "suggested").unwrap();
    (text, read)
}

/// The values of one row, by column.
fn row(schema: &Schema, record: &[u8]) -> HashMap<String, String> {
    let mut transform = Transform::new(schema, &[]).unwrap();
    let mut row = Vec::new();
    transform.record(record, &mut row);
    let mut reader = csv::ReaderBuilder::new().delimiter(b'~').has_headers(false).from_reader(&row[..]);
    let cells = reader.records().next().unwrap().unwrap();
    let names = schema.in_row().map(|column| column.name.clone());
    names.zip(cells.iter().map(str::to_owned)).filter(|(_, cell)| !cell.is_empty()).collect()
}

#[test]
fn rows_of_the_suggested_schema_hold_all_that_rows_of_the_built_in_one_held_and_nothing_is_cut() {
    let (built_in, records) = (Schema::default(), records());
    let looked = looked(&built_in, &records, "");
    assert_eq!((looked.seen.looked_at, looked.others), (RECORDS, 0));
    let (text, suggested) = written(&built_in, &looked, "");
    assert!(suggested.columns.len() < built_in.columns.len(), "{}", suggested.columns.len());
    let mut narrow = Transform::new(&suggested, &[]).unwrap();
    for record in &records {
        let (old, new) = (row(&built_in, record), row(&suggested, record));
        for (name, value) in old {
            assert!(
                new.get(&name).is_some_and(|new| new.starts_with(&value)),
                "{name}: {value:?} {:?}",
                new.get(&name)
            );
        }
        narrow.record(record, &mut Vec::new());
    }
    narrow.drain_altered(|column, counts| assert_eq!(counts.cut, 0, "{column}"));
    // The saving is measured on the records.
    let lines: Vec<_> = text.lines().filter(|line| line.contains("bytes a row")).collect();
    println!("{}", lines.join("\n"));
    let bytes = |line: &str| -> usize {
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "bytes").unwrap();
        words[at - 1].replace(',', "").parse().unwrap()
    };
    assert_eq!(lines.len(), 4, "{text}");
    assert!(bytes(lines[3]) < bytes(lines[0]) && bytes(lines[0]) == bytes(lines[1]), "{lines:?}");
}

#[test]
fn fields_of_one_type_become_columns_and_others_stay_in_the_record() {
    let lines = [
        r#"{"hitIdHigh":1,"hitIdLow":2,"pageName":"a","score":1.25,"shopId":"007","flags":[1],"9th":true,"mixed":1,"e":""}"#,
        r#"{"pageName":"abcdefghijkl","score":-100,"evars":{"evars":{"eVar300":"x","eVar1":"b"}},"mixed":"a","ip":"1.2.3.4"}"#,
        r#"{"pageName":"a","events":{"event2000":[{"count":1}]},"who@example.com":1}"#,
    ];
    let records: Vec<_> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
    let protect = "drop = [\"$.shopId\"]\nmask_ip = [\"ip\"]";
    let looked = looked(&Schema::default(), &records, protect);
    let (text, schema) = written(&Schema::default(), &looked, protect);
    let columns: Vec<_> =
        schema.columns.iter().map(|column| format!("{} {}", column.name, column.sql_type)).collect();
    let expected = [
        "receivedtimegmt timestamp",
        "hitidhigh decimal(20,0)",
        "hitidlow decimal(20,0)",
        "ip varchar(64)",
        "pagename varchar(255)",
        "evar1 varchar(255)",
        "field_9th boolean",
        "evar300 varchar(256)",
        "event2000 varchar(256)",
        "flags varchar(256)",
        "score decimal(22,4)",
        "record super",
    ];
    assert_eq!(columns, expected, "{text}");
    for line in ["# no column: mixed", "# no column: shopId"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(!text.contains("who@example") && !text.contains("007"), "{text}");
}

#[test]
fn what_protect_names_is_protected_under_the_suggested_schema_too_though_no_record_had_it() {
    // A new field whose column would have the name of a protected path, and a column that no record fills.
    let lines =
        [r#"{"hitIdHigh":1,"hitIdLow":2,"pageName":"a"}"#, r#"{"shop":{"secret":"7"},"other":{"zip":"a"}}"#];
    let names = "[[column]]\nname = 'zip'\npath = 'other.zip'\nkind = 'text'\ntype = 'varchar(9)'";
    let records: Vec<_> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
    let in_force =
        Schema::from_toml_on(&Schema::default(), &format!("mode = 'extend'\n{names}"), "t").unwrap();
    let protect = "drop = [\"evar7\", \"secret\"]\npseudonym = [\"evar6\"]";
    let (text, suggested) = written(&in_force, &looked(&in_force, &records, protect), protect);
    let transform = Transform::new(&suggested, &[]).unwrap();
    let mut transform = transform.with_protection(&protection(protect).protect, &suggested).unwrap();
    let record =
        r#"{"evars":{"evars":{"eVar6":"mArKeR","eVar7":"mArKeR","eVar8":"seen"}},"secret":"mArKeR"}"#;
    let mut row = Vec::new();
    transform.record(record.as_bytes(), &mut row);
    let row = String::from_utf8(row).unwrap();
    assert!(!row.contains("mArKeR") && row.contains("seen"), "{row}: {text}");
    assert_eq!(suggested.columns.iter().filter(|column| column.name == "evar8").count(), 0);
}

#[test]
fn a_column_is_narrowed_only_where_enough_values_say_so_and_a_longer_one_is_only_cut() {
    let column = |more: &str| {
        let text = format!("[[column]]\nname = 'x'\npath = 'x'\ntype = 'varchar(255)'\n{more}");
        Schema::from_toml_on(&Schema::default(), &text, "t").unwrap().columns[0].clone()
    };
    let seen = |longest, records| SeenField {
        path: "x".to_owned(),
        records,
        values: SeenValues { longest, ..SeenValues::default() },
        ..SeenField::default()
    };
    for (more, longest, records, protect, expected) in [
        ("kind = 'text'", 10, 1_000, "", 64),
        ("kind = 'text'", 44, 1_000, "", 128),
        ("kind = 'text'", 10, 999, "", 255),
        ("kind = 'text'\nrule = 'reject'", 10, 1_000, "", 255),
        ("kind = 'text'", 200, 1_000, "", 255),
        ("kind = 'text'", 300, 10, "", 512),
        ("kind = 'json'", 10, 1_000, "", 64),
        ("kind = 'json'", 10, 1_000, "drop = [\"x.y\"]", 255),
        ("kind = 'list'\ndelimiter = '|'", 10, 1_000, "", 64),
        ("kind = 'list'\ndelimiter = ' | '", 10, 1_000, "", 255),
        ("kind = 'list'", 10, 1_000, "", 255),
    ] {
        let (column, field) = (column(more), seen(longest, records));
        let protected = Protected::of(&protection(protect).protect, &Schema::default());
        let kept = kept(&column, &[("x", &field)].into(), &protected).unwrap();
        assert_eq!(kept.sql_type, SqlType::Varchar(expected), "{more} {longest} {records} {protect}");
    }
}

#[test]
fn a_new_number_has_room_for_more_digits_on_both_sides() {
    for (whole, fraction, expected) in [
        (1, 0, Some((20, 2))),
        (15, 0, Some((20, 2))),
        (16, 0, Some((20, 0))),
        (19, 0, Some((22, 0))),
        (3, 2, Some((22, 4))),
        (17, 6, Some((28, 8))),
        (36, 0, Some((38, 0))),
        (36, 1, None),
        (39, 39, None),
    ] {
        let expected = expected.map(|(precision, scale)| SqlType::Decimal { precision, scale });
        assert_eq!(number(whole, fraction), expected, "{whole} {fraction}");
    }
}

#[test]
fn without_a_look_nothing_is_suggested() {
    let (built_in, looked) = (Schema::default(), Looked::of_stream(Default::default()));
    let said = suggest(&built_in, &looked, &protection("").protect, &Clock::system(), &mut Vec::new());
    assert!(said.unwrap_err().to_string().contains("no record was looked at yet"));
}
