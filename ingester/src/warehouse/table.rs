//! The table as Redshift's catalog has it.

use shared::config::Config;
use shared::ddl::{Difference, LiveColumn, compare};
use shared::exit::{Exit, Failure};
use shared::schema::Schema;
use shared::sql::{TableName, literal};

use super::{Connector, Session, SqlFailure};

/// The columns of a table in its own order; none if there is no such table, or none that this user may see.
///
/// # Errors
/// When Redshift does not answer, or refuses.
pub async fn look(session: &Session, table: &TableName) -> Result<Vec<LiveColumn>, SqlFailure> {
    let rows = session.run(&query(table)).await?;
    Ok(rows.0.into_iter().filter_map(column).collect())
}

/// Names fold to lower case, even in quotes.
fn query(table: &TableName) -> String {
    let schema = table
        .schema()
        .map_or_else(|| "current_schema()".to_owned(), |schema| literal(&schema.to_ascii_lowercase()));
    format!(
        "SELECT column_name, data_type, character_maximum_length, numeric_precision, numeric_scale, is_nullable, \
         column_default FROM svv_columns WHERE table_schema = {schema} AND table_name = {} ORDER BY ordinal_position",
        literal(&table.table().to_ascii_lowercase())
    )
}

fn column(row: Vec<Option<String>>) -> Option<LiveColumn> {
    let [name, data_type, length, precision, scale, nullable, default] = <[_; 7]>::try_from(row).ok()?;
    let data_type = data_type?;
    let type_text = match data_type.as_str() {
        "character varying" | "character" => format!("{data_type}({})", length.unwrap_or_default()),
        "numeric" => format!("{data_type}({},{})", precision.unwrap_or_default(), scale.unwrap_or_default()),
        _ => data_type,
    };
    let required = nullable.is_some_and(|text| text == "NO") && default.is_none();
    Some(LiveColumn { name: name?, type_text, required })
}

/// Refuses to begin when every COPY would fail on the table as it is. A Redshift that is away is waited for later.
///
/// # Errors
/// Exit 78, naming the columns.
pub async fn refuse_unloadable(
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
pub fn unloadable(
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
    let differences = compare(schema, live, &config.redshift.table_options());
    let (fatal, harmless): (Vec<_>, Vec<_>) = differences.iter().partition(|one| one.is_fatal());
    if !fatal.is_empty() {
        let list = fatal.iter().map(|one: &&Difference| one.to_string()).collect::<Vec<_>>().join("; ");
        return fault(format!(
            "every COPY into {table} would fail: {list}. `ingester ddl --diff` prints what makes it right"
        ));
    }
    for difference in harmless {
        tracing::debug!(%difference, %table, "the table differs from the schema; rows can be loaded");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let live = |type_text: &str, required| {
            Some(LiveColumn { name: "a".to_owned(), type_text: type_text.to_owned(), required })
        };
        assert_eq!(
            row(["a", "character varying", "9", "-", "-", "YES", "-"]),
            live("character varying(9)", false)
        );
        assert_eq!(row(["a", "numeric", "-", "18", "2", "NO", "-"]), live("numeric(18,2)", true));
        assert_eq!(
            row(["a", "timestamp without time zone", "-", "-", "-", "NO", "x"]),
            live("timestamp without time zone", false)
        );
        assert_eq!(row(["-", "super", "-", "-", "-", "YES", "-"]), None);
    }
}
