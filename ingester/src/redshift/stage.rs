//! Brings rows into the table within a transaction that also counts them in the ledger: by a plain COPY, or staged:
//!
//! ```text
//! CREATE TEMP TABLE stage (LIKE table) · COPY into it · as many rows as meant? · first and last time of its hits
//!   · DELETE from it what the table has by hit id, among the rows of that time
//!   · count what is left, each hit once · INSERT that into the table · DROP
//! ```
//! The rows that are left out are *known*: the table has them. The first and last time of the rows bound the comparison, so
//! that the sort key of the table limits how much is read. Both go back to the server as it wrote them: whatever the type
//! of the column, a hit in the table has the same value there. Rows without a hit id are loaded as they are.
//!
//! The temporary table is LIKE the table: the same types refuse the same rows, and the same distribution makes the
//! comparison local. LIKE copies NOT NULL but not the numbering of an IDENTITY column, so for a table that has columns
//! beyond ours which must have a value the stage has our columns only, by CREATE TABLE AS. That forgets NOT NULL; the
//! INSERT then refuses rows without a value, and they are searched like all refused rows.

use shared::layout::Compression;
use shared::schema::ROW_NUMBER as NUMBER;

use crate::redshift::answer::SqlFailure;
use crate::redshift::catalog;
use crate::redshift::ddl::LiveColumn;
use crate::redshift::doing::Doing;
use crate::redshift::server::{Aborted, Server, copy, run};
use crate::redshift::session::Session;
use crate::redshift::sql::{Table, ident, literal};
use crate::redshift::target::{Comparable, Target};

#[derive(Debug, Clone)]
pub(super) struct Staging<'a> {
    /// The id that the temporary table is named after.
    pub(super) name: &'a str,
    /// Its key.
    pub(super) manifest: &'a str,
    pub(super) compression: Compression,
    pub(super) rows: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Staged {
    /// Rows that the table had already, or that came twice.
    pub(super) known: u64,
    /// The COPY, if the server tells.
    pub(super) query: Option<i64>,
}

impl Target {
    fn make_stage(&self, stage: &str) -> String {
        let (table, stage) = (&self.table, ident(stage));
        // Not those of an IDENTITY column, which is NOT NULL and is shown with a default.
        let ours = |name: &String| self.columns.iter().any(|column| column.eq_ignore_ascii_case(name));
        if self.not_null.iter().all(ours) {
            format!("CREATE TEMP TABLE {stage} (LIKE {table} INCLUDING DEFAULTS)")
        } else {
            format!("CREATE TEMP TABLE {stage} AS SELECT {} FROM {table} WHERE false", self.column_list())
        }
    }

    /// Deletes from the stage what the table has, among its rows received from `first` to `last`, edges included.
    fn leave_out(&self, stage: &str, by: Comparable<'_>, (first, last): (&str, &str)) -> String {
        let table = ident(self.table.table());
        let (stage, high, low, received) = (ident(stage), ident(by.high), ident(by.low), ident(by.received));
        format!(
            "DELETE FROM {stage} USING {} WHERE {table}.{high} = {stage}.{high} AND {table}.{low} = {stage}.{low} \
             AND {table}.{received} BETWEEN {} AND {}",
            self.table,
            literal(first),
            literal(last)
        )
    }

    /// The rows of the stage, each hit once.
    fn once(&self, stage: &str, by: Comparable<'_>, columns: &str) -> String {
        let (stage, high, low) = (ident(stage), ident(by.high), ident(by.low));
        format!(
            "(SELECT {columns}, row_number() OVER (PARTITION BY {high}, {low} ORDER BY {high}) AS {NUMBER} \
             FROM {stage}) AS staged WHERE {NUMBER} = 1 OR {high} IS NULL OR {low} IS NULL"
        )
    }

    fn count_once(&self, stage: &str, by: Comparable<'_>) -> String {
        let ids = format!("{}, {}", ident(by.high), ident(by.low));
        format!("SELECT count(*) FROM {}", self.once(stage, by, &ids))
    }

    fn insert_once(&self, stage: &str, by: Comparable<'_>) -> String {
        let (table, columns) = (&self.table, self.column_list());
        let rows = self.once(stage, by, &columns);
        format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {rows}")
    }
}

