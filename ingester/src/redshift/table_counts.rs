//! Counts rows in the table, for `ingester audit`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use shared::human::counted;
use shared::ids::BatchId;

use crate::redshift::answer::{Row, SqlFailure};
use crate::redshift::session::Session;
use crate::redshift::sql::{ident, literal, moment};
use crate::redshift::target::{MARK, Target};

pub(crate) use crate::redshift::target::KeyColumns;

const PAGE: usize = 1000;
/// Hits that are listed at most.
pub(crate) const DOUBLES: usize = 100;

/// Rows received in a time, by the table and by the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) table: u64,
    /// Rows in the table without a time.
    pub(crate) unknown: u64,
    /// Rows of the batches that lie wholly in the time: so many there are at least, those unknown included.
    pub(crate) at_least: u64,
    /// Rows of the batches that reach into the time: so many there are at most.
    pub(crate) at_most: u64,
    /// Forgotten rows of the batches that lie partly in the time: one of these may have been in it or not. Where no column
    /// names the batch, a forgotten row was counted to some batch of its time (see [`super::forget`]).
    pub(crate) astride: u64,
    /// Forgotten rows whose batch nobody can tell.
    pub(crate) of_no_batch: u64,
}

/// A hit that the table has more than once.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Double {
    /// `hitIdHigh` and `hitIdLow`
    pub(crate) high: String,
    pub(crate) low: String,
    pub(crate) times: u64,
    /// The first and the last batch with it, if rows tell.
    pub(crate) batches: Option<(String, String)>,
    /// Rows of it that do not name their batch although the schema has a column for it: they were made for another schema.
    pub(crate) unnamed: u64,
}

impl Target {
    fn rows_of_batches(&self, column: &str, after: &str, below: &str) -> String {
        let (column, after, below) = (ident(column), literal(after), literal(below));
        format!(
            "SELECT {column}, count(*) FROM {} WHERE {column} > {after} AND {column} < {below} GROUP BY {column} \
             ORDER BY {column} LIMIT {PAGE}",
            self.table
        )
    }

    /// The values of [`Received`]. One statement sees one moment.
    fn rows_received(&self, column: &str, first: DateTime<Utc>, last: DateTime<Utc>) -> String {
        let (table, ledger, column) = (&self.table, &self.ledger, ident(column));
        let (first, last, mark) = (moment(Some(first)), moment(Some(last)), literal(MARK));
        format!(
            "SELECT (SELECT count(*) FROM {table} WHERE {column} >= {first} AND {column} <= {last}), \
             (SELECT count(*) FROM {table} WHERE {column} IS NULL), \
             (SELECT coalesce(sum(rows_loaded), 0) FROM {ledger} WHERE batch_id <> {mark} AND first_received >= {first} AND last_received <= {last}), \
             (SELECT coalesce(sum(rows_loaded), 0) FROM {ledger} WHERE batch_id <> {mark} AND first_received <= {last} AND last_received >= {first}), \
             (SELECT coalesce(sum(rows_forgotten), 0) FROM {ledger} WHERE batch_id <> {mark} AND first_received <= {last} \
             AND last_received >= {first} AND (first_received < {first} OR last_received > {last})), \
             (SELECT coalesce(sum(rows_forgotten), 0) FROM {ledger} WHERE batch_id = {mark})"
        )
    }

