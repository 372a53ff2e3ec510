//! What the ledger says before a load, under the lock: whether it has the batches, and which runs have rows of their times.
//!
//! A batch is what it holds. An id may come twice: a log that was restored from a copy goes on with the batch that was
//! filling, under its id. When the ledger has other rows under an id, the batch is entered under one that is derived from
//! its id and its content: the same one in every attempt.

use chrono::{DateTime, Utc};
use shared::content::Content;
use shared::ids::BatchId;
use shared::seal::Seal;

use crate::redshift::answer::{Row as Cells, Rows, SqlFailure};
use crate::redshift::server::Server;
use crate::redshift::sql::{literal, moment};
use crate::redshift::stage_reason::{LedgerRange, RunInLedger, times};
use crate::redshift::target::{MARK, SEALED_ROWS, Target};

/// What the ledger has under an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: BatchId,
    /// None in rows of earlier versions.
    pub(crate) content: Option<Content>,
    /// Rows that were sealed.
    pub(crate) rows: u64,
    /// Rows of them that the table had already.
    pub(crate) known: u64,
    pub(crate) bytes: Option<u64>,
    pub(crate) first: Option<DateTime<Utc>>,
    pub(crate) last: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InLedger {
    No,
    Yes(Row),
    /// It has another batch under its id.
    Other(Row),
}

impl Target {
    pub(super) fn select_rows(&self, batches: &[BatchId]) -> String {
        let columns = format!(
            "batch_id, content, {SEALED_ROWS}, coalesce(rows_known, 0), bytes, first_received, last_received"
        );
        self.select(&columns, batches)
    }

    /// The mark, and each run that has rows received from `first` to `last`: see [`RunInLedger`]. Batches without times
    /// have no row to compare.
    pub(super) fn select_range(&self, first: DateTime<Utc>, last: DateTime<Utc>) -> String {
        let (ledger, mark) = (&self.ledger, literal(MARK));
        format!(
            "SELECT batch_id, batch_number, uncompared, first_received, last_received, rows_loaded FROM {ledger} \
             WHERE batch_id = {mark} UNION ALL \
             SELECT run, max(batch_number), max(CASE WHEN uncompared > 0 THEN batch_number END), \
             min(first_received), max(last_received), count(*) FROM {ledger} \
             WHERE batch_id <> {mark} AND last_received >= {} AND first_received <= {} GROUP BY run",
            moment(Some(first)),
            moment(Some(last))
        )
    }
}

/// The id under which a batch is entered when the ledger has another one under its own.
pub(crate) fn derived_id(seal: &Seal) -> BatchId {
    let what = match seal.content {
        Some(content) => content.to_string(),
        // A seal of format 1 has no checksum of its rows; its files come nearest.
        None => {
            let files: Vec<&str> = seal.files.iter().map(|file| file.crc32.as_str()).collect();
            let (first, last) = (moment(seal.first_received), moment(seal.last_received));
            format!("{} {} {first} {last} {}", seal.sealed_rows(), seal.sealed_bytes(), files.join(" "))
        }
    };
    seal.batch.derived(what.as_bytes())
}

pub(super) fn ids_of<'s>(seals: impl IntoIterator<Item = &'s Seal>) -> Vec<BatchId> {
    seals.into_iter().flat_map(|seal| [seal.batch, derived_id(seal)]).collect()
}

/// Whether the ledger, which has these rows under the ids of the batch, has the batch.
pub(crate) fn find(seal: &Seal, rows: &[Row]) -> InLedger {
    let under = |id| rows.iter().filter(move |row| row.id == id);
    let same = under(seal.batch).find(|row| is_same(seal, row));
    match same.or_else(|| under(derived_id(seal)).next()) {
        Some(row) => InLedger::Yes(row.clone()),
        None => under(seal.batch).next().map_or(InLedger::No, |row| InLedger::Other(row.clone())),
    }
}

