//! Reading the ledger, a page at a time.

use chrono::{DateTime, NaiveDateTime, Utc};
use shared::content::Content;
use shared::ids::{BatchId, RunId};
use shared::sql::literal;

use crate::redshift::mark::MARK;
use crate::redshift::session::{Rows, Session, SqlFailure};
use crate::redshift::statements::Target;

/// Batches of one page.
const PAGE: usize = 1000;

/// What the ledger says of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LedgerRow {
    /// The batch.
    pub batch: BatchId,
    /// Ledger rows it has: more than one is a fault, and the other values are then the highest.
    pub times: u64,
    /// Its producer.
    pub instance: String,
    /// Rows loaded.
    pub rows_loaded: u64,
    /// Rows quarantined.
    pub rows_quarantined: u64,
    /// Rows that the table had already.
    pub rows_known: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files.
    pub files: u64,
    /// First `receivedTimeGMT` of its hits.
    pub first_received: Option<DateTime<Utc>>,
    /// Last `receivedTimeGMT` of its hits.
    pub last_received: Option<DateTime<Utc>>,
    /// The COPY that loaded it, as `pg_last_copy_id()` has it.
    pub copy_query: Option<i64>,
    /// Records received, and what became of them; None when the ledger row does not tell.
    pub counted: Option<Counted>,
    /// The set of its quarantined rows, if there are any.
    pub set: Option<String>,
    /// The run that sealed it; None in rows of earlier versions.
    pub run: Option<RunId>,
    /// Its number in its log.
    pub batch_number: Option<u64>,
    /// Checksum of its rows.
    pub content: Option<Content>,
    /// Fingerprint of the schema that its rows were made for.
    pub schema: Option<String>,
}

impl LedgerRow {
    /// All rows that it accounts for.
    #[must_use]
    pub(crate) fn rows(&self) -> u64 {
        self.rows_loaded.saturating_add(self.rows_quarantined).saturating_add(self.rows_known)
    }
}

/// What a ledger row says became of the records received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Records.
    pub received: u64,
    /// Known before.
    pub duplicates: u64,
    /// Dropped by a filter.
    pub filtered: u64,
    /// Kept with their reason.
    pub rejected: u64,
}

impl Target {
    /// The batches of a part of the ledger, without its mark, in order: those above `after` and below `below`, both texts that sort among
    /// ids.
    ///
    /// The id is grouped by as an expression: in ledgers of earlier versions it is the primary key, and with a key
    /// Redshift may plan as if each row were a group of its own, and a batch that stands there twice would look like one.
    #[must_use]
    pub fn ledger_page(&self, after: &str, below: &str) -> String {
        format!(
            "SELECT batch_id || '', count(*), max(instance), max(rows_loaded), max(rows_quarantined), max(bytes), max(files), \
             max(first_received), max(last_received), max(copy_query_id), max(received), max(duplicates), max(filtered), \
             max(rejected), max(quarantine), max(coalesce(rows_known, 0)), max(run), max(batch_number), max(content), \
             max(schema_fingerprint) \
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
///
/// # Errors
/// When Redshift does not answer, or refuses.
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
        let Some(last) = page.0.last().and_then(|row| row.first()?.clone()) else { return Ok(found) };
        found.extend(rows(&page));
        if page.0.len() < PAGE {
            return Ok(found);
        }
        after = last;
    }
}

/// Ids that are none are passed over: somebody else's rows.
fn rows(page: &Rows) -> impl Iterator<Item = LedgerRow> {
    page.0.iter().filter_map(|row| row_of(row))
}

fn row_of(row: &[Option<String>]) -> Option<LedgerRow> {
    let text = |n: usize| row.get(n).and_then(Option::as_deref);
    let number = |n: usize| text(n).and_then(|text| text.parse::<u64>().ok());
    let time = |n: usize| text(n).and_then(moment);
    let counted = || {
        Some(Counted {
            received: number(10)?,
            duplicates: number(11)?,
            filtered: number(12)?,
            rejected: number(13)?,
        })
    };
    Some(LedgerRow {
        batch: text(0)?.parse().ok()?,
        times: number(1)?,
        instance: text(2).unwrap_or_default().to_owned(),
        rows_loaded: number(3)?,
        rows_quarantined: number(4)?,
        rows_known: number(15).unwrap_or_default(),
        bytes: number(5).unwrap_or_default(),
        files: number(6).unwrap_or_default(),
        first_received: time(7),
        last_received: time(8),
        copy_query: text(9).and_then(|text| text.parse().ok()).filter(|query| *query >= 0),
        counted: counted(),
        set: text(14).map(str::to_owned),
        run: text(16).and_then(|text| text.trim().parse().ok()),
        batch_number: number(17),
        content: text(18).and_then(|text| text.trim().parse().ok()),
        schema: text(19).map(|text| text.trim().to_owned()),
    })
}

/// A timestamp as Redshift writes it.
#[must_use]
pub(crate) fn moment(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok().map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::statements::tests::target;

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
        ];
        let row = row_of(&values.map(|value| Some(value.to_owned()))).unwrap();
        assert_eq!((row.batch, row.times, row.rows_loaded, row.rows_quarantined), (batch, 1, 19, 1));
        assert_eq!(row.last_received.unwrap().timestamp_subsec_micros(), 678_901);
        assert_eq!(row.counted, Some(Counted { received: 23, duplicates: 2, filtered: 1, rejected: 0 }));
        assert_eq!(row.set.as_deref(), Some("a1"));
        assert_eq!((row.rows_known, row.run, row.batch_number), (3, Some(run), Some(7)));
        assert_eq!((row.content, row.schema.as_deref()), (Some(content), Some("0123456789abcdef")));
        let mut old = values.map(|value| Some(value.to_owned()));
        old[10] = None;
        assert_eq!(row_of(&old).unwrap().counted, None);
        old[0] = Some("no id".to_owned());
        assert_eq!(row_of(&old), None);
    }
}
