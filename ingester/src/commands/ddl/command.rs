//! Prints the statements, or has them carried out.

use std::io::Write;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};

use crate::commands::ddl::apply::apply;
use crate::commands::ddl::differences::{Differences, Wanted};
use crate::redshift::ddl::script;
use crate::redshift::{Connector, SqlFailure, errors};

/// `ingester ddl`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Compare with the tables in Redshift, and print the ALTER TABLE statements that bring them up to date.
    #[arg(long)]
    diff: bool,
    /// Print what --diff prints, ask, and send these statements to Redshift, one after the other.
    ///
    /// Drops nothing and narrows nothing; what Redshift cannot alter stays a comment. Needs a user that owns the tables. Cut
    /// short, it is repeated: it compares again, and does what is left.
    #[arg(long, conflicts_with = "diff")]
    apply: bool,
    /// Do not ask for confirmation.
    #[arg(long, requires = "apply")]
    yes: bool,
}

impl Args {
    /// Whether it connects to Redshift.
    pub(crate) fn connects(&self) -> bool {
        self.diff || self.apply
    }
}

/// With --apply 64 when the answer is no or nobody can be asked, 65 when an operator must decide what Redshift cannot
/// alter; 69 or 78 when Redshift fails or refuses.
pub(crate) async fn command(
    config: &Config,
    args: &Args,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let wanted = Wanted::new(config)?;
    if !args.connects() {
        let Wanted { table, ledger, schema, options } = &wanted;
        return Ok(out.write_all(script(schema, table, options, ledger).as_bytes())?);
    }
    let connector = Connector::new(config, "livestream ingester ddl", clock.clone())?;
    let session = connector.open().await.map_err(|failure| not_asked(&failure))?;
    if args.apply {
        return apply(&session, config, &wanted, args.yes, out).await;
    }
    let differences = Differences::fetch(&session, &wanted).await.map_err(|failure| not_asked(&failure))?;
    Ok(out.write_all(differences.text().as_bytes())?)
}

fn not_asked(failure: &SqlFailure) -> Failure {
    let advice = errors::judge(failure).advice;
    let advice = if advice.is_empty() { String::new() } else { format!(": {advice}") };
    Failure::new(Exit::Unavailable, anyhow::anyhow!("Redshift could not be asked: {failure}{advice}"))
}
