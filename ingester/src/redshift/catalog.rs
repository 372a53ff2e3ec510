//! The columns of a table as Redshift's catalog has them, and whether rows can be loaded into them.
//!
//! A seal names the columns of its rows, so that a batch that was made under another schema can be loaded. A column that
//! only such a batch needs, and the table lacks, holds up that batch alone.

use std::collections::HashMap;

use shared::config::{Config, OnSchemaChange};
use shared::exit::{Exit, Failure};
use shared::schema::{Encoding, Schema};
use shared::seal::Seal;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::redshift::answer::{Row, SqlFailure};
use crate::redshift::connect::Connector;
use crate::redshift::ddl::{Difference, Effect, Layout, LiveColumn, TableOptions, What, compare};
use crate::redshift::doing::Doing;
use crate::redshift::errors;
use crate::redshift::loading::Part;
use crate::redshift::server::Server;
use crate::redshift::sql::Table;
use crate::redshift::target::Target;

const NAMED: usize = 10;
const ADVICE: &str = "add them to the table, as `ingester ddl --diff` prints it with the [schema] they come from; then it \
                      is loaded by itself, and they may be dropped again";
const ADVICE_ADDS: &str = "restart or reload this ingester with the [schema] that the rows were made for: it adds them to the \
                           table (redshift.on_schema_change), and the batch is loaded by itself";

/// The columns of a table in its own order; none if there is no such table, or none that redshift.user may see.
pub(crate) async fn fetch(server: &impl Server, table: &Table) -> Result<Vec<LiveColumn>, SqlFailure> {
    Ok(server.run(&query(table)).await?.read(column))
}

fn query(table: &Table) -> String {
    format!(
        "SELECT column_name, data_type, character_maximum_length, numeric_precision, numeric_scale, is_nullable, \
         column_default FROM svv_columns WHERE table_schema = {} AND table_name = {} ORDER BY ordinal_position",
        table.catalog_schema(),
        table.catalog_name()
    )
}

fn column(row: Row<'_>) -> Option<LiveColumn> {
    let number = |column| row.text(column).unwrap_or_default();
    let type_text = match row.text(1)? {
        name @ ("character varying" | "character") => format!("{name}({})", number(2)),
        name @ "numeric" => format!("{name}({},{})", number(3), number(4)),
        name => name.to_owned(),
    };
    let (not_null, has_default) = (row.text(5) == Some("NO"), row.text(6).is_some());
    Some(LiveColumn { name: row.text(0)?.to_owned(), type_text, not_null, has_default, layout: None })
}

/// As [`fetch`], with how the columns are stored; and why not, if Redshift does not show that.
pub(crate) async fn fetch_with_layout(
    server: &impl Server,
    table: &Table,
) -> Result<(Vec<LiveColumn>, Option<String>), SqlFailure> {
    let mut columns = fetch(server, table).await?;
    let stored: HashMap<_, _> = match server.run(&layout_query(table)).await {
        Ok(rows) => rows.read(layout).into_iter().collect(),
        Err(failure) => return Ok((columns, Some(failure.to_string()))),
    };
    for column in &mut columns {
        column.layout = stored.get(&column.name).copied();
    }
    let unseen = columns.iter().any(|column| column.layout.is_none());
    Ok((columns, unseen.then(|| "svv_redshift_columns does not show every column".to_owned())))
}

/// Not `pg_table_def`, which shows tables of the search path only.
fn layout_query(table: &Table) -> String {
    format!(
        "SELECT column_name, encoding, distkey, sortkey FROM svv_redshift_columns \
         WHERE database_name = current_database() AND schema_name = {} AND table_name = {}",
        table.catalog_schema(),
        table.catalog_name()
    )
}

fn layout(row: Row<'_>) -> Option<(String, Layout)> {
    let encoding = row.trimmed(1).unwrap_or_default().to_ascii_lowercase();
    let encoding = if encoding == "none" { Some(Encoding::Raw) } else { encoding.parse().ok() };
    let distkey = matches!(row.text(2)?, "t" | "true");
    Some((row.text(0)?.to_owned(), Layout { encoding, distkey, sortkey: row.get(3)? }))
}

/// Refuses to start, by [`unloadable`]. While Redshift does not answer, the loader waits for it later.
pub(crate) async fn refuse_unloadable(
    config: &Config,
    schema: &Schema,
    connector: &Connector,
) -> Result<(), Failure> {
    verify(config, schema, connector, |_| Ok(())).await
}

