//! The columns of the table, and the rules that Redshift and the transform have for them.

use std::collections::HashSet;

use crate::schema::path::JsonPath;
use crate::schema::sql_type::SqlType;
use crate::schema::words::{Encoding, Kind, Rule};

/// The most columns of a table.
pub const MAX_COLUMNS: usize = 1600;
/// Redshift's limit on an input row of COPY.
pub const MAX_ROW_BYTES: usize = 4 << 20;

/// The most bytes between two values of a list.
pub const MAX_DELIMITER_BYTES: usize = 8;
/// The columns of the table, in table order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// In the order of the table and of every row.
    pub columns: Vec<Column>,
}

/// One column: where its value comes from and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name in the table, a plain lower-case identifier.
    pub name: String,
    /// Where the value stands in a record; of several paths the first that yields a value wins. `$` for
    /// [`Kind::Record`], none for a kind whose value is not in the record.
    pub paths: Vec<JsonPath>,
    /// How the JSON value is read.
    pub kind: Kind,
    /// What it is in the table.
    pub sql_type: SqlType,
    /// What happens to a value that the type cannot hold as it was sent.
    pub rule: Rule,
    /// What stands between the values of a list, in the place of what the record says.
    pub delimiter: Option<String>,
    /// How Redshift is to compress it; its own choice if none.
    pub encoding: Option<Encoding>,
}

impl Schema {
    /// A schema of these columns, checked.
    pub fn new(columns: Vec<Column>, origin: &str) -> Result<Self, SchemaError> {
        let schema = Self { columns };
        schema.validate(origin)?;
        Ok(schema)
    }

    /// Checks every rule of Redshift and of the transform; `origin` only appears in the message.
    pub fn validate(&self, origin: &str) -> Result<(), SchemaError> {
        let whole = |rule: String| SchemaError::Whole { origin: origin.to_owned(), rule };
        if self.columns.is_empty() || self.columns.len() > MAX_COLUMNS {
            return Err(whole(format!(
                "a table has 1 to {MAX_COLUMNS} columns, this schema {}",
                self.columns.len()
            )));
        }
        let mut names = HashSet::with_capacity(self.columns.len());
        for column in &self.columns {
            let fault = |rule: String| SchemaError::Column {
                origin: origin.to_owned(),
                column: format!("\"{}\"", column.name.escape_debug()),
                rule,
            };
            column.validate().map_err(fault)?;
            if !names.insert(column.name.as_str()) {
                return Err(fault("the name occurs twice".to_owned()));
            }
        }
        if self.in_row().next().is_none() {
            return Err(whole("no column takes its value from a record: nothing could be loaded".to_owned()));
        }
        let width: usize = self.in_row().map(|column| column.sql_type.max_bytes() + 1).sum();
        if width > MAX_ROW_BYTES {
            return Err(whole(format!(
                "a full row would take {width} bytes, COPY accepts {MAX_ROW_BYTES}: shorten the widest varchar columns"
            )));
        }
        Ok(())
    }

    /// The columns a row has a value for, and COPY a name: all but those that Redshift fills by itself.
    pub fn in_row(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.kind != Kind::LoadTime)
    }

    /// 16 hex digits over names, types and order of a row's columns: equal when rows of one fit the other's table.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for column in self.in_row() {
            text.push_str(&column.name);
            text.push('\t');
            text.push_str(&column.sql_type.to_string());
            text.push('\n');
        }
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }

    /// The position of the column with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

impl Column {
    /// A column with the rule of its kind, and nothing else decided.
    pub fn new(name: impl Into<String>, paths: Vec<JsonPath>, kind: Kind, sql_type: SqlType) -> Self {
        let rule = Rule::default_of(kind);
        Self { name: name.into(), paths, kind, sql_type, rule, delimiter: None, encoding: None }
    }

    fn validate(&self) -> Result<(), String> {
        valid_name(&self.name)?;
        self.sql_type.validate()?;
        self.kind.check_type(self.sql_type)?;
        self.rule.check(self.kind, self.sql_type)?;
        if let Some(encoding) = self.encoding.filter(|encoding| !encoding.fits(self.sql_type)) {
            return Err(format!("Redshift has no encoding {encoding} for {}", self.sql_type));
        }
        match &self.delimiter {
            Some(_) if self.kind != Kind::List => {
                return Err("`delimiter` is for kind `list`".to_owned());
            }
            Some(text) if text.is_empty() || text.len() > MAX_DELIMITER_BYTES || text.contains('\0') => {
                return Err(format!("`delimiter` has 1 to {MAX_DELIMITER_BYTES} bytes and no NUL"));
            }
            _ => {}
        }
        if self.paths.is_empty() == self.kind.is_from_record() {
            return Err(if self.paths.is_empty() {
                "has no path".to_owned()
            } else {
                format!("kind `{}` takes no path: its value is not in the record", self.kind)
            });
        }
        for (number, path) in self.paths.iter().enumerate() {
            if self.paths.iter().take(number).any(|earlier| earlier == path) {
                return Err(format!("path `{path}` is given twice"));
            }
            if path.is_record() != (self.kind == Kind::Record) {
                return Err(format!(
                    "path `$` and kind `record` belong together, not `{path}` and `{}`",
                    self.kind
                ));
            }
        }
        Ok(())
    }
}

