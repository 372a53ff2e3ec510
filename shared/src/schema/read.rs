//! A user's schema file: `[[column]]` tables, of which one line can stand for a range of columns. It takes the place
//! of the built-in schema, or adds to it: columns of the same name are replaced where they stand, others come last.
//!
//! ```toml
//! mode = "extend"
//! drop = ["event501..event1000", "plugins"]
//!
//! [[column]]
//! name = "evar1..evar250"
//! paths = ["evars.evars.eVar{n}", "evars.evars.evar{n}"]
//! kind = "text"
//! type = "varchar(255)"
//! ```

use crate::schema::path::JsonPath;
use crate::schema::sql_type::SqlType;
use crate::schema::table::{Column, MAX_COLUMNS, Schema, SchemaError};
use crate::schema::words::{Encoding, Kind, Rule};
use std::collections::HashSet;
use std::ops::RangeInclusive;
use toml::{Table, Value};

/// Stands in the path of a range for the number of the column.
const NUMBER: &str = "{n}";
/// Stands between the first and the last name of a range.
const RANGE: &str = "..";
const KEYS: [&str; 8] = ["name", "path", "paths", "kind", "type", "rule", "delimiter", "encoding"];
const TOP_KEYS: [&str; 3] = ["mode", "drop", "column"];

impl Schema {
    /// Reads a schema file, which takes the place of `base` or adds to it; `origin` names it in messages.
    pub fn from_toml_on(base: &Self, text: &str, origin: &str) -> Result<Self, SchemaError> {
        let whole = |rule: String| SchemaError::Whole { origin: origin.to_owned(), rule };
        let mut table: Table = text
            .parse()
            .map_err(|error| SchemaError::Syntax { origin: origin.to_owned(), source: Box::new(error) })?;
        if let Some(key) = table.keys().find(|key| !TOP_KEYS.contains(&key.as_str())) {
            return Err(whole(unknown_key(key, &TOP_KEYS)));
        }
        let extends = match table.remove("mode").as_ref().map(Value::as_str) {
            None | Some(Some("replace")) => false,
            Some(Some("extend")) => true,
            Some(_) => return Err(whole("`mode` is \"replace\" or \"extend\"".to_owned())),
        };
        let entries = match table.remove("column") {
            Some(Value::Array(entries)) => entries,
            None if extends => Vec::new(),
            _ => return Err(whole("a schema consists of `[[column]]` tables".to_owned())),
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
        let dropped = table.remove("drop");
        if !extends {
            if dropped.is_some() {
                return Err(whole("`drop` belongs to mode = \"extend\"".to_owned()));
            }
            return Self::new(columns, origin);
        }
        let mut all = base.columns.clone();
        drop_columns(&mut all, dropped.as_ref()).map_err(whole)?;
        merge(&mut all, columns).map_err(|column| SchemaError::Column {
            origin: origin.to_owned(),
            column: format!("{column:?}"),
            rule: "the name occurs twice".to_owned(),
        })?;
        Self::new(all, origin)
    }
}

fn drop_columns(columns: &mut Vec<Column>, names: Option<&Value>) -> Result<(), String> {
    const RULE: &str = "`drop` is a list of column names and ranges, such as [\"event501..event1000\"]";
    let names = match names {
        None => return Ok(()),
        Some(Value::Array(names)) => names,
        Some(_) => return Err(RULE.to_owned()),
    };
    for name in names {
        let name = name.as_str().ok_or(RULE)?;
        let before = columns.len();
        match name.split_once(RANGE) {
            None => columns.retain(|column| column.name != name),
            Some((first, last)) => {
                let (prefix, numbers) = range(first, last)?;
                let number = |name: &str| {
                    let digits = name.strip_prefix(prefix)?;
                    digits.parse::<u32>().ok().filter(|n| n.to_string() == digits)
                };
                columns.retain(|column| !number(&column.name).is_some_and(|n| numbers.contains(&n)));
            }
        }
        if columns.len() == before {
            return Err(format!("`drop`: the built-in schema has no column {name:?}"));
        }
    }
    Ok(())
}

/// Puts the columns into the place of those of the same name, or behind all; the error is a name that comes twice.
fn merge(all: &mut Vec<Column>, columns: Vec<Column>) -> Result<(), String> {
    let mut names = HashSet::with_capacity(columns.len());
    for column in columns {
        if !names.insert(column.name.clone()) {
            return Err(column.name);
        }
        match all.iter_mut().find(|old| old.name == column.name) {
            Some(old) => *old = column,
            None => all.push(column),
        }
    }
    Ok(())
}

/// Appends the columns of one `[[column]]`; the error is the rule it breaks.
fn expand(entry: &Table, columns: &mut Vec<Column>) -> Result<(), String> {
    if let Some(key) = entry.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(unknown_key(key, &KEYS));
    }
    let name = required(entry, "name")?;
    let kind: Kind = required(entry, "kind")?.parse()?;
    let sql_type: SqlType = required(entry, "type")?
        .parse()
        .map_err(|error: crate::schema::sql_type::SqlTypeError| error.to_string())?;
    let paths = paths(entry, kind)?;
    let rule = optional(entry, "rule")?.map(str::parse::<Rule>).transpose()?;
    let encoding = optional(entry, "encoding")?.map(str::parse::<Encoding>).transpose()?;
    let delimiter = optional(entry, "delimiter")?.map(str::to_owned);
    let column = |name: String, paths| Column {
        rule: rule.unwrap_or(Rule::default_of(kind)),
        delimiter: delimiter.clone(),
        encoding,
        ..Column::new(name, paths, kind, sql_type)
    };
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
    paths
        .map(|path| path.as_ref().parse().map_err(|error: crate::schema::path::PathError| error.to_string()))
        .collect()
}

