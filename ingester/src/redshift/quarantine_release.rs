//! The rows that the ledger counts in quarantine, and the transaction that loads them later, exactly once.
//!
//! ```text
//! BEGIN · LOCK · does its ledger row still name this set? ──no──► ROLLBACK: somebody else was at it
//!                  │ yes
//!                  └─► the set of what is left to S3 · COPY into a staging table · as many rows as meant?
//!                        · delete what the table has · INSERT · UPDATE ledger row · COMMIT
//! ```
//! The rows go the staged way (stage.rs): while they were in quarantine, others may have brought the same hits.
//!
//! The ledger row says which set is in quarantine. The transaction that loads a set, or a part of it, takes the set's
//! name out of the row, or replaces it by that of what is left. So a set is loaded once, however often it is tried. The
//! set of what is left is written under the lock: the clean-up of quarantine holds the lock too, and would delete a set
//! that no ledger row names yet.

use shared::ids::BatchId;
use shared::layout::Compression;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::redshift::answer::{Row, SqlFailure};
use crate::redshift::doing::Doing;
use crate::redshift::errors::{self, OrLoadFailure};
use crate::redshift::lock::{self, Done};
use crate::redshift::server::{Aborted, Server, run};
use crate::redshift::session::Session;
use crate::redshift::sql::literal;
use crate::redshift::stage::{self, Staging};
use crate::redshift::target::Target;

/// Errors a COPY with NOLOAD may meet before it stops; Redshift's maximum.
const MAX_ERRORS: u32 = 100_000;

impl Target {
    /// Tries every row and loads none; the tables of load errors tell which are refused.
    pub(crate) fn find_refused(&self, manifest: &str, compression: Compression) -> String {
        format!("{} MAXERROR {MAX_ERRORS}", self.has_refused(manifest, compression))
    }

    /// Tries rows until one is refused, and loads none; fails if one is.
    pub(crate) fn has_refused(&self, manifest: &str, compression: Compression) -> String {
        format!("{} NOLOAD", self.copy(manifest, compression))
    }

    pub(super) fn select_quarantined(&self, batches: &[BatchId]) -> String {
        let columns = "batch_id, rows_loaded, rows_quarantined, quarantine, coalesce(rows_known, 0), \
                       coalesce(rows_forgotten, 0)";
        self.select(columns, batches)
    }

    /// Counts released rows as loaded, but for `known` rows that the table had.
    fn release(&self, release: &Release<'_>, known: u64) -> String {
        let (left, set) = match release.left {
            Some((set, rows)) => (rows, literal(set)),
            None => (0, "NULL".to_owned()),
        };
        format!(
            "UPDATE {} SET rows_loaded = rows_loaded + {}, rows_known = coalesce(rows_known, 0) + {known}, \
             rows_quarantined = {left}, quarantine = {set} WHERE batch_id = {}",
            self.ledger,
            release.rows.saturating_sub(known),
            literal(&release.batch.to_string()),
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) batch: BatchId,
    pub(crate) loaded: u64,
    /// Rows in quarantine, and the set that holds them.
    pub(crate) rows: u64,
    pub(crate) set: Option<String>,
    /// Rows that the table had already.
    pub(crate) known: u64,
    /// Rows that were taken out of the table or the quarantine.
    pub(crate) forgotten: u64,
}

impl Entry {
    /// Rows that were sealed.
    pub(crate) fn sealed(&self) -> u64 {
        [self.rows, self.known, self.forgotten].into_iter().fold(self.loaded, u64::saturating_add)
    }
}

/// What the ledger says of these batches; nothing of those that are not loaded.
pub(crate) async fn fetch_entries(
    session: &Session,
    target: &Target,
    batches: &[BatchId],
) -> Result<Vec<Entry>, LoadFailure> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.run(&target.select_quarantined(batches)).await;
    Ok(rows.doing(Doing::ReadLedger)?.read(entry_of))
}

pub(crate) async fn fetch_batches(session: &Session, target: &Target) -> Result<Vec<BatchId>, SqlFailure> {
    let sql = format!("SELECT batch_id FROM {} WHERE rows_quarantined > 0", target.ledger);
    Ok(session.run(&sql).await?.first_column())
}

pub(super) fn entry_of(row: Row<'_>) -> Option<Entry> {
    // NULL in a row that somebody entered by hand.
    let number = |column| row.get(column).unwrap_or(0);
    let set = row.text(3).map(str::to_owned);
    let (known, forgotten) = (number(4), number(5));
    Some(Entry { batch: row.get(0)?, loaded: number(1), rows: number(2), set, known, forgotten })
}

#[derive(Debug)]
pub(crate) struct Release<'a> {
    pub(crate) batch: BatchId,
    /// What the ledger must still say.
    pub(crate) from: &'a Entry,
    /// Key of the manifest that names the files of the rows.
    pub(crate) manifest: &'a str,
    pub(crate) compression: Compression,
    pub(crate) rows: u64,
    /// What stays in quarantine: name of the set, and rows.
    pub(crate) left: Option<(&'a str, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Released {
    /// The rows are in the table, which had `known` of them already.
    Applied { known: u64 },
    /// The ledger says something else by now, and nothing was done.
    Changed,
}

