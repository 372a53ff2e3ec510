//! The table as it stands in Redshift, compared with the schema.
//!
//! Redshift changes little of a table: it adds a column, drops one, and changes the length of a varchar, one at a
//! time (<https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_TABLE.html>). What it cannot change is said in a
//! comment.

use super::{Encodings, TableOptions, column_text};
use crate::schema::{Column, Kind, Schema, SqlType};
use crate::sql::{TableName, ident};
use std::collections::HashMap;
use std::fmt;

/// A column of the table in Redshift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Redshift prints it.
    pub type_text: String,
    /// A row needs a value for it, and there is no default.
    pub required: bool,
}

/// What of the schema is not so in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The column.
    pub column: String,
    /// What is wrong.
    pub what: What,
}

/// How a column differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The table does not have it.
    Missing {
        /// The schema's type, with what else belongs into ALTER TABLE.
        definition: String,
        /// COPY does not name it: rows are loaded without it.
        filled_by_redshift: bool,
    },
    /// The table's varchar is shorter.
    Short {
        /// The schema's type.
        wanted: SqlType,
        /// The table's.
        live: String,
    },
    /// The table's type holds some values of the schema's, and refuses the rows of others.
    Narrow {
        /// The schema's type.
        wanted: SqlType,
        /// The table's.
        live: String,
    },
    /// The table's type holds no value of the schema's.
    Other {
        /// The schema's type.
        wanted: SqlType,
        /// The table's.
        live: String,
    },
    /// The schema does not have it, and the table needs a value for it.
    Required,
    /// The table has it NOT NULL; rows without a value are refused.
    NotNull,
    /// The schema does not have it. It stays NULL.
    Unknown,
}

impl Difference {
    /// Whether it makes every COPY fail.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self.what {
            What::Missing { filled_by_redshift, .. } => !filled_by_redshift,
            What::Other { .. } | What::Required => true,
            What::Short { .. } | What::Narrow { .. } | What::NotNull | What::Unknown => false,
        }
    }

    /// The statement that makes it right, or a comment if Redshift has none.
    #[must_use]
    pub fn statement(&self, table: &TableName) -> String {
        let column = ident(&self.column);
        match &self.what {
            What::Missing { definition, .. } => {
                format!("ALTER TABLE {table} ADD COLUMN {column} {definition};")
            }
            What::Short { wanted, live } => {
                format!(
                    "-- {column} is {live}. This statement runs outside of a transaction only.\n\
                     ALTER TABLE {table} ALTER COLUMN {column} TYPE {wanted};"
                )
            }
            What::Narrow { wanted, live } | What::Other { wanted, live } => format!(
                "-- {column} is {live}, the schema has {wanted}: Redshift cannot change that. Add a column of another \
                 name,\n-- fill it by UPDATE, drop {column}, and rename the new one; or take {live} into the schema."
            ),
            What::Required => format!(
                "-- {column} is NOT NULL without a default and not in the schema: every COPY fails. Either the schema \
                 names it, or\n-- ALTER TABLE {table} DROP COLUMN {column};"
            ),
            What::NotNull => {
                format!(
                    "-- {column} is NOT NULL: Redshift refuses the rows of records that have no value for it."
                )
            }
            What::Unknown => format!(
                "-- {column} is not in the schema and stays NULL. If nothing else needs it:\n\
                 -- ALTER TABLE {table} DROP COLUMN {column};"
            ),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = &self.column;
        match &self.what {
            What::Missing { .. } => write!(f, "{column} is not in the table"),
            What::Short { wanted, live } | What::Narrow { wanted, live } => {
                write!(f, "{column} is {live} in the table, too narrow for some values of {wanted}")
            }
            What::Other { wanted, live } => write!(f, "{column} is {live} in the table and not {wanted}"),
            What::Required => write!(f, "{column} is NOT NULL in the table and not in the schema"),
            What::NotNull => write!(f, "{column} is NOT NULL in the table"),
            What::Unknown => write!(f, "{column} is not in the schema"),
        }
    }
}

