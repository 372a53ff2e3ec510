//! Kinds other than text and number: booleans, times, events, lists, JSON.

use crate::transform::tests::{altered, totals};
use crate::transform::{ColumnCounts, Outcome, Transform};
use shared::schema::{Column, Kind, Schema, SqlType};

use super::{assert_kept, assert_nulled, cells, one, one_by, schema};

#[test]
fn a_boolean_is_read_in_every_way_it_is_sent() {
    for (value, expected) in
        [("true", "true"), ("1", "true"), ("\"Y\"", "true"), ("\"yes\"", "true"), ("\"TRUE\"", "true")]
            .into_iter()
            .chain([
                ("false", "false"),
                ("0", "false"),
                ("\"N\"", "false"),
                ("\" no \"", "false"),
                ("\"0\"", "false"),
            ])
    {
        assert_kept("boolean", "boolean", &[(value, expected)]);
    }
    assert_kept("boolean", "boolean", &[("null", ""), ("\"\"", "")]);
    assert_nulled(
        "boolean",
        "boolean",
        &["\"N\\u0000\"", "2", "\"maybe\"", "[]", "{}", "1.5", "\"\\ud800\""],
    );
}

#[test]
fn seconds_become_a_utc_timestamp() {
    assert_kept(
        "timestamp",
        "timestamp",
        &[
            ("1372782179", "2013-07-02 16:22:59"),
            ("\"1372782179\"", "2013-07-02 16:22:59"),
            ("1372782179.25", "2013-07-02 16:22:59.250000"),
            ("1.372782179e9", "2013-07-02 16:22:59"),
            ("0", "1970-01-01 00:00:00"),
            ("-0.5", "1969-12-31 23:59:59.500000"),
        ],
    );
    let beyond =
        ["1372782179000", "1e30", "-1e30", "1e999999999", "\"yesterday\"", "true", "[]", "{\"a\":1}"];
    assert_nulled("timestamp", "timestamp", &beyond);
}