/// `evar1` and `evar250` are the prefix `evar` and the numbers 1 to 250.
fn range<'a>(first: &'a str, last: &str) -> Result<(&'a str, RangeInclusive<u32>), String> {
    let split = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (prefix, start) = first.split_at(split(first));
    let (other, end) = last.split_at(split(last));
    match (prefix == other, start.parse::<u32>(), end.parse::<u32>()) {
        (true, Ok(_), Ok(_)) if [start, end].iter().any(|n| n.len() > 1 && n.starts_with('0')) => {
            Err("the numbers of a range have no leading zeros".to_owned())
        }
        (true, Ok(start), Ok(end)) if start <= end => Ok((prefix, start..=end)),
        _ => Err("a range is written `evar1..evar250`: the same name twice with a rising number".to_owned()),
    }
}

fn required<'a>(entry: &'a Table, key: &str) -> Result<&'a str, String> {
    let value = entry.get(key).ok_or_else(|| format!("`{key}` is missing"))?;
    value.as_str().ok_or_else(|| format!("`{key}` must be a string"))
}

fn optional<'a>(entry: &'a Table, key: &str) -> Result<Option<&'a str>, String> {
    let string = |value: &'a Value| value.as_str().ok_or_else(|| format!("`{key}` must be a string"));
    entry.get(key).map(string).transpose()
}

