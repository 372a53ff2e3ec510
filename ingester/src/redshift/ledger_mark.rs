//! The mark of the ledger: one row of it that is no batch. It says since when the ledger speaks for the table, which
//! pipeline the ledger belongs to, and which table it speaks of.
//!
//! It lies in the ledger itself, so that it ends with it: a ledger that was made anew over a table with rows knows
//! nothing of them, and must not speak for them. Its `first_received` is the time (NULL: it speaks for nothing yet),
//! its `loaded_by` the pipeline's id and the table. It counts no rows. It has no `loaded_at`, so jobs that delete old
//! rows of the ledger leave it.

use chrono::{DateTime, Utc};
use shared::ids::RunId;
use shared::seal::AHEAD;
use state::loads::{ErrorClass, LedgerMark};

use crate::failure::LoadFailure;
use crate::redshift::answer::{Rows, SqlFailure};
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::lock::{self, Done};
use crate::redshift::server::Server;
use crate::redshift::sql::{literal, moment};
use crate::redshift::target::{MARK, Target};

const LOADED_BY_BYTES: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnowsFrom {
    Set {
        was: Option<DateTime<Utc>>,
    },
    /// It would have gone back, and was left.
    Refused {
        was: DateTime<Utc>,
    },
}

impl Target {
    fn read_mark(&self) -> String {
        format!("SELECT first_received, loaded_by FROM {} WHERE batch_id = {}", self.ledger, literal(MARK))
    }

    fn enter_mark(&self, mark: &LedgerMark) -> String {
        format!(
            "INSERT INTO {} (batch_id, rows_loaded, rows_quarantined, rows_known, first_received, loaded_by) \
             VALUES ({}, 0, 0, 0, {}, {})",
            self.ledger,
            literal(MARK),
            moment(mark.knows_from),
            literal(&loaded_by(mark))
        )
    }

    pub(super) fn move_mark(&self, to: Option<DateTime<Utc>>) -> String {
        let (ledger, to) = (&self.ledger, moment(to));
        format!("UPDATE {ledger} SET first_received = {to} WHERE batch_id = {}", literal(MARK))
    }

    /// How many batches the ledger has, the last time of their rows, and how many of them name a run.
    fn count_ledger(&self) -> String {
        let (ledger, mark) = (&self.ledger, literal(MARK));
        format!("SELECT count(*), max(last_received), count(run) FROM {ledger} WHERE batch_id <> {mark}")
    }

    fn any_row(&self) -> String {
        format!("SELECT 1 FROM {} LIMIT 1", self.table)
    }
}

pub(crate) async fn read(server: &impl Server, target: &Target) -> Result<Option<LedgerMark>, SqlFailure> {
    Ok(parse(&server.run(&target.read_mark()).await?))
}

/// Reads the mark. A missing one is made, under the lock. For a ledger that has batches, that of an earlier version, it
/// speaks for what came after the last of their rows; for one that has none, for everything if the table has no row
/// either, and for nothing otherwise.
pub async fn ensure(server: &impl Server, target: &Target) -> Result<LedgerMark, LoadFailure> {
    if let Some(mark) = read(server, target).await.doing(Doing::ReadMark)? {
        return Ok(mark);
    }
    lock::within(server, target, async { make(server, target).await.doing(Doing::MakeMark) }).await
}

async fn make(server: &impl Server, target: &Target) -> Result<Done<LedgerMark>, SqlFailure> {
    // Another ingester may have been faster.
    if let Some(mark) = read(server, target).await? {
        return Ok(Done::Nothing(mark));
    }
    let counted = server.run(&target.count_ledger()).await?;
    let none = |column| counted.first().trimmed(column) == Some("0");
    let knows_from = if !none(0) {
        // Batches of this version are entered beside a mark. If one is there, its mark was lost, and perhaps more.
        let last = counted.first().time(1).filter(|_| none(2));
        last.map(|last| last.min(server.clock().wall() + AHEAD))
    } else if server.run(&target.any_row()).await?.0.is_empty() {
        Some(DateTime::UNIX_EPOCH)
    } else {
        None
    };
    // A run's id is a random UUID too.
    let mark = LedgerMark { knows_from, pipeline: RunId::new().to_string(), table: target.table.unquoted() };
    server.run(&target.enter_mark(&mark)).await?;
    server.run("COMMIT").await?;
    Ok(Done::Committed(mark))
}

