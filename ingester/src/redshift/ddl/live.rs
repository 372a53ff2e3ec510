//! The table as it stands in Redshift, compared with the schema. What makes it right is in `alter.rs`.

use crate::redshift::ddl::fit::{Fit, fit_kind};
use crate::redshift::ddl::options::TableOptions;
use crate::redshift::ddl::{LEDGER_COLUMNS, column_text};
use shared::schema::{Encoding, Kind, Schema, SqlType};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// A column of the table in Redshift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Redshift prints it.
    pub type_text: String,
    /// It is NOT NULL.
    pub not_null: bool,
    /// It has a default.
    pub has_default: bool,
    /// How it is stored; none if that was not asked for or this user may not see it.
    pub layout: Option<Layout>,
}

/// How a column is stored, and its part in the table's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Its compression; none if it is one that is not known here.
    pub encoding: Option<Encoding>,
    /// It is the distribution key.
    pub distkey: bool,
    /// Its place in the sort key, from 1; 0 if it has none. An interleaved sort key has negative ones too.
    pub sortkey: i32,
}

impl LiveColumn {
    /// A row needs a value for it.
    fn is_required(&self) -> bool {
        self.not_null && !self.has_default
    }
}

/// A column as the schema or the ledger wants it.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) sql_type: SqlType,
    /// What follows its name in ALTER TABLE ADD COLUMN.
    pub(super) definition: String,
    pub(super) encoding: Option<Encoding>,
    /// No row is without a value for it.
    pub(super) always: bool,
    /// It may be the primary key, as in ledgers of earlier versions: Redshift does not alter the column's type then.
    pub(super) primary: bool,
}

/// The columns of the schema.
pub(super) fn wanted_by_schema<'a>(schema: &'a Schema, options: &TableOptions) -> Vec<Wanted<'a>> {
    let wanted = schema.columns.iter().map(|column| Wanted {
        name: &column.name,
        kind: column.kind,
        sql_type: column.sql_type,
        definition: column_text(column, options),
        encoding: options.encoding(column),
        always: matches!(column.kind, Kind::Instance | Kind::Batch | Kind::Record),
        primary: false,
    });
    wanted.collect()
}

/// The columns of the ledger. Redshift adds no column that is NOT NULL without a default; ours that are have been
/// there from the first version on.
pub(super) fn wanted_by_ledger() -> Vec<Wanted<'static>> {
    let wanted = LEDGER_COLUMNS.iter().filter_map(|(name, definition)| {
        let sql_type = definition.split(" NOT NULL").next().unwrap_or(definition);
        Some(Wanted {
            name,
            kind: Kind::Text,
            sql_type: sql_type.parse().ok()?,
            definition: sql_type.to_owned(),
            encoding: None,
            always: definition.contains("NOT NULL"),
            primary: *name == "batch_id",
        })
    });
    wanted.collect()
}

/// What of the schema is not so in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The column.
    pub column: String,
    /// What is wrong.
    pub what: What,
}

/// How a column differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
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
    /// COPY stores some values of the schema's type in the table's, and refuses the rows of others.
    Narrow {
        /// The schema's type.
        wanted: SqlType,
        /// The table's.
        live: String,
    },
    /// COPY stores every value, some altered.
    Altered {
        /// The schema's type.
        wanted: SqlType,
        /// The table's.
        live: String,
    },
    /// COPY refuses every value of the schema's type.
    Other {
        /// The schema's type.
        wanted: SqlType,
        /// The table's.
        live: String,
    },
    /// COPY does not name it, and the table needs a value for it.
    Required,
    /// The table has it NOT NULL; rows without a value are refused.
    NotNull,
    /// Redshift shall fill it, but it has no default and stays NULL.
    Unfilled,
    /// The schema does not have it. It stays NULL.
    Unknown,
}

impl Difference {
    /// Whether it makes every COPY fail.
    #[must_use]
    pub(crate) fn is_fatal(&self) -> bool {
        match self.what {
            What::Missing { filled_by_redshift, .. } => !filled_by_redshift,
            What::Other { .. } | What::Required => true,
            _ => false,
        }
    }

