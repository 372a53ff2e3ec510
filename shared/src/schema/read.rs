//! A user's schema file: `[[column]]` tables, of which one line can stand for a range of columns.
//!
//! ```toml
//! [[column]]
//! name = "evar1..evar250"
//! paths = ["evars.evars.eVar{n}", "evars.evars.evar{n}"]
//! kind = "text"
//! type = "varchar(255)"
//! ```

use super::{Column, JsonPath, Kind, MAX_COLUMNS, Schema, SchemaError, SqlType};
use std::ops::RangeInclusive;
use toml::{Table, Value};

/// Stands in the path of a range for the number of the column.
pub(super) const NUMBER: &str = "{n}";
/// Stands between the first and the last name of a range.
pub(super) const RANGE: &str = "..";
const KEYS: [&str; 5] = ["name", "path", "paths", "kind", "type"];

impl Schema {
    /// Reads a schema file, which takes the place of the built-in schema; `origin` names it in messages.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, SchemaError> {
        let whole = |rule: String| SchemaError::Whole { origin: origin.to_owned(), rule };
        let mut table: Table = text
            .parse()
            .map_err(|error| SchemaError::Syntax { origin: origin.to_owned(), source: Box::new(error) })?;
        let entries = table.remove("column");
        if let Some(key) = table.keys().next() {
            return Err(whole(unknown_key(key, &["column"])));
        }
        let Some(Value::Array(entries)) = entries else {
            return Err(whole("a schema consists of `[[column]]` tables".to_owned()));
        };
        let mut columns = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            let fault = |rule: String| {
                let name = entry.get("name").and_then(Value::as_str);
                let column =
                    name.map_or_else(|| format!("number {}", number + 1), |name| format!("{name:?}"));
                SchemaError::Column { origin: origin.to_owned(), column, rule }
            };
            let entry = entry.as_table().ok_or_else(|| fault("is not a `[[column]]` table".to_owned()))?;
            expand(entry, &mut columns).map_err(fault)?;
            if columns.len() > MAX_COLUMNS {
                return Err(whole(format!("a table has 1 to {MAX_COLUMNS} columns, this schema more")));
            }
        }
        Self::new(columns, origin)
    }
}

/// Appends the columns of one `[[column]]`; the error is the rule it breaks.
fn expand(entry: &Table, columns: &mut Vec<Column>) -> Result<(), String> {
    if let Some(key) = entry.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(unknown_key(key, &KEYS));
    }
    let name = required(entry, "name")?;
    let kind: Kind = required(entry, "kind")?.parse()?;
    let sql_type: SqlType =
        required(entry, "type")?.parse().map_err(|error: super::SqlTypeError| error.to_string())?;
    let paths = paths(entry, kind)?;
    let column = |name: String, paths| Column { name, paths, kind, sql_type };
    let Some((first, last)) = name.split_once(RANGE) else {
        if let Some(path) = paths.iter().find(|path| path.contains(NUMBER)) {
            return Err(format!(
                "path `{path}` has `{NUMBER}`, but the name is no range such as `evar1..evar250`"
            ));
        }
        columns.push(column(name.to_owned(), parse(paths.iter())?));
        return Ok(());
    };
    let (prefix, numbers) = range(first, last)?;
    if let Some(path) = paths.iter().find(|path| !path.contains(NUMBER)) {
        return Err(format!("path `{path}` of a range needs `{NUMBER}` where the number goes"));
    }
    for n in numbers.take(MAX_COLUMNS + 1) {
        let paths = paths.iter().map(|path| path.replace(NUMBER, &n.to_string()));
        columns.push(column(format!("{prefix}{n}"), parse(paths)?));
    }
    Ok(())
}

fn parse(paths: impl Iterator<Item = impl AsRef<str>>) -> Result<Vec<JsonPath>, String> {
    paths.map(|path| path.as_ref().parse().map_err(|error: super::PathError| error.to_string())).collect()
}

/// `evar1` and `evar250` are the prefix `evar` and the numbers 1 to 250.
fn range<'a>(first: &'a str, last: &str) -> Result<(&'a str, RangeInclusive<u32>), String> {
    let split = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (prefix, start) = first.split_at(split(first));
    let (other, end) = last.split_at(split(last));
    match (prefix == other, start.parse::<u32>(), end.parse::<u32>()) {
        (true, Ok(start), Ok(end)) if start <= end => Ok((prefix, start..=end)),
        _ => Err("a range is written `evar1..evar250`: the same name twice with a rising number".to_owned()),
    }
}

fn required<'a>(entry: &'a Table, key: &str) -> Result<&'a str, String> {
    let value = entry.get(key).ok_or_else(|| format!("`{key}` is missing"))?;
    value.as_str().ok_or_else(|| format!("`{key}` must be a string"))
}

