//! `ingester ddl`: the statements that create the table and the ledger.

use std::io::Write;

use shared::config::Config;
use shared::ddl::{TableOptions, script};
use shared::exit::{Exit, Failure};

/// Prints both statements, ready for `psql` or a query editor.
///
/// # Errors
/// When the schema or the table's keys break a rule, or `out` cannot be written.
pub fn print(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let redshift = &config.redshift;
    let distkey = Some(redshift.distkey.clone()).filter(|column| !column.is_empty());
    let options = TableOptions { sortkey: redshift.sortkey.clone(), distkey };
    options
        .validate(&schema)
        .map_err(|error| Failure::new(Exit::Config, anyhow::anyhow!("redshift.{error}")))?;
    out.write_all(script(&schema, &redshift.table, &options, &redshift.ledger).as_bytes())?;
    Ok(())
}
