//! Deletes the rows of a person from the table, a piece at a time, and counts them in the ledger.
//!
//! ```text
//! which days have such rows, and how many? ─► for each day, and for the rows without a time:
//!   BEGIN · LOCK · count them by time and batch, up to a bound · what has the ledger of those batches?
//!     · UPDATE ledger rows: rows_loaded less, rows_forgotten more · DELETE what was counted · COMMIT
//! ```
//! So at any moment `rows_loaded` is what the table has of a batch, and all counts add up to what was sealed. A crash leaves
//! a piece done or not; the next run counts anew.
//!
//! Where the schema has a column of kind `batch`, a row says which ledger row it counts to. Without one it is counted to a
//! batch of its time: `audit` compares the rows of a day together then, and allows for what may have been another's
//! ([`super::table_counts`]). What can be counted to no batch (the ledger forgot it, or another tool loaded it) is counted
//! in the mark.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};
use shared::ids::BatchId;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::redshift::answer::{Row, read_moment};
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::lock::{self, Done};
use crate::redshift::server::Server;
use crate::redshift::sql::{ident, ids, literal, moment};
use crate::redshift::target::{MARK, MOMENT, Target};
use crate::sought::Sought;

/// Times and batches that one transaction counts and deletes at most.
const PIECE: usize = 5000;
/// Batches that one UPDATE counts at most.
const COUNTED_AT_ONCE: usize = 200;

/// Rows that are to be deleted together: those of a day, or those without a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Day {
    begins: Option<DateTime<Utc>>,
    pub(crate) rows: u64,
}

/// Rows of a time and a batch, as the table tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// As Redshift wrote it.
    received: Option<String>,
    batch: Option<String>,
    rows: u64,
}

/// Groups that one transaction counts and deletes.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    groups: Vec<Group>,
    cut: Cut,
}

/// What there is more of than a piece has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    None,
    Times,
    /// Of rows without a time.
    Batches,
}

/// A ledger row that rows may count to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    batch: BatchId,
    loaded: u64,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
}

/// To which batches rows count, and how many to none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shares {
    batches: BTreeMap<BatchId, u64>,
    none: u64,
}

impl Target {
    /// What is true of the rows of the person.
    fn of_person(&self, sought: &Sought) -> String {
        let values: Vec<String> = sought.values().iter().map(|value| literal(value)).collect();
        let column = ident(sought.column());
        let column = if sought.is_text() { format!("rtrim({column}, ' ')") } else { column };
        format!("{column} IN ({})", values.join(", "))
    }

    fn received(&self) -> Option<String> {
        self.key_columns.received.as_deref().map(ident)
    }

    fn days(&self, sought: &Sought) -> String {
        let (table, who) = (&self.table, self.of_person(sought));
        match self.received() {
            None => format!("SELECT NULL, count(*) FROM {table} WHERE {who}"),
            Some(received) => format!(
                "SELECT date_trunc('day', {received}), count(*) FROM {table} WHERE {who} \
                 GROUP BY date_trunc('day', {received}) ORDER BY date_trunc('day', {received})"
            ),
        }
    }

    /// What is true of the rows of a day.
    fn of_day(&self, day: Day) -> String {
        match (self.received(), day.begins) {
            (None, _) => String::new(),
            (Some(received), None) => format!(" AND {received} IS NULL"),
            (Some(received), Some(begins)) => {
                let ends = begins.checked_add_signed(TimeDelta::days(1));
                let ends =
                    ends.map_or_else(String::new, |ends| format!(" AND {received} < {}", moment(Some(ends))));
                format!(" AND {received} >= {}{ends}", moment(Some(begins)))
            }
        }
    }

    fn groups(&self, sought: &Sought, day: Day) -> String {
        let (table, who, of_day) = (&self.table, self.of_person(sought), self.of_day(day));
        let (received, batch) = (self.received(), self.key_columns.batch.as_deref().map(ident));
        let shown = |column: &Option<String>| column.clone().unwrap_or_else(|| "NULL".to_owned());
        let columns: Vec<&str> = [&received, &batch].into_iter().flatten().map(String::as_str).collect();
        let grouped = match columns.as_slice() {
            [] => String::new(),
            columns => format!(" GROUP BY {0} ORDER BY {0}", columns.join(", ")),
        };
        // Rows with neither are one group.
        let limit = if columns.is_empty() { String::new() } else { format!(" LIMIT {}", PIECE + 1) };
        format!(
            "SELECT {}, {}, count(*) FROM {table} WHERE {who}{of_day}{grouped}{limit}",
            shown(&received),
            shown(&batch)
        )
    }

