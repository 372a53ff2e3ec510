//! The name of a table, as a configuration gives it. The ingester quotes it for its statements.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

const MAX_IDENTIFIER_BYTES: usize = 127;
/// What follows the name of a table in the name of the one that is locked in its place.
const LOCK_SUFFIX: &str = "_lock";

/// A table, written `schema.table` or `table`.
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

    /// The form that [`TableName::from_str`] reads, for configurations and messages. It is not fit for a statement.
    pub fn unquoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.table),
            None => self.table.clone(),
        }
    }

    /// The table that is locked in place of this one: `<name>_lock` in the same schema. A long name is cut.
    #[must_use]
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

impl TryFrom<String> for TableName {
    type Error = TableNameError;

    fn try_from(text: String) -> Result<Self, TableNameError> {
        text.parse()
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.unquoted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_name_reads_back_what_it_wrote() {
        for text in ["analytics.Hits", "hits"] {
            let name: TableName = text.parse().unwrap();
            assert_eq!(String::from(name.clone()), text);
            assert_eq!(text.parse::<TableName>().unwrap(), name);
        }
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