fn is_same(seal: &Seal, row: &Row) -> bool {
    match (seal.content, row.content) {
        (Some(sealed), Some(entered)) => sealed == entered,
        _ => {
            // By the precision of the ledger.
            row.rows == seal.sealed_rows()
                && row.bytes.is_none_or(|bytes| bytes == seal.sealed_bytes())
                && moment(row.first) == moment(seal.first_received)
                && moment(row.last) == moment(seal.last_received)
        }
    }
}

/// What the ledger has under the ids of these batches.
pub(crate) async fn fetch_entries(
    server: &impl Server,
    target: &Target,
    seals: &[&Seal],
) -> Result<Vec<Row>, SqlFailure> {
    if seals.is_empty() {
        return Ok(Vec::new());
    }
    Ok(server.run(&target.select_rows(&ids_of(seals.iter().copied()))).await?.read(row_of))
}

/// What the ledger says of the times of these batches; None when hits cannot be compared in this table.
pub(crate) async fn fetch_range(
    server: &impl Server,
    target: &Target,
    seals: &[&Seal],
) -> Result<Option<LedgerRange>, SqlFailure> {
    if target.comparable().is_none() {
        return Ok(None);
    }
    let times: Vec<_> = seals.iter().filter_map(|seal| times(seal)).collect();
    let range = times.iter().map(|(first, _)| *first).min().zip(times.iter().map(|(_, last)| *last).max());
    // Without any time there is nothing to ask about.
    let Some((first, last)) = range else { return Ok(Some(LedgerRange::default())) };
    Ok(Some(read_range(&server.run(&target.select_range(first, last)).await?)))
}

fn row_of(row: Cells<'_>) -> Option<Row> {
    Some(Row {
        id: row.get(0)?,
        content: row.get(1),
        rows: row.get(2)?,
        known: row.get(3).unwrap_or_default(),
        bytes: row.get(4),
        first: row.time(5),
        last: row.time(6),
    })
}

fn read_range(answer: &Rows) -> LedgerRange {
    let is_mark = |row: Cells<'_>| row.trimmed(0) == Some(MARK);
    let knows_from = answer.read(|row| is_mark(row).then(|| row.time(3))).pop().flatten();
    let seen = |row: Cells<'_>| {
        (!is_mark(row)).then(|| RunInLedger {
            run: row.get(0),
            number: row.get(1),
            uncompared: row.get(2),
            // A time that cannot be read may be any time.
            first: row.time(3).unwrap_or(DateTime::<Utc>::MIN_UTC),
            last: row.time(4).unwrap_or(DateTime::<Utc>::MAX_UTC),
        })
    };
    LedgerRange { knows_from, runs: answer.read(seen) }
}

#[cfg(test)]
mod tests {
    use shared::ids::RunId;
    use shared::seal::Forgotten;

    use super::*;
    use crate::facts::folder::tests::seal;
    use crate::redshift::answer::read_moment;
    use crate::redshift::target::tests::target;

    fn row(seal: &Seal) -> Row {
        Row {
            id: seal.batch,
            content: seal.content,
            rows: seal.rows,
            known: 0,
            bytes: Some(seal.bytes),
            first: seal.first_received,
            last: seal.last_received,
        }
    }

    fn with(content: &str) -> Seal {
        Seal { content: Some(Content::of_rows(content.as_bytes())), ..seal() }
    }

    #[test]
    fn a_batch_is_what_it_holds_and_not_how_many_rows_it_has() {
        let (one, other) = (with("a"), with("b"));
        let other = Seal { batch: one.batch, ..other };
        assert_eq!(find(&one, &[]), InLedger::No);
        assert_eq!(find(&one, &[row(&one)]), InLedger::Yes(row(&one)));
        assert_eq!(
            find(&other, &[row(&one)]),
            InLedger::Other(row(&one)),
            "as many rows and bytes, of the same time"
        );
        let entered = Row { id: derived_id(&other), ..row(&other) };
        assert_eq!(find(&other, &[row(&one), entered.clone()]), InLedger::Yes(entered));
        assert_ne!(derived_id(&one), derived_id(&other));
    }

