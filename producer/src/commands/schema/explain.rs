//! The schema in force, and what it makes of a record.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::anyhow;
use chrono::DateTime;
use serde_json::{Value, json};
use shared::exit::{Exit, Failure, io_exit};
use shared::human::{counted, time};
use shared::out;
use shared::schema::{Column, Encoding, Kind, Schema};

use crate::commands::schema::table::{print_table, short};
use crate::transform::{Explained, Outcome, Transform};

/// A longer file is no record of the stream.
const MAX_RECORD: u64 = 64 << 20;

/// How each column of the schema is protected; those that Redshift fills are in no row.
fn protections<'s>(
    schema: &'s Schema,
    transform: &Transform,
) -> impl Iterator<Item = (&'s Column, Option<&'static str>)> {
    let mut in_row = 0..;
    schema.columns.iter().map(move |column| {
        let number = (column.kind != Kind::LoadTime).then(|| in_row.next()).flatten();
        (column, number.and_then(|number| transform.protection_of(number)))
    })
}

pub(super) fn table(schema: &Schema, transform: &Transform, out: &mut impl Write) -> Result<(), Failure> {
    let rows = protections(schema, transform).map(|(column, protection)| {
        let Column { name, sql_type, kind, rule, .. } = column;
        let mut sources = paths(column).join(" | ");
        if let Some(delimiter) = &column.delimiter {
            sources += &format!(" joined by {delimiter:?}");
        }
        if let Some(encoding) = column.encoding {
            sources += &format!(" encoding {encoding}");
        }
        if let Some(protection) = protection {
            sources += &format!(" protected by {protection}");
        }
        [name.clone(), sql_type.to_string(), kind.to_string(), rule.to_string(), sources]
    });
    print_table(out, ["column", "type", "kind", "rule", "paths"], rows.collect(), out::terminal_width())?;
    let columns = counted(schema.columns.len() as u64, "column", "columns");
    writeln!(out, "\n{columns}, fingerprint {}", schema.fingerprint())?;
    Ok(())
}

pub(super) fn as_json(schema: &Schema, transform: &Transform) -> Value {
    let columns = protections(schema, transform).map(|(column, protection)| {
        json!({
            "protection": protection,
            "name": column.name,
            "type": column.sql_type.to_string(),
            "kind": column.kind.name(),
            "rule": column.rule.name(),
            "paths": paths(column),
            "delimiter": column.delimiter,
            "encoding": column.encoding.map(Encoding::name),
        })
    });
    json!({ "fingerprint": schema.fingerprint(), "columns": columns.collect::<Vec<_>>() })
}

fn paths(column: &Column) -> Vec<String> {
    column.paths.iter().map(ToString::to_string).collect()
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(MAX_RECORD).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_RECORD).read_to_end(&mut bytes))
    };
    read.map_err(|error| {
        Failure::new(io_exit(&error), anyhow!("cannot read the record {}: {error}", file.display()))
    })?;
    Ok(bytes)
}