/// Everything that differs: columns of the schema in its order, then those only the table has.
#[must_use]
pub fn compare(schema: &Schema, live: &[LiveColumn], options: &TableOptions) -> Vec<Difference> {
    let by_name: HashMap<&str, &LiveColumn> =
        live.iter().map(|column| (column.name.as_str(), column)).collect();
    let mut differences = Vec::new();
    for column in &schema.columns {
        let mut add = |what| differences.push(Difference { column: column.name.clone(), what });
        match by_name.get(column.name.as_str()) {
            None => add(What::Missing {
                definition: definition(column, options),
                filled_by_redshift: column.kind == Kind::LoadTime,
            }),
            Some(live) => {
                if let Some(what) = compare_types(column.sql_type, &live.type_text) {
                    add(what);
                }
                if live.required && column.kind != Kind::LoadTime {
                    add(What::NotNull);
                }
            }
        }
    }
    let ours: HashMap<&str, &Column> =
        schema.columns.iter().map(|column| (column.name.as_str(), column)).collect();
    for column in live.iter().filter(|column| !ours.contains_key(column.name.as_str())) {
        let what = if column.required { What::Required } else { What::Unknown };
        differences.push(Difference { column: column.name.clone(), what });
    }
    differences
}

/// As for CREATE TABLE; but a table whose columns Redshift compresses as it likes stays one.
fn definition(column: &Column, options: &TableOptions) -> String {
    let explicit = options.encodings == Encodings::Explicit;
    let first_sort_key = options.sortkey.first() == Some(&column.name);
    column_text(column, explicit && !first_sort_key)
}

