//! The fields of a stream, for people and programs.

use std::io::Write;

use chrono::{DateTime, Utc};
use shared::exit::Failure;
use shared::human::{ago, count, counted, time};
use shared::out;
use state::status::drift::{DriftSnapshot, SeenField, SeenFields, percent};

use crate::commands::schema::table::print_table;

pub(super) fn print(
    seen: &SeenFields,
    json: bool,
    now: DateTime<Utc>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if json {
        writeln!(out, "{:#}", serde_json::to_value(seen).unwrap_or_default())?;
        return Ok(());
    }
    let (in_columns, beside): (Vec<_>, Vec<_>) = seen.fields.iter().partition(|field| field.column.is_some());
    let rows = in_columns.iter().map(|field| row(field, seen.looked_at)).collect();
    print_table(out, ["column", "records", "types", "longest", "form"], rows, out::terminal_width())?;
    if !beside.is_empty() {
        let rows = beside.iter().map(|field| row_beside(field, seen.looked_at)).collect();
        writeln!(out)?;
        print_table(
            out,
            ["in no column", "records", "first seen", "types", "form"],
            rows,
            out::terminal_width(),
        )?;
    }
    if seen.not_remembered > 0 {
        writeln!(out, "and more, for which there was no room ({} times)", count(seen.not_remembered))?;
    }
    let since = seen.since.map(|since| format!(" since {}", time(since))).unwrap_or_default();
    let looked_at = counted(seen.looked_at, "record was", "records were");
    let fields = counted(seen.fields.len() as u64, "field", "fields");
    writeln!(out, "\n{looked_at} looked at{since}: {fields}, {} of them in no column", beside.len())?;
    drift(seen, now, out)
}

fn drift(seen: &SeenFields, now: DateTime<Utc>, out: &mut impl Write) -> Result<(), Failure> {
    let DriftSnapshot { learning, drifted, not_told, rows, .. } = &seen.drift;
    if seen.since.is_none() {
        return Ok(());
    }
    if *learning {
        writeln!(out, "too few rows to tell a change: {} so far", count(*rows))?;
    }
    for one in drifted {
        let (before, share) = (percent(one.before), percent(one.now));
        let example = one.example.as_ref().map(|form| format!(", such as {form}")).unwrap_or_default();
        let (at, says) = (ago(one.at, now), one.kind.says());
        writeln!(
            out,
            "drift: {} {says}: {before} → {share} of the records, told {at} ago{example}",
            one.field
        )?;
    }
    if *not_told > 0 {
        writeln!(out, "drift: and {} for which there was no room", counted(*not_told, "change", "changes"))?;
    }
    if drifted.is_empty() && !learning {
        writeln!(out, "nothing drifted in 24 hours")?;
    }
    Ok(())
}

fn row(field: &SeenField, of: u64) -> [String; 5] {
    let name = field.column.clone().unwrap_or_else(|| field.path.clone());
    let filled = field.records.saturating_sub(field.values.empty);
    let share = percent(filled as f64 / of.max(1) as f64);
    if field.is_protected {
        return [name, share, "(protected)".to_owned(), String::new(), String::new()];
    }
    let types: Vec<_> = field.values.types.keys().map(String::as_str).collect();
    let few = field.different.filter(|different| *different > 0);
    let few = few.map(|different| format!("; {different} different")).unwrap_or_default();
    let form = field.values.example.clone().unwrap_or_default();
    [name, share, types.join(", "), field.values.longest.to_string(), format!("{form}{few}")]
}

/// Of a field that is in no column, also how often it was met and since when: it may have come lately.
fn row_beside(field: &SeenField, of: u64) -> [String; 5] {
    let [name, share, types, longest, form] = row(field, of);
    let types = if longest.is_empty() { types } else { format!("{types}, {longest} bytes") };
    [name, format!("{share} ({})", count(field.records)), time(field.first_seen), types, form]
}

#[cfg(test)]
mod tests {
    use state::status::drift::{DriftKind, Drifted, SeenValues};

    use super::*;

    #[test]
    fn fields_and_changes_are_shown_and_of_a_protected_one_only_how_often_it_is_there() {
        let at = "2026-04-13T12:00:00Z".parse().unwrap();
        let values = SeenValues {
            types: [("text".to_owned(), 90)].into(),
            longest: 12,
            example: Some("Aaaa 99".to_owned()),
            ..SeenValues::default()
        };
        let field = |path: &str, column: Option<&str>| SeenField {
            path: path.to_owned(),
            column: column.map(str::to_owned),
            records: 90,
            values: values.clone(),
            different: Some(3),
            ..SeenField::default()
        };
        let drifted = Drifted {
            kind: DriftKind::FilledLess,
            field: "useragent".to_owned(),
            at,
            before: 1.0,
            now: 0.75,
            example: None,
            round: 1,
        };
        let seen = SeenFields {
            since: Some(at),
            looked_at: 100,
            fields: vec![
                field("pageName", Some("pagename")),
                SeenField { is_protected: true, ..field("ip", Some("ip")) },
                field("newField", None),
            ],
            not_remembered: 0,
            drift: DriftSnapshot { drifted: vec![drifted], ..DriftSnapshot::default() },
        };
        let mut out = Vec::new();
        print(&seen, false, at, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "pagename  90 %     text         12       Aaaa 99; 3 different",
            "ip        90 %     (protected)",
            "newField      90 % (90)  1970-01-01 00:00:00 UTC  text, 12 bytes  Aaaa 99; 3 different",
            "100 records were looked at since 2026-04-13 12:00:00 UTC: 3 fields, 1 of them in no column",
            "drift: useragent filled less often than before: 100 % → 75 % of the records, told 0s ago",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
