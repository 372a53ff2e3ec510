//! Filters.

use super::super::{Filter, FilterTest, Outcome, Transform, TransformError};
use super::schema;

fn filter(path: &str, test: fn(Vec<String>) -> FilterTest, values: &[&str]) -> Filter {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Filter { name: path.to_owned(), path: path.to_owned(), test: test(values) }
}

fn filtered(filters: &[Filter], record: &str) -> Option<usize> {
    let mut row = Vec::new();
    let outcome =
        Transform::new(&schema("v v text varchar(9)"), filters).unwrap().record(record.as_bytes(), &mut row);
    match outcome {
        Outcome::Filtered { rule } => {
            assert!(row.is_empty());
            Some(rule)
        }
        Outcome::Row { .. } => None,
        Outcome::Rejected(reject) => panic!("{reject}"),
    }
}

#[test]
fn the_first_filter_that_matches_drops_the_record() {
    let filters = [
        filter("exclude.value", FilterTest::Equals, &["yes", "Y"]),
        filter("bot", FilterTest::Equals, &["<Bot>"]),
    ];
    assert_eq!(filtered(&filters, r#"{"exclude":{"value":"yes"},"bot":"<Bot>"}"#), Some(0));
    assert_eq!(filtered(&filters, r#"{"exclude":{"value":"no"},"bot":"<Bot>"}"#), Some(1));
    assert_eq!(filtered(&filters, r#"{"exclude":{"value":"no"},"bot":"<Not a bot>"}"#), None);
    assert_eq!(filtered(&filters, r#"{"exclude":"yes"}"#), None);
    assert_eq!(filtered(&filters, "{}"), None);
}

#[test]
fn values_are_compared_by_what_they_mean() {
    for (record, value) in [
        (r#"{"v":"y\u0065s"}"#, "yes"),
        (r#"{"v":12.50}"#, "12.50"),
        (r#"{"v":true}"#, "true"),
        (r#"{"v":[1, 2]}"#, "[1, 2]"),
        (r#"{"v":null}"#, ""),
    ] {
        assert_eq!(filtered(&[filter("v", FilterTest::Equals, &[value])], record), Some(0), "{record}");
        assert_eq!(
            filtered(&[filter("v", FilterTest::NotEquals, &["other", value])], record),
            None,
            "{record}"
        );
    }
}

#[test]
fn not_equals_keeps_only_the_values_named() {
    let only = [filter("reportSuite", FilterTest::NotEquals, &["main"])];
    assert_eq!(filtered(&only, r#"{"reportSuite":"main"}"#), None);
    assert_eq!(filtered(&only, r#"{"reportSuite":"test"}"#), Some(0));
    assert_eq!(filtered(&only, "{}"), Some(0));
}

#[test]
fn a_filter_whose_path_is_none_is_refused() {
    let error = Transform::new(&schema("v v text varchar(9)"), &[filter("a..b", FilterTest::Equals, &[])])
        .unwrap_err();
    assert!(matches!(error, TransformError::FilterPath { .. }));
    assert_eq!(error.to_string(), "filter \"a..b\": `a..b` is not a path: a key is empty");
}
