//! Rows of the ledger: those of a time, read a page at a time; its runs, for people; and those that a load enters.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use shared::content::Content;
use shared::ids::{BatchId, RunId};

use crate::redshift::answer::{Row, SqlFailure};
use crate::redshift::loading::Part;
use crate::redshift::server::Server;
use crate::redshift::session::Session;
use crate::redshift::sql::{literal, moment};
use crate::redshift::target::{MARK, Target, ledger_columns};

const PAGE: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LedgerRow {
    pub(crate) batch: BatchId,
    /// Ledger rows it has: more than one is a fault, and the other values are then the highest.
    pub(crate) times: u64,
    pub(crate) instance: String,
    pub(crate) rows_loaded: u64,
    pub(crate) rows_quarantined: u64,
    /// Rows that the table had already.
    pub(crate) rows_known: u64,
    /// Rows that were taken out of the table or the quarantine since.
    pub(crate) rows_forgotten: u64,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
    /// By the `receivedTimeGMT` of its hits.
    pub(crate) first_received: Option<DateTime<Utc>>,
    pub(crate) last_received: Option<DateTime<Utc>>,
    /// The COPY that loaded it, by `pg_last_copy_id()`.
    pub(crate) copy_query: Option<i64>,
    /// Records received, and what became of them; None when the ledger row does not tell.
    pub(crate) counted: Option<Counted>,
    /// The set of its quarantined rows, if there are any.
    pub(crate) set: Option<String>,
    /// The run that sealed it; None in rows of earlier versions.
    pub(crate) run: Option<RunId>,
    pub(crate) batch_number: Option<u64>,
    pub(crate) content: Option<Content>,
    /// Fingerprint of the schema that its rows were made for.
    pub(crate) schema: Option<String>,
}

impl LedgerRow {
    /// All rows that it accounts for.
    pub(crate) fn rows(&self) -> u64 {
        [self.rows_quarantined, self.rows_known, self.rows_forgotten]
            .into_iter()
            .fold(self.rows_loaded, u64::saturating_add)
    }
}

/// What a ledger row says became of the records received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) received: u64,
    pub(crate) duplicates: u64,
    pub(crate) filtered: u64,
    pub(crate) rejected: u64,
}

impl Target {
    /// The batches between `after` and `below`, texts that sort among ids, in order.
    ///
    /// The statement groups by an expression of the id: in ledgers of earlier versions the id is the primary key, and
    /// with a key Redshift may plan as if each row were a group of its own, so that a batch that stands there twice
    /// looks like one.
    fn ledger_page(&self, after: &str, below: &str) -> String {
        format!(
            "SELECT batch_id || '', count(*), max(instance), max(rows_loaded), max(rows_quarantined), max(bytes), max(files), \
             max(first_received), max(last_received), max(copy_query_id), max(received), max(duplicates), max(filtered), \
             max(rejected), max(quarantine), max(coalesce(rows_known, 0)), max(run), max(batch_number), max(content), \
             max(schema_fingerprint), max(coalesce(rows_forgotten, 0)) \
             FROM {} WHERE batch_id > {} AND batch_id < {} AND batch_id <> {} \
             GROUP BY batch_id || '' ORDER BY batch_id || '' LIMIT {PAGE}",
            self.ledger,
            literal(after),
            literal(below),
            literal(MARK)
        )
    }
}

