//! The transaction that loads batches exactly once.
//!
//! ```text
//! BEGIN · LOCK ledger · which of them are there? ──some──► ROLLBACK: these were loaded before
//!                          │ none
//!                          └─► COPY · as many rows as sealed? · INSERT ledger rows · COMMIT
//! ```
//! Rows and ledger rows become visible together or not at all, and the lock, which is the first thing a transaction
//! takes, makes loaders go one after another: whoever holds it sees all that was loaded before. So an attempt ends
//! *applied* (COMMIT was answered), *not applied* (anything failed before COMMIT was sent, or COMMIT was refused), or
//! *unknown* (COMMIT was sent and not answered). There is nothing to do about *unknown* but to run the transaction
//! again: LOCK waits for an orphaned session that is still at it, and the look into the ledger settles the matter.

use chrono::Utc;
use shared::ids::BatchId;
use shared::layout::Compression;
use shared::seal::Seal;
use state::loads::ErrorClass;

use super::errors;
use super::file_counts;
use super::load_errors;
use super::session::{COPY_ID, Session, SqlFailure};
use super::statements::Target;
use crate::trouble::Trouble;

/// What one COPY loads: the files a manifest names, and the batches they belong to.
#[derive(Debug, Clone)]
pub struct Loading {
    /// Key of the manifest in the bucket.
    pub manifest: String,
    /// How all the files are compressed.
    pub compression: Compression,
    /// The batches, oldest first; there is at least one.
    pub parts: Vec<Part>,
}

/// One batch's part.
#[derive(Debug, Clone)]
pub struct Part {
    /// What was sealed.
    pub seal: Seal,
    /// Rows of the seal that were taken out of what the manifest names, because Redshift refused them.
    pub quarantined: u64,
    /// The set of objects that holds those rows, if there are any; the ledger names it.
    pub set: Option<String>,
}

impl Part {
    /// All rows of a batch.
    #[must_use]
    pub fn whole(seal: Seal) -> Self {
        Self { seal, quarantined: 0, set: None }
    }

    /// Rows that COPY must find.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.seal.rows.saturating_sub(self.quarantined)
    }
}

impl Loading {
    /// Rows that COPY must find.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(Part::rows).sum()
    }

    /// The batches, in order.
    #[must_use]
    pub fn batches(&self) -> Vec<BatchId> {
        self.parts.iter().map(|part| part.seal.batch).collect()
    }
}

/// How a batch came to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// By this attempt.
    Applied,
    /// By an earlier one, or by another ingester.
    Before,
}

/// In the ledger, of a COPY whose id Redshift does not tell; as `pg_last_copy_id()` answers where there was none.
const UNKNOWN_QUERY: i64 = -1;

enum Failed {
    Sql(SqlFailure, &'static str),
    Count { copied: String, query: Option<i64> },
}

/// Loads what is known to be whole in S3. The answer names the batches that are settled now: all of them, or, if some
/// were in the ledger already, only these, and nothing was loaded.
///
/// # Errors
/// When nothing of it is loaded as far as is known. Trying again is always right, and never loads twice.
pub async fn load(
    session: &Session,
    target: &Target,
    loading: &Loading,
) -> Result<Vec<(BatchId, Settled)>, Trouble> {
    let failed = match transaction(session, target, loading).await {
        Ok(settled) => return Ok(settled),
        Err(failed) => failed,
    };
    // Nothing to roll back when COMMIT was refused or the connection is gone; then it does no harm.
    session.roll_back().await;
    match failed {
        Failed::Count { copied, query } => {
            let blamed = file_counts::short(session, target, &loading.parts, query).await;
            let mut why = format!("COPY loaded {copied} rows, the seal says {}; rolled back", loading.rows());
            if let ([_], [(_, file)]) = (loading.parts.as_slice(), blamed.as_slice()) {
                why = format!("{why}; {file}");
            }
            Err(Trouble { blamed, ..Trouble::of_batch(ErrorClass::Incomplete, why) })
        }
        Failed::Sql(failure, "COMMIT") if matches!(failure, SqlFailure::Lost(_)) => {
            let trouble = errors::trouble(&failure, "COMMIT was sent and not answered, the ledger will tell");
            Err(trouble)
        }
        Failed::Sql(failure, doing) => {
            let trouble = errors::trouble(&failure, doing);
            let [part] = loading.parts.as_slice() else { return Err(trouble) };
            if trouble.class != ErrorClass::Data {
                return Err(trouble);
            }
            let reason = load_errors::first(session, target, part.seal.batch).await;
            let why = reason.map_or(trouble.why, |reason| format!("Redshift refused rows; {reason}"));
            Err(Trouble { advice: trouble.advice, ..Trouble::of_batch(ErrorClass::Data, why) })
        }
    }
}

async fn transaction(
    session: &Session,
    target: &Target,
    loading: &Loading,
) -> Result<Vec<(BatchId, Settled)>, Failed> {
    let run = async |sql: &str, doing| session.run(sql).await.map_err(|failure| Failed::Sql(failure, doing));
    run("BEGIN", "BEGIN").await?;
    run(&target.lock_ledger(), "LOCK").await?;
    let batches = loading.batches();
    let there = run(&target.look_up(&batches), "reading the ledger").await?.first_column::<BatchId>();
    if !there.is_empty() {
        session.roll_back().await;
        return Ok(there.into_iter().map(|batch| (batch, Settled::Before)).collect());
    }
    run(&target.copy(&loading.manifest, loading.compression), "COPY").await?;
    let counted = run("SELECT pg_last_copy_count()", "counting").await?;
    let copied = counted.single().unwrap_or("no count of").to_owned();
    let query = if session.tells_copy_id() {
        run(COPY_ID, "asking for the query id").await?.single().and_then(|id| id.parse().ok())
    } else {
        None
    };
    if copied.parse() != Ok(loading.rows()) {
        return Err(Failed::Count { copied, query });
    }
    let query = query.unwrap_or(UNKNOWN_QUERY);
    run(&target.enter(&loading.parts, query, Utc::now()), "writing the ledger").await?;
    run("COMMIT", "COMMIT").await?;
    Ok(batches.into_iter().map(|batch| (batch, Settled::Applied)).collect())
}