fn compare_types(wanted: SqlType, live: &str) -> Option<What> {
    let shown = live.to_owned();
    let Ok(live) = live.parse::<SqlType>() else {
        // A char, a float, a time zone: text or number of another kind.
        return Some(What::Other { wanted, live: shown });
    };
    use SqlType::{Decimal, Super, Timestamp, Varchar};
    // Digits before the point and behind it that a number can have.
    let digits = |number: SqlType| match number {
        SqlType::Smallint => Some((5, 0)),
        SqlType::Integer => Some((10, 0)),
        SqlType::Bigint => Some((19, 0)),
        Decimal { precision, scale } => Some((precision - scale, scale)),
        _ => None,
    };
    match (wanted, live) {
        (wanted, live) if wanted == live => None,
        (Varchar(wanted_bytes), Varchar(bytes)) => {
            (bytes < wanted_bytes).then_some(What::Short { wanted, live: shown })
        }
        // JSON text, or text that Redshift takes for a scalar.
        (Super, Varchar(_)) => Some(What::Narrow { wanted, live: shown }),
        // Whatever it is, its text may be stored as text.
        (_, Varchar(bytes)) => (usize::try_from(bytes).unwrap_or(0) < wanted.max_bytes())
            .then_some(What::Narrow { wanted, live: shown }),
        (Varchar(_), Super) => None,
        (Timestamp, _) | (_, Timestamp) => Some(What::Other { wanted, live: shown }),
        _ => match (digits(wanted), digits(live)) {
            (Some((whole, fraction)), Some((live_whole, live_fraction))) => {
                // Integers end within their last digit: only one of the same width or more is safe.
                let holds = match (wanted, live) {
                    (Decimal { .. }, live) if !matches!(live, Decimal { .. }) => {
                        live_whole > whole && fraction == 0
                    }
                    _ => live_whole >= whole && live_fraction >= fraction,
                };
                (!holds).then_some(What::Narrow { wanted, live: shown })
            }
            _ => Some(What::Other { wanted, live: shown }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: &[(&str, &str, &str)]) -> Schema {
        let columns = columns.iter().map(|(name, kind, sql_type)| {
            let kind: Kind = kind.parse().unwrap();
            let paths = if kind.is_from_record() { vec![name.parse().unwrap()] } else { vec![] };
            Column::new(*name, paths, kind, sql_type.parse().unwrap())
        });
        Schema::new(columns.collect(), "t").unwrap()
    }

    fn live(columns: &[(&str, &str)]) -> Vec<LiveColumn> {
        let column = |(name, type_text): &(&str, &str)| LiveColumn {
            name: (*name).to_owned(),
            type_text: type_text.trim_end_matches('!').to_owned(),
            required: type_text.ends_with('!'),
        };
        columns.iter().map(column).collect()
    }

    fn statements(schema: &Schema, live: &[LiveColumn], options: &TableOptions) -> Vec<String> {
        let table = "public.hits".parse().unwrap();
        compare(schema, live, options).iter().map(|difference| difference.statement(&table)).collect()
    }

    #[test]
    fn a_table_made_by_our_ddl_does_not_differ() {
        let schema = Schema::default();
        let live: Vec<_> = schema
            .columns
            .iter()
            .map(|column| LiveColumn {
                name: column.name.clone(),
                type_text: column
                    .sql_type
                    .to_string()
                    .replace("varchar", "character varying")
                    .replace("decimal", "numeric"),
                required: false,
            })
            .collect();
        assert_eq!(compare(&schema, &live, &TableOptions::default()), []);
    }

    #[test]
    fn what_redshift_can_change_is_a_statement_and_the_rest_a_comment() {
        let schema = schema(&[
            ("new", "text", "varchar(9)"),
            ("page", "text", "varchar(300)"),
            ("width", "integer", "integer"),
            ("at", "timestamp", "timestamp"),
            ("loaded", "load_time", "timestamp"),
            ("same", "text", "varchar(9)"),
        ]);
        let live = live(&[
            ("page", "character varying(255)"),
            ("width", "smallint"),
            ("at", "integer"),
            ("same", "character varying(10)!"),
            ("extra", "date"),
            ("needed", "bigint!"),
        ]);
        let statements = statements(&schema, &live, &TableOptions::default());
        let kept: Vec<_> =
            statements.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with("--")).collect();
        assert_eq!(
            kept,
            [
                "ALTER TABLE \"public\".\"hits\" ADD COLUMN \"new\" varchar(9);",
                "ALTER TABLE \"public\".\"hits\" ALTER COLUMN \"page\" TYPE varchar(300);",
                "ALTER TABLE \"public\".\"hits\" ADD COLUMN \"loaded\" timestamp DEFAULT SYSDATE;",
            ]
        );
        let fatal: Vec<_> = compare(&schema, &live, &TableOptions::default())
            .into_iter()
            .filter(Difference::is_fatal)
            .map(|difference| difference.to_string())
            .collect();
        assert_eq!(
            fatal,
            [
                "new is not in the table",
                "at is integer in the table and not timestamp",
                "needed is NOT NULL in the table and not in the schema"
            ]
        );
    }

    #[test]
    fn a_type_that_holds_every_value_is_no_difference() {
        let what = |wanted: &str, live: &str| compare_types(wanted.parse().unwrap(), live);
        for (wanted, live) in [
            ("varchar(9)", "character varying(9)"),
            ("varchar(9)", "varchar(10)"),
            ("varchar(9)", "super"),
            ("smallint", "bigint"),
            ("integer", "numeric(10,0)"),
            ("bigint", "numeric(38,2)"),
            ("decimal(9,2)", "numeric(10,3)"),
            ("decimal(18,0)", "bigint"),
            ("decimal(20,0)", "character varying(23)"),
            ("timestamp", "character varying(26)"),
            ("boolean", "character varying(5)"),
        ] {
            assert_eq!(what(wanted, live), None, "{wanted} {live}");
        }
        for (wanted, live) in [
            ("bigint", "integer"),
            ("integer", "numeric(9,0)"),
            ("decimal(19,0)", "bigint"),
            ("decimal(9,2)", "numeric(9,3)"),
            ("decimal(9,2)", "bigint"),
            ("timestamp", "character varying(19)"),
            ("super", "character varying(65535)"),
        ] {
            assert!(matches!(what(wanted, live), Some(What::Narrow { .. })), "{wanted} {live}");
        }
        for (wanted, live) in [
            ("varchar(9)", "integer"),
            ("varchar(9)", "character(9)"),
            ("timestamp", "timestamp with time zone"),
            ("boolean", "integer"),
            ("integer", "super"),
            ("decimal(9,2)", "double precision"),
        ] {
            assert!(matches!(what(wanted, live), Some(What::Other { .. })), "{wanted} {live}");
        }
    }
}