/// The ledger rows of all batches opened in `[from, to)`, oldest first.
pub(crate) async fn read(
    session: &Session,
    target: &Target,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<LedgerRow>, SqlFailure> {
    let (mut after, below) = (BatchId::floor(from).to_string(), BatchId::floor(to).to_string());
    let mut found = Vec::new();
    loop {
        let page = session.run(&target.ledger_page(&after, &below)).await?;
        found.extend(page.read(row_of));
        match page.last().and_then(|row| row.text(0)) {
            Some(last) if page.0.len() >= PAGE => last.clone_into(&mut after),
            _ => return Ok(found),
        }
    }
}

fn row_of(row: Row<'_>) -> Option<LedgerRow> {
    let counted = || {
        Some(Counted {
            received: row.get(10)?,
            duplicates: row.get(11)?,
            filtered: row.get(12)?,
            rejected: row.get(13)?,
        })
    };
    Some(LedgerRow {
        batch: row.get(0)?,
        times: row.get(1)?,
        instance: row.text(2).unwrap_or_default().to_owned(),
        rows_loaded: row.get(3)?,
        rows_quarantined: row.get(4)?,
        rows_known: row.get(15).unwrap_or_default(),
        rows_forgotten: row.get(20).unwrap_or_default(),
        bytes: row.get(5).unwrap_or_default(),
        files: row.get(6).unwrap_or_default(),
        first_received: row.time(7),
        last_received: row.time(8),
        copy_query: row.get(9).filter(|query| *query >= 0),
        counted: counted(),
        set: row.text(14).map(str::to_owned),
        run: row.get(16),
        batch_number: row.get(17),
        content: row.get(18),
        schema: row.trimmed(19).map(str::to_owned),
    })
}

/// A run, or all batches that name none. `ingester ledger show --json` prints it as it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct RunRow {
    /// None for the batches of an earlier version, which do not name their run.
    pub(crate) run: Option<String>,
    /// Its producer; of batches without a run the last one by name.
    pub(crate) instance: String,
    pub(crate) batches: u64,
    pub(crate) rows_loaded: u64,
    pub(crate) rows_forgotten: u64,
    pub(crate) last_number: Option<u64>,
    pub(crate) first_received: Option<DateTime<Utc>>,
    pub(crate) last_received: Option<DateTime<Utc>>,
    pub(crate) last_loaded: Option<DateTime<Utc>>,
}

impl Target {
    fn count_runs(&self, most: usize) -> String {
        format!(
            "SELECT run, max(instance), count(*), sum(rows_loaded), max(batch_number), min(first_received), \
             max(last_received), max(loaded_at), sum(coalesce(rows_forgotten, 0)) FROM {} WHERE batch_id <> {} GROUP BY run \
             ORDER BY max(loaded_at) DESC LIMIT {most}",
            self.ledger,
            literal(MARK)
        )
    }
}

/// The runs of the ledger, the latest first, up to so many.
pub(crate) async fn fetch_runs(
    server: &impl Server,
    target: &Target,
    most: usize,
) -> Result<Vec<RunRow>, SqlFailure> {
    Ok(server.run(&target.count_runs(most)).await?.read(run_of))
}

/// The producers of the batches that the ledger has.
pub(crate) async fn instances(server: &impl Server, target: &Target) -> Result<BTreeSet<String>, SqlFailure> {
    let sql = format!("SELECT DISTINCT instance FROM {} WHERE batch_id <> {}", target.ledger, literal(MARK));
    Ok(server.run(&sql).await?.read(|row| row.trimmed(0).map(str::to_owned)).into_iter().collect())
}

/// Rows that were taken out of table and quarantine, also those whose batch nobody can tell: the mark has these.
pub(crate) async fn count_forgotten(server: &impl Server, target: &Target) -> Result<u64, SqlFailure> {
    let sql = format!("SELECT coalesce(sum(rows_forgotten), 0) FROM {}", target.ledger);
    let rows = server.run(&sql).await?;
    rows.first().number(0, &sql)
}

fn run_of(row: Row<'_>) -> Option<RunRow> {
    Some(RunRow {
        run: row.trimmed(0).map(str::to_owned),
        instance: row.text(1).unwrap_or_default().to_owned(),
        batches: row.get(2)?,
        rows_loaded: row.get(3).unwrap_or_default(),
        rows_forgotten: row.get(8).unwrap_or_default(),
        last_number: row.get(4),
        first_received: row.time(5),
        last_received: row.time(6),
        last_loaded: row.time(7),
    })
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entering<'a> {
    pub(super) part: &'a Part,
    /// The id under which the ledger shall have it.
    pub(super) id: BatchId,
    /// Rows that the table had already.
    pub(super) known: u64,
}