    fn candidates(&self, groups: &[Group]) -> Option<String> {
        let (ledger, mark) = (&self.ledger, literal(MARK));
        let which = if self.key_columns.batch.is_some() {
            let moment_of = |group: &Group| Some(literal(group.batch.as_deref()?.get(..MOMENT)?));
            let mut moments: Vec<String> = groups.iter().filter_map(moment_of).collect();
            moments.sort();
            moments.dedup();
            (!moments.is_empty()).then(|| format!("left(batch_id, {MOMENT}) IN ({})", moments.join(", ")))
        } else {
            let mut times = groups.iter().filter_map(|group| group.received.as_deref());
            let first = times.next();
            let last = times.next_back().or(first);
            first.zip(last).map(|(first, last)| {
                format!("last_received >= {} AND first_received <= {}", literal(first), literal(last))
            })
        };
        which.map(|which| {
            format!(
                "SELECT batch_id, rows_loaded, first_received, last_received FROM {ledger} \
                 WHERE batch_id <> {mark} AND rows_loaded > 0 AND {which}"
            )
        })
    }

    fn count_forgotten_of(&self, shares: &Shares) -> Vec<String> {
        let ledger = &self.ledger;
        let mut statements = Vec::new();
        let batches: Vec<(&BatchId, &u64)> = shares.batches.iter().collect();
        for some in batches.chunks(COUNTED_AT_ONCE) {
            let when = |(batch, rows): &(&BatchId, &u64)| {
                format!("WHEN {} THEN {rows}", literal(&batch.to_string()))
            };
            let whens: Vec<String> = some.iter().map(when).collect();
            let rows = format!("CASE batch_id {} ELSE 0 END", whens.join(" "));
            let batches: Vec<BatchId> = some.iter().map(|(batch, _)| **batch).collect();
            statements.push(format!(
                "UPDATE {ledger} SET rows_loaded = rows_loaded - {rows}, \
                 rows_forgotten = coalesce(rows_forgotten, 0) + {rows} WHERE batch_id IN ({})",
                ids(&batches)
            ));
        }
        if shares.none > 0 {
            statements.push(format!(
                "UPDATE {ledger} SET rows_forgotten = coalesce(rows_forgotten, 0) + {} WHERE batch_id = {}",
                shares.none,
                literal(MARK)
            ));
        }
        statements
    }

    fn delete(&self, sought: &Sought, day: Day, piece: &Piece) -> String {
        let (table, who) = (&self.table, self.of_person(sought));
        let first = piece.groups.first().and_then(|group| group.received.as_deref());
        let last = piece.groups.last();
        let mut when = match (self.received(), first.zip(last.and_then(|group| group.received.as_deref()))) {
            (Some(received), Some((first, last))) => {
                format!(" AND {received} >= {} AND {received} <= {}", literal(first), literal(last))
            }
            _ => self.of_day(day),
        };
        let last_batch = last.and_then(|group| group.batch.as_deref());
        if let (Cut::Batches, Some(column), Some(last)) = (piece.cut, &self.key_columns.batch, last_batch) {
            let _ = write!(when, " AND {} <= {}", ident(column), literal(last));
        }
        format!("DELETE FROM {table} WHERE {who}{when}")
    }
}

/// The days on which the table has rows of the person, and the rows without a time.
pub(crate) async fn days(
    server: &impl Server,
    target: &Target,
    sought: &Sought,
) -> Result<Vec<Day>, LoadFailure> {
    let answer = server.run(&target.days(sought)).await.doing(Doing::Count)?;
    let day = |row: Row<'_>| Some(Day { begins: row.time(0), rows: row.get(1)? });
    Ok(answer.read(day).into_iter().filter(|day| day.rows > 0).collect())
}

/// Deletes the rows of a day, or the first of them, and counts them in the ledger. Returns how many; 0: there are none.
pub(crate) async fn forget(
    server: &impl Server,
    target: &Target,
    sought: &Sought,
    day: Day,
) -> Result<u64, LoadFailure> {
    lock::within(server, target, transaction(server, target, sought, day)).await
}

