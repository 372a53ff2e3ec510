//! How Redshift lays the table out: keys and encodings.

use shared::config::{Encodings, Redshift};
use shared::exit::{Exit, Failure};
use shared::schema::{Column, Encoding, Schema, SqlType};

/// How Redshift is to lay the table out; empty leaves both to it (DISTSTYLE AUTO, SORTKEY AUTO).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableOptions {
    /// Columns of the compound sort key, most significant first.
    pub(crate) sortkey: Vec<String>,
    /// Column whose value decides the slice a row lives on.
    pub(crate) distkey: Option<String>,
    /// Which columns name their encoding.
    pub(crate) encodings: Encodings,
}

/// A key that the table cannot have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{key} `{}`: {rule}", column.escape_debug())]
pub(crate) struct TableOptionsError {
    key: &'static str,
    column: String,
    rule: &'static str,
}

impl TableOptions {
    /// As the configuration says.
    pub(crate) fn of(redshift: &Redshift) -> Self {
        let distkey = Some(redshift.distkey.clone()).filter(|column| !column.is_empty());
        Self { sortkey: redshift.sortkey.clone(), distkey, encodings: redshift.encodings }
    }

    /// As the configuration says, if a table of this schema can have them. The failure names the key and the column.
    pub(crate) fn checked(redshift: &Redshift, schema: &Schema) -> Result<Self, Failure> {
        let options = Self::of(redshift);
        let checked = options.validate(schema);
        checked.map_err(|error| Failure::new(Exit::Config, anyhow::anyhow!("redshift.{error}")))?;
        Ok(options)
    }

    /// Whether the schema has these columns and Redshift allows them as keys.
    pub(crate) fn validate(&self, schema: &Schema) -> Result<(), TableOptionsError> {
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
    pub(crate) fn encoding(&self, column: &Column) -> Option<Encoding> {
        let default = || match self.encodings {
            Encodings::Auto => None,
            Encodings::Explicit if self.sortkey.first() == Some(&column.name) => Some(Encoding::Raw),
            Encodings::Explicit => Some(default_encoding(column.sql_type)),
        };
        column.encoding.or_else(default)
    }
}

/// What Redshift itself would choose for a column of this type, and what suits wide tables of mostly empty text.
fn default_encoding(sql_type: SqlType) -> Encoding {
    match sql_type {
        SqlType::Varchar(_) | SqlType::Super | SqlType::Boolean => Encoding::Zstd,
        _ => Encoding::Az64,
    }
}
