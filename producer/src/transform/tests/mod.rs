//! Tests of the whole transform: a record goes in, a CSV reader says what came out.

mod csv_round_trip;
mod example;
mod filters;
mod kinds;
mod no_leak;
mod numbers;
mod protections;
mod records;
mod rules;
mod texts;

use super::{ColumnCounts, Outcome, Transform};
use shared::schema::{Column, Schema};

/// A schema of one column a line, `name path kind type` and, if it is not the kind's own, the rule.
fn schema(lines: &str) -> Schema {
    let columns = lines.lines().map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [name, path, kind, sql_type, ref rest @ ..] = words[..] else { panic!("{line}") };
        let paths: Vec<_> = path.split('|').map(|path| path.parse().unwrap()).collect();
        let mut column = Column::new(name, paths, kind.parse().unwrap(), sql_type.parse().unwrap());
        if let [rule] = rest {
            column.rule = rule.parse().unwrap();
        }
        column
    });
    Schema::new(columns.collect(), "test").unwrap()
}

/// The cells of one row, read by a CSV reader that knows nothing of how it was written.
fn cells(row: &[u8]) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().delimiter(b'~').has_headers(false).from_reader(row);
    let mut records = reader.records();
    let cells = records.next().unwrap().unwrap().iter().map(str::to_owned).collect();
    assert!(records.next().is_none(), "one row, not several: {}", row.escape_ascii());
    cells
}

/// The columns with anything to report.
fn altered(transform: &Transform) -> Vec<(&str, ColumnCounts)> {
    let all = transform.stats.names.iter().map(String::as_str).zip(transform.stats.counts.iter().copied());
    all.filter(|(_, counts)| !counts.is_zero()).collect()
}

/// The sum over all columns.
fn totals(transform: &Transform) -> ColumnCounts {
    let mut total = ColumnCounts::default();
    transform.stats.counts.iter().for_each(|counts| total.add(counts));
    total
}

/// The one cell of a record `{"v": value}` in a column of this kind and type, and what was counted.
fn one(kind: &str, sql_type: &str, value: &str) -> (String, ColumnCounts) {
    one_by(kind, sql_type, "", value)
}

/// As [`one`], in a column with this rule.
fn one_by(kind: &str, sql_type: &str, rule: &str, value: &str) -> (String, ColumnCounts) {
    let schema = schema(&format!("v v {kind} {sql_type} {rule}\nend end text varchar(1)"));
    let mut transform = Transform::new(&schema, &[]).unwrap();
    let mut row = Vec::new();
    let outcome = transform.record(format!("{{\"v\":{value},\"end\":\".\"}}").as_bytes(), &mut row);
    assert!(matches!(outcome, Outcome::Row { .. }), "{outcome:?}");
    let mut cells = cells(&row);
    assert_eq!(cells.pop().as_deref(), Some("."));
    (cells.remove(0), totals(&transform))
}

/// Each value gives this cell, and nothing is counted.
fn assert_kept(kind: &str, sql_type: &str, cases: &[(&str, &str)]) {
    for (value, expected) in cases {
        let (cell, counts) = one(kind, sql_type, value);
        assert_eq!((cell.as_str(), counts), (*expected, ColumnCounts::default()), "{value}");
    }
}

/// Each value gives NULL and is counted as nulled.
fn assert_nulled(kind: &str, sql_type: &str, values: &[&str]) {
    let nulled = ColumnCounts { nulled: 1, ..ColumnCounts::default() };
    for value in values {
        assert_eq!(one(kind, sql_type, value), (String::new(), nulled), "{value}");
    }
}
