//! What the tables in Redshift lack, as the statements that bring them up to date.

use shared::config::Config;
use shared::exit::Failure;
use shared::schema::Schema;

use crate::redshift::ddl::{
    Effect, TableOptions, alter_ledger, alter_table, compare, create_ledger, create_lock, create_table,
};
use crate::redshift::server::Server;
use crate::redshift::sql::Table;
use crate::redshift::{SqlFailure, catalog};

/// The tables as the configuration wants them.
pub(super) struct Wanted {
    pub(super) table: Table,
    pub(super) ledger: Table,
    pub(super) schema: Schema,
    pub(super) options: TableOptions,
}

impl Wanted {
    pub(super) fn new(config: &Config) -> Result<Self, Failure> {
        let schema = config.schema.load()?;
        let options = TableOptions::checked(&config.redshift, &schema)?;
        let (table, ledger) = (Table(config.redshift.table.clone()), Table(config.redshift.ledger.clone()));
        Ok(Self { table, ledger, schema, options })
    }
}

/// How the tables in Redshift differ from those wanted.
pub(super) struct Differences {
    /// Statements in the order in which to send them, each ended by a semicolon, and comments.
    lines: Vec<String>,
    /// Columns on which every COPY fails, whatever is altered.
    pub(super) fatal: Vec<String>,
}

impl Differences {
    pub(super) async fn fetch(server: &impl Server, wanted: &Wanted) -> Result<Self, SqlFailure> {
        let Wanted { table: name, ledger, schema, options } = wanted;
        let mut lines = Vec::new();
        let (live, unseen) = catalog::fetch_with_layout(server, name).await?;
        if live.is_empty() {
            lines.push(create_table(schema, name, options) + ";");
        } else {
            lines.extend(alter_table(schema, name, &live, options));
        }
        // The ledger's keys and encodings are left to Redshift.
        let ledger_now = catalog::fetch_with_layout(server, ledger).await?.0;
        if ledger_now.is_empty() {
            lines.push(create_ledger(ledger) + ";");
        } else {
            lines.extend(alter_ledger(ledger, &ledger_now));
        }
        let lock = Table(ledger.lock_table());
        if catalog::fetch(server, &lock).await?.is_empty() {
            lines.push(create_lock(ledger) + ";");
            lines.push(format!(
                "-- {lock} must belong to redshift.user, as the ledger does (deploy/grants.sql)."
            ));
        }
        if lines.is_empty() {
            lines.push(format!("-- {name} and {ledger} are as the schema wants them."));
        }
        if let Some(why) = unseen.filter(|_| !live.is_empty()) {
            let why = why.lines().next().unwrap_or_default();
            lines.push(format!("-- Keys and encodings of {name} were not compared: {why}"));
        }
        let differences = if live.is_empty() { Vec::new() } else { compare(schema, &live, options) };
        let fatal = differences.iter().filter(|one| one.effect() == Effect::Fatal);
        Ok(Self { lines, fatal: fatal.map(ToString::to_string).collect() })
    }

    /// Ready for `psql` or a query editor.
    pub(super) fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    /// The statements without the comments. None of them takes anything out of a table.
    pub(super) fn statements(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str).filter(|line| !line.starts_with("--"))
    }
}
