//! The transaction that loads batches exactly once.
//!
//! ```text
//! BEGIN · LOCK · which of them does the ledger have? ──some──► ROLLBACK: these were loaded before
//!                    │ none
//!                    └─► what does the ledger know of their times?
//!                          │ each was compared with every run of      │ anything else: one batch, staged (stage.rs), or
//!                          │ its time (stage_reason.rs)               │ refused, if its rows cannot be compared
//!                          └─► COPY · as many rows as sealed?         └─► COPY into a staging table · delete what is known · INSERT
//!                                     └──────► INSERT ledger rows · COMMIT ◄──────┘
//! ```
//! Rows and ledger rows become visible together or not at all, and the lock, which is the first thing a transaction
//! takes, makes loaders go one after another: its holder sees all that was loaded before. So an attempt ends
//! *applied* (COMMIT was answered), *not applied* (anything failed before COMMIT was sent, or COMMIT was refused), or
//! *unknown* (COMMIT was sent and not answered). There is nothing to do about *unknown* but to run the transaction
//! again: LOCK waits for an orphan session that still runs, and the ledger then says whether it committed.

use shared::ids::BatchId;
use shared::seal::Seal;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::redshift::answer::SqlFailure;
use crate::redshift::doing::Doing;
use crate::redshift::ledger::{self, Entering};
use crate::redshift::ledger_lookup::{self, InLedger};
use crate::redshift::server::{Aborted, Server, copy, run};
use crate::redshift::session::Session;
use crate::redshift::stage::{self, Staging};
use crate::redshift::stage_reason::{StageReason, stage_reasons};
use crate::redshift::target::Target;
use crate::redshift::{catalog, errors, load_errors, lock};

pub(crate) use crate::redshift::loading::{How, Loaded, LoadedBatch, Loading, Part};

const INCOMPARABLE_ADVICE: &str = "load it with an ingester whose [schema] is the one it was made for: that compares by its own columns, and does not \
     compare if it has none; other batches are loaded meanwhile";

/// In the ledger, of a COPY whose id Redshift does not tell; as `pg_last_copy_id()` answers where there was none.
const UNKNOWN_QUERY: i64 = -1;

/// Loads batches that are known to be whole in S3. When it fails, probably nothing was loaded. A retry never loads twice.
pub async fn load(session: &Session, target: &Target, loading: &Loading) -> Result<Loaded, LoadFailure> {
    match transaction(session, target, loading).await {
        Ok(loaded) => Ok(loaded),
        Err(failed) => {
            // ROLLBACK is harmless when COMMIT was refused or the connection is gone.
            session.roll_back().await;
            Err(explain(session, target, loading, failed).await)
        }
    }
}

/// Finds out more about a failure, once the transaction is rolled back.
async fn explain(session: &Session, target: &Target, loading: &Loading, failed: Aborted) -> LoadFailure {
    match failed {
        Aborted::Load(failure) => failure,
        Aborted::Count { copied, query } => {
            let blamed = load_errors::short(session, target, &loading.parts, query).await;
            let mut why = format!("COPY loaded {copied} rows, the seal says {}; rolled back", loading.rows());
            if let ([_], [(_, file)]) = (loading.parts.as_slice(), blamed.as_slice()) {
                why = format!("{why}; {file}");
            }
            LoadFailure { blamed, ..LoadFailure::of_batch(ErrorClass::Incomplete, why) }
        }
        Aborted::Sql(failure @ SqlFailure::Lost(_), Doing::Commit) => {
            errors::load_failure(&failure, Doing::AwaitCommit)
        }
        Aborted::Sql(failure, doing) => {
            let failure = errors::load_failure(&failure, doing);
            match (failure.class, loading.parts.as_slice()) {
                (ErrorClass::Configuration, [part, ..]) => {
                    catalog::missing_of_batch(session, target, part).await.unwrap_or(failure)
                }
                (ErrorClass::Data, [part]) => {
                    let reason = load_errors::first(session, target, part.seal.batch).await;
                    let why = reason.map_or(failure.why, |reason| format!("Redshift refused rows; {reason}"));
                    LoadFailure { advice: failure.advice, ..LoadFailure::of_batch(ErrorClass::Data, why) }
                }
                _ => failure,
            }
        }
    }
}