/// Sets the time since which the ledger speaks for the table; None: it speaks for no time. Without `force` the time
/// does not go back: the ledger may know nothing of what was before.
pub(crate) async fn set_knows_from(
    server: &impl Server,
    target: &Target,
    to: Option<DateTime<Utc>>,
    force: bool,
) -> Result<KnowsFrom, LoadFailure> {
    let set = async {
        set(server, target, to, force).await.doing(Doing::ChangeMark)?.ok_or_else(|| no_mark(target))
    };
    lock::within(server, target, set).await
}

async fn set(
    server: &impl Server,
    target: &Target,
    to: Option<DateTime<Utc>>,
    force: bool,
) -> Result<Option<Done<KnowsFrom>>, SqlFailure> {
    let Some(LedgerMark { knows_from: was, .. }) = read(server, target).await? else { return Ok(None) };
    if let Some(was) = was.filter(|was| to.is_some_and(|to| to < *was) && !force) {
        return Ok(Some(Done::Nothing(KnowsFrom::Refused { was })));
    }
    server.run(&target.move_mark(to)).await?;
    server.run("COMMIT").await?;
    Ok(Some(Done::Committed(KnowsFrom::Set { was })))
}

/// The failure for a ledger that no ingester of this version has met yet.
pub(super) fn no_mark(target: &Target) -> LoadFailure {
    let why = format!("{} has no mark yet", target.ledger);
    LoadFailure::of_all(ErrorClass::Configuration, why, "start an ingester, which makes it")
}

fn loaded_by(mark: &LedgerMark) -> String {
    format!("{} {}", mark.pipeline, as_marked(&mark.table))
}

/// The name of a table as far as a mark has room for it, behind a UUID and a space.
pub(crate) fn as_marked(table: &str) -> &str {
    table.get(..table.floor_char_boundary(LOADED_BY_BYTES - MARK.len() - 1)).unwrap_or_default()
}

fn parse(answer: &Rows) -> Option<LedgerMark> {
    let row = (!answer.0.is_empty()).then(|| answer.first())?;
    let loaded_by = row.text(1).unwrap_or_default();
    let (pipeline, table) = loaded_by.split_once(' ').unwrap_or((loaded_by, ""));
    let (pipeline, table) = (pipeline.to_owned(), table.trim_end().to_owned());
    Some(LedgerMark { knows_from: row.time(0), pipeline, table })
}

#[cfg(test)]
mod tests {
    use shared::ids::BatchId;

    use super::*;
    use crate::redshift::answer::read_moment;
    use crate::redshift::server::script::Script;
    use crate::redshift::target::tests::target;

    const COUNT: &str = "SELECT count(*), max(last_received)";
    const ANY: &str = "LIMIT 1";
    const READ: &str = "SELECT first_received, loaded_by";

    async fn made(script: &Script) -> Option<DateTime<Utc>> {
        let mark = ensure(script, &target()).await.unwrap();
        assert_eq!(mark.table, "public.hits");
        assert!(mark.pipeline.parse::<RunId>().is_ok());
        let sent = script.sent();
        let insert = sent.iter().find(|sql| sql.starts_with("INSERT")).unwrap();
        assert!(insert.contains(&format!("'{} public.hits'", mark.pipeline)), "{insert}");
        assert_eq!(script.verbs().last().unwrap(), "COMMIT");
        // It is looked for once more under the lock.
        let reads: Vec<_> = (0..sent.len()).filter(|n| sent[*n].starts_with(READ)).collect();
        let lock = sent.iter().position(|sql| sql.starts_with("LOCK")).unwrap();
        assert!(matches!(reads.as_slice(), [before, after] if *before < lock && lock < *after), "{sent:?}");
        mark.knows_from
    }