    /// Hits that the table has more than once, among the rows of the batches between `after` and `below` and the rows
    /// that do not name their batch; or among all, when the schema has no column for it. The statement groups by
    /// expressions of the ids: if somebody had declared the ids a key of the table, which Redshift does not enforce, it
    /// would plan as if no hit could stand there twice.
    fn doubles(&self, (high, low): (&str, &str), batch: Option<(&str, &str, &str)>) -> String {
        let (high, low) = (ident(high), ident(low));
        let (batches, among) = match batch {
            Some((column, after, below)) => {
                let column = ident(column);
                let (after, below) = (literal(after), literal(below));
                // Rows that were made for a schema without this column have NULL there.
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
        counts.extend(page.read(|row| Some((row.get::<BatchId>(0)?, row.get::<u64>(1)?))));
        match page.last().and_then(|row| row.text(0)) {
            Some(last) if page.0.len() >= PAGE => last.clone_into(&mut after),
            _ => return Ok(counts),
        }
    }
}

pub(crate) async fn received(
    session: &Session,
    target: &Target,
    column: &str,
    (first, last): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Received, SqlFailure> {
    let sql = target.rows_received(column, first, last);
    let rows = session.run(&sql).await?;
    let number = |column| rows.first().number(column, &sql);
    Ok(Received {
        table: number(0)?,
        unknown: number(1)?,
        at_least: number(2)?,
        at_most: number(3)?,
        astride: number(4)?,
        of_no_batch: number(5)?,
    })
}

impl Received {
    /// Which rows are missing, or too many; None if the numbers agree.
    pub(crate) fn fault(&self) -> Option<String> {
        let Self { table, unknown, at_least, at_most, astride, of_no_batch } = *self;
        let at_least = at_least.saturating_sub(astride).saturating_sub(of_no_batch);
        let at_most = at_most.saturating_add(astride);
        if table.saturating_add(unknown) < at_least {
            let missing = at_least - table - unknown;
            let missing = counted(missing, "row is", "rows are");
            return Some(format!("{missing} missing: the table has {table}, the ledger at least {at_least}"));
        }
        let more = table.checked_sub(at_most).filter(|more| *more > 0)?;
        let more = counted(more, "row is", "rows are");
        Some(format!("{more} too many: the table has {table}, the ledger at most {at_most}"))
    }
}

/// Hits that the table has more than once: up to one more than [`DOUBLES`]. None when the schema has no hit ids.
pub(crate) async fn doubles(
    session: &Session,
    target: &Target,
    key_columns: &KeyColumns,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Option<Vec<Double>>, SqlFailure> {
    let Some((high, low)) = &key_columns.hit else { return Ok(None) };
    let (after, below) = (BatchId::floor(from).to_string(), BatchId::floor(to).to_string());
    let batch = key_columns.batch.as_deref().map(|column| (column, after.as_str(), below.as_str()));
    Ok(Some(session.run(&target.doubles((high, low), batch)).await?.read(double)))
}

fn double(row: Row<'_>) -> Option<Double> {
    let text = |column| row.text(column).map(str::to_owned);
    let times: u64 = row.get(2)?;
    let named = row.get(5).unwrap_or(times);
    let batches = text(3).zip(text(4));
    Some(Double { high: text(0)?, low: text(1)?, times, batches, unnamed: times.saturating_sub(named) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::answer::Rows;
    use crate::redshift::target::tests::target;

    #[test]
    fn rows_are_missing_or_too_many_only_beyond_what_the_ledger_allows() {
        let whole =
            Received { table: 0, unknown: 0, at_least: 100, at_most: 120, astride: 0, of_no_batch: 0 };
        let received = |table, unknown| Received { table, unknown, ..whole };
        assert_eq!(received(100, 0).fault(), None);
        assert_eq!(received(120, 0).fault(), None);
        assert_eq!(received(95, 5).fault(), None);
        assert!(received(94, 5).fault().unwrap().starts_with("1 row is missing"));
        assert!(received(121, 0).fault().unwrap().starts_with("1 row is too many"));
        let forgotten = |table| Received { table, astride: 2, of_no_batch: 3, ..whole }.fault();
        assert_eq!((forgotten(95), forgotten(122)), (None, None), "one of them may have been there or not");
        assert!(forgotten(94).is_some() && forgotten(123).is_some());
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
            let found = Rows(vec![row(cells)]).read(double).remove(0);
            (found.times, found.batches, found.unnamed)
        };
        let (high, low) = (Some("1"), Some("2"));
        assert_eq!(read(&[high, low, Some("3"), Some("a"), Some("b"), Some("2")]), (3, batches.clone(), 1));
        assert_eq!(read(&[high, low, Some("3"), Some("a"), Some("b"), Some("3")]), (3, batches, 0));
        assert_eq!(read(&[high, low, Some("2"), None, None, Some("0")]), (2, None, 2));
        assert_eq!(read(&[high, low, Some("2")]), (2, None, 0), "the schema has no column for it");
    }
}
