//! The transaction that loads a batch exactly once.
//!
//! ```text
//! BEGIN · LOCK ledger · is it there? ──yes──► ROLLBACK: loaded before
//!                          │ no
//!                          └─► COPY · as many rows as sealed? · INSERT ledger row · COMMIT
//! ```
//! Rows and ledger row become visible together or not at all, and the lock, which is the first thing a transaction
//! takes, makes loaders go one after another: whoever holds it sees all that was loaded before. So an attempt ends
//! *applied* (COMMIT was answered), *not applied* (anything failed before COMMIT was sent, or COMMIT was refused), or
//! *unknown* (COMMIT was sent and not answered). There is nothing to do about *unknown* but to run the transaction
//! again: LOCK waits for an orphaned session that is still at it, and the look into the ledger settles the matter.

use chrono::Utc;
use shared::seal::Seal;
use state::loads::ErrorClass;

use super::errors;
use super::load_errors;
use super::session::{Session, SqlFailure};
use super::statements::Target;
use crate::trouble::Trouble;

/// How a batch came to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// By this attempt.
    Applied,
    /// By an earlier one, or by another ingester.
    Before,
}

enum Failed {
    Sql(SqlFailure, &'static str),
    Count { copied: String, sealed: u64 },
}

/// Loads the batch of `seal`, whose folder is known to be whole.
///
/// # Errors
/// When it is not loaded as far as is known. Trying again is always right, and never loads twice.
pub async fn load(session: &Session, target: &Target, seal: &Seal) -> Result<Settled, Trouble> {
    let failed = match transaction(session, target, seal).await {
        Ok(settled) => return Ok(settled),
        Err(failed) => failed,
    };
    // Nothing to roll back when COMMIT was refused or the connection is gone; then it does no harm.
    session.roll_back().await;
    match failed {
        Failed::Count { copied, sealed } => {
            let why = format!("COPY loaded {copied} rows, the seal says {sealed}; rolled back");
            Err(Trouble::of_batch(ErrorClass::Incomplete, why))
        }
        Failed::Sql(failure, "COMMIT") if matches!(failure, SqlFailure::Lost(_)) => {
            let trouble = errors::trouble(&failure, "COMMIT was sent and not answered, the ledger will tell");
            Err(trouble)
        }
        Failed::Sql(failure, doing) => {
            let trouble = errors::trouble(&failure, doing);
            if trouble.class != ErrorClass::Data {
                return Err(trouble);
            }
            let reason = load_errors::first(session, target, seal.batch).await;
            let why = reason.map_or(trouble.why, |reason| format!("Redshift refused rows; {reason}"));
            Err(Trouble { advice: trouble.advice, ..Trouble::of_batch(ErrorClass::Data, why) })
        }
    }
}

async fn transaction(session: &Session, target: &Target, seal: &Seal) -> Result<Settled, Failed> {
    let run = async |sql: &str, doing| session.run(sql).await.map_err(|failure| Failed::Sql(failure, doing));
    run("BEGIN", "BEGIN").await?;
    run(&target.lock_ledger(), "LOCK").await?;
    if !run(&target.look_up(seal.batch), "reading the ledger").await?.0.is_empty() {
        session.roll_back().await;
        return Ok(Settled::Before);
    }
    run(&target.copy(seal), "COPY").await?;
    let counted = run("SELECT pg_last_copy_count()", "counting").await?;
    let copied = counted.single().unwrap_or("no count of").to_owned();
    if copied.parse() != Ok(seal.rows) {
        return Err(Failed::Count { copied, sealed: seal.rows });
    }
    let id = run("SELECT pg_last_copy_id()", "asking for the query id").await?;
    let copy_query = id.single().and_then(|id| id.parse().ok()).unwrap_or(-1);
    run(&target.enter(seal, copy_query, Utc::now()), "writing the ledger").await?;
    run("COMMIT", "COMMIT").await?;
    Ok(Settled::Applied)
}