    /// Whether it makes Redshift refuse some rows.
    #[must_use]
    pub(crate) fn refuses_rows(&self) -> bool {
        matches!(self.what, What::Short { .. } | What::Narrow { .. } | What::NotNull)
    }

    /// Whether it makes Redshift store other values than the schema promises.
    #[must_use]
    pub(crate) fn alters_values(&self) -> bool {
        matches!(self.what, What::Altered { .. })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = &self.column;
        match &self.what {
            What::Missing { .. } => write!(f, "{column} is not in the table"),
            What::Short { wanted, live } => {
                write!(f, "{column} is {live} in the table, too short for some values of {wanted}")
            }
            What::Narrow { wanted, live } => {
                write!(f, "{column} is {live} in the table, which does not take every value of {wanted}")
            }
            What::Altered { wanted, live } => {
                write!(f, "{column} is {live} in the table, which alters some values of {wanted}")
            }
            What::Other { wanted, live } => write!(f, "{column} is {live} in the table and not {wanted}"),
            What::Required => write!(f, "{column} is NOT NULL in the table, and COPY does not name it"),
            What::NotNull => write!(f, "{column} is NOT NULL in the table"),
            What::Unfilled => write!(f, "{column} has no default in the table"),
            What::Unknown => write!(f, "{column} is not in the schema"),
        }
    }
}

/// Every column that differs: those of the schema in its order, then those only the table has. Keys and encodings
/// are not among it: they decide about nothing but speed.
#[must_use]
pub(crate) fn compare(schema: &Schema, live: &[LiveColumn], options: &TableOptions) -> Vec<Difference> {
    let wanted = wanted_by_schema(schema, options);
    let mut differences: Vec<_> = {
        let live = by_name(live);
        let of = |wanted| compare_column(wanted, live.get(wanted.name).copied());
        wanted.iter().flat_map(of).collect()
    };
    differences.extend(unknown(&wanted, live));
    differences
}

pub(super) fn by_name(live: &[LiveColumn]) -> HashMap<&str, &LiveColumn> {
    live.iter().map(|column| (column.name.as_str(), column)).collect()
}

pub(super) fn compare_column(wanted: &Wanted<'_>, live: Option<&LiveColumn>) -> Vec<Difference> {
    let filled_by_redshift = wanted.kind == Kind::LoadTime;
    let mut found = Vec::new();
    match live {
        None => found.push(What::Missing { definition: wanted.definition.clone(), filled_by_redshift }),
        Some(live) if filled_by_redshift => {
            // COPY does not name it, so that its type is the table's own affair.
            found.extend(live.is_required().then_some(What::Required));
            found.extend((!live.not_null && !live.has_default).then_some(What::Unfilled));
        }
        Some(live) => {
            found.extend(compare_types(wanted, &live.type_text));
            found.extend((live.is_required() && !wanted.always).then_some(What::NotNull));
        }
    }
    found.into_iter().map(|what| Difference { column: wanted.name.to_owned(), what }).collect()
}

