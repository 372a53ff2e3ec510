//! A schema as a file that [`Schema::from_toml`] reads back, with runs of numbered columns in one table.

use crate::schema::read::{NUMBER, RANGE};
use crate::schema::rule::Rule;
use crate::schema::table::{Column, Schema};
use std::fmt::Write;

impl Schema {
    /// The schema as a user would write it.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut rest = self.columns.as_slice();
        while let Some(first) = rest.first() {
            let run = Run::at_start(rest);
            let (name, paths, length) = run.map_or_else(
                || (first.name.clone(), first.paths.iter().map(ToString::to_string).collect(), 1),
                |run| (run.name, run.paths, run.length),
            );
            let quoted: Vec<String> = paths.into_iter().map(|path| quote(&path)).collect();
            let paths = match quoted.as_slice() {
                [] => String::new(),
                [only] => format!("path = {only}\n"),
                several => format!("paths = [{}]\n", several.join(", ")),
            };
            let separator = if text.is_empty() { "" } else { "\n" };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{separator}[[column]]\nname = {}\n{paths}kind = \"{}\"\ntype = \"{}\"",
                quote(&name),
                first.kind,
                first.sql_type
            );
            if first.rule != Rule::default_of(first.kind) {
                let _ = writeln!(text, "rule = \"{}\"", first.rule);
            }
            if let Some(delimiter) = &first.delimiter {
                let _ = writeln!(text, "delimiter = {}", quote(delimiter));
            }
            if let Some(encoding) = first.encoding {
                let _ = writeln!(text, "encoding = \"{encoding}\"");
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        text
    }
}

/// Columns that differ only in the number at the end of their name and at one place of each path.
struct Run {
    name: String,
    paths: Vec<String>,
    length: usize,
}

impl Run {
    /// The longest run at the start of `columns`, if it has two or more.
    fn at_start(columns: &[Column]) -> Option<Self> {
        let (first, second) = (columns.first()?, columns.get(1)?);
        let prefix = first.name.trim_end_matches(|c: char| c.is_ascii_digit());
        let start: u32 = first.name.get(prefix.len()..)?.parse().ok()?;
        let paths: Option<Vec<String>> = first
            .paths
            .iter()
            .zip(&second.paths)
            .map(|(a, b)| template(&a.to_string(), &b.to_string(), start))
            .collect();
        // A range needs a path to put the number into.
        let paths = paths.filter(|paths| !paths.is_empty())?;
        let fits = |column: &Column, n: u32| {
            column.name == format!("{prefix}{n}")
                && (column.kind, column.sql_type, column.rule) == (first.kind, first.sql_type, first.rule)
                && (&column.delimiter, column.encoding) == (&first.delimiter, first.encoding)
                && column.paths.len() == paths.len()
                && column
                    .paths
                    .iter()
                    .zip(&paths)
                    .all(|(path, template)| path.to_string() == template.replace(NUMBER, &n.to_string()))
        };
        let length = columns.iter().zip(start..).take_while(|(column, n)| fits(column, *n)).count();
        let last = columns.get(length.checked_sub(1)?)?;
        (length > 1).then(|| Self { name: format!("{}{RANGE}{}", first.name, last.name), paths, length })
    }
}

/// `path` with its number `n` replaced by `{n}` in such a way that the next number gives `next`.
fn template(path: &str, next: &str, n: u32) -> Option<String> {
    let number = n.to_string();
    let following = n.checked_add(1)?.to_string();
    path.match_indices(&number).find_map(|(at, _)| {
        let (before, after) = (path.get(..at)?, path.get(at + number.len()..)?);
        let text = format!("{before}{NUMBER}{after}");
        // A path that holds `{n}` itself would be replaced twice.
        (text.matches(NUMBER).count() == 1 && text.replace(NUMBER, &following) == next).then_some(text)
    })
}

fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Encoding, JsonPath, Kind, SqlType};

    #[test]
    fn the_built_in_schema_survives_being_written_and_read() {
        let schema = Schema::default();
        let text = schema.to_toml();
        assert_eq!(Schema::from_toml(&text, "t").unwrap(), schema);
        assert!(text.contains(
            "name = \"evar1..evar250\"\npaths = [\"evars.evars.eVar{n}\", \"evars.evars.evar{n}\"]"
        ));
        assert!(text.contains("name = \"mvvar1..mvvar3\"\npath = \"mvvars.{n}.m\""));
        assert!(text.lines().count() < 600, "{} lines", text.lines().count());
    }

    #[test]
    fn odd_keys_survive_being_written_and_read() {
        let column = |name: &str, keys: &[&str]| {
            Column::new(name, vec![JsonPath::of(keys.iter().copied())], Kind::Text, SqlType::Varchar(9))
        };
        let list = Column { delimiter: Some("\t\"".to_owned()), kind: Kind::List, ..column("l1", &["x1"]) };
        let strict = Column { rule: Rule::Reject, encoding: Some(Encoding::Raw), ..column("l2", &["x2"]) };
        let columns = vec![
            column("a", &["a.b", "c\\d"]),
            column("b", &["\"quoted\"\n", "ü", "$"]),
            column("c1", &["1", "x1"]),
            column("c2", &["1", "x2"]),
            column("c4", &["1", "x4"]),
            column("d9", &["x9"]),
            column("d10", &["x10"]),
            column("e1", &["same"]),
            column("e2", &["same"]),
            list,
            strict,
            Column::new("f1", vec![], Kind::Instance, SqlType::Varchar(9)),
            Column::new("f2", vec![], Kind::Instance, SqlType::Varchar(9)),
        ];
        let schema = Schema { columns };
        let text = schema.to_toml();
        assert_eq!(Schema::from_toml(&text, "t").unwrap(), schema, "{text}");
        assert!(
            text.contains("\"c1..c2\"") && text.contains("\"d9..d10\"") && !text.contains("e1.."),
            "{text}"
        );
    }
}
