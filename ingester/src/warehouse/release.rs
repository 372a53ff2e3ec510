//! What is said to Redshift about rows in quarantine, and the transaction that loads them later, exactly once.
//!
//! ```text
//! BEGIN · LOCK ledger · does its row still name this set? ──no──► ROLLBACK: somebody else was at it
//!                          │ yes
//!                          └─► the set of what is left to S3 · COPY · as many rows as meant? · UPDATE ledger row · COMMIT
//! ```
//! The ledger row says which set is in quarantine, and the transaction that loads a set, or a part of it, takes its name
//! out of the row, or puts that of what is left in its place. So a set is loaded once, however often and by however many
//! it is tried. The set of what is left is written under the lock: whoever tidies holds it too, and would delete a set
//! that no ledger row names yet.

use shared::ids::BatchId;
use shared::layout::Compression;
use shared::sql::literal;
use state::loads::ErrorClass;

use super::errors;
use super::session::{Rows, Session, SqlFailure};
use super::statements::Target;
use crate::trouble::Trouble;

/// Errors a COPY with NOLOAD may meet before it stops; Redshift's maximum.
const MAX_ERRORS: u32 = 100_000;

impl Target {
    /// Looks at every row and loads none; the tables of load errors tell which are refused.
    #[must_use]
    pub fn find_refused(&self, manifest: &str, compression: Compression) -> String {
        format!("{} MAXERROR {MAX_ERRORS}", self.has_refused(manifest, compression))
    }

    /// Looks at rows until one is refused, and loads none; fails if one is.
    #[must_use]
    pub fn has_refused(&self, manifest: &str, compression: Compression) -> String {
        format!("{} NOLOAD", self.copy(manifest, compression))
    }

    /// What the ledger says of the rows of these batches: batch, rows loaded, rows in quarantine, set.
    #[must_use]
    pub fn look_quarantined(&self, batches: &[BatchId]) -> String {
        let ids: Vec<String> = batches.iter().map(|batch| literal(&batch.to_string())).collect();
        let ids = ids.join(", ");
        format!(
            "SELECT batch_id, rows_loaded, rows_quarantined, quarantine FROM {} WHERE batch_id IN ({ids})",
            self.ledger
        )
    }

    fn release(&self, release: &Release<'_>) -> String {
        let (left, set) = match release.left {
            Some((set, rows)) => (rows, literal(set)),
            None => (0, "NULL".to_owned()),
        };
        format!(
            "UPDATE {} SET rows_loaded = rows_loaded + {}, rows_quarantined = {left}, quarantine = {set} \
             WHERE batch_id = {}",
            self.ledger,
            release.rows,
            literal(&release.batch.to_string()),
        )
    }
}

/// What the ledger says of a batch's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The batch.
    pub batch: BatchId,
    /// Rows in the table.
    pub loaded: u64,
    /// Rows in quarantine.
    pub rows: u64,
    /// The set that holds them.
    pub set: Option<String>,
}

/// What the ledger says of these batches; nothing of those that are not loaded.
///
/// # Errors
/// When Redshift does not answer, or refuses.
pub async fn look(session: &Session, target: &Target, batches: &[BatchId]) -> Result<Vec<Entry>, Trouble> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.run(&target.look_quarantined(batches)).await;
    Ok(entries(&rows.map_err(|failure| errors::trouble(&failure, "reading the ledger"))?))
}

/// The batches of which the ledger counts rows in quarantine.
///
/// # Errors
/// When Redshift does not answer, or refuses.
pub async fn all(session: &Session, target: &Target) -> Result<Vec<BatchId>, SqlFailure> {
    let sql = format!("SELECT batch_id FROM {} WHERE rows_quarantined > 0", target.ledger);
    Ok(session.run(&sql).await?.first_column())
}

fn entries(rows: &Rows) -> Vec<Entry> {
    let entry = |row: &Vec<Option<String>>| {
        let [Some(batch), loaded, rows, set] = row.as_slice() else { return None };
        // NULL in a row that somebody entered by hand.
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
        let (loaded, rows) = (number(loaded), number(rows));
        Some(Entry { batch: batch.trim().parse().ok()?, loaded, rows, set: set.clone() })
    };
    rows.0.iter().filter_map(entry).collect()
}

