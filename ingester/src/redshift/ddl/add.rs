//! The columns of the schema, each as ALTER TABLE adds it to a table that lacks it.

use std::fmt;

use shared::schema::Schema;

use super::compare::{LiveColumn, wanted_by_schema};
use super::create::TableOptions;
use crate::redshift::sql::{Table, ident};

/// A column that may be added. Nothing makes it NOT NULL: rows that are there have no value for it, and COPY takes an
/// empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addition {
    pub(crate) name: String,
    /// What follows its name: type, default and encoding.
    definition: String,
}

impl Addition {
    pub(crate) fn new(name: &str, definition: &str) -> Self {
        Self { name: name.to_owned(), definition: definition.to_owned() }
    }

    /// Redshift adds one column a statement.
    pub(crate) fn statement(&self, table: &Table) -> String {
        format!("ALTER TABLE {table} {}", add_column(&self.name, &self.definition))
    }
}

impl fmt::Display for Addition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.definition)
    }
}

/// What ALTER TABLE is told.
pub(super) fn add_column(name: &str, definition: &str) -> String {
    format!("ADD COLUMN {} {definition}", ident(name))
}

/// Every column of the schema, in its order.
pub(crate) fn additions(schema: &Schema, options: &TableOptions) -> Vec<Addition> {
    let wanted = wanted_by_schema(schema, options);
    wanted.iter().map(|column| Addition::new(column.name, &column.definition)).collect()
}

/// Those that a table of these columns lacks; none of a table that is not there.
pub(crate) fn lacking<'a>(additions: &'a [Addition], live: &[LiveColumn]) -> Vec<&'a Addition> {
    let lacks = |column: &&Addition| live.iter().all(|there| !there.name.eq_ignore_ascii_case(&column.name));
    if live.is_empty() { Vec::new() } else { additions.iter().filter(lacks).collect() }
}

#[cfg(test)]
mod tests {
    use shared::config::Encodings;

    use super::*;
    use crate::redshift::ddl::compare::tests::{live, schema};
    use crate::redshift::sql::tests::table;

    #[test]
    fn a_column_is_added_alone_and_takes_rows_without_a_value() {
        let schema = schema(&[
            ("page", "text", "varchar(9)"),
            ("batch", "batch", "varchar(36)"),
            ("loaded", "load_time", "timestamp"),
            ("products", "json", "super"),
        ]);
        let options = TableOptions { encodings: Encodings::Explicit, ..TableOptions::default() };
        let all = additions(&schema, &options);
        let sent: Vec<String> = all.iter().map(|column| column.statement(&table("s.hits"))).collect();
        let alter = "ALTER TABLE \"s\".\"hits\" ADD COLUMN";
        assert_eq!(
            sent,
            [
                format!("{alter} \"page\" varchar(9) ENCODE zstd"),
                format!("{alter} \"batch\" varchar(36) ENCODE zstd"),
                format!("{alter} \"loaded\" timestamp DEFAULT SYSDATE ENCODE az64"),
                format!("{alter} \"products\" super ENCODE zstd"),
            ]
        );
        assert!(sent.iter().all(|sql| !sql.contains("NOT NULL") && !sql.contains(',')), "{sent:?}");
        assert_eq!(all[0].to_string(), "page varchar(9) ENCODE zstd");
    }

    #[test]
    fn only_what_is_not_there_is_lacking_whatever_its_type() {
        let wanted = ["a", "b", "c"].map(|name| Addition::new(name, "bigint"));
        let names = |there: &[(&str, &str)]| -> Vec<String> {
            lacking(&wanted, &live(there)).iter().map(|column| column.name.clone()).collect()
        };
        assert_eq!(names(&[("B", "date"), ("own", "bigint!")]), ["a", "c"]);
        assert!(names(&[("a", "date"), ("b", "bigint"), ("c", "bigint")]).is_empty());
        assert!(names(&[]).is_empty(), "there is no such table");
    }
}