pub(super) fn insert(target: &Target, batches: &[Entering<'_>], copy: i64, now: DateTime<Utc>) -> String {
    let rows: Vec<String> = batches.iter().map(|one| ledger_row(target, one, copy, now)).collect();
    format!("INSERT INTO {} ({}) VALUES {}", target.ledger, ledger_columns(), rows.join(", "))
}

fn ledger_row(target: &Target, entering: &Entering<'_>, copy: i64, now: DateTime<Utc>) -> String {
    let Entering { part, id, known } = entering;
    let (seal, compared) = (&part.seal, part.seal.compared.as_ref());
    let or_null = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    let values = [
        literal(&id.to_string()),
        literal(&seal.instance.to_string()),
        part.rows().saturating_sub(*known).to_string(),
        part.quarantined.to_string(),
        seal.sealed_bytes().to_string(),
        seal.files.len().to_string(),
        literal(&seal.schema),
        moment(seal.first_received),
        moment(seal.last_received),
        copy.to_string(),
        moment(Some(now)),
        literal(&target.loader),
        seal.counts.received.to_string(),
        seal.counts.duplicates.to_string(),
        seal.counts.filtered.to_string(),
        seal.counts.rejected.to_string(),
        or_null(part.set.as_deref().map(literal)),
        or_null(compared.map(|compared| literal(&compared.run.to_string()))),
        or_null(compared.map(|compared| compared.number.to_string())),
        or_null(seal.content.map(|content| literal(&content.to_string()))),
        known.to_string(),
        or_null(compared.map(|compared| compared.uncompared.to_string())),
        // Of a batch that was archived, and is loaded once more, rows may be gone from its files.
        seal.sealed_rows().saturating_sub(seal.rows).to_string(),
    ];
    format!("({})", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::answer::Rows;
    use crate::redshift::server::script::Script;
    use crate::redshift::target::tests::target;

    #[test]
    fn a_page_is_bounded_and_follows_the_last() {
        let page = target().ledger_page("019c", "019d'");
        let bounds =
            format!("WHERE batch_id > '019c' AND batch_id < '019d''' AND batch_id <> '{MARK}' GROUP BY");
        assert!(page.contains(&bounds), "{page}");
        assert!(page.ends_with("GROUP BY batch_id || '' ORDER BY batch_id || '' LIMIT 1000"), "{page}");
        assert!(page.starts_with("SELECT batch_id || '', count(*), "), "no key can plan this away: {page}");
    }

    #[test]
    fn a_row_of_the_ledger_is_read_whole() {
        let read = |cells: &[Option<String>; 21]| Rows(vec![cells.to_vec()]).read(row_of).pop();
        let (batch, run, content) = (BatchId::new(), RunId::new(), Content::of_rows(b"x"));
        let values = [
            &batch.to_string(),
            "1",
            "web-1",
            "19",
            "1",
            "200",
            "2",
            "2026-01-02 03:04:05",
            "2026-01-02 03:04:05.678901",
            "42",
            "23",
            "2",
            "1",
            "0",
            "a1",
            "3",
            &run.to_string(),
            "7",
            &content.to_string(),
            "0123456789abcdef",
            "6",
        ];
        let row = read(&values.map(|value| Some(value.to_owned()))).unwrap();
        assert_eq!((row.batch, row.times, row.rows_loaded, row.rows_quarantined), (batch, 1, 19, 1));
        assert_eq!(row.last_received.unwrap().timestamp_subsec_micros(), 678_901);
        assert_eq!(row.counted, Some(Counted { received: 23, duplicates: 2, filtered: 1, rejected: 0 }));
        assert_eq!(row.set.as_deref(), Some("a1"));
        assert_eq!((row.rows_forgotten, row.rows()), (6, 29));
        assert_eq!((row.rows_known, row.run, row.batch_number), (3, Some(run), Some(7)));
        assert_eq!((row.content, row.schema.as_deref()), (Some(content), Some("0123456789abcdef")));
        let mut old = values.map(|value| Some(value.to_owned()));
        old[10] = None;
        assert_eq!(read(&old).unwrap().counted, None);
        old[0] = Some("no id".to_owned());
        assert_eq!(read(&old), None);
    }

    #[tokio::test]
    async fn a_run_is_told_whole_and_the_mark_is_none() {
        let time = "2026-01-02 03:04:05";
        let row: &[Option<&str>] = &["r", "web-1", "3", "60", "9", time, time, time, "2"].map(Some);
        let old: &[Option<&str>] = &[None, None, Some("1"), None, None, None, None, None, None];
        let script = Script::default().answer("GROUP BY run", &[row, old]);
        let runs = fetch_runs(&script, &target(), 20).await.unwrap();
        assert_eq!((runs[0].batches, runs[0].rows_loaded, runs[0].last_number), (3, 60, Some(9)));
        assert_eq!((runs[0].rows_forgotten, runs[1].rows_forgotten), (2, 0));
        assert_eq!((runs[1].run.as_ref(), runs[1].last_number, runs[1].last_received), (None, None, None));
        let sql = &script.sent()[0];
        assert!(sql.contains(&format!("WHERE batch_id <> '{MARK}' GROUP BY run")), "{sql}");
        assert!(sql.ends_with("LIMIT 20"), "{sql}");
    }
}
