//! Adds the columns of the schema that the table lacks, with `redshift.on_schema_change = "add_columns"`:
//!
//! ```text
//! BEGIN · LOCK lock, table · which columns does the table lack? ──none──► ROLLBACK: it has all of them
//!   ▲                                │ some
//!   └────── there are more ── COMMIT ◄── ALTER TABLE ADD COLUMN, one a statement, COLUMNS of them at most
//! ```
//! The catalog is read with both locks held, so nobody adds a column that is there by then: another ingester waits for the
//! first lock, a person's ALTER for the second. A transaction ends *applied*, *not applied* or *unknown* like that of a
//! load, and after each of them the next one asks the catalog. Nothing is noted elsewhere.
//!
//! Readers of the table wait for the end of a transaction that alters it, so it takes few columns; a table with many new
//! ones lets readers and loads in between.

use shared::human::counted;

use crate::failure::LoadFailure;
use crate::redshift::catalog;
use crate::redshift::ddl::Addition;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::lock::{self, Done};
use crate::redshift::server::Server;
use crate::redshift::target::Target;

/// Columns that one transaction adds at most.
const COLUMNS: usize = 20;
/// Of a trial only: no column is ever called so.
const PROBE: &str = "livestream_check";

impl Target {
    /// Whether the table belongs to the user of the session.
    fn is_owner(&self) -> String {
        format!(
            "SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE c.relname = {} AND n.nspname = {} AND pg_get_userbyid(c.relowner) = current_user",
            self.table.catalog_name(),
            self.table.catalog_schema()
        )
    }
}

/// How far one transaction came.
enum Progress {
    /// The table lacks nothing.
    Complete,
    /// It was given so many columns.
    Added(usize),
}

/// Whether the table lacks a column that is to be added. Waits for nobody.
pub(crate) async fn needed(server: &impl Server, target: &Target) -> Result<bool, LoadFailure> {
    if target.additions.is_empty() {
        return Ok(false);
    }
    let live = catalog::fetch(server, &target.table).await.doing(Doing::ReadColumns)?;
    Ok(!target.lacking(&live).is_empty())
}

/// Adds what the table lacks. Returns how many columns that were; others may have added the rest. What it has added
/// when it fails stays, and the next call goes on from there.
pub(crate) async fn add(server: &impl Server, target: &Target) -> Result<usize, LoadFailure> {
    let mut added = 0;
    loop {
        match lock::within_with_table(server, target, add_some(server, target)).await {
            Ok(Progress::Added(columns)) => added += columns,
            Ok(Progress::Complete) => return Ok(added),
            Err(failure) => {
                let at = format!(
                    "adding columns to {} (redshift.on_schema_change), {} so far",
                    target.table,
                    counted(added as u64, "column", "columns")
                );
                return Err(failure.within(at));
            }
        }
    }
}

async fn add_some(server: &impl Server, target: &Target) -> Result<Done<Progress>, LoadFailure> {
    let live = catalog::fetch(server, &target.table).await.doing(Doing::ReadColumns)?;
    let lacking = target.lacking(&live);
    let columns = &lacking[..lacking.len().min(COLUMNS)];
    if columns.is_empty() {
        return Ok(Done::Nothing(Progress::Complete));
    }
    for column in columns {
        let added = server.run(&column.statement(&target.table)).await.doing(Doing::Alter);
        added.map_err(|failure| failure.within(column))?;
    }
    server.run("COMMIT").await.doing(Doing::CommitColumns)?;
    columns.iter().for_each(|column| report(target, column));
    Ok(Done::Committed(Progress::Added(columns.len())))
}

fn report(target: &Target, column: &Addition) {
    tracing::info!(table = %target.table, %column, "a column of the schema was added to the table");
    if target.key_columns.are_compared(&column.name) {
        tracing::warn!(
            table = %target.table,
            column = column.name,
            "hits are compared by this column, and rows that were loaded before have no value in it: a hit of theirs that \
             comes again is not recognised"
        );
    }
}

/// Whether columns may be added: adds one within a transaction that is rolled back, unless the user owns the table.
pub(crate) async fn try_right(server: &impl Server, target: &Target) -> Result<Right, LoadFailure> {
    let owner = server.run(&target.is_owner()).await.doing(Doing::ReadColumns)?;
    if !owner.0.is_empty() {
        return Ok(Right::Owner);
    }
    let work = async {
        let probe = Addition::new(PROBE, "smallint").statement(&target.table);
        server.run(&probe).await.doing(Doing::Alter)?;
        Ok::<_, LoadFailure>(Done::Nothing(Right::Granted))
    };
    lock::within_with_table(server, target, work).await
}