/// As [`refuse_unloadable`], for a reload: a login that is refused is refused too. The service has one that may still be good.
pub(crate) async fn refuse_reload(
    config: &Config,
    schema: &Schema,
    connector: &Connector,
) -> Result<(), Failure> {
    let refuse = |error: &SqlFailure| {
        let is_login = errors::is_login_refused(error);
        if is_login { Err(errors::load_failure(error, Doing::Connect).into()) } else { Ok(()) }
    };
    verify(config, schema, connector, refuse).await
}

/// `unanswered`: what to make of a Redshift that does not tell the columns.
async fn verify(
    config: &Config,
    schema: &Schema,
    connector: &Connector,
    unanswered: impl Fn(&SqlFailure) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let table = Table(config.redshift.table.clone());
    let live = async || fetch(&connector.open().await?, &table).await;
    match live().await {
        Ok(live) => unloadable(config, schema, &live),
        Err(error) => {
            unanswered(&error)?;
            tracing::warn!(%error, %table, "the table could not be compared with the schema; the loader does it later");
            Ok(())
        }
    }
}

/// Fails with exit 78, naming the columns, when every COPY would fail on this table, also with the columns that the
/// ingester adds.
pub(crate) fn unloadable(config: &Config, schema: &Schema, live: &[LiveColumn]) -> Result<(), Failure> {
    let table = Table(config.redshift.table.clone());
    let fault = |text: String| Err(Failure::new(Exit::Config, anyhow::anyhow!(text)));
    if live.is_empty() {
        return fault(format!(
            "there is no table {table}, or redshift.user may not see it: `ingester ddl` prints the statements that \
             create it, deploy/grants.sql what the user needs"
        ));
    }
    let adds = config.redshift.on_schema_change == OnSchemaChange::AddColumns;
    let mut differences = compare(schema, live, &TableOptions::of(&config.redshift));
    differences.retain(|one| !(adds && matches!(one.what, What::Missing { .. })));
    let fatal = list(&differences, Effect::Fatal);
    if !fatal.is_empty() {
        return fault(format!(
            "every COPY into {table} would fail: {fatal}. `ingester ddl --diff` prints what makes it right"
        ));
    }
    if let Some(warning) = warning(&differences) {
        tracing::warn!(%table, "{warning}");
    }
    Ok(())
}

fn list(differences: &[Difference], effect: Effect) -> String {
    let list = differences.iter().filter(|one| one.effect() == effect).map(ToString::to_string);
    list.collect::<Vec<_>>().join("; ")
}

/// What becomes of rows if nobody alters the table.
fn warning(differences: &[Difference]) -> Option<String> {
    let effects = [
        (Effect::RefusesRows, "rows that do not fit the table will go to quarantine"),
        (Effect::AltersValues, "values will be altered by their type in the table"),
    ];
    let parts = effects.map(|(effect, what)| match list(differences, effect) {
        none if none.is_empty() => String::new(),
        columns => format!("{what}: {columns}. "),
    });
    let parts = parts.concat();
    (!parts.is_empty()).then(|| parts + "`ingester ddl --diff` prints what makes it right")
}

/// Keeps those that one COPY can load with the first: their rows have the same columns.
pub(crate) fn keep_alike(ours: &[String], seals: &mut Vec<Seal>) {
    let Some(first) = seals.first().map(|seal| seal.columns.clone()) else { return };
    let of = |columns: &Option<Vec<String>>| columns.as_deref().unwrap_or(ours).to_vec();
    let wanted = of(&first);
    seals.retain(|seal| of(&seal.columns) == wanted);
}

/// Why these batches cannot be loaded and others can: the table lacks columns which only they name. Columns that this
/// ingester's schema has too are missing for every batch.
pub(super) async fn missing_of_batch(
    server: &impl Server,
    target: &Target,
    part: &Part,
) -> Option<LoadFailure> {
    let columns = part.seal.columns.as_deref().filter(|columns| **columns != target.columns)?;
    let live = fetch(server, &target.table).await;
    let live =
        live.inspect_err(|error| tracing::debug!(%error, "cannot read the columns of the table")).ok()?;
    let missing = missing(columns, &live);
    if missing.is_empty() || live.is_empty() || missing.iter().any(|name| target.columns.contains(name)) {
        return None;
    }
    let mut named = missing.iter().take(NAMED).map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    if missing.len() > NAMED {
        named += &format!(" and {} more", missing.len() - NAMED);
    }
    let why = format!(
        "the table {} has no column {named}, which rows of batch {} have (they were made for schema {}, this \
         ingester has {})",
        target.table, part.seal.batch, part.seal.schema, target.fingerprint
    );
    let advice = if target.additions.is_empty() { ADVICE } else { ADVICE_ADDS };
    Some(LoadFailure { advice, ..LoadFailure::of_batch(ErrorClass::Configuration, why) })
}

