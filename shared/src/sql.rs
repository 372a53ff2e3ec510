//! Quoting of identifiers and literals: every value that goes into SQL text passes through here.
//!
//! The simple-query protocol has no parameters, so quoting is the only thing between a value and the statement.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Redshift's limit on an identifier, in bytes.
pub const MAX_IDENTIFIER_BYTES: usize = 127;
/// What follows the name of a table in the name of the one that is locked in its place.
const LOCK_SUFFIX: &str = "_lock";

/// A quoted identifier. NUL, which would end the statement at the server, is dropped.
pub fn ident(name: &str) -> String {
    quoted(name, '"', &['"'])
}

/// A quoted string literal.
///
/// Redshift descends from PostgreSQL 8.0, where a backslash in an ordinary literal escapes the next character, and
/// its own QUOTE_LITERAL "doubles any embedded single quotation marks and backslashes"
/// (<https://docs.aws.amazon.com/redshift/latest/dg/r_QUOTE_LITERAL.html>): so both are doubled. A server with
/// `standard_conforming_strings` would keep two backslashes, a wrong value, but neither server can be made to leave
/// the literal early. NUL, which would end the statement at the server, is dropped.
pub fn literal(value: &str) -> String {
    quoted(value, '\'', &['\'', '\\'])
}

fn quoted(text: &str, mark: char, doubled: &[char]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(mark);
    for c in text.chars().filter(|c| *c != '\0') {
        if doubled.contains(&c) {
            out.push(c);
        }
        out.push(c);
    }
    out.push(mark);
    out
}

/// A table, written `schema.table` or `table`; prints quoted, ready for a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName {
    schema: Option<String>,
    table: String,
}

/// A text that is not the name of a table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` is not a table name: {rule}", text.escape_debug())]
pub struct TableNameError {
    text: String,
    rule: &'static str,
}

impl TableName {
    /// The schema (namespace) part, unquoted, if it was given.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The table part, unquoted.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The table that is locked in place of this one, in the same schema: `<name>_lock`. A name that leaves no room for
    /// that is cut.
    pub fn lock_table(&self) -> Self {
        let mut end = self.table.len().min(MAX_IDENTIFIER_BYTES - LOCK_SUFFIX.len());
        while !self.table.is_char_boundary(end) {
            end -= 1;
        }
        let table = format!("{}{LOCK_SUFFIX}", self.table.get(..end).unwrap_or_default());
        Self { schema: self.schema.clone(), table }
    }
}

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, TableNameError> {
        let refuse = |rule| TableNameError { text: text.to_owned(), rule };
        let (schema, table) = match text.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, text),
        };
        for part in schema.into_iter().chain([table]) {
            if part.is_empty() {
                return Err(refuse("it is written `schema.table` or `table`"));
            }
            if part.contains(['.', '"', '\0']) {
                return Err(refuse("a name holds no dot, quotation mark or NUL"));
            }
            if part.len() > MAX_IDENTIFIER_BYTES {
                return Err(refuse("a name has at most 127 bytes"));
            }
        }
        Ok(Self { schema: schema.map(str::to_owned), table: table.to_owned() })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", ident(schema))?;
        }
        f.write_str(&ident(&self.table))
    }
}

impl TryFrom<String> for TableName {
    type Error = TableNameError;

    fn try_from(text: String) -> Result<Self, TableNameError> {
        text.parse()
    }
}

impl From<TableName> for String {
    /// The form that [`TableName::from_str`] reads, without quotes.
    fn from(name: TableName) -> Self {
        match name.schema {
            Some(schema) => format!("{schema}.{}", name.table),
            None => name.table,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a literal as a server does, up to the mark that ends it; `escape` is Redshift's meaning of backslash.
    fn read(text: &str, mark: char, escape: bool) -> Option<(String, String)> {
        let mut chars = text.chars();
        assert_eq!(chars.next(), Some(mark));
        let mut value = String::new();
        loop {
            match chars.next()? {
                '\\' if escape => value.push(chars.next()?),
                c if c == mark => {
                    let mut ahead = chars.clone();
                    if ahead.next() == Some(mark) {
                        chars = ahead;
                        value.push(mark);
                    } else {
                        return Some((value, chars.collect()));
                    }
                }
                c => value.push(c),
            }
        }
    }

    /// Every text of up to four characters from those that matter.
    fn dangerous_texts() -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut from = 0;
        for _ in 0..4 {
            let until = texts.len();
            for number in from..until {
                for c in ['\'', '"', '\\', ';', 'a', 'é', '\n'] {
                    texts.push(format!("{}{c}", texts[number]));
                }
            }
            from = until;
        }
        texts
    }

    #[test]
    fn a_literal_comes_back_as_it_was_and_cannot_be_left_early() {
        for text in dangerous_texts() {
            let quoted = literal(&text);
            assert_eq!(read(&quoted, '\'', true), Some((text.clone(), String::new())), "{quoted}");
            let doubled = text.replace('\\', "\\\\");
            assert_eq!(read(&quoted, '\'', false), Some((doubled, String::new())), "{quoted}");
        }
    }

    #[test]
    fn an_identifier_comes_back_as_it_was_and_cannot_be_left_early() {
        for text in dangerous_texts() {
            let quoted = ident(&text);
            assert_eq!(read(&quoted, '"', false), Some((text, String::new())), "{quoted}");
        }
    }

    #[test]
    fn nul_never_reaches_a_statement() {
        assert_eq!(literal("a\0b"), "'ab'");
        assert_eq!(ident("a\0b"), "\"ab\"");
    }

    #[test]
    fn a_table_name_prints_quoted_and_reads_back_plain() {
        let name: TableName = "analytics.Hits".parse().unwrap();
        assert_eq!(name.to_string(), "\"analytics\".\"Hits\"");
        assert_eq!(String::from(name.clone()).parse::<TableName>().unwrap(), name);
        assert_eq!("hits".parse::<TableName>().unwrap().to_string(), "\"hits\"");
    }

    #[test]
    fn the_table_that_is_locked_stands_beside_the_one_it_is_locked_for() {
        let lock = |text: &str| String::from(text.parse::<TableName>().unwrap().lock_table());
        assert_eq!(lock("public.ledger"), "public.ledger_lock");
        assert_eq!(lock("ledger"), "ledger_lock");
        let long = lock(&format!("a{}", "é".repeat(63)));
        assert!(long.len() <= MAX_IDENTIFIER_BYTES && long.ends_with("é_lock"), "{long}");
        assert!(long.parse::<TableName>().is_ok());
    }

    #[test]
    fn what_is_not_a_table_name_is_refused() {
        let long = "a".repeat(128);
        for text in ["", ".", "a.", ".a", "a.b.c", "a\0b", "a\"b", &long] {
            assert!(text.parse::<TableName>().is_err(), "{text:?}");
        }
    }
}