/// Brings rows into the table, within a transaction that has the lock. With columns to compare by it leaves out the hits
/// that the table has; without them it is a plain COPY.
pub(super) async fn insert(
    server: &impl Server,
    target: &Target,
    by: Option<Comparable<'_>>,
    staging: &Staging<'_>,
) -> Result<Staged, Aborted> {
    let Staging { manifest, compression, rows, .. } = *staging;
    let Some(by) = by else {
        let query = copy(server, &target.copy(manifest, compression), rows).await?;
        return Ok(Staged { known: 0, query });
    };
    let stage = name(staging.name);
    run(server, &target.make_stage(&stage), Doing::MakeStage).await?;
    let no_name =
        |_| Aborted::Sql(SqlFailure::lost(format!("{stage} is no name of a table")), Doing::NameStage);
    let into = Table(stage.parse().map_err(no_name)?);
    let query = copy(server, &target.copy_into(&into, manifest, compression), rows).await?;
    let times = run(server, &ends(&stage, by), Doing::ReadStageTimes).await?;
    if let Some(times) = times.first().text(0).zip(times.first().text(1)) {
        run(server, &target.leave_out(&stage, by, times), Doing::CompareStage).await?;
    }
    let left = run(server, &target.count_once(&stage, by), Doing::Count).await?;
    let Some(known) = left.first().get(0).and_then(|left| rows.checked_sub(left)) else {
        let why = SqlFailure::lost("no count of the rows that are left of the temporary table");
        return Err(Aborted::Sql(why, Doing::Count));
    };
    run(server, &target.insert_once(&stage, by), Doing::InsertStage).await?;
    run(server, &drop_stage(&stage), Doing::DropStage).await?;
    Ok(Staged { known, query })
}

/// Makes a temporary table as a staged load does, and drops it.
pub(crate) async fn probe(session: &Session, target: &Target) -> Result<(), SqlFailure> {
    let stage = name("check");
    session.run(&target.make_stage(&stage)).await?;
    session.run(&drop_stage(&stage)).await.map(drop)
}

/// Reads from the catalog which columns of the table must have a value.
pub(crate) async fn not_null(session: &Session, target: &Target) -> Result<Vec<String>, SqlFailure> {
    Ok(not_null_of(&catalog::fetch(session, &target.table).await?))
}

fn not_null_of(live: &[LiveColumn]) -> Vec<String> {
    live.iter().filter(|column| column.not_null).map(|column| column.name.clone()).collect()
}

fn ends(stage: &str, by: Comparable<'_>) -> String {
    let (stage, high, low, received) = (ident(stage), ident(by.high), ident(by.low), ident(by.received));
    format!(
        "SELECT min({received}), max({received}) FROM {stage} WHERE {high} IS NOT NULL AND {low} IS NOT NULL"
    )
}

/// The last digits of an id are its own.
fn name(of: &str) -> String {
    let short = of.rsplit('-').next().unwrap_or(of);
    format!("livestream_stage_{short}")
}

