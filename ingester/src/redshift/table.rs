//! The table as Redshift's catalog has it.

use std::collections::HashMap;

use crate::redshift::ddl::{Difference, Layout, LiveColumn, TableOptions, compare};
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::schema::{Encoding, Schema};
use shared::sql::{TableName, literal};

use crate::redshift::{Connector, Session, SqlFailure};

/// The columns of a table in its own order; none if there is no such table, or none that this user may see.
///
/// # Errors
/// When Redshift does not answer, or refuses.
pub(crate) async fn look(session: &Session, table: &TableName) -> Result<Vec<LiveColumn>, SqlFailure> {
    let rows = session.run(&query(table)).await?;
    Ok(rows.0.into_iter().filter_map(column).collect())
}

/// Names fold to lower case, even in quotes.
fn query(table: &TableName) -> String {
    format!(
        "SELECT column_name, data_type, character_maximum_length, numeric_precision, numeric_scale, is_nullable, \
         column_default FROM svv_columns WHERE table_schema = {} AND table_name = {} ORDER BY ordinal_position",
        schema_of(table),
        literal(&table.table().to_ascii_lowercase())
    )
}

fn schema_of(table: &TableName) -> String {
    table
        .schema()
        .map_or_else(|| "current_schema()".to_owned(), |schema| literal(&schema.to_ascii_lowercase()))
}

fn column(row: Vec<Option<String>>) -> Option<LiveColumn> {
    let [name, data_type, length, precision, scale, nullable, default] = <[_; 7]>::try_from(row).ok()?;
    let data_type = data_type?;
    let type_text = match data_type.as_str() {
        "character varying" | "character" => format!("{data_type}({})", length.unwrap_or_default()),
        "numeric" => format!("{data_type}({},{})", precision.unwrap_or_default(), scale.unwrap_or_default()),
        _ => data_type,
    };
    let not_null = nullable.is_some_and(|text| text == "NO");
    Some(LiveColumn { name: name?, type_text, not_null, has_default: default.is_some(), layout: None })
}

/// As [`look`], with how the columns are stored; and why not, if Redshift does not show that.
///
/// # Errors
/// As [`look`].
pub(crate) async fn look_closely(
    session: &Session,
    table: &TableName,
) -> Result<(Vec<LiveColumn>, Option<String>), SqlFailure> {
    let mut columns = look(session, table).await?;
    let stored = match session.run(&layout_query(table)).await {
        Ok(rows) => rows.0.into_iter().filter_map(layout).collect::<HashMap<_, _>>(),
        Err(failure) => return Ok((columns, Some(failure.to_string()))),
    };
    for column in &mut columns {
        column.layout = stored.get(&column.name).copied();
    }
    let unseen = columns.iter().any(|column| column.layout.is_none());
    Ok((columns, unseen.then(|| "svv_redshift_columns does not show every column".to_owned())))
}

/// Not `pg_table_def`, which shows tables of the search path only.
fn layout_query(table: &TableName) -> String {
    format!(
        "SELECT column_name, encoding, distkey, sortkey FROM svv_redshift_columns \
         WHERE database_name = current_database() AND schema_name = {} AND table_name = {}",
        schema_of(table),
        literal(&table.table().to_ascii_lowercase())
    )
}

fn layout(row: Vec<Option<String>>) -> Option<(String, Layout)> {
    let [name, encoding, distkey, sortkey] = <[_; 4]>::try_from(row).ok()?;
    let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    let encoding = if encoding == "none" { Some(Encoding::Raw) } else { encoding.parse().ok() };
    let distkey = matches!(distkey?.as_str(), "t" | "true");
    Some((name?, Layout { encoding, distkey, sortkey: sortkey?.parse().ok()? }))
}

/// Refuses to begin when every COPY would fail on the table as it is. A Redshift that is away is waited for later.
///
/// # Errors
/// Exit 78, naming the columns.
pub(crate) async fn refuse_unloadable(
    config: &Config,
    schema: &Schema,
    connector: &Connector,
) -> Result<(), Failure> {
    let table = &config.redshift.table;
    let live = match connector.open().await {
        Ok(session) => look(&session, table).await,
        Err(failure) => Err(failure),
    };
    match live {
        Ok(live) => unloadable(table, schema, &live, config),
        Err(error) => {
            tracing::warn!(%error, %table, "the table could not be compared with the schema before the start");
            Ok(())
        }
    }
}