/// Why a user may add columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Owner,
    /// As a superuser, or by the privilege ALTER.
    Granted,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use state::loads::ErrorClass;

    use super::*;
    use crate::redshift::server::script::Script;
    use crate::redshift::target::tests::target;

    const CATALOG: &str = "svv_columns";

    fn adding(names: &[String]) -> Target {
        let additions: Vec<Addition> = names.iter().map(|name| Addition::new(name, "bigint")).collect();
        Target { additions: Arc::from(additions), ..target() }
    }

    fn names(many: usize) -> Vec<String> {
        (0..many).map(|n| format!("c{n}")).collect()
    }

    /// A row of the catalog.
    fn there(name: &'static str) -> Vec<Option<&'static str>> {
        vec![Some(name), Some("bigint"), None, None, None, Some("YES"), None]
    }

    #[tokio::test]
    async fn the_catalog_is_read_under_both_locks_and_each_column_has_a_statement_of_its_own() {
        let row = there("c1");
        let script = Script::default().answer(CATALOG, &[&row]);
        let target = adding(&names(3));
        let Ok(Done::Committed(Progress::Added(2))) = add_some(&script, &target).await else {
            panic!("two columns are missing")
        };
        assert_eq!(
            script.sent()[1..],
            [
                "ALTER TABLE \"public\".\"hits\" ADD COLUMN \"c0\" bigint",
                "ALTER TABLE \"public\".\"hits\" ADD COLUMN \"c2\" bigint",
                "COMMIT"
            ]
        );
        let complete = Script::default().answer(CATALOG, &[&row]);
        assert_eq!(add(&complete, &adding(&["c1".to_owned()])).await.unwrap(), 0);
        assert_eq!(complete.verbs(), ["BEGIN", "LOCK", "SELECT", "ROLLBACK"]);
        assert_eq!(complete.sent()[1], "LOCK \"public\".\"ledger_lock\", \"public\".\"hits\"");
    }

    #[tokio::test]
    async fn one_transaction_adds_few_columns() {
        let row = there("own");
        let script = Script::default().answer(CATALOG, &[&row]);
        let Ok(Done::Committed(Progress::Added(COLUMNS))) = add_some(&script, &adding(&names(50))).await
        else {
            panic!("more than {COLUMNS}")
        };
        assert_eq!(script.verbs().iter().filter(|verb| *verb == "ALTER").count(), COLUMNS);
    }

    #[tokio::test]
    async fn a_refusal_names_the_column_and_what_to_do_and_is_rolled_back() {
        let row = there("own");
        let script = Script::default()
            .answer(CATALOG, &[&row])
            .refuse("ADD COLUMN \"c1\"", "must be owner of relation hits");
        let failure = add(&script, &adding(&names(3))).await.unwrap_err();
        assert_eq!(failure.class, ErrorClass::Configuration);
        let said = failure.to_string();
        assert!(
            said.starts_with("adding columns to \"public\".\"hits\" (redshift.on_schema_change), "),
            "{said}"
        );
        assert!(
            said.contains("c1 bigint: ALTER TABLE: must be owner of relation hits: let redshift.user own"),
            "{said}"
        );
        assert_eq!(script.verbs(), ["BEGIN", "LOCK", "SELECT", "ALTER", "ALTER", "ROLLBACK"]);
    }

    #[tokio::test]
    async fn nothing_is_asked_where_nothing_may_be_added() {
        let script = Script::default();
        assert!(!needed(&script, &target()).await.unwrap());
        assert!(script.sent().is_empty());
        let row = there("own");
        let lacking = Script::default().answer(CATALOG, &[&row]);
        assert!(needed(&lacking, &adding(&names(1))).await.unwrap());
        // Without a table there is nothing to add to.
        assert!(!needed(&Script::default(), &adding(&names(1))).await.unwrap());
    }

    #[tokio::test]
    async fn the_right_to_add_is_tried_without_leaving_anything() {
        let one: &[Option<&str>] = &[Some("1")];
        let owner = Script::default().answer("relowner", &[one]);
        assert_eq!(try_right(&owner, &target()).await.unwrap(), Right::Owner);
        assert_eq!(owner.verbs(), ["SELECT"]);
        let granted = Script::default();
        assert_eq!(try_right(&granted, &target()).await.unwrap(), Right::Granted);
        assert_eq!(granted.verbs(), ["SELECT", "BEGIN", "LOCK", "ALTER", "ROLLBACK"]);
        let neither = Script::default().refuse("ALTER", "must be owner of relation hits");
        let failure = try_right(&neither, &target()).await.unwrap_err();
        assert_eq!(failure.class, ErrorClass::Configuration);
        assert_eq!(neither.verbs().last().unwrap(), "ROLLBACK");
    }
}
