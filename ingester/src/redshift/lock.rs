//! The lock that makes loads go one after another: that of a table of its own, which nobody has a reason to read. So
//! readers of the ledger wait for no load, and hold up none.
//!
//! It is the first statement of its transaction, and has a short time limit of its own: the loader waits for another load
//! again and again, and logs each time who holds the lock.

use shared::human;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::redshift::answer::{Rows, SqlFailure};
use crate::redshift::doing::Doing;
use crate::redshift::errors;
use crate::redshift::server::{Server, read_view};
use crate::redshift::sql::Table;
use crate::redshift::target::Target;

const HELD_ADVICE: &str = "a load that is under way ends by itself; if none is, end the session with SELECT \
                           pg_terminate_backend(<its number>)";
const HIDDEN_ADVICE: &str = "a load of another user that is under way ends by itself; otherwise let a superuser look for the \
                             table in svv_transactions, and end that session with SELECT pg_terminate_backend(pid)";

const HELD_TABLE_ADVICE: &str = "a load or a query that is under way ends by itself; if none is, end the session with SELECT \
                                 pg_terminate_backend(<its number>)";
const HIDDEN_TABLE_ADVICE: &str = "a load or a query of another user that is under way ends by itself; otherwise let a superuser \
                                   look for the tables in svv_transactions, and end that session with SELECT \
                                   pg_terminate_backend(pid)";

const NAMED: usize = 3;

/// Locks these tables, one after the other.
fn lock_statement(tables: &[&Table]) -> String {
    let tables: Vec<String> = tables.iter().map(ToString::to_string).collect();
    format!("LOCK {}", tables.join(", "))
}

/// The sessions that hold a lock on one of the tables. An ordinary user is shown its own sessions.
fn holders(tables: &[&Table]) -> String {
    let one_of_them: Vec<String> = tables
        .iter()
        .map(|table| {
            format!("(c.relname = {} AND n.nspname = {})", table.catalog_name(), table.catalog_schema())
        })
        .collect();
    format!(
        "SELECT t.pid, t.txn_owner, t.txn_start, c.relname FROM svv_transactions AS t \
         JOIN pg_class AS c ON c.oid = t.relation JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE t.granted = 't' AND ({}) ORDER BY t.txn_start",
        one_of_them.join(" OR ")
    )
}

/// Begins a transaction that has the lock. A failure says who holds it; no transaction is open then.
pub(crate) async fn begin(server: &impl Server, target: &Target) -> Result<(), LoadFailure> {
    begin_on(server, target, &[&target.lock]).await
}

/// The same with the table of rows locked too: nobody else reads, loads or alters it.
pub(crate) async fn begin_with_table(server: &impl Server, target: &Target) -> Result<(), LoadFailure> {
    begin_on(server, target, &[&target.lock, &target.table]).await
}

async fn begin_on(server: &impl Server, target: &Target, tables: &[&Table]) -> Result<(), LoadFailure> {
    let Err((failure, doing)) = server.begin(&lock_statement(tables), target.lock_timeout).await else {
        return Ok(());
    };
    server.roll_back().await;
    if doing != Doing::Lock || !errors::is_time_limit(&failure) {
        return Err(errors::load_failure(&failure, doing));
    }
    let holders = read_view(server, "svv_transactions", &holders(tables)).await;
    let limit = human::duration(target.lock_timeout);
    let several = tables.len() > 1;
    let (who, advice) = match holders.and_then(|holders| describe(&holders, several)) {
        Some(holders) if several => (holders, HELD_TABLE_ADVICE),
        Some(holders) => (holders, HELD_ADVICE),
        None => {
            let what = if several { "one of them" } else { "it" };
            let advice = if several { HIDDEN_TABLE_ADVICE } else { HIDDEN_ADVICE };
            (format!("a session that redshift.user is not shown holds {what}"), advice)
        }
    };
    let names: Vec<String> = tables.iter().map(ToString::to_string).collect();
    let why =
        format!("{} could not be locked within {limit} (redshift.lock_timeout): {who}", names.join(" and "));
    Err(LoadFailure::of_all(ErrorClass::Passing, why, advice))
}

/// Ends a transaction. Without an answer nobody knows yet whether it was carried out: what it wrote tells.
pub(crate) async fn commit(server: &impl Server) -> Result<(), LoadFailure> {
    let committed = server.run("COMMIT").await.map(drop);
    committed.map_err(|failure| {
        let lost = matches!(failure, SqlFailure::Lost(_));
        errors::load_failure(&failure, if lost { Doing::AwaitCommit } else { Doing::Commit })
    })
}

/// Whether that is the failure to get the lock in time.
pub(crate) fn is_held(failure: &LoadFailure) -> bool {
    [HELD_ADVICE, HIDDEN_ADVICE, HELD_TABLE_ADVICE, HIDDEN_TABLE_ADVICE].contains(&failure.advice)
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
    end(server, work).await
}

/// The same with the table of rows locked too.
pub(crate) async fn within_with_table<T, E: From<LoadFailure>>(
    server: &impl Server,
    target: &Target,
    work: impl Future<Output = Result<Done<T>, E>>,
) -> Result<T, E> {
    begin_with_table(server, target).await?;
    end(server, work).await
}

async fn end<T, E>(server: &impl Server, work: impl Future<Output = Result<Done<T>, E>>) -> Result<T, E> {
    let ended = match work.await {
        Ok(Done::Committed(value)) => return Ok(value),
        Ok(Done::Nothing(value)) => Ok(value),
        Err(error) => Err(error),
    };
    server.roll_back().await;
    ended
}

fn describe(holders: &Rows, several: bool) -> Option<String> {
    let mut all = holders.read(|row| {
        let text = |column| row.trimmed(column).unwrap_or("?");
        let what = if several { text(3) } else { "it" };
        Some(format!("session {} of {} holds {what} since {}", row.trimmed(0)?, text(1), text(2)))
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
        assert!(is_held(&failure));
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
        assert!(!is_held(&failure));
    }

    #[tokio::test]
    async fn who_holds_one_of_two_tables_is_told_with_the_table() {
        let holder: &[Option<&str>] =
            &[Some("4711"), Some("bi"), Some("2026-01-02 03:04:05.1"), Some("hits ")];
        let script = Script::default().refuse("LOCK", OVER).answer("svv_transactions", &[holder]);
        let said = begin_with_table(&script, &target()).await.unwrap_err().to_string();
        for part in [
            "\"public\".\"ledger_lock\" and \"public\".\"hits\" could not be locked within 1m",
            "session 4711 of bi holds hits since 2026-01-02 03:04:05.1: a load or a query that is",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let hidden = Script::default().refuse("LOCK", OVER);
        let said = begin_with_table(&hidden, &target()).await.unwrap_err().to_string();
        assert!(said.contains("is not shown holds one of them: a load or a query of another user"), "{said}");
    }

    #[test]
    fn holders_are_looked_for_by_the_name_of_the_table() {
        let target = target();
        let sql = holders(&[&target.lock]);
        assert!(sql.contains("(c.relname = 'ledger_lock' AND n.nspname = 'public')) ORDER"), "{sql}");
        assert_eq!(lock_statement(&[&target.lock]), "LOCK \"public\".\"ledger_lock\"");
        let both = [&target.lock, &target.table];
        assert!(holders(&both).contains(" OR (c.relname = 'hits' AND n.nspname = 'public')) ORDER"));
        assert_eq!(lock_statement(&both), "LOCK \"public\".\"ledger_lock\", \"public\".\"hits\"");
    }
}
