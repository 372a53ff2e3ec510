//! Filters.

use regex::bytes::RegexSet;

use crate::transform::filter::TransformError;
use crate::transform::tests::schema;
use crate::transform::{Filter, FilterTest, Outcome, Transform};

fn filter(path: &str, test: fn(Vec<String>) -> FilterTest, values: &[&str]) -> Filter {
    of(path, test(values.iter().map(|value| (*value).to_owned()).collect()))
}

fn of(path: &str, test: FilterTest) -> Filter {
    Filter { name: path.to_owned(), path: path.to_owned(), test }
}

fn filtered(filters: &[Filter], record: &str) -> Option<usize> {
    let mut row = Vec::new();
    let outcome =
        Transform::new(&schema("v v text varchar(9)"), filters).unwrap().record(record.as_bytes(), &mut row);
    match outcome {
        Outcome::Filtered { rule, .. } => {
            assert!(row.is_empty());
            Some(rule)
        }
        Outcome::Row { .. } => None,
        Outcome::Rejected(reject) => panic!("{reject}"),
    }
}

/// Of these values of `v`, those whose record is dropped.
fn dropped<'v>(test: &FilterTest, values: &[&'v str]) -> Vec<&'v str> {
    let filters = [of("v", test.clone())];
    let drops = |value: &str| filtered(&filters, &format!("{{\"v\":{value}}}")).is_some();
    values.iter().copied().filter(|value| drops(value)).collect()
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
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
fn a_value_is_there_or_it_is_not() {
    let values = ["\"\"", "null", "0", "false", "\"x\"", "{}"];
    assert_eq!(dropped(&FilterTest::Exists, &values), values[2..]);
    assert_eq!(dropped(&FilterTest::Absent, &values), values[..2]);
    assert_eq!(filtered(&[of("v", FilterTest::Absent)], "{}"), Some(0));
    assert_eq!(filtered(&[of("v", FilterTest::Exists)], "{}"), None);
}

#[test]
fn parts_of_a_text_are_found_where_they_must_stand() {
    let values = ["\"/admin/x\"", "\"/x/admin\"", "\"x\\/adm\\u0069n/y\"", "\"/ADMIN\"", "null"];
    assert_eq!(dropped(&FilterTest::StartsWith(texts(&["?", "/admin"])), &values), values[..1]);
    assert_eq!(dropped(&FilterTest::EndsWith(texts(&["?", "/admin"])), &values), values[1..2]);
    assert_eq!(dropped(&FilterTest::Contains(texts(&["?", "/admin"])), &values), values[..3]);
    let pattern = |pattern| FilterTest::Matches(RegexSet::new([r"^never$", pattern]).unwrap());
    assert_eq!(dropped(&pattern(r"^/\w+$"), &values), values[3..4]);
    assert_eq!(dropped(&pattern("(?i)/admin$"), &values), [values[1], values[3]]);
}

#[test]
fn numbers_are_compared_as_numbers_however_they_are_sent() {
    let values = ["9", "\"10\"", "10.5", "\"1e3\"", "-3", "\"ten\"", "null", "\"inf\"", "[99]"];
    assert_eq!(dropped(&FilterTest::Greater(10.0), &values), values[2..4]);
    assert_eq!(dropped(&FilterTest::Less(10.0), &values), [values[0], values[4]]);
}

#[test]
fn a_rule_of_the_configuration_becomes_its_test() {
    let rule = |key: &str| {
        let text = format!("[[filter]]\nname = \"n\"\nfield = \"v\"\n{key}");
        let example = include_str!("../../../../deploy/pipeline.example.toml");
        let path = std::path::Path::new("pipeline.toml");
        let config = shared::config::Config::parse(
            &format!("{example}\n{text}"),
            path,
            std::iter::empty(),
            shared::config::Secrets::Unused,
        );
        config.unwrap().filters.pop().unwrap()
    };
    for (key, record) in [
        ("exists = true", r#"{"v":1}"#),
        ("exists = false", "{}"),
        ("equals = [\"a\"]", r#"{"v":"a"}"#),
        ("not_equals = [\"b\"]", r#"{"v":"a"}"#),
        ("contains = [\"b\"]", r#"{"v":"abc"}"#),
        ("starts_with = [\"ab\"]", r#"{"v":"abc"}"#),
        ("ends_with = [\"bc\"]", r#"{"v":"abc"}"#),
        ("matches = [\"^a.c$\"]", r#"{"v":"abc"}"#),
        ("greater = 5", r#"{"v":6}"#),
        ("less = 5.5", r#"{"v":5}"#),
    ] {
        assert_eq!(filtered(&[Filter::of(&rule(key)).unwrap()], record), Some(0), "{key}");
    }
    let error = Filter::of(&rule("matches = [\"ok\", \"a(\"]")).unwrap_err().to_string();
    assert!(error.starts_with("filter \"n\": filter.matches: "), "{error}");
    assert!(error.contains("unclosed group"), "{error}");
}

#[test]
fn a_filter_whose_path_is_none_is_refused() {
    let error = Transform::new(&schema("v v text varchar(9)"), &[filter("a..b", FilterTest::Equals, &[])])
        .unwrap_err();
    assert!(matches!(error, TransformError::FilterPath { .. }));
    assert_eq!(error.to_string(), "filter \"a..b\": filter.field: `a..b` is not a path: a key is empty");
}
