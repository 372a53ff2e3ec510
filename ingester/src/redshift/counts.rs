//! Counting rows in the table, for `ingester audit`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use shared::ids::BatchId;
use shared::schema::{Column, Kind, Schema};
use shared::sql::{ident, literal};

use crate::redshift::mark::MARK;
use crate::redshift::session::{Session, SqlFailure};
use crate::redshift::statements::{Target, moment};

/// Batches of one page.
const PAGE: usize = 1000;
/// Hits that stand several times, and are listed.
pub(crate) const DOUBLES: usize = 100;

/// The columns of the table that tell its rows apart, where the schema has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// The batch's id.
    pub batch: Option<String>,
    /// `receivedTimeGMT`
    pub received: Option<String>,
    /// Both halves of the hit id.
    pub hit: Option<(String, String)>,
}

impl Marks {
    /// The columns of a schema.
    #[must_use]
    pub fn of(schema: &Schema) -> Self {
        let named = |suits: &dyn Fn(&Column) -> bool| {
            schema.in_row().find(|column| suits(column)).map(|column| column.name.clone())
        };
        // A column with a second path may hold something else.
        let of_path = |kind, key: &str| {
            named(&|column| {
                column.kind == kind && matches!(column.paths.as_slice(), [path] if path.keys() == [key])
            })
        };
        Self {
            batch: named(&|column| column.kind == Kind::Batch),
            received: of_path(Kind::Timestamp, "receivedTimeGMT"),
            hit: of_path(Kind::Unsigned, "hitIdHigh").zip(of_path(Kind::Unsigned, "hitIdLow")),
        }
    }
}

/// Rows received in a time: by the table, and what the ledger makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Rows in the table received in the time.
    pub table: u64,
    /// Rows in the table of which it is not known when they were received.
    pub unknown: u64,
    /// Rows of the batches that lie in the time as a whole: so many there are at least, those unknown counted.
    pub at_least: u64,
    /// Rows of the batches that reach into the time: so many there are at most.
    pub at_most: u64,
}

/// A hit whose rows stand in the table more than once.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Double {
    /// `hitIdHigh`
    pub high: String,
    /// `hitIdLow`
    pub low: String,
    /// How often.
    pub times: u64,
    /// The first and the last batch with it, if rows tell.
    pub batches: Option<(String, String)>,
    /// Of its rows, those that do not name their batch although the schema has a column for it: they were made for
    /// another schema.
    pub unnamed: u64,
}

impl Target {
    /// Rows of each batch, in order of the batches: those above `after` and below `below`.
    #[must_use]
    pub fn rows_of_batches(&self, column: &str, after: &str, below: &str) -> String {
        let (column, after, below) = (ident(column), literal(after), literal(below));
        format!(
            "SELECT {column}, count(*) FROM {} WHERE {column} > {after} AND {column} < {below} GROUP BY {column} \
             ORDER BY {column} LIMIT {PAGE}",
            self.table
        )
    }

    /// Rows received from `first` to `last` and those of which it is not known when; and by the ledger rows of the
    /// batches that were received in that time as a whole, and of those that were in part. One statement sees one moment.
    #[must_use]
    pub fn rows_received(&self, column: &str, first: DateTime<Utc>, last: DateTime<Utc>) -> String {
        let (table, ledger, column) = (&self.table, &self.ledger, ident(column));
        let (first, last, mark) = (moment(Some(first)), moment(Some(last)), literal(MARK));
        format!(
            "SELECT (SELECT count(*) FROM {table} WHERE {column} >= {first} AND {column} <= {last}), \
             (SELECT count(*) FROM {table} WHERE {column} IS NULL), \
             (SELECT coalesce(sum(rows_loaded), 0) FROM {ledger} WHERE batch_id <> {mark} AND first_received >= {first} AND last_received <= {last}), \
             (SELECT coalesce(sum(rows_loaded), 0) FROM {ledger} WHERE batch_id <> {mark} AND first_received <= {last} AND last_received >= {first})"
        )
    }