/// `path` or `paths`; a record column needs neither.
fn paths(entry: &Table, kind: Kind) -> Result<Vec<String>, String> {
    let string = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| "`path` is a string, `paths` a list of strings".to_owned())
    };
    match (entry.get("path"), entry.get("paths")) {
        (Some(_), Some(_)) => Err("has both `path` and `paths`: give one".to_owned()),
        (Some(path), None) => Ok(vec![string(path)?]),
        (None, Some(Value::Array(paths))) => paths.iter().map(string).collect(),
        (None, Some(_)) => Err("`paths` must be a list of strings".to_owned()),
        (None, None) if kind == Kind::Record => Ok(vec![JsonPath::record().to_string()]),
        (None, None) => Err("`path` is missing".to_owned()),
    }
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|name| strsim::damerau_levenshtein(key, name));
    let hint = nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
    format!("there is no key `{}`{hint}", key.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Schema, String> {
        Schema::from_toml(text, "table.toml").map_err(|error| error.to_string())
    }

    #[test]
    fn one_line_stands_for_a_range_of_columns() {
        let schema = read(
            "[[column]]\nname = \"evar1..evar250\"\npaths = [\"evars.evars.eVar{n}\", \"evars.evars.evar{n}\"]\n\
             kind = \"text\"\ntype = \"varchar(255)\"",
        )
        .unwrap();
        assert_eq!(schema.columns.len(), 250);
        assert_eq!(schema.columns[249].name, "evar250");
        assert_eq!(schema.columns[249].paths[1].to_string(), "evars.evars.evar250");
    }

    #[test]
    fn a_record_column_needs_no_path() {
        let schema = read("[[column]]\nname = \"record\"\nkind = \"record\"\ntype = \"super\"").unwrap();
        assert!(schema.columns[0].paths[0].is_record());
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let text = "[[column]]\nname = \"ip\"\npath = \"ip\"\nkind = \"text\"\ntpye = \"varchar(64)\"";
        assert_eq!(
            read(text).unwrap_err(),
            "table.toml: column \"ip\": there is no key `tpye`; did you mean `type`?"
        );
        assert_eq!(
            read("[[colum]]").unwrap_err(),
            "table.toml: there is no key `colum`; did you mean `column`?"
        );
    }

    #[test]
    fn every_fault_names_the_column_and_the_rule() {
        let cases = [
            ("path = 'ip'\nkind = 'text'\ntype = 'super'", "number 1: `name` is missing"),
            ("name = 7\npath = 'ip'\nkind = 'text'\ntype = 'super'", "number 1: `name` must be a string"),
            (
                "name = 'a'\npath = 'ip'\nkind = 'txt'\ntype = 'super'",
                "there is no kind `txt`; kinds are text,",
            ),
            (
                "name = 'a'\npath = 'ip'\nkind = 'text'\ntype = 'txt'",
                "there is no type `txt`; types are varchar(n),",
            ),
            (
                "name = 'a'\npath = 'ip'\nkind = 'text'\ntype = 'super'",
                "kind `text` takes type varchar(n), not super",
            ),
            ("name = 'a'\nkind = 'text'\ntype = 'varchar(1)'", "`path` is missing"),
            ("name = 'a'\npath = 'a'\npaths = ['b']\nkind = 'text'\ntype = 'varchar(1)'", "give one"),
            ("name = 'a'\npaths = []\nkind = 'text'\ntype = 'varchar(1)'", "has no path"),
            ("name = 'a'\npaths = ['b', 'b']\nkind = 'text'\ntype = 'varchar(1)'", "given twice"),
            ("name = 'a'\npath = 'a..b'\nkind = 'text'\ntype = 'varchar(1)'", "a key is empty"),
            ("name = 'a'\npath = 'a{n}'\nkind = 'text'\ntype = 'varchar(1)'", "the name is no range"),
            ("name = 'a1..a3'\npath = 'a'\nkind = 'text'\ntype = 'varchar(1)'", "needs `{n}`"),
            ("name = 'a3..a1'\npath = 'a{n}'\nkind = 'text'\ntype = 'varchar(1)'", "a range is written"),
            ("name = 'a1..b3'\npath = 'a{n}'\nkind = 'text'\ntype = 'varchar(1)'", "a range is written"),
            ("name = 'a1..a9999999'\npath = 'a{n}'\nkind = 'text'\ntype = 'varchar(1)'", "1 to 1600 columns"),
        ];
        for (body, rule) in cases {
            let text = read(&format!("[[column]]\n{body}")).unwrap_err();
            assert!(text.starts_with("table.toml: ") && text.contains(rule), "{text}");
        }
        assert!(read("").unwrap_err().contains("consists of"));
        assert!(read("column = 3").unwrap_err().contains("consists of"));
        assert!(read("column = [3]").unwrap_err().contains("is not a"));
        assert!(read("[[column").unwrap_err().starts_with("table.toml: TOML parse error"));
    }
}