    #[tokio::test]
    async fn a_new_ledger_speaks_for_an_empty_table_and_not_for_one_that_has_rows() {
        let empty = Script::default().answer(COUNT, &[&[Some("0"), None, Some("0")]]);
        assert_eq!(made(&empty).await, Some(DateTime::UNIX_EPOCH));
        let filled =
            Script::default().answer(COUNT, &[&[Some("0"), None, Some("0")]]).answer(ANY, &[&[Some("1")]]);
        assert_eq!(made(&filled).await, None);
    }

    #[tokio::test]
    async fn the_ledger_of_an_earlier_version_speaks_for_what_came_after_its_last_row() {
        let last = "2026-01-02 03:04:05";
        let old = Script::default().answer(COUNT, &[&[Some("7"), Some(last), Some("0")]]);
        assert_eq!(made(&old).await, read_moment(last));
        let without = Script::default().answer(COUNT, &[&[Some("7"), None, Some("0")]]);
        assert_eq!(made(&without).await, None);
        let ours = Script::default().answer(COUNT, &[&[Some("7"), Some(last), Some("1")]]);
        assert_eq!(made(&ours).await, None, "its mark was lost");
        // What cannot be read is no proof that nothing is there.
        let odd = Script::default().answer(COUNT, &[]);
        assert_eq!(made(&odd).await, None);
    }

    #[tokio::test]
    async fn a_mark_that_is_there_is_left() {
        let row: &[Option<&str>] = &[Some("2026-01-02 03:04:05"), Some("p public.h i")];
        let script = Script::default().answer(READ, &[row]);
        let mark = ensure(&script, &target()).await.unwrap();
        assert_eq!((mark.pipeline.as_str(), mark.table.as_str()), ("p", "public.h i"));
        assert_eq!(script.verbs(), ["SELECT"]);
    }

    #[tokio::test]
    async fn the_time_goes_back_by_force_only() {
        let row: &[Option<&str>] = &[Some("2026-01-02 03:04:05"), Some("p t")];
        let script = || Script::default().answer(READ, &[row]);
        let was = read_moment("2026-01-02 03:04:05").unwrap();
        let (later, earlier) = (was + chrono::TimeDelta::hours(1), was - chrono::TimeDelta::hours(1));
        for (to, force, done) in [
            (later, false, KnowsFrom::Set { was: Some(was) }),
            (was, false, KnowsFrom::Set { was: Some(was) }),
            (earlier, false, KnowsFrom::Refused { was }),
            (earlier, true, KnowsFrom::Set { was: Some(was) }),
        ] {
            let script = script();
            assert_eq!(set_knows_from(&script, &target(), Some(to), force).await.unwrap(), done);
            let changes = script.verbs().iter().filter(|verb| *verb == "UPDATE").count();
            assert_eq!(changes, usize::from(matches!(done, KnowsFrom::Set { .. })));
            assert_eq!(script.verbs()[..2], ["BEGIN", "LOCK"]);
        }
        let none: &[Option<&str>] = &[None, Some("p t")];
        let script = Script::default().answer(READ, &[none]);
        let set = set_knows_from(&script, &target(), Some(earlier), false).await.unwrap();
        assert_eq!(set, KnowsFrom::Set { was: None });
        assert!(set_knows_from(&Script::default(), &target(), Some(later), false).await.is_err());
        let script = Script::default().answer(READ, &[row]);
        let set = set_knows_from(&script, &target(), None, false).await.unwrap();
        assert_eq!(set, KnowsFrom::Set { was: Some(was) }, "to know less is always safe");
        assert!(script.sent().iter().any(|sql| sql.contains("SET first_received = NULL")));
    }

    #[test]
    fn the_mark_sorts_before_every_batch_and_fits_its_columns() {
        assert_eq!(BatchId::floor(DateTime::UNIX_EPOCH).to_string(), MARK);
        let long = LedgerMark { knows_from: None, pipeline: MARK.to_owned(), table: "é".repeat(127) };
        assert!(loaded_by(&long).len() <= LOADED_BY_BYTES);
        let sql = target().enter_mark(&long);
        assert!(
            sql.contains("loaded_by) VALUES ('00000000-0000-7000-8000-000000000000', 0, 0, 0, NULL, '"),
            "{sql}"
        );
    }
}