/// Redshift's limit on the bytes of an identifier.
const MAX_NAME_BYTES: usize = 127;
/// Names that every table has already, for columns of Redshift's own.
const SYSTEM_COLUMNS: [&str; 9] =
    ["cmax", "cmin", "ctid", "deletexid", "insertxid", "oid", "tableoid", "xmax", "xmin"];

/// What a staged load calls the number of a row among those of its hit, beside the columns of the table.
pub const ROW_NUMBER: &str = "livestream_n";

pub(crate) fn valid_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("a name consists of a-z, 0-9 and _ and does not start with a digit".to_owned());
    }
    if SYSTEM_COLUMNS.contains(&name) {
        return Err("Redshift has a system column of that name in every table".to_owned());
    }
    if name == ROW_NUMBER {
        return Err("that name is needed for the number of a row when hits are compared".to_owned());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("a name has at most {MAX_NAME_BYTES} bytes, this one {}", name.len()));
    }
    Ok(())
}

/// Why a schema cannot be used: names the file, the column and the rule.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
pub enum SchemaError {
    /// The text is not TOML.
    #[error("{origin}: {source}")]
    Syntax { origin: String, source: Box<toml::de::Error> },
    #[error("{origin}: column {column}: {rule}")]
    Column {
        origin: String,
        /// The column's name, or its number if it has none.
        column: String,
        rule: String,
    },
    #[error("{origin}: {rule}")]
    Whole { origin: String, rule: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, path: &str, kind: Kind, sql_type: SqlType) -> Column {
        Column::new(name, vec![path.parse().unwrap()], kind, sql_type)
    }

    fn message(columns: Vec<Column>) -> String {
        Schema::new(columns, "table.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused() {
        let twice = column("ip", "ip", Kind::Text, SqlType::Varchar(64));
        assert_eq!(message(vec![twice.clone(), twice]), "table.toml: column \"ip\": the name occurs twice");
    }

    #[test]
    fn a_name_that_needs_quoting_is_refused() {
        for name in ["", "Ip", "1st", "a-b", "a\"b", "é"] {
            assert!(
                message(vec![column(name, "ip", Kind::Text, SqlType::Varchar(64))])
                    .contains("a name consists of")
            );
        }
        assert!(
            message(vec![column(&"a".repeat(128), "ip", Kind::Text, SqlType::Varchar(64))])
                .contains("127 bytes")
        );
    }

    #[test]
    fn no_column_and_too_many_columns_are_refused() {
        assert!(message(vec![]).contains("1 to 1600 columns, this schema 0"));
        let many =
            (0..1601).map(|n| column(&format!("c{n}"), "ip", Kind::Text, SqlType::Varchar(1))).collect();
        assert!(message(many).contains("this schema 1601"));
    }

    #[test]
    fn a_row_wider_than_copy_accepts_is_refused() {
        let wide =
            (0..65).map(|n| column(&format!("c{n}"), "ip", Kind::Text, SqlType::Varchar(65535))).collect();
        assert!(message(wide).contains("COPY accepts 4194304"));
    }

    #[test]
    fn a_kind_that_does_not_fit_its_type_is_refused() {
        let text = message(vec![column("hit", "hitIdHigh", Kind::Unsigned, SqlType::Bigint)]);
        assert!(text.contains("`unsigned`") && text.contains("decimal(20,0)"), "{text}");
        assert!(message(vec![column("a", "a", Kind::Text, SqlType::Varchar(65536))]).contains("65535"));
    }

    #[test]
    fn only_a_record_column_takes_the_whole_record() {
        assert!(Schema::new(vec![column("r", "$", Kind::Record, SqlType::Varchar(65535))], "t").is_ok());
        assert!(message(vec![column("r", "$", Kind::Json, SqlType::Super)]).contains("belong together"));
        assert!(message(vec![column("r", "ip", Kind::Record, SqlType::Super)]).contains("belong together"));
    }

    #[test]
    fn the_fingerprint_is_stable_and_notices_name_type_and_order() {
        let a = column("a", "a", Kind::Text, SqlType::Varchar(10));
        let b = column("b", "b", Kind::Integer, SqlType::Integer);
        let of = |columns: &[&Column]| {
            Schema { columns: columns.iter().map(|column| (*column).clone()).collect() }.fingerprint()
        };
        let first = of(&[&a, &b]);
        // Written into every batch and ledger row: a change of this value is a change of format.
        assert_eq!(first, "40b6e41c5f7ca0c1");
        assert_ne!(first, of(&[&b, &a]));
        assert_ne!(first, of(&[&Column { sql_type: SqlType::Varchar(11), ..a.clone() }, &b]));
        assert_ne!(first, of(&[&Column { name: "c".to_owned(), ..a.clone() }, &b]));
        assert_eq!(first, of(&[&Column { paths: b.paths.clone(), ..a.clone() }, &b]));
    }
}
