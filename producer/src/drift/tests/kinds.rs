//! Streams made by hand, one for each kind of change: what is told of a record that is another one from some row on.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::clock::Clock;
use shared::schema::{Column, JsonPath, Kind, Rule, Schema, SqlType};
use state::status::drift::DriftKind;

use crate::counters::Counters;
use crate::drift::Drift;
use crate::transform::Transform;

/// Rows that are learned, and rows after which a change is told.
const BEFORE: u64 = 40_000;
const WITHIN: u64 = 10_000;
const BLOCK: u64 = 250;
/// New values are told of a field that is known for a week.
const WEEK: Duration = Duration::from_secs(8 * 86_400);

fn column(name: &str, kind: Kind, sql_type: SqlType, rule: Rule) -> Column {
    Column { rule, ..Column::new(name, vec![JsonPath::of([name])], kind, sql_type) }
}

fn schema() -> Schema {
    let text = |name, bytes, rule| column(name, Kind::Text, SqlType::Varchar(bytes), rule);
    let money = SqlType::Decimal { precision: 6, scale: 2 };
    let columns = vec![
        text("short", 10, Rule::Cut),
        text("long", 400, Rule::Cut),
        text("strict", 10, Rule::Null),
        text("code", 10, Rule::Cut),
        column("whole", Kind::Integer, SqlType::Smallint, Rule::Null),
        column("money", Kind::Decimal, money, Rule::Cut),
    ];
    Schema::new(columns, "test").unwrap()
}

/// The fields of the record that comes first, each with a value that differs from row to row, but for the code.
fn record(row: u64) -> Vec<(&'static str, String)> {
    vec![
        ("short", format!("a{}", row % 900)),
        ("long", format!("b{row}")),
        ("strict", format!("c{}", row % 900)),
        ("code", format!("k{}", row % 3)),
        ("whole", (row % 900).to_string()),
        ("money", format!("{}.25", row % 900)),
    ]
}

/// What is told once the field has these values. None: it comes no more.
fn told(field: &'static str, value: impl Fn(u64) -> Option<String>) -> BTreeSet<(DriftKind, String)> {
    fastrand::seed(11);
    let clock = Clock::by_hand("2026-04-13T12:00:00Z".parse().unwrap());
    let mut transform = Transform::new(&schema(), &[]).unwrap().with_tally(&schema(), false);
    let counters = Counters::new(&[]).with_drift(Drift::new(clock.clone()));
    let mut row = Vec::new();
    for n in 0..BEFORE + WITHIN {
        let mut fields = record(n);
        if n == BEFORE {
            let told = counters.drift.snapshot();
            assert!(told.drifted.is_empty() && !told.learning, "{told:?}");
            clock.advance(WEEK);
        }
        if n >= BEFORE {
            fields.retain(|(name, _)| *name != field);
            fields.extend(value(n).map(|value| (field, value)));
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
        row.clear();
        transform.record(format!("{{{}}}", fields.join(",")).as_bytes(), &mut row);
        if (n + 1).is_multiple_of(BLOCK) {
            counters.take(&mut transform);
        }
    }
    counters.drift.snapshot().drifted.into_iter().map(|one| (one.kind, one.field)).collect()
}

#[track_caller]
fn assert_told(
    field: &'static str,
    kinds: impl IntoIterator<Item = DriftKind>,
    value: impl Fn(u64) -> Option<String>,
) {
    let expected: BTreeSet<_> = kinds.into_iter().map(|kind| (kind, field.to_owned())).collect();
    assert_eq!(told(field, value), expected, "{field}");
}

#[test]
fn a_stream_that_goes_on_as_it_is_tells_nothing() {
    assert_told("short", [], |row| Some(format!("a{}", row % 900)));
}

#[test]
fn each_kind_of_change_is_told_by_its_name_and_of_its_field_only() {
    assert_told("fresh", [DriftKind::NewField], |row| Some(format!("f{row}")));
    assert_told("short", [DriftKind::FilledLess], |_| None);
    assert_told("short", [DriftKind::AtLimit], |row| Some(format!("{row:010}")));
    assert_told("short", [DriftKind::Cut], |row| Some(format!("{row:011}")));
    assert_told("long", [DriftKind::At255Bytes], |row| Some(format!("{row:0255}")));
    assert_told("money", [DriftKind::Rounded], |row| Some(format!("{}.255", row % 900)));
    assert_told("code", [DriftKind::NewValue], |row| Some(format!("k{}", row % 4)));
}

#[test]
fn a_value_that_becomes_null_also_fills_its_column_less() {
    let kinds = [DriftKind::Nulled, DriftKind::FilledLess];
    assert_told("strict", kinds, |row| Some(format!("{row:011}")));
    assert_told("whole", kinds, |row| Some((row + 100_000).to_string()));
}