#[test]
fn an_event_is_the_exact_sum_of_its_counts() {
    assert_kept(
        "event_value",
        "decimal(18,2)",
        &[
            (r#"[{"count":1,"exponent":0,"unique":""}]"#, "1"),
            (r#"[{"count":150,"exponent":-2}]"#, "1.50"),
            (r#"[{"exponent":"-2","count":"150"},{"count":2}]"#, "3.50"),
            (r#"[{"count":1.25,"exponent":0},{"count":-0.25,"exponent":1}]"#, "-1.25"),
            (r#"[{"count":2},{"count":150,"exponent":-2}]"#, "3.50"),
            (r#"[{"count":3,"exponent":2}]"#, "300"),
            (r#"{"count":7,"exponent":0}"#, "7"),
            (r#"[{"count":1.50000000000000000000000000000000000000000000000000}]"#, "1.5"),
            ("5", "5"),
            ("\"2.50\"", "2.50"),
            ("[]", ""),
            ("null", ""),
        ],
    );
    assert_nulled(
        "event_value",
        "decimal(18,2)",
        &[
            r#"[{"count":1,"exponent":400}]"#,
            r#"[{"count":1,"exponent":-400}]"#,
            r#"[{"count":1,"exponent":99999999999999999999999999}]"#,
            r#"[{"count":99999999999999999999999999999999999999},{"count":99999999999999999999999999999999999999}]"#,
            r#"[{"count":1e16}]"#,
            r#"[{"count":"many"}]"#,
            r#"[{"exponent":1}]"#,
            r#"[{"count":1,"exponent":0.5}]"#,
            "[1]",
            "[[1,2]]",
            "[null]",
            "true",
        ],
    );
    let rounded = ColumnCounts { rounded: 1, ..ColumnCounts::default() };
    assert_eq!(
        one_by("event_value", "decimal(18,2)", "cut", r#"[{"count":1005,"exponent":-3}]"#),
        ("1.01".into(), rounded)
    );
    assert_kept("event_value", "integer", &[(r#"[{"count":150,"exponent":-2},{"count":"0.5"}]"#, "2")]);
    assert_nulled(
        "event_value",
        "integer",
        &[r#"[{"count":150,"exponent":-2}]"#, r#"[{"count":2147483648}]"#],
    );
}

#[test]
fn a_list_is_joined_by_its_delimiter() {
    assert_kept(
        "list",
        "varchar(100)",
        &[
            (r#""a:b""#, "a:b"),
            (r#"["a","b"]"#, "a,b"),
            (r#"{"values":["a","b"],"delim":44}"#, "a,b"),
            (r#"{"delim":58,"values":["a","b","c"]}"#, "a:b:c"),
            (r#"{"delim":"58","values":["a","b"]}"#, "a:b"),
            (r#"{"delim":"|","values":["a","b"]}"#, "a|b"),
            (r#"{"delim":"5","values":["a","b"]}"#, "a5b"),
            (r#"{"delim":" > ","values":["a","b"]}"#, "a > b"),
            (r#"{"delim":"\u007e","values":["a","b"]}"#, "a~b"),
            (r#"{"delim":126,"values":["a","b"]}"#, "a~b"),
            (r#"{"delim":0,"values":["a","b"]}"#, "a,b"),
            (r#"{"delim":null,"values":["a","b"]}"#, "a,b"),
            (r#"{"delim":58,"values":"home:shoes"}"#, "home:shoes"),
            (r#"{"values":null}"#, ""),
            (r#"{"values":["a","b"],"values":null,"delim":58,"delim":""}"#, "a:b"),
            (r#"["a",null,"",1,true,[2],{"b":3}]"#, r#"a,,,1,true,[2],{"b":3}"#),
            (r#"{"other":1}"#, r#"{"other":1}"#),
            ("12.50", "12.50"),
            ("[]", ""),
            ("null", ""),
        ],
    );
    for delimiter in ["55296", "58.5", "{}", "true", r#""a delimiter too long""#, r#""\ud800""#] {
        let value = format!(r#"{{"delim":{delimiter},"values":["a","b"]}}"#);
        let joined = ColumnCounts { delimiters: 1, ..ColumnCounts::default() };
        assert_eq!(one("list", "varchar(9)", &value), ("a,b".into(), joined), "{value}");
    }
    let cut = ColumnCounts { cut: 1, ..ColumnCounts::default() };
    assert_eq!(one("list", "varchar(4)", r#"["ab","cd"]"#), ("ab,c".into(), cut));
}

#[test]
fn json_keeps_its_text_or_is_null_never_half() {
    assert_kept(
        "json",
        "varchar(40)",
        &[
            (r#"[ {"a" : "~\n\u0000\ud800"} ]"#, r#"[ {"a" : "~\n\u0000\ud800"} ]"#),
            ("1.0", "1.0"),
            ("\"x\"", "\"x\""),
            ("[]", "[]"),
            ("null", ""),
        ],
    );
    assert_nulled("json", "varchar(4)", &["{\"a\":1}", "\"abc\"", "12345", "[123]", "[[1],2]"]);
    assert_kept("json", "super", &[("[1,2]", "[1,2]")]);
}

#[test]
fn a_list_of_json_that_does_not_fit_is_cut_behind_a_whole_element() {
    let cut = ColumnCounts { cut: 1, ..ColumnCounts::default() };
    for (bytes, expected) in [(20, "[1, {\"a\":[2,3]}]"), (16, "[1, {\"a\":[2,3]}]"), (15, "[1]"), (3, "[1]")]
    {
        let cell = one("json", &format!("varchar({bytes})"), "[1, {\"a\":[2,3]} ,\"~\"]");
        assert_eq!(cell, (expected.to_owned(), cut), "{bytes}");
    }
    let (cell, counts) = one("json", "super", &format!("[{}2]", "\"1234567\",".repeat(200_000)));
    assert_eq!((cell.len(), counts), ((1 << 20) - 5, cut));
    assert!(cell.ends_with(",\"1234567\"]"));
    for rule in ["null", "reject"] {
        let mut transform = Transform::new(&schema(&format!("v v json varchar(4) {rule}")), &[]).unwrap();
        let outcome = transform.record(b"{\"v\":[1,2]}", &mut Vec::new());
        assert_eq!(matches!(outcome, Outcome::Rejected(_)), rule == "reject", "{outcome:?}");
    }
}

#[test]
fn a_super_loses_no_more_than_redshift_cannot_hold() {
    let counts = |nuls, replaced, cut| ColumnCounts { nuls, replaced, cut, ..ColumnCounts::default() };
    for (value, expected, counts) in [
        (r#"[{"name" : "x\u0000y\n"}]"#, r#"[{"name" : "xy\n"}]"#, counts(1, 0, 0)),
        (r#"{"a\ud800":"b"}"#, "{\"a\u{fffd}\":\"b\"}", counts(0, 1, 0)),
    ] {
        assert_eq!(one("json", "super", value), (expected.to_owned(), counts), "{value}");
    }
    let long = "é".repeat(40_000);
    let (cell, altered) = one("json", "super", &format!("[\"{long}\",\"kept\"]"));
    assert_eq!((cell.len(), altered), (65_534 + 11, counts(0, 0, 1)));
    assert!(cell.ends_with("é\",\"kept\"]"));
    assert_nulled("json", "super", &["[1e309,\"\\u0000\"]"]);
}

#[test]
fn a_record_column_holds_the_record_as_it_came() {
    let schema = schema("whole $ record varchar(40)\nv v integer integer");
    let mut transform = Transform::new(&schema, &[]).unwrap();
    let mut row = Vec::new();
    transform.record(b" {\"v\": 7, \"other\": \"~\"} \r", &mut row);
    assert_eq!(cells(&row), ["{\"v\": 7, \"other\": \"~\"}", "7"]);
    row.clear();
    let long = format!("{{\"v\":8,\"other\":\"{}\"}}", "x".repeat(40));
    assert!(matches!(transform.record(long.as_bytes(), &mut row), Outcome::Row { .. }));
    assert_eq!(cells(&row), ["", "8"]);
    assert_eq!(altered(&transform), [("whole", ColumnCounts { nulled: 1, ..Default::default() })]);
}

#[test]
fn constants_stand_in_every_row_and_load_times_in_none() {
    let mut columns = schema("v v integer integer").columns;
    columns.insert(0, Column::new("who", vec![], Kind::Instance, SqlType::Varchar(3)));
    columns.push(Column::new("loaded", vec![], Kind::LoadTime, SqlType::Timestamp));
    columns.push(Column::new("batch", vec![], Kind::Batch, SqlType::Varchar(36)));
    let schema = Schema::new(columns, "test").unwrap();
    let mut transform =
        Transform::new(&schema, &[]).unwrap().with_instance("we~b").with_batch_placeholder("mark");
    let mut row = Vec::new();
    for record in [&b"{}"[..], b"{\"v\":7}"] {
        transform.record(record, &mut row);
    }
    assert_eq!(row, b"\"we~\"~~mark\n\"we~\"~7~mark\n");
    assert_eq!(totals(&transform).cut, 2);
}

#[test]
fn a_configured_delimiter_takes_the_place_of_the_sent_one() {
    let mut columns = schema("v v list varchar(9)").columns;
    columns[0].delimiter = Some(" > ".to_owned());
    let mut transform = Transform::new(&Schema::new(columns, "test").unwrap(), &[]).unwrap();
    for (value, expected) in
        [(r#"["a","b"]"#, "a > b"), (r#"{"values":["a","b"],"delim":58}"#, "a > b"), (r#""a:b""#, "a:b")]
    {
        let mut row = Vec::new();
        transform.record(format!("{{\"v\":{value}}}").as_bytes(), &mut row);
        assert_eq!(cells(&row), [expected], "{value}");
    }
}