fn missing<'c>(columns: &'c [String], live: &[LiveColumn]) -> Vec<&'c String> {
    let there = |name: &String| live.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    columns.iter().filter(|name| !there(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use shared::config::Secrets;
    use shared::schema::{Column, Kind, SqlType};

    use super::*;
    use crate::facts::folder::tests::seal;
    use crate::redshift::answer::Rows;
    use crate::redshift::ddl::{Addition, Misfit};
    use crate::redshift::server::script::Script;
    use crate::redshift::sql::tests::table;
    use crate::redshift::target::tests::target;

    #[test]
    fn names_are_literals_in_lower_case() {
        let text = query(&table("Public.O'Hits"));
        assert!(text.contains("table_schema = 'public' AND table_name = 'o''hits' ORDER"), "{text}");
        assert!(query(&table("hits")).contains("table_schema = current_schema() AND"));
    }

    #[test]
    fn a_row_of_the_catalog_is_a_column_with_its_whole_type() {
        let row = |cells: [&str; 7]| {
            let cells = cells.map(|cell| Some(cell.to_owned()).filter(|cell| cell != "-"));
            Rows(vec![cells.to_vec()]).read(column).pop()
        };
        let live = |type_text: &str, not_null| {
            let (name, type_text) = ("a".to_owned(), type_text.to_owned());
            Some(LiveColumn { name, type_text, not_null, has_default: false, layout: None })
        };
        assert_eq!(
            row(["a", "character varying", "9", "-", "-", "YES", "-"]),
            live("character varying(9)", false)
        );
        assert_eq!(row(["a", "numeric", "-", "18", "2", "NO", "-"]), live("numeric(18,2)", true));
        assert_eq!(
            row(["a", "timestamp without time zone", "-", "-", "-", "NO", "x"]),
            live("timestamp without time zone", true)
                .map(|column| LiveColumn { has_default: true, ..column })
        );
        assert_eq!(row(["-", "super", "-", "-", "-", "YES", "-"]), None);
    }

    #[test]
    fn a_row_of_the_layout_is_an_encoding_and_a_part_of_the_keys() {
        let row = |cells: [&str; 4]| {
            let cells = cells.map(|cell| Some(cell.to_owned()).filter(|cell| cell != "-"));
            Rows(vec![cells.to_vec()]).read(layout).pop()
        };
        let of = |encoding, distkey, sortkey| Some(("a".to_owned(), Layout { encoding, distkey, sortkey }));
        assert_eq!(row(["a", "none", "f", "1"]), of(Some(Encoding::Raw), false, 1));
        assert_eq!(row(["a", "bytedict  ", "t", "-2"]), of(Some(Encoding::Bytedict), true, -2));
        assert_eq!(row(["a", "unheard-of", "true", "0"]), of(None, true, 0));
        assert_eq!(row(["a", "-", "-", "-"]), None);
        let text = layout_query(&table("hits"));
        assert!(text.contains("schema_name = current_schema() AND table_name = 'hits'"), "{text}");
    }

    #[test]
    fn one_warning_names_the_columns_and_what_becomes_of_their_rows() {
        let difference = |what| Difference { column: "a".to_owned(), what };
        let of_type =
            |misfit| What::Type { misfit, wanted: SqlType::Varchar(9), live: "varchar(8)".to_owned() };
        assert_eq!(warning(&[difference(What::Unknown)]), None);
        let said = warning(&[difference(of_type(Misfit::Short)), difference(What::NotNull)]);
        assert_eq!(
            said.as_deref(),
            Some(
                "rows that do not fit the table will go to quarantine: a is varchar(8) in the table, too short for some \
                 values of varchar(9); a is NOT NULL in the table. `ingester ddl --diff` prints what makes it right"
            )
        );
        let said = warning(&[difference(of_type(Misfit::Altered))]).unwrap();
        assert!(said.starts_with("values will be altered by their type in the table: a is"), "{said}");
    }

    fn config(redshift: &str) -> Config {
        let text = format!(
            "[instance]\nname = 'i'\n[adobe]\nclient_id = 'c'\nstream_url = 'https://s/'\n[s3]\nbucket = 'b'\n\
             region = 'eu-west-1'\n[redshift]\nhost = 'h'\nuser = 'u'\niam_role = 'default'\ndatabase = 'd'\n{redshift}\n"
        );
        let config = Config::parse(&text, Path::new("t"), std::iter::empty(), Secrets::Unused);
        config.unwrap_or_else(|error| panic!("{error}"))
    }

    fn bigint(name: &str) -> LiveColumn {
        let (name, type_text) = (name.to_owned(), "bigint".to_owned());
        LiveColumn { name, type_text, not_null: false, has_default: false, layout: None }
    }

    #[test]
    fn a_missing_column_that_will_be_added_refuses_no_start_and_another_type_does() {
        let column =
            |name: &str, kind, sql_type| Column::new(name, vec![name.parse().unwrap()], kind, sql_type);
        let schema = Schema::new(
            vec![
                column("a", Kind::Integer, SqlType::Bigint),
                column("b", Kind::Timestamp, SqlType::Timestamp),
            ],
            "t",
        );
        let schema = schema.unwrap();
        let (refuse, add) = (config(""), config("on_schema_change = 'add_columns'"));
        let unloadable = |config: &Config, live: &[LiveColumn]| {
            unloadable(config, &schema, live).map_err(|failure| failure.to_string())
        };
        let lacks = [bigint("a")];
        assert!(unloadable(&refuse, &lacks).unwrap_err().contains("b is not in the table"));
        assert_eq!(unloadable(&add, &lacks), Ok(()));
        let other = [bigint("a"), bigint("b")];
        for config in [&refuse, &add] {
            let said = unloadable(config, &other).unwrap_err();
            assert!(said.contains("b is bigint in the table and not timestamp"), "{said}");
            assert!(unloadable(config, &[]).unwrap_err().contains("there is no table"));
        }
    }

    #[tokio::test]
    async fn what_a_batch_waits_for_says_what_brings_the_column() {
        let row: &[Option<&str>] = &[Some("hitidhigh"), Some("bigint"), None, None, None, Some("YES"), None];
        let script = Script::default().answer("svv_columns", &[row]);
        let seal = Seal { columns: Some(names(&["hitidhigh", "plugins"])), ..seal() };
        let part = Part::whole(seal);
        let own = target();
        let failure = missing_of_batch(&script, &own, &part).await.unwrap();
        assert!(failure.why.contains("has no column plugins, which rows of batch"), "{failure}");
        assert!(failure.advice.contains("ingester ddl --diff"), "{failure}");
        let adding = Target { additions: Arc::from([Addition::new("hitidhigh", "bigint")]), ..own };
        let failure = missing_of_batch(&script, &adding, &part).await.unwrap();
        assert!(failure.advice.contains("with the [schema] that the rows were made for"), "{failure}");
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_batches_of_the_same_columns_in_the_same_order_go_together() {
        let ours = names(&["a", "b"]);
        let with = |columns: Option<&[&str]>| Seal { columns: columns.map(names), ..seal() };
        let all =
            [None, Some(&["a", "b"][..]), Some(&["b", "a"]), Some(&["a"]), Some(&["a", "b", "c"])].map(with);
        let kept = |first: usize| {
            let mut seals: Vec<Seal> = all[first..].to_vec();
            keep_alike(&ours, &mut seals);
            seals.iter().map(|seal| seal.batch).collect::<Vec<_>>()
        };
        assert_eq!(kept(0), [all[0].batch, all[1].batch], "a seal without names is loaded by our columns");
        assert_eq!((kept(2), kept(3)), (vec![all[2].batch], vec![all[3].batch]));
        assert_eq!(kept(4), [all[4].batch]);
        let mut none = Vec::new();
        keep_alike(&ours, &mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn what_the_table_lacks_is_told_apart_from_what_it_has_beside() {
        let (columns, live) = (names(&["a", "b", "c"]), ["A", "c", "own"].map(bigint));
        assert_eq!(missing(&columns, &live), ["b"]);
    }
}