/// What only the table has.
pub(super) fn unknown(wanted: &[Wanted<'_>], live: &[LiveColumn]) -> Vec<Difference> {
    let ours: HashSet<&str> = wanted.iter().map(|column| column.name).collect();
    let theirs = live.iter().filter(|column| !ours.contains(column.name.as_str())).map(|column| {
        let what = if column.is_required() { What::Required } else { What::Unknown };
        Difference { column: column.name.clone(), what }
    });
    theirs.collect()
}

fn compare_types(column: &Wanted<'_>, live: &str) -> Option<What> {
    let (wanted, shown) = (column.sql_type, live.to_owned());
    match fit_kind(column.kind, wanted, live) {
        Fit::All => None,
        Fit::Altered => Some(What::Altered { wanted, live: shown }),
        Fit::Some => Some(match (wanted, live.parse()) {
            (SqlType::Varchar(_), Ok(SqlType::Varchar(_))) => What::Short { wanted, live: shown },
            _ => What::Narrow { wanted, live: shown },
        }),
        // Longer it would do.
        Fit::None => Some(What::Other { wanted, live: shown }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use shared::schema::Column;

    pub(in crate::redshift::ddl) fn schema(columns: &[(&str, &str, &str)]) -> Schema {
        let columns = columns.iter().map(|(name, kind, sql_type)| {
            let kind: Kind = kind.parse().unwrap();
            let paths = if kind.is_from_record() { vec![name.parse().unwrap()] } else { vec![] };
            Column::new(*name, paths, kind, sql_type.parse().unwrap())
        });
        Schema::new(columns.collect(), "t").unwrap()
    }

    /// A type with `!` behind it is NOT NULL, with `=` it has a default.
    pub(in crate::redshift::ddl) fn live(columns: &[(&str, &str)]) -> Vec<LiveColumn> {
        let column = |(name, type_text): &(&str, &str)| LiveColumn {
            name: (*name).to_owned(),
            type_text: type_text.trim_end_matches(['!', '=']).to_owned(),
            not_null: type_text.contains('!'),
            has_default: type_text.contains('='),
            layout: None,
        };
        columns.iter().map(column).collect()
    }

    #[test]
    fn a_table_made_by_our_ddl_does_not_differ() {
        let schema = Schema::default();
        let in_catalog = |sql_type: SqlType| {
            sql_type.to_string().replace("varchar", "character varying").replace("decimal", "numeric")
        };
        let live: Vec<_> = schema
            .columns
            .iter()
            .flat_map(|column| live(&[(&column.name, &in_catalog(column.sql_type))]))
            .collect();
        assert_eq!(compare(&schema, &live, &TableOptions::default()), []);
    }

    #[test]
    fn only_what_refuses_every_row_is_fatal() {
        let schema = schema(&[
            ("new", "text", "varchar(9)"),
            ("page", "text", "varchar(300)"),
            ("width", "integer", "integer"),
            ("price", "decimal", "decimal(9,2)"),
            ("at", "timestamp", "timestamp"),
            ("loaded", "load_time", "timestamp"),
            ("loaded_too", "load_time", "timestamp"),
            ("loaded_never", "load_time", "timestamp"),
            ("loaded_as_text", "load_time", "timestamp"),
            ("same", "text", "varchar(9)"),
            ("batch", "batch", "varchar(36)"),
        ]);
        let live = live(&[
            ("page", "character varying(255)"),
            ("width", "smallint"),
            ("price", "double precision"),
            ("at", "integer"),
            ("loaded_too", "timestamp without time zone!"),
            ("loaded_never", "timestamp without time zone"),
            ("loaded_as_text", "character varying(9)!="),
            ("same", "character varying(10)!"),
            ("batch", "character varying(36)!"),
            ("extra", "date"),
            ("filled", "bigint!="),
            ("needed", "bigint!"),
        ]);
        let differences = compare(&schema, &live, &TableOptions::default());
        let say = |which: fn(&Difference) -> bool| -> Vec<String> {
            differences.iter().filter(|one| which(one)).map(ToString::to_string).collect()
        };
        assert_eq!(
            say(Difference::is_fatal),
            [
                "new is not in the table",
                "at is integer in the table and not timestamp",
                "loaded_too is NOT NULL in the table, and COPY does not name it",
                "needed is NOT NULL in the table, and COPY does not name it"
            ]
        );
        assert_eq!(
            say(Difference::refuses_rows),
            [
                "page is character varying(255) in the table, too short for some values of varchar(300)",
                "width is smallint in the table, which does not take every value of integer",
                "same is NOT NULL in the table",
            ]
        );
        assert_eq!(
            say(Difference::alters_values),
            ["price is double precision in the table, which alters some values of decimal(9,2)"]
        );
        let rest = |one: &Difference| !one.is_fatal() && !one.refuses_rows() && !one.alters_values();
        assert_eq!(
            say(rest),
            [
                "loaded is not in the table",
                "loaded_never has no default in the table",
                "extra is not in the schema",
                "filled is not in the schema"
            ]
        );
    }

    #[test]
    fn every_column_of_the_ledger_is_compared() {
        let wanted = wanted_by_ledger();
        assert_eq!(wanted.len(), LEDGER_COLUMNS.len());
        assert!(wanted[0].primary && wanted[0].always && wanted[0].definition == "varchar(36)");
        assert!(!wanted[1].primary && !wanted[1].always);
    }
}
