//! `ingester ddl`: the statements that create the table, the ledger and its lock, or bring them up to date.

use std::io::Write;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::schema::Schema;

use crate::redshift::ddl::{
    TableOptions, alter_ledger, alter_table, create_ledger, create_lock, create_table, script,
};
use crate::redshift::sql::Table;
use crate::redshift::{Connector, SqlFailure, catalog, errors};

/// Prints the statements, ready for `psql` or a query editor.
pub(crate) fn print(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let options = TableOptions::checked(&config.redshift, &schema)?;
    let (table, ledger) = tables(config);
    out.write_all(script(&schema, &table, &options, &ledger).as_bytes())?;
    Ok(())
}

/// Prints the statements that bring table and ledger up to date, with comments on what Redshift cannot change.
pub(crate) async fn diff(config: &Config, clock: &Clock, out: &mut impl Write) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let options = TableOptions::checked(&config.redshift, &schema)?;
    let connector = Connector::new(config, "livestream ingester ddl", clock.clone())?;
    let text = differences(&connector, tables(config), &schema, &options).await;
    out.write_all(text.map_err(|failure| sql_failed(&failure))?.as_bytes())?;
    Ok(())
}

async fn differences(
    connector: &Connector,
    (name, ledger): (Table, Table),
    schema: &Schema,
    options: &TableOptions,
) -> Result<String, SqlFailure> {
    let (name, ledger, session) = (&name, &ledger, &connector.open().await?);
    let mut lines = Vec::new();
    let (live, unseen) = catalog::fetch_with_layout(session, name).await?;
    if live.is_empty() {
        lines.push(create_table(schema, name, options) + ";");
    } else {
        lines.extend(alter_table(schema, name, &live, options));
    }
    // The ledger's keys and encodings are left to Redshift.
    let ledger_now = catalog::fetch_with_layout(session, ledger).await?.0;
    if ledger_now.is_empty() {
        lines.push(create_ledger(ledger) + ";");
    } else {
        lines.extend(alter_ledger(ledger, &ledger_now));
    }
    let lock = Table(ledger.lock_table());
    if catalog::fetch(session, &lock).await?.is_empty() {
        lines.push(create_lock(ledger) + ";");
        lines
            .push(format!("-- {lock} must belong to redshift.user, as the ledger does (deploy/grants.sql)."));
    }
    if lines.is_empty() {
        lines.push(format!("-- {name} and {ledger} are as the schema wants them."));
    }
    if let Some(why) = unseen.filter(|_| !live.is_empty()) {
        let why = why.lines().next().unwrap_or_default();
        lines.push(format!("-- Keys and encodings of {name} were not compared: {why}"));
    }
    Ok(lines.join("\n") + "\n")
}

fn tables(config: &Config) -> (Table, Table) {
    (Table(config.redshift.table.clone()), Table(config.redshift.ledger.clone()))
}

fn sql_failed(failure: &SqlFailure) -> Failure {
    let advice = errors::judge(failure).advice;
    let advice = if advice.is_empty() { String::new() } else { format!(": {advice}") };
    Failure::new(Exit::Unavailable, anyhow::anyhow!("Redshift could not be asked: {failure}{advice}"))
}