async fn transaction(
    server: &impl Server,
    target: &Target,
    sought: &Sought,
    day: Day,
) -> Result<Done<u64>, LoadFailure> {
    let answer = server.run(&target.groups(sought, day)).await.doing(Doing::Count)?;
    let piece = first_piece(answer.read(group))?;
    let groups = &piece.groups;
    let rows: u64 = groups.iter().map(|group| group.rows).sum();
    if rows == 0 {
        return Ok(Done::Nothing(0));
    }
    let mut candidates = Vec::new();
    if let Some(sql) = target.candidates(groups) {
        candidates = server.run(&sql).await.doing(Doing::ReadLedger)?.read(candidate);
    }
    let shares = share_out(groups, candidates, target.key_columns.batch.is_some());
    for sql in target.count_forgotten_of(&shares) {
        server.run(&sql).await.doing(Doing::WriteLedger)?;
    }
    server.run(&target.delete(sought, day, &piece)).await.doing(Doing::Forget)?;
    lock::commit(server).await?;
    Ok(Done::Committed(rows))
}

fn group(row: Row<'_>) -> Option<Group> {
    let text = |column| row.text(column).map(str::to_owned);
    let batch = row.trimmed(1).map(str::to_owned);
    Some(Group { received: text(0), batch, rows: row.get(2)? })
}

fn candidate(row: Row<'_>) -> Option<Candidate> {
    Some(Candidate { batch: row.get(0)?, loaded: row.get(1)?, first: row.time(2), last: row.time(3) })
}

/// As many groups as one transaction takes, in their order: all of a time or none; of those without a time, all of a batch,
/// and those without a batch come last.
fn first_piece(mut groups: Vec<Group>) -> Result<Piece, LoadFailure> {
    if groups.len() <= PIECE {
        return Ok(Piece { groups, cut: Cut::None });
    }
    let cut = groups.pop().map(|group| group.received);
    if groups.first().is_some_and(|group| group.received.is_none()) {
        return Ok(Piece { groups, cut: Cut::Batches });
    }
    while groups.last().map(|group| &group.received) == cut.as_ref() {
        groups.pop();
    }
    if groups.is_empty() {
        let why = format!("more than {PIECE} batches have such rows of the same microsecond");
        return Err(LoadFailure::of_batch(ErrorClass::Unknown, why));
    }
    Ok(Piece { groups, cut: Cut::Times })
}

