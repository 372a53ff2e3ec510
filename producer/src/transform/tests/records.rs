//! Whole records: what is a record, and what of a strange one survives.

use super::{cells, schema};
use crate::transform::tests::{altered, totals};
use crate::transform::{ColumnCounts, Outcome, Reject, Transform};
use shared::config::InvalidText;
use shared::schema::Schema;

fn rejected(record: &[u8]) -> Reject {
    let mut row = b"before".to_vec();
    let outcome = Transform::new(&Schema::default(), &[]).unwrap().record(record, &mut row);
    assert_eq!(row, b"before");
    match outcome {
        Outcome::Rejected(reject) => reject,
        other => panic!("{other:?} of {}", record.escape_ascii()),
    }
}

fn row(lines: &str, record: &str) -> Vec<String> {
    let mut row = Vec::new();
    let outcome = Transform::new(&schema(lines), &[]).unwrap().record(record.as_bytes(), &mut row);
    assert!(matches!(outcome, Outcome::Row { .. }), "{outcome:?}");
    cells(&row)
}

#[test]
fn what_is_not_a_json_object_is_rejected_with_its_reason() {
    for record in ["[]", "1", "\"a\"", "null", " true "] {
        assert_eq!(rejected(record.as_bytes()), Reject::NotObject);
    }
    for record in
        ["", " ", "not authorized", "{", "{\"a\":1", "{\"a\":1}}", "{\"a\":1} {}", "{\"a\":01}", "{a:1}"]
    {
        assert!(matches!(rejected(record.as_bytes()), Reject::NotJson(_)), "{record}");
    }
    // Only within a text can bytes stand for a character.
    assert_eq!(rejected(b"{\"a\":\xff}"), Reject::NotUtf8 { at: 5 });
    assert_eq!(rejected(b"\x1f\x8b\x08\x00"), Reject::NotUtf8 { at: 1 });
    assert_eq!(rejected(b"{\"a\":\"\\\xff\"}"), Reject::NotUtf8 { at: 7 });
}

#[test]
fn a_fault_in_a_part_nobody_wants_rejects_the_record_all_the_same() {
    for record in [
        "{\"unknown\":{\"x\":[1,]}}",
        "{\"unknown\":\"\\x\"}",
        "{\"unknown\":\"\\\n\"}",
        "{\"unknown\":\u{1}1}",
        "{\"unknown\":tru}",
        "{\"pageName\":\"a\",\"unknown\":-}",
        "{\"evars\":{\"evars\":{\"eVar1\":}}}",
        "{\"products\":[{]}",
        "{\"hierarchies\":{\"hier1\":{\"values\":[}}}",
    ] {
        assert!(matches!(rejected(record.as_bytes()), Reject::NotJson(_)), "{record}");
    }
}

#[test]
fn one_byte_that_is_no_utf_8_costs_one_character_and_is_counted_by_column() {
    let columns = schema(
        "page page text varchar(20)\nlist list list varchar(20)\nnumber number integer integer\n\
         other other text varchar(20)\nwhole $ record super\nkept page text varchar(20) null",
    );
    let mut transform = Transform::new(&columns, &[]).unwrap();
    let line = b"{\"page\":\"caf\xe9\",\"list\":[\"\xe9\xe9\",\"b\"],\"number\":\"1\xe9\",\"other\":\"\xc3\xa9\",\"hitIdHigh\":4,\"hitIdLow\":1}";
    let mut row = Vec::new();
    let outcome = transform.record(line, &mut row);
    assert!(matches!(outcome, Outcome::Row { hit: Some(_), .. }), "{outcome:?}");
    let found = cells(&row);
    assert_eq!(
        (found[0].as_str(), found[1].as_str(), found[2].as_str()),
        ("caf\u{fffd}", "\u{fffd}\u{fffd},b", "")
    );
    assert_eq!((found[3].as_str(), found[5].as_str()), ("é", ""));
    assert!(found[4].contains("\"page\":\"caf\u{fffd}\""), "{}", found[4]);
    let invalid = |invalid| ColumnCounts { invalid, ..ColumnCounts::default() };
    let nulled = ColumnCounts { nulled: 1, ..ColumnCounts::default() };
    assert_eq!(
        altered(&transform),
        [
            ("page", invalid(1)),
            ("list", invalid(2)),
            ("number", nulled),
            ("whole", invalid(4)),
            ("kept", nulled)
        ]
    );
    // Nothing of it is left for the next record.
    transform.drain_altered(|_, _| ());
    transform.record("{\"page\":\"caf\u{fffd}\"}".as_bytes(), &mut row);
    assert!(totals(&transform).is_zero());
    assert_eq!((transform.drain_mended(), transform.drain_mended()), (1, 0));
    let mut strict = Transform::new(&columns, &[]).unwrap().with_invalid_text(InvalidText::Reject);
    assert_eq!(strict.record(line, &mut Vec::new()), Outcome::Rejected(Reject::NotUtf8 { at: 12 }));
    assert_eq!(strict.drain_mended(), 0);
}