    #[test]
    fn without_checksums_rows_bytes_and_times_tell() {
        let sealed = Seal { content: None, ..with("a") };
        let there = |alter: fn(&mut Row)| {
            let mut row = row(&sealed);
            alter(&mut row);
            matches!(find(&sealed, &[row]), InLedger::Yes(_))
        };
        assert!(there(|_| {}) && there(|row| row.content = Some(Content::of_rows(b"x"))));
        assert!(there(|row| row.bytes = None), "a row that somebody entered by hand");
        assert!(!there(|row| row.rows += 1) && !there(|row| row.bytes = Some(1)));
        assert!(!there(|row| row.last = None) && !there(|row| row.first = row.last));
        let forgotten =
            Some(Forgotten { rows: 5, sealed_bytes: sealed.bytes, replaced: Vec::new(), highest: 1 });
        let less = Seal { rows: sealed.rows - 5, bytes: 70, forgotten, ..sealed.clone() };
        assert!(matches!(find(&less, &[row(&sealed)]), InLedger::Yes(_)), "rows were taken out of its files");
        let altered = Seal { rows: 21, ..sealed.clone() };
        assert_ne!(derived_id(&sealed), derived_id(&altered));
        assert_eq!(derived_id(&sealed), derived_id(&sealed.clone()));
    }

    #[test]
    fn a_look_asks_for_each_batch_under_both_ids() {
        let (a, b) = (with("a"), with("b"));
        let sql = target().select_rows(&ids_of([&a, &b]));
        let ids = [a.batch, derived_id(&a), b.batch, derived_id(&b)].map(|id| format!("'{id}'")).join(", ");
        assert!(sql.ends_with(&format!("WHERE batch_id IN ({ids})")), "{sql}");
        assert!(sql.contains(SEALED_ROWS), "{sql}");
    }

    #[test]
    fn the_runs_of_a_time_are_asked_for_with_its_edges_and_without_the_mark() {
        let (first, last) =
            ("2026-01-02T03:04:05Z".parse().unwrap(), "2026-01-02T03:05:00Z".parse().unwrap());
        let sql = target().select_range(first, last);
        let wanted = format!(
            "WHERE batch_id <> '{MARK}' AND last_received >= '2026-01-02 03:04:05.000000' AND \
             first_received <= '2026-01-02 03:05:00.000000' GROUP BY run"
        );
        assert!(sql.ends_with(&wanted), "{sql}");
        assert!(sql.contains("max(CASE WHEN uncompared > 0 THEN batch_number END)"), "{sql}");
    }

    #[test]
    fn an_answer_is_read_whole() {
        let run = RunId::new();
        let cells = |cells: [Option<&str>; 6]| cells.map(|cell| cell.map(str::to_owned)).to_vec();
        let (one, two) = ("2026-01-02 03:04:05", "2026-01-02 03:04:06.5");
        let answer = Rows(vec![
            cells([Some(MARK), None, None, Some(one), None, Some("0")]),
            cells([Some(&run.to_string()), Some("7"), Some("6"), Some(one), Some(two), Some("3")]),
            cells([None, None, None, Some(one), Some(two), Some("1")]),
        ]);
        let (first, last) = (read_moment(one).unwrap(), read_moment(two).unwrap());
        let seen = |run, number, uncompared| RunInLedger { run, number, uncompared, first, last };
        let runs = vec![seen(Some(run), Some(7), Some(6)), seen(None, None, None)];
        assert_eq!(read_range(&answer), LedgerRange { knows_from: Some(first), runs });
        assert_eq!(
            read_range(&Rows::default()),
            LedgerRange::default(),
            "without a mark it speaks for nothing"
        );
        let seal = with("a");
        let (content, id) = (seal.content.unwrap().to_string(), seal.batch.to_string());
        let cells = [&id, &content, "20", "3", "200", one, two].map(|cell| Some(cell.to_owned())).to_vec();
        let read = Rows(vec![cells]).read(row_of);
        assert_eq!(
            (read[0].id, read[0].content, read[0].rows, read[0].known),
            (seal.batch, seal.content, 20, 3)
        );
        assert_eq!((read[0].first, read[0].last, read[0].bytes), (Some(first), Some(last), Some(200)));
    }
}
