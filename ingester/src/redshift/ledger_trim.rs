//! Deletes old rows of the ledger. The ledger must not speak for rows that it forgets: in the same transaction, the
//! time of its mark moves behind the last row of the deleted batches.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use shared::ids::BatchId;
use shared::seal::AHEAD;

use crate::failure::LoadFailure;
use crate::redshift::answer::SqlFailure;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::ledger_mark;
use crate::redshift::lock::{self, Done};
use crate::redshift::server::Server;
use crate::redshift::sql::{literal, moment};
use crate::redshift::target::{MARK, MOMENT, Target};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trimmed {
    pub(crate) deleted: u64,
    /// Ledger rows as old that were left, because their batches are still needed.
    pub(crate) kept: u64,
    pub(crate) knows_from: Option<DateTime<Utc>>,
}

/// The precision of times in the ledger.
const NEXT: TimeDelta = TimeDelta::microseconds(1);

impl Target {
    fn old(&self, loaded_before: DateTime<Utc>) -> String {
        format!(
            "FROM {} WHERE batch_id <> {} AND loaded_at < {}",
            self.ledger,
            literal(MARK),
            moment(Some(loaded_before))
        )
    }

    /// Those of them that may go: no row of theirs is in quarantine, and no folder waits under the id, or under one
    /// that it may be derived from, which is of the same moment.
    fn deletable(&self, loaded_before: DateTime<Utc>, keep: &[BatchId]) -> String {
        let moment_of = |batch: &BatchId| literal(batch.to_string().get(..MOMENT).unwrap_or_default());
        let waiting = match keep {
            [] => String::new(),
            keep => {
                let moments: Vec<String> = keep.iter().map(moment_of).collect();
                format!(" AND left(batch_id, {MOMENT}) NOT IN ({})", moments.join(", "))
            }
        };
        format!("{} AND rows_quarantined = 0{waiting}", self.old(loaded_before))
    }
}

/// Deletes the ledger rows of batches that were loaded before a time, but for those with rows in quarantine and those to
/// keep: their folders stand where they are loaded from, and would be loaded again.
pub(crate) async fn trim(
    server: &impl Server,
    target: &Target,
    loaded_before: DateTime<Utc>,
    keep: &BTreeSet<BatchId>,
) -> Result<Trimmed, LoadFailure> {
    let trimmed = async {
        let trimmed = transaction(server, target, loaded_before, keep).await.doing(Doing::TrimLedger)?;
        trimmed.map(Done::Committed).ok_or_else(|| ledger_mark::no_mark(target))
    };
    lock::within(server, target, trimmed).await
}

async fn transaction(
    server: &impl Server,
    target: &Target,
    loaded_before: DateTime<Utc>,
    keep: &BTreeSet<BatchId>,
) -> Result<Option<Trimmed>, SqlFailure> {
    let Some(mark) = ledger_mark::read(server, target).await? else { return Ok(None) };
    let keep: Vec<BatchId> = keep.iter().copied().collect();
    let (old, deletable) = (target.old(loaded_before), target.deletable(loaded_before, &keep));
    let sql = format!("SELECT count(*) {old}");
    let all = server.run(&sql).await?.first().number(0, &sql)?;
    // A mark without a time cannot keep how far the ledger forgets: one that is set later would speak for what is gone.
    let Some(from) = mark.knows_from else {
        server.run("COMMIT").await?;
        return Ok(Some(Trimmed { deleted: 0, kept: all, knows_from: None }));
    };
    let sql = format!("SELECT count(*), max(last_received) {deletable}");
    let rows = server.run(&sql).await?;
    let deleted = rows.first().number(0, &sql)?;
    // A time that is further ahead is from a wrong clock.
    let last = rows.first().time(1).map(|last| last.min(server.clock().wall() + AHEAD));
    let mut knows_from = from;
    if let Some(last) = last.filter(|last| *last >= from) {
        knows_from = last + NEXT;
        server.run(&target.move_mark(Some(knows_from))).await?;
    }
    server.run(&format!("DELETE {deletable}")).await?;
    server.run("COMMIT").await?;
    Ok(Some(Trimmed { deleted, kept: all.saturating_sub(deleted), knows_from: Some(knows_from) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::answer::read_moment;
    use crate::redshift::server::script::Script;
    use crate::redshift::target::tests::target;

    const READ: &str = "SELECT first_received, loaded_by";

    fn script(knows_from: Option<&str>, last: Option<&str>) -> Script {
        Script::default()
            .answer(READ, &[&[knows_from, Some("p t")]])
            .answer("SELECT count(*), max", &[&[Some("3"), last]])
            .answer("SELECT count(*) FROM", &[&[Some("5")]])
    }

    fn before() -> DateTime<Utc> {
        "2026-02-01T00:00:00Z".parse().unwrap()
    }

    #[tokio::test]
    async fn the_ledger_speaks_only_for_what_came_after_the_rows_it_forgets() {
        let last = "2026-01-02 03:04:05";
        let script = script(Some("1970-01-01 00:00:00"), Some(last));
        let kept = BatchId::new();
        let moment = &kept.to_string()[..13];
        let trimmed = trim(&script, &target(), before(), &BTreeSet::from([kept])).await.unwrap();
        assert_eq!((trimmed.deleted, trimmed.kept), (3, 2));
        assert!(trimmed.knows_from > read_moment(last), "a row of that very time may have gone");
        let sent = script.sent();
        let verbs = script.verbs();
        assert_eq!(verbs, ["BEGIN", "LOCK", "SELECT", "SELECT", "SELECT", "UPDATE", "DELETE", "COMMIT"]);
        assert!(sent[5].contains("first_received = '2026-01-02 03:04:05.000001'"), "{}", sent[5]);
        assert_eq!(
            sent[6],
            format!(
                "DELETE FROM \"public\".\"ledger\" WHERE batch_id <> '{MARK}' AND loaded_at < \
                 '2026-02-01 00:00:00.000000' AND rows_quarantined = 0 AND left(batch_id, 13) NOT IN ('{moment}')"
            )
        );
    }

    #[tokio::test]
    async fn the_time_of_the_mark_does_not_go_back() {
        for (from, last) in
            [(Some("2026-01-02 03:04:06"), Some("2026-01-02 03:04:05")), (Some("2026-01-02 03:04:06"), None)]
        {
            let script = script(from, last);
            let trimmed = trim(&script, &target(), before(), &BTreeSet::new()).await.unwrap();
            assert_eq!(trimmed.knows_from, from.and_then(read_moment));
            assert!(!script.verbs().contains(&"UPDATE".to_owned()));
            assert!(!script.sent().iter().any(|sql| sql.contains("NOT IN")));
        }
        assert!(trim(&Script::default(), &target(), before(), &BTreeSet::new()).await.is_err());
    }

    #[tokio::test]
    async fn a_ledger_that_speaks_for_no_time_forgets_nothing() {
        let script = script(None, Some("2026-01-02 03:04:05"));
        let trimmed = trim(&script, &target(), before(), &BTreeSet::new()).await.unwrap();
        assert_eq!(trimmed, Trimmed { deleted: 0, kept: 5, knows_from: None });
        assert!(!script.verbs().contains(&"DELETE".to_owned()));
    }
}