#[test]
fn a_raw_control_character_is_taken_as_it_is() {
    let columns = schema("page page text varchar(20)\npart part json varchar(30)\nwhole part json super");
    let mut transform = Transform::new(&columns, &[]).unwrap();
    let mut row = Vec::new();
    let line = b"{\"page\":\"a\tb\x00\x1f\",\t\"part\":[\"c\td\"],\"un\nknown\":1}";
    assert!(matches!(transform.record(line, &mut row), Outcome::Row { .. }));
    // JSON would be none with a raw one in it.
    assert_eq!(cells(&row), ["a\tb\u{1f}", "[\"c\\u0009d\"]", "[\"c\\u0009d\"]"]);
    let nuls = ColumnCounts { nuls: 1, ..ColumnCounts::default() };
    assert_eq!(altered(&transform), [("page", nuls)]);
    assert_eq!(transform.drain_mended(), 1);
    let mut strict = Transform::new(&columns, &[]).unwrap().with_invalid_text(InvalidText::Reject);
    assert!(matches!(strict.record(line, &mut Vec::new()), Outcome::Rejected(Reject::NotJson(_))));
}

#[test]
fn a_reject_holds_nothing_of_the_record() {
    let text = rejected(b"{\"pageName\":\"secret\",\"evars\":\"secret\",\"x\":secret}").to_string();
    assert!(text.starts_with("not JSON: ") && !text.contains("secret"), "{text}");
}

