//! `ingester ddl`: the statements that create the table and the ledger, or bring them up to date.

use std::io::Write;

use shared::config::Config;
use shared::ddl::{LEDGER_COLUMNS, TableOptions, compare, create_ledger, create_table, script};
use shared::exit::{Exit, Failure};
use shared::schema::Schema;
use shared::sql::ident;

use crate::warehouse::{Connector, Session, SqlFailure, errors, table};

/// Prints both statements, ready for `psql` or a query editor.
///
/// # Errors
/// When the schema or the table's keys break a rule, or `out` cannot be written.
pub fn print(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let options = config.redshift.checked_options(&schema)?;
    let redshift = &config.redshift;
    out.write_all(script(&schema, &redshift.table, &options, &redshift.ledger).as_bytes())?;
    Ok(())
}

/// Prints the statements that bring the table and the ledger in Redshift up to date, and comments on what Redshift
/// cannot change; nothing but a comment if there is nothing to do.
///
/// # Errors
/// As [`print()`], and when Redshift cannot be asked.
pub async fn diff(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let options = config.redshift.checked_options(&schema)?;
    let connector = Connector::new(config, "livestream ingester ddl")?;
    let session = connector.open().await.map_err(|failure| sql_failed(&failure))?;
    let text =
        differences(&session, config, &schema, &options).await.map_err(|failure| sql_failed(&failure))?;
    out.write_all(text.as_bytes())?;
    Ok(())
}

async fn differences(
    session: &Session,
    config: &Config,
    schema: &Schema,
    options: &TableOptions,
) -> Result<String, SqlFailure> {
    let (name, ledger) = (&config.redshift.table, &config.redshift.ledger);
    let mut statements = Vec::new();
    let live = table::look(session, name).await?;
    if live.is_empty() {
        statements.push(create_table(schema, name, options) + ";");
    } else {
        statements.extend(compare(schema, &live, options).iter().map(|one| one.statement(name)));
    }
    let live = table::look(session, ledger).await?;
    if live.is_empty() {
        statements.push(create_ledger(ledger) + ";");
    } else {
        let missing =
            LEDGER_COLUMNS.iter().filter(|(column, _)| !live.iter().any(|live| live.name == *column));
        for (column, definition) in missing {
            // Redshift adds no column that is NOT NULL without a default; ours have always been there.
            let sql_type = definition.split(" NOT NULL").next().unwrap_or(definition);
            statements.push(format!("ALTER TABLE {ledger} ADD COLUMN {} {sql_type};", ident(column)));
        }
    }
    if statements.is_empty() {
        return Ok(format!("-- {name} and {ledger} are as the schema wants them.\n"));
    }
    Ok(statements.join("\n") + "\n")
}

fn sql_failed(failure: &SqlFailure) -> Failure {
    let advice = errors::judge(failure).advice;
    let advice = if advice.is_empty() { String::new() } else { format!(": {advice}") };
    Failure::new(Exit::Unavailable, anyhow::anyhow!("Redshift could not be asked: {failure}{advice}"))
}
