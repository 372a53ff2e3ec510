//! The rule of a column: what happens to a value that its type cannot hold as it was sent.

use super::{cells, one_by, schema};
use crate::transform::tests::{altered, totals};
use crate::transform::{ColumnCounts, Outcome, Reject, Transform};

const NONE: ColumnCounts = ColumnCounts {
    cut: 0,
    nulled: 0,
    rounded: 0,
    nuls: 0,
    replaced: 0,
    invalid: 0,
    delimiters: 0,
    rejected: 0,
};
const NULLED: ColumnCounts = ColumnCounts { nulled: 1, ..NONE };

/// What is left of a value when it is cut, and how that is counted.
type Cut = (&'static str, ColumnCounts);

/// Kind, type and a value that is no fit; what `cut` makes of it, if it can be cut.
const MISFITS: &[(&str, &str, &str, Option<Cut>)] = &[
    ("text", "varchar(4)", r#""abcé""#, Some(("abc", ColumnCounts { cut: 1, ..NONE }))),
    ("text", "varchar(4)", "[1,2,3]", Some(("[1,2", ColumnCounts { cut: 1, ..NONE }))),
    ("text", "varchar(4)", r#""a\u0000b""#, Some(("ab", ColumnCounts { nuls: 1, ..NONE }))),
    ("text", "varchar(9)", r#""a\ud800""#, Some(("a\u{fffd}", ColumnCounts { replaced: 1, ..NONE }))),
    ("text", "varchar(4)", r#""\u0000""#, Some(("", ColumnCounts { nuls: 1, ..NONE }))),
    ("list", "varchar(4)", r#"["abc","d"]"#, Some(("abc,", ColumnCounts { cut: 1, ..NONE }))),
    (
        "list",
        "varchar(9)",
        r#"{"values":["a","b"],"delim":55296}"#,
        Some(("a,b", ColumnCounts { delimiters: 1, ..NONE })),
    ),
    ("decimal", "decimal(9,2)", "1.005", Some(("1.01", ColumnCounts { rounded: 1, ..NONE }))),
    ("decimal", "decimal(9,2)", "1e-400", Some(("0.00", ColumnCounts { rounded: 1, ..NONE }))),
    ("decimal", "decimal(9,2)", "1e7", None),
    ("decimal", "decimal(9,2)", "\"NaN\"", None),
    (
        "event_value",
        "decimal(9,2)",
        r#"[{"count":1005,"exponent":-3}]"#,
        Some(("1.01", ColumnCounts { rounded: 1, ..NONE })),
    ),
    ("event_value", "decimal(9,2)", r#"[{"count":"x"}]"#, None),
    (
        "timestamp",
        "timestamp",
        "1.0000005",
        Some(("1970-01-01 00:00:01.000001", ColumnCounts { rounded: 1, ..NONE })),
    ),
    ("timestamp", "timestamp", "253402300800", None),
];

/// As [`MISFITS`], for kinds that know no cut.
const WHOLE_MISFITS: &[(&str, &str, &str)] = &[
    ("integer", "smallint", "32768"),
    ("integer", "integer", "1.5"),
    ("unsigned", "decimal(20,0)", "-1"),
    ("boolean", "boolean", "\"maybe\""),
    ("event_value", "integer", r#"[{"count":5,"exponent":-1}]"#),
    ("json", "varchar(4)", "[1,2]"),
    ("json", "super", r#"["\u0000"]"#),
    ("json", "super", "[1e999]"),
];

#[test]
fn cut_keeps_as_much_as_the_type_can_hold() {
    for (kind, sql_type, value, expected) in MISFITS {
        let (cell, counts) = expected.unwrap_or(("", NULLED));
        assert_eq!(one_by(kind, sql_type, "cut", value), (cell.to_owned(), counts), "{kind} {value}");
    }
}

#[test]
fn null_stores_nothing_rather_than_something_altered() {
    let all = MISFITS.iter().map(|(kind, sql_type, value, _)| (kind, sql_type, value));
    for (kind, sql_type, value) in all.chain(WHOLE_MISFITS.iter().map(|(a, b, c)| (a, b, c))) {
        assert_eq!(one_by(kind, sql_type, "null", value), (String::new(), NULLED), "{kind} {value}");
    }
}

#[test]
fn reject_rejects_the_record_and_counts_by_column() {
    let all = MISFITS.iter().map(|(kind, sql_type, value, _)| (kind, sql_type, value));
    for (kind, sql_type, value) in all.chain(WHOLE_MISFITS.iter().map(|(a, b, c)| (a, b, c))) {
        let schema = schema(&format!("first v text varchar(1)\nv v {kind} {sql_type} reject"));
        let mut transform = Transform::new(&schema, &[]).unwrap();
        let mut row = b"before".to_vec();
        let outcome = transform.record(format!("{{\"v\":{value}}}").as_bytes(), &mut row);
        assert_eq!(outcome, Outcome::Rejected(Reject::Misfit { column: "v".to_owned() }), "{kind} {value}");
        assert_eq!(row, b"before");
        // What else was cut of a record that is no row is not counted.
        let rejected = ColumnCounts { rejected: 1, ..NONE };
        assert_eq!(altered(&transform), [("v", rejected)]);
        let outcome = transform.record(b"{}", &mut row);
        assert!(matches!(outcome, Outcome::Row { .. }), "{kind}: {outcome:?}");
    }
}

#[test]
fn what_fits_is_stored_whatever_the_rule() {
    for rule in ["cut", "null", "reject"] {
        assert_eq!(one_by("text", "varchar(4)", rule, "\"a~é\""), ("a~é".to_owned(), NONE));
        assert_eq!(one_by("decimal", "decimal(9,2)", rule, "1.50"), ("1.50".to_owned(), NONE));
        assert_eq!(one_by("decimal", "decimal(9,2)", rule, "1.5000"), ("1.50".to_owned(), NONE));
        assert_eq!(one_by("timestamp", "timestamp", rule, "\"\""), (String::new(), NONE));
    }
}

#[test]
fn a_spelling_that_does_not_fit_counts_although_the_next_has_the_value() {
    for rule in ["null", "reject"] {
        let schema = schema(&format!("v a|b|c text varchar(2) {rule}\nend end text varchar(1)"));
        let mut transform = Transform::new(&schema, &[]).unwrap();
        let mut row = Vec::new();
        let outcome = transform.record(br#"{"a":"long","b":"ok","c":"long"}"#, &mut row);
        if rule == "reject" {
            assert!(matches!(outcome, Outcome::Rejected(Reject::Misfit { .. })), "{outcome:?}");
            assert_eq!(totals(&transform).rejected, 1);
        } else {
            assert_eq!(cells(&row), ["ok", ""]);
            assert_eq!(totals(&transform), NULLED);
        }
        // The spelling that comes first and fits is the value: what follows is not looked at.
        let mut transform = Transform::new(&schema, &[]).unwrap();
        row.clear();
        transform.record(br#"{"a":"ok","b":"long"}"#, &mut row);
        assert_eq!(cells(&row), ["ok", ""]);
        assert!(totals(&transform).is_zero());
        let outcome = transform.record(br#"{"a":"long","c":"long"}"#, &mut row);
        assert_eq!(matches!(outcome, Outcome::Rejected(_)), rule == "reject");
        let totals = totals(&transform);
        assert_eq!(totals.nulled + totals.rejected, 1);
    }
}
