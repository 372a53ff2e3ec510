//! Compares a table in Redshift with the schema. `alter.rs` has the statements that remove the differences.

use std::fmt;

use shared::schema::{Encoding, Kind, Schema, SqlType};

use super::create::{LEDGER_COLUMNS, TableOptions, column_text};
use super::fit::{Fit, fit_kind};

/// A column of a table in Redshift, as its catalog shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveColumn {
    pub(crate) name: String,
    pub(crate) type_text: String,
    pub(crate) not_null: bool,
    pub(crate) has_default: bool,
    /// How it is stored; None if that was not asked for, or redshift.user may not see it.
    pub(crate) layout: Option<Layout>,
}

/// How a column is stored, and its part in the table's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// None if this version does not know it.
    pub(crate) encoding: Option<Encoding>,
    pub(crate) distkey: bool,
    /// Its place in the sort key, from 1; 0 if it has none. An interleaved sort key has negative ones too.
    pub(crate) sortkey: i32,
}

impl LiveColumn {
    pub(super) fn is_required(&self) -> bool {
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
    /// Every row has a value for it.
    pub(super) always: bool,
    /// It may be the primary key, as in ledgers of earlier versions: Redshift does not alter the column's type then.
    pub(super) primary: bool,
}

impl Wanted<'_> {
    pub(super) fn of<'l>(&self, live: &'l [LiveColumn]) -> Option<&'l LiveColumn> {
        live.iter().find(|column| column.name == self.name)
    }
}

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

/// Redshift adds no column that is NOT NULL without a default; ours that are have been there from the first version on.
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) column: String,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// The table does not have it. COPY does not name a column that Redshift fills: rows are loaded without it.
    Missing { definition: String, filled_by_redshift: bool },
    /// The type does not hold every value.
    Type { misfit: Misfit, wanted: SqlType, live: String },
    /// COPY does not name it, and the table needs a value for it.
    Required,
    /// The table has it NOT NULL; rows without a value are refused.
    NotNull,
    /// Redshift shall fill it, but it has no default and stays NULL.
    Unfilled,
    /// The schema does not have it. It stays NULL.
    Unknown,
}

/// What becomes of values of the schema's type in a column of the table's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The table's varchar is shorter: COPY refuses the rows of some values.
    Short,
    /// COPY stores some values, and refuses the rows of others.
    Narrow,
    /// COPY stores every value, some altered.
    Altered,
    /// COPY refuses the rows of all values.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Every COPY fails.
    Fatal,
    /// Redshift refuses some rows.
    RefusesRows,
    /// Redshift stores other values than the schema promises.
    AltersValues,
    /// Rows are loaded as they are.
    None,
}

impl Difference {
    pub(crate) fn effect(&self) -> Effect {
        match &self.what {
            What::Missing { filled_by_redshift: false, .. } | What::Required => Effect::Fatal,
            What::Type { misfit: Misfit::Other, .. } => Effect::Fatal,
            What::Type { misfit: Misfit::Short | Misfit::Narrow, .. } | What::NotNull => Effect::RefusesRows,
            What::Type { misfit: Misfit::Altered, .. } => Effect::AltersValues,
            What::Missing { filled_by_redshift: true, .. } | What::Unfilled | What::Unknown => Effect::None,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.column)?;
        match &self.what {
            What::Missing { .. } => f.write_str("is not in the table"),
            What::Type { misfit, wanted, live } => match misfit {
                Misfit::Short => write!(f, "is {live} in the table, too short for some values of {wanted}"),
                Misfit::Narrow => {
                    write!(f, "is {live} in the table, which does not take every value of {wanted}")
                }
                Misfit::Altered => write!(f, "is {live} in the table, which alters some values of {wanted}"),
                Misfit::Other => write!(f, "is {live} in the table and not {wanted}"),
            },
            What::Required => f.write_str("is NOT NULL in the table, and COPY does not name it"),
            What::NotNull => f.write_str("is NOT NULL in the table"),
            What::Unfilled => f.write_str("has no default in the table"),
            What::Unknown => f.write_str("is not in the schema"),
        }
    }
}

/// Every column that differs: those of the schema in its order, then those only the table has. Keys and encodings
/// are not compared: they decide about nothing but speed.
pub(crate) fn compare(schema: &Schema, live: &[LiveColumn], options: &TableOptions) -> Vec<Difference> {
    let wanted = wanted_by_schema(schema, options);
    let ours = wanted.iter().flat_map(|wanted| compare_column(wanted, wanted.of(live)));
    ours.chain(unknown(&wanted, live)).collect()
}

pub(super) fn compare_column(wanted: &Wanted<'_>, live: Option<&LiveColumn>) -> Vec<Difference> {
    let filled_by_redshift = wanted.kind == Kind::LoadTime;
    let found = match live {
        None => [Some(What::Missing { definition: wanted.definition.clone(), filled_by_redshift }), None],
        // COPY does not name it, so any type will do.
        Some(live) if filled_by_redshift => [
            live.is_required().then_some(What::Required),
            (!live.not_null && !live.has_default).then_some(What::Unfilled),
        ],
        Some(live) => [
            compare_types(wanted, &live.type_text),
            (live.is_required() && !wanted.always).then_some(What::NotNull),
        ],
    };
    let difference = |what| Difference { column: wanted.name.to_owned(), what };
    found.into_iter().flatten().map(difference).collect()
}

pub(super) fn unknown(wanted: &[Wanted<'_>], live: &[LiveColumn]) -> Vec<Difference> {
    let theirs = live.iter().filter(|column| wanted.iter().all(|ours| ours.name != column.name));
    let difference = |column: &LiveColumn| {
        let what = if column.is_required() { What::Required } else { What::Unknown };
        Difference { column: column.name.clone(), what }
    };
    theirs.map(difference).collect()
}

fn compare_types(column: &Wanted<'_>, live: &str) -> Option<What> {
    let wanted = column.sql_type;
    let misfit = match fit_kind(column.kind, wanted, live) {
        Fit::All => return None,
        Fit::Altered => Misfit::Altered,
        Fit::Some if is_varchar(wanted) && live.parse().is_ok_and(is_varchar) => Misfit::Short,
        Fit::Some => Misfit::Narrow,
        Fit::None => Misfit::Other,
    };
    Some(What::Type { misfit, wanted, live: live.to_owned() })
}

fn is_varchar(sql_type: SqlType) -> bool {
    matches!(sql_type, SqlType::Varchar(_))
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
        let say = |wanted: Effect| -> Vec<String> {
            differences.iter().filter(|one| one.effect() == wanted).map(ToString::to_string).collect()
        };
        assert_eq!(
            say(Effect::Fatal),
            [
                "new is not in the table",
                "at is integer in the table and not timestamp",
                "loaded_too is NOT NULL in the table, and COPY does not name it",
                "needed is NOT NULL in the table, and COPY does not name it"
            ]
        );
        assert_eq!(
            say(Effect::RefusesRows),
            [
                "page is character varying(255) in the table, too short for some values of varchar(300)",
                "width is smallint in the table, which does not take every value of integer",
                "same is NOT NULL in the table",
            ]
        );
        assert_eq!(
            say(Effect::AltersValues),
            ["price is double precision in the table, which alters some values of decimal(9,2)"]
        );
        assert_eq!(
            say(Effect::None),
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