pub(super) fn explain(
    schema: &Schema,
    transform: &mut Transform,
    bytes: &[u8],
    json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let first_line = || bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    // A record on many lines is one; otherwise each line is.
    let (record, explained) = match (transform.explain(schema, bytes), first_line()) {
        (Err(_), Some(line)) => (line, transform.explain(schema, line)),
        (explained, _) => (bytes, explained),
    };
    let explained =
        explained.map_err(|reject| Failure::new(Exit::Data, anyhow!("the record is a reject: {reject}")))?;
    let outcome = outcome(transform, record);
    if json {
        writeln!(out, "{:#}", json!({ "outcome": outcome, "columns": explained }))?;
        return Ok(());
    }
    let is_shown = |one: &&Explained| one.raw.is_some() || one.stored.is_some() || one.protection.is_some();
    let rows = explained.iter().filter(is_shown).map(|one| {
        let Explained { column, path, raw, protection, became, stored, applied } = one;
        let value = |value: &Option<String>, none: &str| value.as_deref().map_or(none.to_owned(), short);
        let path = path.as_deref().unwrap_or("-").to_owned();
        let raw = value(raw, if protection.is_some() { "(protected)" } else { "-" });
        // Such as `masked: mask_ip`.
        let protection = became.zip(protection.as_ref()).map(|(became, how)| format!("{became}: {how}"));
        let applied: Vec<_> = protection.into_iter().chain(applied.clone()).collect();
        [column.clone(), path, raw, value(stored, "NULL"), applied.join("; ")]
    });
    let rows: Vec<_> = rows.collect();
    let others = explained.len() - rows.len();
    print_table(out, ["column", "path", "raw", "stored", "rule applied"], rows, out::terminal_width())?;
    let others = counted(others as u64, "other column is NULL", "other columns are NULL");
    writeln!(out, "\n{others}: the record has nothing for it\nOutcome: {outcome}")?;
    Ok(())
}

fn outcome(transform: &mut Transform, record: &[u8]) -> String {
    match transform.record(record, &mut Vec::new()) {
        Outcome::Row { hit, received } => {
            let hit = hit.map_or("none".to_owned(), |hit| format!("{} {}", hit.high, hit.low));
            let received = received.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
            let received = received.map_or("none".to_owned(), time);
            format!("a row; hit id {hit}, received {received}")
        }
        Outcome::Filtered { rule, .. } => {
            let name = transform.filter_names().get(rule).cloned().unwrap_or_default();
            format!("dropped by the filter {name:?}")
        }
        Outcome::Rejected(reject) => format!("a reject: {reject}"),
    }
}

#[cfg(test)]
mod tests {
    use shared::config::{Config, Secrets};

    use super::*;

    fn schema() -> Schema {
        let text = "[[column]]\nname = 'page'\npaths = ['pageName', 'page']\nkind = 'text'\ntype = 'varchar(4)'\n\
                    [[column]]\nname = 'width'\npath = 'w'\nkind = 'integer'\ntype = 'smallint'\n\
                    [[column]]\nname = 'strict'\npath = 's'\nkind = 'text'\ntype = 'varchar(2)'\nrule = 'reject'\n\
                    [[column]]\nname = 'tags'\npath = 't'\nkind = 'list'\ntype = 'varchar(9)'\ndelimiter = '|'\n\
                    [[column]]\nname = 'who'\nkind = 'instance'\ntype = 'varchar(9)'\n\
                    [[column]]\nname = 'loaded'\nkind = 'load_time'\ntype = 'timestamp'";
        Schema::from_toml_on(&Schema::default(), text, "t").unwrap()
    }