    /// Hits whose rows stand more than once, out of the rows of batches above `after` and below `below` and of the rows
    /// that do not name their batch; or of all, when the schema has no column for it.
    ///
    /// The ids are grouped by as expressions: should somebody have declared them a key of the table, which Redshift does
    /// not enforce, it would plan as if no hit could stand there twice.
    #[must_use]
    pub fn doubles(&self, (high, low): (&str, &str), batch: Option<(&str, &str, &str)>) -> String {
        let (high, low) = (ident(high), ident(low));
        let (batches, among) = match batch {
            Some((column, after, below)) => {
                let column = ident(column);
                let (after, below) = (literal(after), literal(below));
                // Rows that were made for a schema without this column have NULL there, whatever their time is.
                let among = format!(" AND (({column} > {after} AND {column} < {below}) OR {column} IS NULL)");
                (format!(", min({column}), max({column}), count({column})"), among)
            }
            None => (String::new(), String::new()),
        };
        let ids = format!("coalesce({high}, {high}), coalesce({low}, {low})");
        format!(
            "SELECT {ids}, count(*){batches} FROM {} WHERE {high} IS NOT NULL AND {low} IS NOT NULL{among} \
             GROUP BY {ids} HAVING count(*) > 1 ORDER BY {ids} LIMIT {}",
            self.table,
            DOUBLES + 1
        )
    }
}