/// Loads rows out of a quarantine; `prepare` writes what must stand in S3 before the ledger names it. A retry that
/// reads the ledger first never loads twice.
pub(crate) async fn release(
    session: &Session,
    target: &Target,
    release: &Release<'_>,
    prepare: impl AsyncFnOnce() -> Result<(), LoadFailure>,
) -> Result<Released, LoadFailure> {
    transaction(session, target, release, prepare).await.map_err(|failed| match failed {
        Aborted::Sql(failure, doing) => errors::load_failure(&failure, doing),
        Aborted::Count { copied, .. } => {
            let why = format!("COPY loaded {copied} rows and not {}; rolled back", release.rows);
            LoadFailure::of_batch(ErrorClass::Incomplete, why)
        }
        Aborted::Load(failure) => failure,
    })
}

async fn transaction(
    server: &impl Server,
    target: &Target,
    release: &Release<'_>,
    prepare: impl AsyncFnOnce() -> Result<(), LoadFailure>,
) -> Result<Released, Aborted> {
    let released = async {
        let rows = run(server, &target.select_quarantined(&[release.batch]), Doing::ReadLedger).await?;
        if rows.read(entry_of).first() != Some(release.from) {
            return Ok(Done::Nothing(Released::Changed));
        }
        prepare().await?;
        let staging = Staging {
            name: &release.batch.to_string(),
            manifest: release.manifest,
            compression: release.compression,
            rows: release.rows,
        };
        let known = stage::insert(server, target, target.comparable(), &staging).await?.known;
        run(server, &target.release(release, known), Doing::WriteLedger).await?;
        run(server, "COMMIT", Doing::Commit).await?;
        Ok::<_, Aborted>(Done::Committed(Released::Applied { known }))
    };
    lock::within(server, target, released).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::answer::Rows;
    use crate::redshift::server::script::Script;
    use crate::redshift::target::tests::target;

    const TIME: &str = "2026-01-02 03:04:05";

    fn entry(batch: BatchId) -> Entry {
        Entry { batch, loaded: 9, rows: 5, set: Some("a1".to_owned()), known: 1, forgotten: 0 }
    }

    fn all(from: &Entry) -> Release<'_> {
        let (batch, compression) = (from.batch, Compression::Zstd);
        Release { batch, from, manifest: "k", compression, rows: 5, left: None }
    }

    #[test]
    fn a_release_moves_rows_from_one_count_to_the_others_and_names_what_is_left() {
        let from = entry(BatchId::new());
        assert_eq!(
            target().release(&all(&from), 0),
            format!(
                "UPDATE \"public\".\"ledger\" SET rows_loaded = rows_loaded + 5, \
                 rows_known = coalesce(rows_known, 0) + 0, rows_quarantined = 0, quarantine = NULL \
                 WHERE batch_id = '{}'",
                from.batch
            )
        );
        let some = target().release(&Release { rows: 3, left: Some(("b'2", 2)), ..all(&from) }, 1);
        assert!(some.contains("rows_loaded + 2, rows_known = coalesce(rows_known, 0) + 1, "), "{some}");
        assert!(some.contains("rows_quarantined = 2, quarantine = 'b''2' WHERE"), "{some}");
    }

    #[tokio::test]
    async fn what_was_in_quarantine_is_compared_with_the_table() {
        let from = entry(BatchId::new());
        let id = from.batch.to_string();
        let row: &[Option<&str>] = &[Some(&id), Some("9"), Some("5"), Some("a1"), Some("1"), None];
        let script = Script::default()
            .answer("SELECT batch_id, rows_loaded", &[row])
            .answer("SELECT min(", &[&[Some(TIME), Some(TIME)]])
            .answer("pg_last_copy_count", &[&[Some("5")]])
            .answer("SELECT count(*)", &[&[Some("3")]]);
        let released = transaction(&script, &target(), &all(&from), async || Ok(())).await.unwrap();
        assert_eq!(released, Released::Applied { known: 2 });
        let staged =
            ["CREATE", "COPY", "SELECT", "SELECT", "DELETE", "SELECT", "INSERT", "DROP", "UPDATE", "COMMIT"];
        assert_eq!(script.verbs()[..3], ["BEGIN", "LOCK", "SELECT"]);
        assert_eq!(script.verbs()[3..], staged);
        // Somebody else was at it.
        let other = Entry { rows: 4, ..from.clone() };
        let changed = transaction(&script, &target(), &all(&other), async || Ok(())).await.unwrap();
        assert_eq!(changed, Released::Changed);
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
        let read = |rows: Rows| rows.read(entry_of);
        let row = |set: Option<&str>| {
            let id = batch.to_string();
            [Some(id.as_str()), Some("9"), Some("5"), set, Some("1"), None]
                .map(|cell| cell.map(str::to_owned))
                .to_vec()
        };
        let found = read(Rows(vec![row(Some("a1")), row(None)]));
        assert_eq!(found.first(), Some(&entry(batch)));
        assert_eq!((found[1].set.as_ref(), found[1].sealed()), (None, 15));
    }
}