#[test]
fn unknown_fields_are_ignored_however_deep() {
    let deep = format!("{{\"new\":{}1{},\"v\":\"a\"}}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(row("v v text varchar(9)", &deep), ["a"]);
    let deep = format!("{{\"v\":{}1{}}}", "{\"v\":".repeat(50_000), "}".repeat(50_000));
    assert_eq!(row("v v.v.v integer integer\ne e text varchar(9)", &deep), ["", ""]);
    let deep = format!("{{\"v\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(row("v v event_value decimal(9,2)\ne v list varchar(9)", &deep), ["", "[[[[[[[[["]);
}

#[test]
fn of_a_key_that_occurs_twice_the_last_value_counts_unless_it_is_empty() {
    let columns = "a x.a text varchar(9)\nb b integer integer";
    assert_eq!(row(columns, r#"{"x":{"a":1},"b":1,"x":{"a":2},"b":2}"#), ["2", "2"]);
    assert_eq!(row(columns, r#"{"x":{"a":1,"a":""},"b":1,"b":null}"#), ["1", "1"]);
}

#[test]
fn the_first_spelling_with_a_value_wins_wherever_it_stands() {
    let columns = "lat lat|geoLatitude decimal decimal(9,6)\nend end text varchar(1)";
    assert_eq!(row(columns, r#"{"geoLatitude":2,"lat":1}"#), ["1", ""]);
    assert_eq!(row(columns, r#"{"lat":"","geoLatitude":2}"#), ["2", ""]);
    assert_eq!(row(columns, r#"{"lat":"unknown","geoLatitude":2}"#), ["2", ""]);
    let mut transform = Transform::new(&schema(columns), &[]).unwrap();
    transform.record(br#"{"lat":"unknown","geoLatitude":2}"#, &mut Vec::new());
    assert_eq!(totals(&transform).nulled, 1, "what is not stored is counted, whatever stands beside it");
    transform.record(br#"{"lat":"unknown","geoLatitude":"unknown"}"#, &mut Vec::new());
    assert_eq!(totals(&transform).nulled, 2);
}

#[test]
fn a_scalar_where_an_object_belongs_costs_only_the_columns_inside_it() {
    let columns = "a x.a text varchar(9)\nb b text varchar(9)\nc x.y.c text varchar(9)";
    for odd in ["1e999", "\"\\ud800\"", "null", "[{\"a\":1}]", "true", "-0.0"] {
        assert_eq!(row(columns, &format!("{{\"x\":{odd},\"b\":\"kept\"}}")), ["", "kept", ""]);
        assert_eq!(
            row(columns, &format!("{{\"x\":{{\"a\":7,\"y\":{odd}}},\"b\":\"kept\"}}")),
            ["7", "kept", ""]
        );
    }
}

#[test]
fn a_place_can_be_wanted_whole_and_in_parts() {
    let columns = "all h json varchar(99)\none h.one list varchar(9)\ndeep h.one.delim integer integer";
    let record = r#"{"h": {"one":{"values":["a","b"],"delim":58}} }"#;
    assert_eq!(row(columns, record), [r#"{"one":{"values":["a","b"],"delim":58}}"#, "a:b", "58"]);
    assert_eq!(row(columns, r#"{"h":"none"}"#), ["\"none\"", "", ""]);
}

#[test]
fn keys_are_compared_by_what_they_mean() {
    assert_eq!(row("v v text varchar(9)", r#"{"\u0076":"a","\ud800":1,"\n":2}"#), ["a"]);
    assert_eq!(row("v a\\.b text varchar(9)", r#"{"a.b":"a"}"#), ["a"]);
}

#[test]
fn a_row_longer_than_copy_accepts_is_rejected() {
    let columns: Vec<_> = (0..60).map(|n| format!("c{n} v json varchar(65535)")).collect();
    let mut transform = Transform::new(&schema(&columns.join("\n")), &[]).unwrap();
    let mut row = b"before".to_vec();
    let record = format!("{{\"v\":[{}\"\"]}}", "\"\",".repeat(20_000));
    let outcome = transform.record(record.as_bytes(), &mut row);
    assert!(matches!(outcome, Outcome::Rejected(Reject::RowTooLong { .. })), "{outcome:?}");
    assert_eq!(row, b"before");
}

#[test]
fn a_row_without_any_value_is_still_a_row() {
    assert_eq!(row("v v text varchar(9)", "{}"), [""]);
    let mut out = Vec::new();
    Transform::new(&schema("a a text varchar(9)\nb b text varchar(9)"), &[]).unwrap().record(b"{}", &mut out);
    assert_eq!(out, b"~\n");
}

#[test]
fn the_identity_is_read_whatever_the_schema() {
    let mut transform = Transform::new(&schema("v v text varchar(9)"), &[]).unwrap();
    let mut identity = |record: &str| match transform.record(record.as_bytes(), &mut Vec::new()) {
        Outcome::Row { hit, received } => (hit.map(|hit| (hit.high, hit.low)), received),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        identity(r#"{"hitIdHigh":18446744073709551615,"hitIdLow":"0007","receivedTimeGMT":"1372782179"}"#),
        (Some((u64::MAX, 7)), Some(1_372_782_179))
    );
    assert_eq!(identity(r#"{"hitIdHigh":1}"#), (None, None));
    assert_eq!(identity(r#"{"hitIdHigh":1,"hitIdLow":-1,"receivedTimeGMT":"x"}"#), (None, None));
}

#[test]
fn a_record_shows_nothing_of_the_one_before() {
    let columns = "a x.a text varchar(9)\nb b integer integer\nc c text varchar(9)";
    let mut transform = Transform::new(&schema(columns), &[]).unwrap();
    let mut record = |record: &str| {
        let mut row = Vec::new();
        let outcome = transform.record(record.as_bytes(), &mut row);
        (outcome, String::from_utf8(row).unwrap())
    };
    let nobody = Outcome::Row { hit: None, received: None };
    record(r#"{"x":{"a":"first \n"},"b":1,"c":"first","hitIdHigh":1,"hitIdLow":2,"receivedTimeGMT":3}"#);
    assert_eq!(record(r#"{"b":2}"#), (nobody.clone(), "~2~\n".to_owned()));
    record(r#"{"c":"rejected","b":3"#);
    assert_eq!(record(r#"{"x":{"a":"second"}}"#), (nobody.clone(), "second~~\n".to_owned()));
    // What the quick walk found before it gave up.
    assert_eq!(record(r#"{"b":4,"x":1}"#), (nobody, "~4~\n".to_owned()));
}