/// Rows of each batch opened in `[from, to)`.
///
/// # Errors
/// When Redshift does not answer, or refuses.
pub(crate) async fn of_batches(
    session: &Session,
    target: &Target,
    column: &str,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<BTreeMap<BatchId, u64>, SqlFailure> {
    let (mut after, below) = (BatchId::floor(from).to_string(), BatchId::floor(to).to_string());
    let mut counts = BTreeMap::new();
    loop {
        let page = session.run(&target.rows_of_batches(column, &after, &below)).await?;
        let Some(last) = page.0.last().and_then(|row| row.first()?.clone()) else { return Ok(counts) };
        for row in &page.0 {
            let [Some(batch), Some(rows)] = row.as_slice() else { continue };
            if let (Ok(batch), Ok(rows)) = (batch.parse(), rows.parse()) {
                counts.insert(batch, rows);
            }
        }
        if page.0.len() < PAGE {
            return Ok(counts);
        }
        after = last;
    }
}

/// Rows received from `first` to `last`.
///
/// # Errors
/// When Redshift does not answer, or refuses.
pub(crate) async fn received(
    session: &Session,
    target: &Target,
    column: &str,
    (first, last): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Received, SqlFailure> {
    let sql = target.rows_received(column, first, last);
    let rows = session.run(&sql).await?;
    let number = |n: usize| {
        let text = rows.0.first().and_then(|row| row.get(n)?.as_deref());
        let number = text.and_then(|text| text.parse::<u64>().ok());
        number.ok_or_else(|| SqlFailure::lost(format!("no number in the answer to {sql}")))
    };
    Ok(Received { table: number(0)?, unknown: number(1)?, at_least: number(2)?, at_most: number(3)? })
}

impl Received {
    /// Rows that are missing, or too many; None if there are as many as there should be.
    #[must_use]
    pub(crate) fn fault(&self) -> Option<String> {
        let Self { table, unknown, at_least, at_most } = *self;
        if table.saturating_add(unknown) < at_least {
            let missing = at_least - table - unknown;
            return Some(format!(
                "{missing} rows are missing: the table has {table}, the ledger at least {at_least}"
            ));
        }
        let more = table.checked_sub(at_most).filter(|more| *more > 0)?;
        Some(format!("{more} rows are too many: the table has {table}, the ledger at most {at_most}"))
    }
}

/// Hits whose rows stand more than once: up to one more than [`DOUBLES`].
///
/// # Errors
/// When Redshift does not answer, or refuses.
pub(crate) async fn doubles(
    session: &Session,
    target: &Target,
    marks: &Marks,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Option<Vec<Double>>, SqlFailure> {
    let Some((high, low)) = &marks.hit else { return Ok(None) };
    let (after, below) = (BatchId::floor(from).to_string(), BatchId::floor(to).to_string());
    let batch = marks.batch.as_deref().map(|column| (column, after.as_str(), below.as_str()));
    let rows = session.run(&target.doubles((high, low), batch)).await?;
    Ok(Some(rows.0.iter().filter_map(|row| double(row)).collect()))
}

fn double(row: &[Option<String>]) -> Option<Double> {
    let mut cells = row.iter().cloned();
    let (high, low, times) = (cells.next()??, cells.next()??, cells.next()??.parse::<u64>().ok()?);
    let batches = cells.next().flatten().zip(cells.next().flatten());
    let named = cells.next().flatten().and_then(|text| text.parse::<u64>().ok()).unwrap_or(times);
    Some(Double { high, low, times, batches, unnamed: times.saturating_sub(named) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::statements::tests::target;

    #[test]
    fn rows_are_missing_or_too_many_only_beyond_what_the_ledger_allows() {
        let received = |table, unknown| Received { table, unknown, at_least: 100, at_most: 120 };
        assert_eq!(received(100, 0).fault(), None);
        assert_eq!(received(120, 0).fault(), None);
        assert_eq!(received(95, 5).fault(), None);
        assert!(received(94, 5).fault().unwrap().starts_with("1 rows are missing"));
        assert!(received(121, 0).fault().unwrap().starts_with("1 rows are too many"));
    }

    #[test]
    fn names_and_texts_are_quoted() {
        let target = target();
        let sql = target.rows_of_batches("a\"b", "x'y", "z");
        assert!(sql.contains("\"a\"\"b\" > 'x''y' AND \"a\"\"b\" < 'z' GROUP BY"), "{sql}");
        let sql = target.doubles(("h\"", "l"), Some(("b", "x'y", "z")));
        assert!(sql.contains("\"h\"\"\" IS NOT NULL") && sql.contains("\"b\" > 'x''y'"), "{sql}");
        assert!(
            sql.contains("'x''y' AND \"b\" < 'z') OR \"b\" IS NULL) GROUP BY"),
            "of other schemas too: {sql}"
        );
        let ids = "coalesce(\"h\"\"\", \"h\"\"\"), coalesce(\"l\", \"l\")";
        assert!(
            sql.contains(&format!(" GROUP BY {ids} HAVING count(*) > 1 ")),
            "no key can plan this away: {sql}"
        );
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        let sql = target.rows_received("t\"", at, at);
        assert!(sql.contains("\"t\"\"\" >= '2026-01-02 03:04:05.000000' AND"), "{sql}");
    }

    #[test]
    fn rows_of_a_double_that_do_not_name_their_batch_are_counted() {
        let row =
            |cells: &[Option<&str>]| cells.iter().map(|cell| cell.map(str::to_owned)).collect::<Vec<_>>();
        let batches = Some(("a".to_owned(), "b".to_owned()));
        let read = |cells: &[Option<&str>]| {
            let found = double(&row(cells)).unwrap();
            (found.times, found.batches, found.unnamed)
        };
        let (high, low) = (Some("1"), Some("2"));
        assert_eq!(read(&[high, low, Some("3"), Some("a"), Some("b"), Some("2")]), (3, batches.clone(), 1));
        assert_eq!(read(&[high, low, Some("3"), Some("a"), Some("b"), Some("3")]), (3, batches, 0));
        assert_eq!(read(&[high, low, Some("2"), None, None, Some("0")]), (2, None, 2));
        assert_eq!(read(&[high, low, Some("2")]), (2, None, 0), "the schema has no column for it");
    }
}