/// `by_name`: the rows name their batch. One that was entered under another id than its own has the same moment, and its
/// rows name the first id. Otherwise each counts to the batch with the shortest time around it.
fn share_out(groups: &[Group], mut candidates: Vec<Candidate>, by_name: bool) -> Shares {
    candidates.sort_by_key(|candidate| {
        let time = candidate.first.zip(candidate.last).map(|(first, last)| last - first);
        (time.unwrap_or(TimeDelta::MAX), candidate.batch)
    });
    let mut shares = Shares::default();
    for group in groups {
        let named: Option<BatchId> = group.batch.as_deref().and_then(|batch| batch.parse().ok());
        let at = group.received.as_deref().and_then(read_moment);
        let mut left = group.rows;
        let mut take = |candidate: &mut Candidate| {
            let taken = left.min(candidate.loaded);
            if taken > 0 {
                candidate.loaded -= taken;
                left -= taken;
                *shares.batches.entry(candidate.batch).or_default() += taken;
            }
        };
        if by_name {
            candidates.iter_mut().filter(|one| Some(one.batch) == named).for_each(&mut take);
            let moment = named.map(|batch| batch.opened_at());
            candidates.iter_mut().filter(|one| Some(one.batch.opened_at()) == moment).for_each(&mut take);
        } else if let Some(at) = at {
            let around = |one: &&mut Candidate| {
                one.first.is_some_and(|first| first <= at) && one.last.is_some_and(|last| at <= last)
            };
            candidates.iter_mut().filter(around).for_each(&mut take);
        }
        shares.none += left;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::server::script::Script;
    use crate::redshift::target::KeyColumns;
    use crate::redshift::target::tests::target;
    use crate::sought::tests::sought;

    const DAY: &str = "2026-01-02 00:00:00";
    const AT: &str = "2026-01-02 03:04:05.5";

    fn at(text: &str) -> DateTime<Utc> {
        read_moment(text).unwrap()
    }

    fn with_batch() -> Target {
        let target = target();
        Target {
            key_columns: KeyColumns { batch: Some("batch_id".to_owned()), ..target.key_columns.clone() },
            ..target
        }
    }

    fn of(received: Option<&str>, batch: Option<BatchId>, rows: u64) -> Group {
        Group { received: received.map(str::to_owned), batch: batch.map(|id| id.to_string()), rows }
    }

    fn entry(batch: BatchId, loaded: u64, first: &str, last: &str) -> Candidate {
        Candidate { batch, loaded, first: Some(at(first)), last: Some(at(last)) }
    }

    #[tokio::test]
    async fn a_piece_is_counted_in_the_ledger_and_deleted_under_the_lock() {
        let batch = BatchId::new().to_string();
        let script = Script::default()
            .answer("GROUP BY \"received\"", &[&[Some(AT), None, Some("3")]])
            .answer("SELECT batch_id", &[&[Some(&batch), Some("9"), Some(DAY), Some("2026-01-03 00:00:00")]]);
        let day = Day { begins: Some(at(DAY)), rows: 3 };
        assert_eq!(forget(&script, &target(), &sought(&["ja'ne"]), day).await.unwrap(), 3);
        assert_eq!(script.verbs(), ["BEGIN", "LOCK", "SELECT", "SELECT", "UPDATE", "DELETE", "COMMIT"]);
        let [_, _, count, ledger, update, delete, _] = <[String; 7]>::try_from(script.sent()).unwrap();
        assert_eq!(
            count,
            "SELECT \"received\", NULL, count(*) FROM \"public\".\"hits\" WHERE rtrim(\"mcvisid\", ' ') IN ('ja''ne') \
             AND \"received\" >= '2026-01-02 00:00:00.000000' AND \"received\" < '2026-01-03 00:00:00.000000' \
             GROUP BY \"received\" ORDER BY \"received\" LIMIT 5001"
        );
        assert!(
            ledger.ends_with(&format!("last_received >= '{AT}' AND first_received <= '{AT}'")),
            "{ledger}"
        );
        let rows = format!("CASE batch_id WHEN '{batch}' THEN 3 ELSE 0 END");
        assert_eq!(
            update,
            format!(
                "UPDATE \"public\".\"ledger\" SET rows_loaded = rows_loaded - {rows}, \
                 rows_forgotten = coalesce(rows_forgotten, 0) + {rows} WHERE batch_id IN ('{batch}')"
            )
        );
        assert_eq!(
            delete,
            format!(
                "DELETE FROM \"public\".\"hits\" WHERE rtrim(\"mcvisid\", ' ') IN ('ja''ne') \
                 AND \"received\" >= '{AT}' AND \"received\" <= '{AT}'"
            )
        );
    }

    #[tokio::test]
    async fn nothing_is_deleted_that_was_not_counted() {
        let script = Script::default();
        let day = Day { begins: None, rows: 1 };
        assert_eq!(forget(&script, &target(), &sought(&["jane"]), day).await.unwrap(), 0);
        assert_eq!(script.verbs(), ["BEGIN", "LOCK", "SELECT", "ROLLBACK"]);
        assert!(script.sent()[2].contains(" AND \"received\" IS NULL GROUP BY"), "{}", script.sent()[2]);
        // Rows without a time, and with no batch that they could count to.
        let script = Script::default().answer("GROUP BY", &[&[None, None, Some("2")]]);
        assert_eq!(forget(&script, &target(), &sought(&["jane"]), day).await.unwrap(), 2);
        let sent = script.sent();
        assert!(sent[3].ends_with(&format!("+ 2 WHERE batch_id = '{MARK}'")), "{}", sent[3]);
        assert!(sent[4].ends_with("IN ('jane') AND \"received\" IS NULL"), "{}", sent[4]);
    }

    #[test]
    fn a_row_counts_to_the_batch_it_names_or_to_one_of_the_same_moment() {
        let own = BatchId::new();
        let other: BatchId = "01900000-0000-7000-8000-000000000000".parse().unwrap();
        let twin = own.derived(b"x");
        let shared = share_out(
            &[of(Some(AT), Some(own), 5), of(Some(AT), None, 2)],
            vec![entry(own, 3, DAY, AT), entry(twin, 9, DAY, AT), entry(other, 9, DAY, AT)],
            true,
        );
        assert_eq!(shared, Shares { batches: BTreeMap::from([(own, 3), (twin, 2)]), none: 2 });
        let sql = with_batch().candidates(&[of(Some(AT), Some(own), 5), of(Some(AT), None, 2)]).unwrap();
        assert!(sql.ends_with(&format!("left(batch_id, 13) IN ('{}')", &own.to_string()[..13])), "{sql}");
        assert_eq!(with_batch().candidates(&[of(Some(AT), None, 2)]), None);
    }

    #[test]
    fn without_names_a_row_counts_to_a_batch_of_its_time_and_never_to_one_that_has_none_left() {
        let (short, long, later) = (BatchId::new(), BatchId::new(), BatchId::new());
        let end = "2026-01-02 04:00:00";
        let ledger = || {
            vec![
                entry(long, 9, DAY, end),
                entry(short, 2, AT, AT),
                entry(later, 9, end, "2026-01-03 00:00:00"),
            ]
        };
        let shared = share_out(&[of(Some(AT), None, 5)], ledger(), false);
        assert_eq!(shared, Shares { batches: BTreeMap::from([(short, 2), (long, 3)]), none: 0 });
        let shared = share_out(&[of(Some("2026-01-05 00:00:00"), None, 5)], ledger(), false);
        assert_eq!(shared, Shares { batches: BTreeMap::new(), none: 5 });
    }

    #[test]
    fn a_piece_ends_between_two_times() {
        let groups = |last: &str| -> Vec<Group> {
            let mut groups = vec![of(Some(AT), None, 1); PIECE];
            groups.push(of(Some(last), None, 1));
            groups
        };
        assert_eq!(first_piece(groups("2026-01-02 05:00:00")).unwrap().groups.len(), PIECE);
        assert!(first_piece(groups(AT)).unwrap_err().to_string().contains("same microsecond"));
        let mut two = groups("2026-01-02 05:00:00");
        two[PIECE - 1] = of(Some("2026-01-02 05:00:00"), None, 1);
        assert_eq!(first_piece(two).unwrap().groups.len(), PIECE - 1);
    }

    #[test]
    fn rows_without_a_time_go_a_few_thousand_batches_at_a_time() {
        let (target, sought) = (with_batch(), sought(&["jane"]));
        let day = Day { begins: None, rows: 1 };
        assert!(target.groups(&sought, day).ends_with("ORDER BY \"received\", \"batch_id\" LIMIT 5001"));
        let batches: Vec<BatchId> = (0..=PIECE).map(|_| BatchId::new()).collect();
        let groups = |most| batches.iter().take(most).map(|batch| of(None, Some(*batch), 1)).collect();
        let all = first_piece(groups(PIECE)).unwrap();
        assert!(target.delete(&sought, day, &all).ends_with("AND \"received\" IS NULL"));
        let cut = first_piece(groups(PIECE + 1)).unwrap();
        let last = format!("AND \"received\" IS NULL AND \"batch_id\" <= '{}'", batches[PIECE - 1]);
        assert!(cut.groups.len() == PIECE && target.delete(&sought, day, &cut).ends_with(&last));
    }

    #[test]
    fn a_text_is_compared_as_it_is_whatever_stands_in_it() {
        let sql = target().days(&sought(&["o'neil\\ ~\"x  "]));
        assert!(sql.contains("WHERE rtrim(\"mcvisid\", ' ') IN ('o''neil\\\\ ~\"x') GROUP BY"), "{sql}");
    }

    #[test]
    fn no_statement_counts_more_than_a_few_hundred_batches() {
        let batches = (0..450).map(|_| (BatchId::new(), 1)).collect();
        let statements = target().count_forgotten_of(&Shares { batches, none: 2 });
        assert_eq!(statements.len(), 4);
        let named = |sql: &String| sql.matches("WHEN").count();
        assert_eq!(statements.iter().map(named).collect::<Vec<_>>(), [400, 400, 100, 0]);
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_without_a_time_all_rows_are_one_piece() {
        use shared::schema::{Kind, SqlType};
        let column = crate::sought::tests::column(Kind::Unsigned, SqlType::Bigint);
        let sought = Sought::new(&column, ["7".to_owned()]).unwrap();
        let target = Target { key_columns: KeyColumns::default(), ..target() };
        assert_eq!(
            target.days(&sought),
            "SELECT NULL, count(*) FROM \"public\".\"hits\" WHERE \"mcvisid\" IN ('7')"
        );
        let day = Day { begins: None, rows: 1 };
        let groups = target.groups(&sought, day);
        assert_eq!(groups, "SELECT NULL, NULL, count(*) FROM \"public\".\"hits\" WHERE \"mcvisid\" IN ('7')");
        let delete = target.delete(&sought, day, &Piece { groups: vec![of(None, None, 1)], cut: Cut::None });
        assert_eq!(delete, "DELETE FROM \"public\".\"hits\" WHERE \"mcvisid\" IN ('7')");
    }
}