/// `path` or `paths`; a record column needs neither, a column without a value in the record has neither.
fn paths(entry: &Table, kind: Kind) -> Result<Vec<String>, String> {
    let string = |value: &Value| value.as_str().map(str::to_owned);
    let wrong = || "`path` is a string, `paths` a list of strings".to_owned();
    match (entry.get("path"), entry.get("paths")) {
        (Some(_), Some(_)) => Err("has both `path` and `paths`: give one".to_owned()),
        (Some(path), None) => Ok(vec![string(path).ok_or_else(wrong)?]),
        (None, Some(Value::Array(paths))) => {
            paths.iter().map(string).collect::<Option<_>>().ok_or_else(wrong)
        }
        (None, Some(_)) => Err("`paths` must be a list of strings".to_owned()),
        (None, None) if !kind.is_from_record() => Ok(Vec::new()),
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
        Schema::from_toml_on(&Schema::built_in(1..=3), text, "table.toml").map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_can_extend_the_built_in_schema() {
        let base = Schema::built_in(1..=3);
        let schema = read(
            "mode = 'extend'\ndrop = ['evar11..evar250', 'plugins']\n\
             [[column]]\nname = 'pagename'\npath = 'pageName'\nkind = 'text'\ntype = 'varchar(1000)'\nrule = 'reject'\n\
             [[column]]\nname = 'loaded_at'\nkind = 'load_time'\ntype = 'timestamp'",
        )
        .unwrap();
        assert_eq!(schema.columns.len(), base.columns.len() - 240 - 1 + 1);
        assert_eq!(schema.position("evar11"), None);
        assert_eq!(
            schema.position("evar10").map(|at| schema.columns[at + 1].name.as_str()),
            Some("site_section")
        );
        let page = &schema.columns[schema.position("pagename").unwrap()];
        assert_eq!(schema.position("pagename"), base.position("pagename"));
        assert_eq!((page.sql_type, page.rule), (SqlType::Varchar(1000), Rule::Reject));
        assert_eq!(schema.columns.last().map(|column| column.kind), Some(Kind::LoadTime));
        assert_eq!(read("mode = 'extend'").unwrap(), base);
    }

    #[test]
    fn an_extension_with_a_fault_is_refused() {
        let twice = "[[column]]\nname = 'ip'\npath = 'ip'\nkind = 'text'\ntype = 'varchar(9)'\n".repeat(2);
        let added = twice.replace("'ip'", "'mine'");
        for (text, rule) in [
            ("mode = 'add'".to_owned(), "`mode` is"),
            (
                "drop = ['ip']\n[[column]]\nname = 'a'\npath = 'a'\nkind = 'text'\ntype = 'varchar(9)'"
                    .to_owned(),
                "belongs to",
            ),
            ("mode = 'extend'\ndrop = ['nosuch']".to_owned(), "no column \"nosuch\""),
            ("mode = 'extend'\ndrop = ['event1..events9']".to_owned(), "a range is written"),
            ("mode = 'extend'\ndrop = 'ip'".to_owned(), "`drop` is a list"),
            (format!("mode = 'extend'\n{twice}"), "\"ip\": the name occurs twice"),
            (format!("mode = 'extend'\n{added}"), "\"mine\": the name occurs twice"),
            ("mood = 'extend'".to_owned(), "did you mean `mode`?"),
        ] {
            let message = read(&text).unwrap_err();
            assert!(message.contains(rule), "{message}");
        }
    }

    #[test]
    fn what_a_column_decides_is_read_and_checked() {
        let column = |kind: &str, sql_type: &str, more: &str| {
            read(&format!("[[column]]\nname = 'a'\npath = 'a'\nkind = '{kind}'\ntype = '{sql_type}'\n{more}"))
        };
        let list =
            column("list", "varchar(9)", "rule = 'null'\ndelimiter = ' > '\nencoding = 'lzo'").unwrap();
        let list = &list.columns[0];
        assert_eq!((list.rule, list.encoding), (Rule::Null, Some(Encoding::Lzo)));
        assert_eq!(list.delimiter.as_deref(), Some(" > "));
        assert_eq!(column("text", "varchar(9)", "").unwrap().columns[0].rule, Rule::Cut);
        assert_eq!(column("decimal", "decimal(9,2)", "").unwrap().columns[0].rule, Rule::Null);
        for (kind, sql_type, more, rule) in [
            ("integer", "integer", "rule = 'cut'", "`null` or `reject`"),
            ("event_value", "integer", "rule = 'cut'", "`null` or `reject`"),
            ("text", "varchar(9)", "rule = 'round'", "rules are cut, null, reject"),
            ("text", "varchar(9)", "rule = 1", "must be a string"),
            ("text", "varchar(9)", "delimiter = ','", "for kind `list`"),
            ("list", "varchar(9)", "delimiter = ''", "1 to 8 bytes"),
            ("list", "varchar(9)", "delimiter = '123456789'", "1 to 8 bytes"),
            ("text", "varchar(9)", "encoding = 'az64'", "no encoding az64 for varchar(9)"),
            ("text", "varchar(9)", "encoding = 'zip'", "encodings are raw, az64"),
            ("instance", "varchar(9)", "", "takes no path"),
            ("load_time", "timestamp", "", "takes no path"),
        ] {
            let message = column(kind, sql_type, more).unwrap_err();
            assert!(message.contains(rule), "{message}");
        }
        let alone = "[[column]]\nname = 'a'\nkind = 'load_time'\ntype = 'timestamp'";
        assert!(read(alone).unwrap_err().contains("nothing could be loaded"));
        let narrow = "[[column]]\nname = 'a'\nkind = 'batch'\ntype = 'varchar(35)'";
        assert!(read(narrow).unwrap_err().contains("36 characters"));
        let system = "[[column]]\nname = 'ctid'\npath = 'a'\nkind = 'text'\ntype = 'varchar(9)'";
        assert!(read(system).unwrap_err().contains("system column"));
        let (taken, near) =
            (system.replace("ctid", "livestream_n"), system.replace("ctid", "livestream_name"));
        assert!(read(&taken).unwrap_err().contains("needed for the number of a row"));
        assert!(read(&near).is_ok());
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
            ("name = 'a01..a03'\npath = 'a{n}'\nkind = 'text'\ntype = 'varchar(1)'", "no leading zeros"),
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
