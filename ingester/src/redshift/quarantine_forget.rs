//! Gives up rows in quarantine: the ledger names another set, without them, or none, and counts them as forgotten.
//!
//! As a release ([`super::quarantine_release`]) it does nothing when the ledger row says something else by now. The set of
//! what is left is written under the lock, so that nobody takes it for a left-over. The old one is one afterwards.

use shared::ids::BatchId;

use crate::failure::LoadFailure;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::lock::{self, Done};
use crate::redshift::quarantine_release::{Entry, entry_of};
use crate::redshift::server::Server;
use crate::redshift::sql::literal;
use crate::redshift::target::Target;

impl Target {
    fn give_up(&self, batch: BatchId, rows: u64, left: Option<(&str, u64)>) -> String {
        let (left, set) = match left {
            Some((set, rows)) => (rows, literal(set)),
            None => (0, "NULL".to_owned()),
        };
        format!(
            "UPDATE {} SET rows_quarantined = {left}, quarantine = {set}, \
             rows_forgotten = coalesce(rows_forgotten, 0) + {rows} WHERE batch_id = {}",
            self.ledger,
            literal(&batch.to_string())
        )
    }
}

/// Counts `rows` rows of a quarantine as forgotten; `left` is the set of the others, which `prepare` writes. False: the
/// ledger says something else than `from` by now, and nothing was done.
pub(crate) async fn give_up(
    server: &impl Server,
    target: &Target,
    (from, rows, left): (&Entry, u64, Option<(&str, u64)>),
    prepare: impl AsyncFnOnce() -> Result<(), LoadFailure>,
) -> Result<bool, LoadFailure> {
    let given_up = async {
        let there = server.run(&target.select_quarantined(&[from.batch])).await.doing(Doing::ReadLedger)?;
        if there.read(entry_of).first() != Some(from) {
            return Ok(Done::Nothing(false));
        }
        prepare().await?;
        server.run(&target.give_up(from.batch, rows, left)).await.doing(Doing::WriteLedger)?;
        lock::commit(server).await?;
        Ok(Done::Committed(true))
    };
    lock::within(server, target, given_up).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redshift::server::script::Script;
    use crate::redshift::target::tests::target;

    #[tokio::test]
    async fn rows_move_from_one_count_to_the_other_and_the_ledger_names_what_is_left() {
        let batch = BatchId::new();
        let from = Entry { batch, loaded: 9, rows: 5, set: Some("a1".to_owned()), known: 1, forgotten: 2 };
        let id = batch.to_string();
        let row: &[Option<&str>] = &[Some(&id), Some("9"), Some("5"), Some("a1"), Some("1"), Some("2")];
        let script = Script::default().answer("SELECT batch_id", &[row]);
        let done = give_up(&script, &target(), (&from, 3, Some(("b2", 2))), async || Ok(())).await;
        assert!(done.unwrap());
        assert_eq!(script.verbs(), ["BEGIN", "LOCK", "SELECT", "UPDATE", "COMMIT"]);
        assert_eq!(
            script.sent()[3],
            format!(
                "UPDATE \"public\".\"ledger\" SET rows_quarantined = 2, quarantine = 'b2', \
                 rows_forgotten = coalesce(rows_forgotten, 0) + 3 WHERE batch_id = '{batch}'"
            )
        );
        let script = Script::default().answer("SELECT batch_id", &[row]);
        let other = Entry { forgotten: 0, ..from };
        let done = give_up(&script, &target(), (&other, 5, None), async || Ok(())).await;
        assert!(!done.unwrap());
        assert_eq!(script.verbs(), ["BEGIN", "LOCK", "SELECT", "ROLLBACK"]);
        assert!(target().give_up(batch, 5, None).contains("rows_quarantined = 0, quarantine = NULL, "));
    }
}