/// Rows to load out of a quarantine.
#[derive(Debug)]
pub struct Release<'a> {
    /// Their batch.
    pub batch: BatchId,
    /// What the ledger must still say.
    pub from: &'a Entry,
    /// Key of the manifest that names the files of the rows.
    pub manifest: &'a str,
    /// How those are compressed.
    pub compression: Compression,
    /// The rows.
    pub rows: u64,
    /// What stays in quarantine: name of the set, and rows.
    pub left: Option<(&'a str, u64)>,
}

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// The rows are loaded.
    Applied,
    /// The ledger says something else by now, and nothing was done.
    Changed,
}

/// Loads rows out of a quarantine; `prepare` writes what must stand in S3 before the ledger names it.
///
/// # Errors
/// When they are not loaded as far as is known. Trying again, after a new look at the ledger, never loads twice.
pub async fn release(
    session: &Session,
    target: &Target,
    release: &Release<'_>,
    prepare: impl AsyncFnOnce() -> Result<(), Trouble>,
) -> Result<Released, Trouble> {
    let outcome = transaction(session, target, release, prepare).await;
    if !matches!(outcome, Ok(Released::Applied)) {
        session.roll_back().await;
    }
    outcome.map_err(|failed| match failed {
        Failed::Sql(failure, doing) => errors::trouble(&failure, doing),
        Failed::Count(counted) => {
            let why = format!("COPY loaded {counted} rows and not {}; rolled back", release.rows);
            Trouble::of_batch(ErrorClass::Incomplete, why)
        }
        Failed::Prepare(trouble) => trouble,
    })
}

enum Failed {
    Sql(SqlFailure, &'static str),
    Count(String),
    Prepare(Trouble),
}

async fn transaction(
    session: &Session,
    target: &Target,
    release: &Release<'_>,
    prepare: impl AsyncFnOnce() -> Result<(), Trouble>,
) -> Result<Released, Failed> {
    let run = async |sql: &str, doing| session.run(sql).await.map_err(|failure| Failed::Sql(failure, doing));
    run("BEGIN", "BEGIN").await?;
    run(&target.lock_ledger(), "LOCK").await?;
    let said = entries(&run(&target.look_quarantined(&[release.batch]), "reading the ledger").await?);
    if said.first() != Some(release.from) {
        return Ok(Released::Changed);
    }
    prepare().await.map_err(Failed::Prepare)?;
    run(&target.copy(release.manifest, release.compression), "COPY").await?;
    let counted = run("SELECT pg_last_copy_count()", "counting").await?;
    let counted = counted.single().unwrap_or("no count of").to_owned();
    if counted.parse() != Ok(release.rows) {
        return Err(Failed::Count(counted));
    }
    run(&target.release(release), "writing the ledger").await?;
    run("COMMIT", "COMMIT").await?;
    Ok(Released::Applied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warehouse::statements::tests::target;

    #[test]
    fn a_release_moves_rows_from_one_count_to_the_other_and_names_what_is_left() {
        let batch = BatchId::new();
        let from = Entry { batch, loaded: 9, rows: 5, set: Some("a1".to_owned()) };
        let all = Release {
            batch,
            from: &from,
            manifest: "k",
            compression: Compression::Zstd,
            rows: 5,
            left: None,
        };
        assert_eq!(
            target().release(&all),
            format!(
                "UPDATE \"public\".\"ledger\" SET rows_loaded = rows_loaded + 5, rows_quarantined = 0, \
                 quarantine = NULL WHERE batch_id = '{batch}'"
            )
        );
        let some = target().release(&Release { rows: 3, left: Some(("b'2", 2)), ..all });
        assert!(some.contains("+ 3, rows_quarantined = 2, quarantine = 'b''2' WHERE"), "{some}");
    }

    #[test]
    fn a_look_for_refused_rows_never_loads() {
        let (find, has) =
            (target().find_refused("k", Compression::Gzip), target().has_refused("k", Compression::Gzip));
        assert!(find.ends_with(" NOLOAD MAXERROR 100000") && has.ends_with(" NOLOAD"));
        assert!(find.starts_with(&target().copy("k", Compression::Gzip)));
        assert!(!target().copy("k", Compression::Gzip).contains("MAXERROR"));
    }

    #[test]
    fn an_entry_of_the_ledger_says_rows_and_set() {
        let batch = BatchId::new();
        let row = |set: Option<&str>| {
            let number = |number: &str| Some(number.to_owned());
            vec![Some(batch.to_string()), number("9"), number("7"), set.map(str::to_owned)]
        };
        let found = entries(&Rows(vec![row(Some("a1")), row(None)]));
        assert_eq!(found.first(), Some(&Entry { batch, loaded: 9, rows: 7, set: Some("a1".to_owned()) }));
        assert_eq!(found.get(1).unwrap().set, None);
    }
}
