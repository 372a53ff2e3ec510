//! The lock that makes loads go one after another: that of a table of its own, which nobody has a reason to read. So
//! readers of the ledger wait for no load, and hold up none.
//!
//! It is the first statement of its transaction, and has a short time limit of its own: the loader waits for another load
//! again and again, and logs each time who holds the lock.

use shared::human;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::redshift::answer::Rows;
use crate::redshift::doing::Doing;
use crate::redshift::errors;
use crate::redshift::server::{Server, read_view};
use crate::redshift::target::Target;

const HELD_ADVICE: &str = "a load that is under way ends by itself; if none is, end the session with SELECT \
                           pg_terminate_backend(<its number>)";
const HIDDEN_ADVICE: &str = "a load of another user that is under way ends by itself; otherwise let a superuser look for the \
                             table in svv_transactions, and end that session with SELECT pg_terminate_backend(pid)";

const NAMED: usize = 3;

impl Target {
    fn lock_statement(&self) -> String {
        format!("LOCK {}", self.lock)
    }

    /// The sessions that hold a lock on the table. An ordinary user is shown its own sessions.
    fn holders(&self) -> String {
        format!(
            "SELECT t.pid, t.txn_owner, t.txn_start FROM svv_transactions AS t \
             JOIN pg_class AS c ON c.oid = t.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE t.granted = 't' AND c.relname = {} AND n.nspname = {} ORDER BY t.txn_start",
            self.lock.catalog_name(),
            self.lock.catalog_schema()
        )
    }
}

/// Begins a transaction that has the lock. A failure says who holds it; no transaction is open then.
pub(crate) async fn begin(server: &impl Server, target: &Target) -> Result<(), LoadFailure> {
    let Err((failure, doing)) = server.begin(&target.lock_statement(), target.lock_timeout).await else {
        return Ok(());
    };
    server.roll_back().await;
    if doing != Doing::Lock || !errors::is_time_limit(&failure) {
        return Err(errors::load_failure(&failure, doing));
    }
    let holders = read_view(server, "svv_transactions", &target.holders()).await;
    let limit = human::duration(target.lock_timeout);
    let (who, advice) = match holders.and_then(|holders| describe(&holders)) {
        Some(holders) => (holders, HELD_ADVICE),
        None => ("a session that redshift.user is not shown holds it".to_owned(), HIDDEN_ADVICE),
    };
    let why = format!("{} could not be locked within {limit} (redshift.lock_timeout): {who}", target.lock);
    Err(LoadFailure::of_all(ErrorClass::Passing, why, advice))
}

/// How the work of a transaction ended.
pub(crate) enum Done<T> {
    Committed(T),
    /// Nothing of it is to stay.
    Nothing(T),
}

/// Runs a transaction that has the lock, and rolls it back unless `work` has committed it. Without the lock, `work` does
/// not begin.
pub(crate) async fn within<T, E: From<LoadFailure>>(
    server: &impl Server,
    target: &Target,
    work: impl Future<Output = Result<Done<T>, E>>,
) -> Result<T, E> {
    begin(server, target).await?;
    let ended = match work.await {
        Ok(Done::Committed(value)) => return Ok(value),
        Ok(Done::Nothing(value)) => Ok(value),
        Err(error) => Err(error),
    };
    server.roll_back().await;
    ended
}

fn describe(holders: &Rows) -> Option<String> {
    let mut all = holders.read(|row| {
        let text = |column| row.trimmed(column).unwrap_or("?");
        Some(format!("session {} of {} holds it since {}", row.trimmed(0)?, text(1), text(2)))
    });
    all.truncate(NAMED);
    (!all.is_empty()).then(|| all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Pace, Scope};
    use crate::redshift::server::script::Script;
    use crate::redshift::target::tests::target;

    const OVER: &str = "Query (12) cancelled on user's request";

    #[tokio::test]
    async fn a_lock_that_is_held_is_told_with_its_holder_and_passes() {
        let holder: &[Option<&str>] = &[Some("4711"), Some("loader "), Some("2026-01-02 03:04:05.1")];
        let script = Script::default().refuse("LOCK", OVER).answer("svv_transactions", &[holder]);
        let failure = begin(&script, &target()).await.unwrap_err();
        assert_eq!(
            (failure.class, failure.scope, failure.pace),
            (ErrorClass::Passing, Scope::Whole, Pace::Usual)
        );
        let said = failure.to_string();
        assert!(said.contains("\"public\".\"ledger_lock\" could not be locked within 1m"), "{said}");
        assert!(
            said.contains("session 4711 of loader holds it since 2026-01-02 03:04:05.1: a load"),
            "{said}"
        );
        assert_eq!(script.verbs(), ["BEGIN", "LOCK", "ROLLBACK", "SELECT"]);
        let hidden = Script::default().refuse("LOCK", OVER);
        let said = begin(&hidden, &target()).await.unwrap_err().to_string();
        assert!(said.contains("is not shown holds it: a load of another user"), "{said}");
    }

    #[tokio::test]
    async fn another_refusal_of_the_lock_is_what_it_is() {
        let script = Script::default().refuse("LOCK", "relation \"ledger_lock\" does not exist");
        let failure = begin(&script, &target()).await.unwrap_err();
        assert_eq!((failure.class, script.verbs().len()), (ErrorClass::Configuration, 3));
    }

    #[test]
    fn holders_are_looked_for_by_the_name_of_the_table() {
        let sql = target().holders();
        assert!(sql.contains("c.relname = 'ledger_lock' AND n.nspname = 'public' ORDER"), "{sql}");
        assert_eq!(target().lock_statement(), "LOCK \"public\".\"ledger_lock\"");
    }
}
