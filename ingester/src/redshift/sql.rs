//! Quoting: every value that goes into SQL text passes through here.
//!
//! The simple-query protocol has no parameters, so quoting is the only thing between a value and the statement.

use std::fmt;
use std::ops::Deref;

use chrono::{DateTime, Utc};
use shared::ids::BatchId;
use shared::table_name::TableName;

/// A quoted identifier. NUL, which would end the statement at the server, is dropped.
pub(crate) fn ident(name: &str) -> String {
    quoted(name, '"', &['"'])
}

/// A quoted string literal. Redshift descends from PostgreSQL 8.0, where a backslash in an ordinary literal escapes the
/// next character, and its own QUOTE_LITERAL "doubles any embedded single quotation marks and backslashes"
/// (<https://docs.aws.amazon.com/redshift/latest/dg/r_QUOTE_LITERAL.html>): so both are doubled. A server with
/// `standard_conforming_strings` would keep two backslashes, a wrong value, but neither server can be made to leave the
/// literal early. NUL, which would end the statement at the server, is dropped.
pub(crate) fn literal(value: &str) -> String {
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

pub(crate) fn idents<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| ident(name)).collect::<Vec<_>>().join(", ")
}

pub(super) fn ids(batches: &[BatchId]) -> String {
    batches.iter().map(|batch| literal(&batch.to_string())).collect::<Vec<_>>().join(", ")
}

/// A quoted time, or NULL.
pub(super) fn moment(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "NULL".to_owned(), |at| literal(&at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()))
}

/// A table that prints quoted, ready for a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table(pub(crate) TableName);

impl Table {
    /// As the catalog has it, ready for a statement: names fold to lower case, even in quotes.
    pub(super) fn catalog_schema(&self) -> String {
        let folded = |schema: &str| literal(&schema.to_ascii_lowercase());
        self.schema().map_or_else(|| "current_schema()".to_owned(), folded)
    }

    pub(super) fn catalog_name(&self) -> String {
        literal(&self.table().to_ascii_lowercase())
    }
}

impl Deref for Table {
    type Target = TableName;

    fn deref(&self) -> &TableName {
        &self.0
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = self.schema() {
            write!(f, "{}.", ident(schema))?;
        }
        f.write_str(&ident(self.table()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A table by its name.
    pub(crate) fn table(name: &str) -> Table {
        Table(name.parse().unwrap())
    }

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
    fn a_table_prints_quoted() {
        assert_eq!(table("analytics.Hits").to_string(), "\"analytics\".\"Hits\"");
        assert_eq!(table("hits").to_string(), "\"hits\"");
    }
}