/// Whether every COPY would fail on this table.
///
/// # Errors
/// Exit 78, naming the columns.
pub(crate) fn unloadable(
    table: &TableName,
    schema: &Schema,
    live: &[LiveColumn],
    config: &Config,
) -> Result<(), Failure> {
    let fault = |text: String| Err(Failure::new(Exit::Config, anyhow::anyhow!(text)));
    if live.is_empty() {
        return fault(format!(
            "there is no table {table}, or redshift.user may not see it: `ingester ddl` prints the statements that \
             create it, deploy/grants.sql what the user needs"
        ));
    }
    let differences = compare(schema, live, &TableOptions::of(&config.redshift));
    let fatal = list(&differences, Difference::is_fatal);
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

fn list(differences: &[Difference], which: impl Fn(&Difference) -> bool) -> String {
    let list: Vec<_> = differences.iter().filter(|one| which(one)).map(ToString::to_string).collect();
    list.join("; ")
}

/// What becomes of rows, if the table is not altered.
fn warning(differences: &[Difference]) -> Option<String> {
    let refused = list(differences, Difference::refuses_rows);
    let altered = list(differences, Difference::alters_values);
    let mut parts = Vec::new();
    if !refused.is_empty() {
        parts.push(format!("rows that do not fit the table will go to quarantine: {refused}"));
    }
    if !altered.is_empty() {
        parts.push(format!("values will be altered by their type in the table: {altered}"));
    }
    parts.push("`ingester ddl --diff` prints what makes it right".to_owned());
    (parts.len() > 1).then(|| parts.join(". "))
}

#[cfg(test)]
mod tests {
    use crate::redshift::ddl::What;
    use shared::schema::SqlType;

    use super::*;

    #[test]
    fn names_are_literals_in_lower_case() {
        let text = query(&"Public.O'Hits".parse().unwrap());
        assert!(text.contains("table_schema = 'public' AND table_name = 'o''hits' ORDER"), "{text}");
        assert!(query(&"hits".parse().unwrap()).contains("table_schema = current_schema() AND"));
    }

    #[test]
    fn a_row_of_the_catalog_is_a_column_with_its_whole_type() {
        let row = |cells: [&str; 7]| {
            column(cells.iter().map(|cell| Some((*cell).to_owned()).filter(|cell| cell != "-")).collect())
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
            layout(cells.iter().map(|cell| Some((*cell).to_owned()).filter(|cell| cell != "-")).collect())
        };
        let of = |encoding, distkey, sortkey| Some(("a".to_owned(), Layout { encoding, distkey, sortkey }));
        assert_eq!(row(["a", "none", "f", "1"]), of(Some(Encoding::Raw), false, 1));
        assert_eq!(row(["a", "bytedict  ", "t", "-2"]), of(Some(Encoding::Bytedict), true, -2));
        assert_eq!(row(["a", "unheard-of", "true", "0"]), of(None, true, 0));
        assert_eq!(row(["a", "-", "-", "-"]), None);
        let text = layout_query(&"hits".parse().unwrap());
        assert!(text.contains("schema_name = current_schema() AND table_name = 'hits'"), "{text}");
    }

    #[test]
    fn one_warning_names_the_columns_and_what_becomes_of_their_rows() {
        let difference = |what| Difference { column: "a".to_owned(), what };
        let wanted = SqlType::Varchar(9);
        let live = || "varchar(8)".to_owned();
        assert_eq!(warning(&[difference(What::Unknown)]), None);
        let said = warning(&[difference(What::Short { wanted, live: live() }), difference(What::NotNull)]);
        assert_eq!(
            said.as_deref(),
            Some(
                "rows that do not fit the table will go to quarantine: a is varchar(8) in the table, too short for some \
                 values of varchar(9); a is NOT NULL in the table. `ingester ddl --diff` prints what makes it right"
            )
        );
        let said = warning(&[difference(What::Altered { wanted, live: live() })]).unwrap();
        assert!(said.starts_with("values will be altered by their type in the table: a is"), "{said}");
    }
}