async fn transaction(server: &impl Server, own: &Target, loading: &Loading) -> Result<Loaded, Aborted> {
    // The columns of the rows are the same for all parts.
    let target = &loading.parts.first().map_or_else(|| own.clone(), |part| own.for_rows_of(&part.seal));
    lock::begin(server, target).await?;
    let seals: Vec<&Seal> = loading.parts.iter().map(|part| &part.seal).collect();
    let reading = |failure| Aborted::Sql(failure, Doing::ReadLedger);
    let entries = ledger_lookup::fetch_entries(server, target, &seals).await.map_err(reading)?;
    let there: Vec<InLedger> = seals.iter().map(|seal| ledger_lookup::find(seal, &entries)).collect();
    let before = seals.iter().zip(&there).filter_map(|(seal, there)| match there {
        InLedger::Yes(row) => Some(LoadedBatch::before(seal.batch, row.id, row.known)),
        InLedger::No | InLedger::Other(_) => None,
    });
    let before: Vec<_> = before.collect();
    if !before.is_empty() {
        server.roll_back().await;
        return Ok(Loaded::Batches(before));
    }
    // Whether rows must be compared follows from the table, which is of our own schema, and not from their columns.
    let range = ledger_lookup::fetch_range(server, own, &seals).await.map_err(reading)?;
    let mut whys = range.map_or_else(|| vec![None; seals.len()], |range| stage_reasons(&seals, &range));
    for (why, there) in whys.iter_mut().zip(&there) {
        if matches!(there, InLedger::Other(_)) {
            *why = Some(StageReason::OtherContent);
        }
    }
    let loaded = if let ([part], [why]) = (loading.parts.as_slice(), whys.as_slice()) {
        if let Some(failure) = why.as_ref().and_then(|why| incomparable(own, target, &part.seal, why)) {
            return Err(failure.into());
        }
        vec![alone(server, target, loading, part, why.clone()).await?]
    } else if whys.iter().any(Option::is_some) {
        server.roll_back().await;
        let isolated = seals.iter().zip(whys).filter_map(|(seal, why)| Some((seal.batch, why?)));
        return Ok(Loaded::Isolated(isolated.collect()));
    } else {
        together(server, target, loading).await?
    };
    run(server, "COMMIT", Doing::Commit).await?;
    if own.comparable().is_some() && target.comparable().is_none() {
        tracing::warn!(
            batches = seals.len(),
            first = %seals.iter().map(|seal| seal.batch.to_string()).next().unwrap_or_default(),
            "the rows that were loaded lack hitIdHigh, hitIdLow or receivedTimeGMT: later loads cannot be compared with them"
        );
    }
    Ok(Loaded::Batches(loaded))
}

/// The failure of a batch that must be compared with the table, whose rows lack the columns for it: loading them as
/// they are might load hits that the table has.
fn incomparable(own: &Target, of_rows: &Target, seal: &Seal, why: &StageReason) -> Option<LoadFailure> {
    let by = own.comparable().filter(|_| of_rows.comparable().is_none())?;
    let lacking = [by.high, by.low, by.received].into_iter();
    let lacking: Vec<&str> =
        lacking.filter(|name| of_rows.columns.iter().all(|column| column != name)).collect();
    let why = format!(
        "the rows of batch {} must be compared with the table ({why}), and its seal does not name the column {} by which \
         this ingester compares: they were made for schema {}, this ingester has {}",
        seal.batch,
        lacking.join(", "),
        seal.schema,
        own.fingerprint
    );
    Some(LoadFailure { advice: INCOMPARABLE_ADVICE, ..LoadFailure::of_batch(ErrorClass::Configuration, why) })
}

async fn together(
    server: &impl Server,
    target: &Target,
    loading: &Loading,
) -> Result<Vec<LoadedBatch>, Aborted> {
    let sql = target.copy(&loading.manifest, loading.compression);
    let query = copy(server, &sql, loading.rows()).await?;
    let entering = loading.parts.iter().map(|part| Entering { part, id: part.seal.batch, known: 0 });
    enter(server, target, &entering.collect::<Vec<_>>(), query).await?;
    Ok(loading.batches().into_iter().map(|batch| applied(batch, batch, 0, None)).collect())
}

/// Loads one batch, staged if there is a reason.
async fn alone(
    server: &impl Server,
    target: &Target,
    loading: &Loading,
    part: &Part,
    why: Option<StageReason>,
) -> Result<LoadedBatch, Aborted> {
    let batch = part.seal.batch;
    let entered =
        if why == Some(StageReason::OtherContent) { ledger_lookup::derived_id(&part.seal) } else { batch };
    if part.quarantined > 0 && part.id != entered {
        let why = format!("the ledger has another batch under the id {batch} by now");
        return Err(LoadFailure::of_batch(ErrorClass::Passing, why).into());
    }
    if entered != batch {
        tracing::warn!(
            %batch,
            %entered,
            "the ledger has other rows under the id of this batch, which comes of a log that was restored from a copy: \
             its rows are compared with the table, and entered under an id of their own"
        );
    }
    let by = target.comparable().filter(|_| why.is_some());
    let staging = Staging {
        name: &entered.to_string(),
        manifest: &loading.manifest,
        compression: loading.compression,
        rows: part.rows(),
    };
    let done = stage::insert(server, target, by, &staging).await?;
    enter(server, target, &[Entering { part, id: entered, known: done.known }], done.query).await?;
    Ok(applied(batch, entered, done.known, why.filter(|_| by.is_some())))
}

fn applied(batch: BatchId, entered: BatchId, known: u64, staged: Option<StageReason>) -> LoadedBatch {
    LoadedBatch { batch, entered, how: How::Applied, known, staged }
}

async fn enter(
    server: &impl Server,
    target: &Target,
    entering: &[Entering<'_>],
    query: Option<i64>,
) -> Result<(), Aborted> {
    let sql = ledger::insert(target, entering, query.unwrap_or(UNKNOWN_QUERY), server.clock().wall());
    run(server, &sql, Doing::WriteLedger).await.map(drop)
}

#[cfg(test)]
mod tests;
