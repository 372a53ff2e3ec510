//! How Redshift lays the table out: keys and encodings.

use crate::schema::encoding::Encoding;
use crate::schema::sql_type::SqlType;
use crate::schema::table::{Column, Schema};

/// How Redshift is to lay the table out; empty leaves both to it (DISTSTYLE AUTO, SORTKEY AUTO).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// Columns of the compound sort key, most significant first.
    pub sortkey: Vec<String>,
    /// Column whose value decides the slice a row lives on.
    pub distkey: Option<String>,
    /// Which columns name their encoding.
    pub encodings: Encodings,
}

/// Which columns name their encoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encodings {
    /// Those for which the schema does.
    #[default]
    Auto,
    /// All: that of the schema, or one that suits the type; the first column of the sort key is not compressed, so
    /// that blocks can be skipped.
    Explicit,
}

/// A key that the table cannot have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{key} `{}`: {rule}", column.escape_debug())]
pub struct TableOptionsError {
    key: &'static str,
    column: String,
    rule: &'static str,
}

impl TableOptions {
    /// Whether the schema has these columns and Redshift allows them as keys.
    pub fn validate(&self, schema: &Schema) -> Result<(), TableOptionsError> {
        let sort = self.sortkey.iter().map(|column| ("sortkey", column));
        for (key, name) in sort.chain(self.distkey.iter().map(|column| ("distkey", column))) {
            let refuse = |rule| TableOptionsError { key, column: name.clone(), rule };
            if key == "sortkey" && self.sortkey.iter().filter(|other| *other == name).count() > 1 {
                return Err(refuse("a sort key has a column once"));
            }
            let column = schema.columns.iter().find(|column| column.name == *name);
            match column.ok_or_else(|| refuse("the schema has no such column"))?.sql_type {
                SqlType::Super => return Err(refuse("a super column cannot be a key")),
                _ if self.sortkey.len() > 400 => return Err(refuse("a sort key has at most 400 columns")),
                _ => {}
            }
        }
        Ok(())
    }

    /// The encoding the column shall name, if any.
    #[must_use]
    pub fn encoding(&self, column: &Column) -> Option<Encoding> {
        let default = || match self.encodings {
            Encodings::Auto => None,
            Encodings::Explicit if self.sortkey.first() == Some(&column.name) => Some(Encoding::Raw),
            Encodings::Explicit => Some(Encoding::default_of(column.sql_type)),
        };
        column.encoding.or_else(default)
    }
}