fn drop_stage(stage: &str) -> String {
    format!("DROP TABLE {}", ident(stage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::server::script::Script;
    use crate::redshift::target::KeyColumns;
    use crate::redshift::target::tests::target;

    const COUNT: &str = "pg_last_copy_count";
    const LEFT: &str = "SELECT count(*)";
    const ENDS: &str = "SELECT min(";

    fn staging() -> Staging<'static> {
        Staging {
            name: "0198c5a2-7d10-7cc0-8e1f-3f5d0a1b2c3d",
            manifest: "m",
            compression: Compression::Zstd,
            rows: 20,
        }
    }

    fn answering(copied: &'static str, left: &'static str) -> Script {
        let ends: &[Option<&str>] = &[Some("2026-01-02 03:04:05.5"), Some("2026-01-02 03:04:07'")];
        Script::default()
            .answer(COUNT, &[&[Some(copied)]])
            .answer(ENDS, &[ends])
            .answer(LEFT, &[&[Some(left)]])
    }

    async fn sent(script: &Script, staging: &Staging<'_>) -> Result<Staged, Aborted> {
        let target = target();
        insert(script, &target, target.comparable(), staging).await
    }

    #[tokio::test]
    async fn rows_go_through_a_table_like_theirs_and_what_is_there_is_left_out() {
        let script = answering("20", "17");
        assert_eq!(sent(&script, &staging()).await.unwrap(), Staged { known: 3, query: None });
        let [make, copy, _, ends, leave_out, count, insert, gone] =
            <[String; 8]>::try_from(script.sent()).unwrap();
        let stage = "\"livestream_stage_3f5d0a1b2c3d\"";
        assert_eq!(make, format!("CREATE TEMP TABLE {stage} (LIKE \"public\".\"hits\" INCLUDING DEFAULTS)"));
        assert!(
            copy.starts_with(&format!("COPY {stage} (\"hitidhigh\", \"hitidlow\", \"received\", ")),
            "{copy}"
        );
        assert_eq!(
            leave_out,
            format!(
                "DELETE FROM {stage} USING \"public\".\"hits\" WHERE \"hits\".\"hitidhigh\" = {stage}.\"hitidhigh\" \
                 AND \"hits\".\"hitidlow\" = {stage}.\"hitidlow\" AND \"hits\".\"received\" BETWEEN \
                 '2026-01-02 03:04:05.5' AND '2026-01-02 03:04:07'''"
            ),
            "as the server wrote them, and quoted"
        );
        assert_eq!(
            ends,
            format!(
                "SELECT min(\"received\"), max(\"received\") FROM {stage} WHERE \"hitidhigh\" IS NOT NULL AND \
                 \"hitidlow\" IS NOT NULL"
            )
        );
        let once = "row_number() OVER (PARTITION BY \"hitidhigh\", \"hitidlow\" ORDER BY \"hitidhigh\") AS livestream_n";
        let each = "WHERE livestream_n = 1 OR \"hitidhigh\" IS NULL OR \"hitidlow\" IS NULL";
        assert!(count.contains(once) && count.ends_with(each), "{count}");
        assert!(insert.starts_with("INSERT INTO \"public\".\"hits\" (\"hitidhigh\", "), "{insert}");
        assert!(insert.contains(once) && insert.ends_with(each), "{insert}");
        assert_eq!(gone, format!("DROP TABLE {stage}"));
    }

    #[tokio::test]
    async fn without_times_nothing_is_compared_but_its_own_hits() {
        let none: &[Option<&str>] = &[None, None];
        let script = Script::default()
            .answer(COUNT, &[&[Some("20")]])
            .answer(ENDS, &[none])
            .answer(LEFT, &[&[Some("19")]]);
        let staged = sent(&script, &staging()).await.unwrap();
        assert_eq!(staged.known, 1);
        assert!(!script.verbs().contains(&"DELETE".to_owned()));
    }

    #[tokio::test]
    async fn a_count_that_is_wrong_or_missing_ends_it_before_the_insert() {
        let short = answering("19", "17");
        assert!(
            matches!(sent(&short, &staging()).await, Err(Aborted::Count { copied, .. }) if copied == "19")
        );
        for left in ["21", "x"] {
            let odd = answering("20", left);
            assert!(matches!(sent(&odd, &staging()).await, Err(Aborted::Sql(..))));
            assert!(!odd.verbs().contains(&"INSERT".to_owned()));
        }
    }

    #[test]
    fn a_table_that_numbers_its_rows_has_a_stage_of_our_columns() {
        let target = target();
        let column = |name: &str, type_text: &str, not_null, has_default| LiveColumn {
            name: name.to_owned(),
            type_text: type_text.to_owned(),
            not_null,
            has_default,
            layout: None,
        };
        let made = |columns: &[String], more: LiveColumn| {
            let not_null = not_null_of(&[column("hitidhigh", "numeric(20,0)", true, false), more]);
            Target { not_null, columns: columns.to_vec(), ..target.clone() }.make_stage("s")
        };
        let like = "CREATE TEMP TABLE \"s\" (LIKE";
        assert!(made(&target.columns, column("loaded", "timestamp", false, true)).starts_with(like));
        let numbered = column("id", "bigint", true, true);
        let ours = ["hitidhigh".to_owned(), "id".to_owned()];
        assert!(made(&ours, numbered.clone()).starts_with(like), "rows bring it");
        let sql = made(&target.columns, numbered);
        let columns = "\"hitidhigh\", \"hitidlow\", \"received\", \"language\"";
        let wanted =
            format!("CREATE TEMP TABLE \"s\" AS SELECT {columns} FROM \"public\".\"hits\" WHERE false");
        assert_eq!(sql, wanted);
    }

    #[test]
    fn hits_are_compared_only_where_every_row_has_ids_and_time() {
        let target = target();
        assert!(target.comparable().is_some());
        let without = |key_columns| Target { key_columns, ..target.clone() }.comparable().is_none();
        let KeyColumns { batch, received, hit } = target.key_columns.clone();
        assert!(without(KeyColumns { batch: batch.clone(), received: None, hit: hit.clone() }));
        assert!(without(KeyColumns { batch, received, hit: None }));
        // Rows in quarantine may have been made for other columns.
        let old = Target { columns: vec!["hitidhigh".to_owned()], ..target.clone() };
        assert_eq!(old.comparable(), None);
    }
}