    fn explained(record: &str, json: bool) -> Result<String, String> {
        let schema = schema();
        let mut transform = Transform::new(&schema, &[]).unwrap().with_instance("web-1");
        let mut out = Vec::new();
        explain(&schema, &mut transform, record.as_bytes(), json, &mut out)
            .map_err(|failure| failure.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_table_shows_what_each_column_is() {
        let mut out = Vec::new();
        table(&schema(), &Transform::new(&schema(), &[]).unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "column  type        kind       rule    paths");
        assert_eq!(lines[1], "page    varchar(4)  text       cut     pageName | page");
        assert_eq!(lines[4], "tags    varchar(9)  list       cut     t joined by \"|\"");
        assert_eq!(lines[6], "loaded  timestamp   load_time  null");
        assert!(text.ends_with(&format!("\n6 columns, fingerprint {}\n", schema().fingerprint())), "{text}");
    }

    #[test]
    fn json_has_every_column_whole() {
        let value = as_json(&schema(), &Transform::new(&schema(), &[]).unwrap());
        assert_eq!(value["columns"].as_array().unwrap().len(), 6);
        assert_eq!(
            value["columns"][0],
            json!({ "name": "page", "type": "varchar(4)", "kind": "text", "rule": "cut",
                    "paths": ["pageName", "page"], "delimiter": null, "encoding": null, "protection": null })
        );
    }

    #[test]
    fn a_record_is_explained_column_by_column() {
        let text = explained("{\n \"page\": \"abc~é\",\n \"w\": \"70000\", \"t\": [\"a\", \"b\"]\n}", false)
            .unwrap();
        let lines: Vec<_> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[0], "column path raw stored rule applied");
        assert_eq!(lines[1], "page page \"abc~é\" abc~ cut: cut to varchar(4)");
        assert_eq!(lines[2], "width w \"70000\" NULL null: smallint cannot hold it as it was sent, so NULL");
        assert_eq!(lines[3], "tags t [\"a\", \"b\"] a|b");
        assert_eq!(lines[4], "who - - web-1");
        assert!(text.contains("1 other column is NULL"), "{text}");
        assert!(text.ends_with("Outcome: a row; hit id none, received none\n"), "{text}");
    }

    #[test]
    fn of_a_protected_value_it_says_what_became_of_it_and_shows_nothing_of_it() {
        let example = include_str!("../../../../deploy/pipeline.example.toml");
        let lines = "drop = [\"t\"]\nmask_query = [\"page\"]\npseudonym = [\"strict\"]";
        let text = format!("{example}\n[protect]\n{lines}\n");
        let config = Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Unused).unwrap();
        let columns = "[[column]]\nname = 'page'\npath = 'page'\nkind = 'text'\ntype = 'varchar(99)'\n\
                       [[column]]\nname = 'strict'\npath = 's'\nkind = 'text'\ntype = 'varchar(99)'\n\
                       [[column]]\nname = 't'\npath = 't'\nkind = 'text'\ntype = 'varchar(9)'\n\
                       [[column]]\nname = 'all'\nkind = 'record'\ntype = 'super'";
        let schema = Schema::from_toml_on(&Schema::default(), columns, "t").unwrap();
        let transform = Transform::new(&schema, &[]).unwrap();
        let mut transform = transform.with_protection(&config.protect, &schema).unwrap();
        let mut said = |record: &str| {
            let mut out = Vec::new();
            explain(&schema, &mut transform, record.as_bytes(), false, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let shown = said("{\"page\":\"https://a.example/?q=mArKeR\",\"s\":\"mArKeR\",\"t\":\"mArKeR\"}");
        for words in
            ["masked: mask_query", "pseudonym: pseudonym", "dropped: drop", "parts: mask_query page, "]
        {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        assert!(!shown.contains("mArKeR"), "{shown}");
        assert!(said("{\"page\":\"mArKeR\"}").contains("no value, or dropped: mask_query"));
    }

    #[test]
    fn the_time_of_a_hit_is_shown_as_a_time() {
        let text = explained(
            "{\"page\":\"a\",\"hitIdHigh\":1,\"hitIdLow\":2,\"receivedTimeGMT\":1772452800}",
            false,
        )
        .unwrap();
        assert!(text.contains("received 2026-03-02 12:00:00 UTC"), "{text}");
    }

    #[test]
    fn a_reject_names_the_column_and_a_first_line_is_enough() {
        let text = explained("{\"s\":\"long\"}\n{\"s\":\"a\"}\n", false).unwrap();
        assert!(text.contains("so the record is a reject"), "{text}");
        assert!(text.contains("Outcome: a reject: column strict cannot hold"), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&explained("{\"s\":\"a\"}", true).unwrap()).unwrap();
        assert_eq!(
            json["columns"][2],
            json!({ "column": "strict", "path": "s", "raw": "\"a\"", "protection": null, "became": null,
                    "stored": "a", "applied": null })
        );
        assert!(explained("{\"s\":", false).unwrap_err().contains("the record is a reject: not JSON"));
    }
}
