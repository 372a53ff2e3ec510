//! The transaction that loads batches exactly once.
//!
//! ```text
//! BEGIN · LOCK · which of them are there? ──some──► ROLLBACK: these were loaded before
//!                    │ none
//!                    └─► what does the ledger know of their times?
//!                          │ nothing that is not known to be apart    │ anything else: one batch, staged (stage.rs), or
//!                          │                                          │ refused, if its rows cannot be compared
//!                          └─► COPY · as many rows as sealed?         └─► COPY beside the table · leave out · INSERT
//!                                     └──────► INSERT ledger rows · COMMIT ◄──────┘
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

use crate::failure::LoadFailure;
use crate::redshift::copy::{Failed, copy, run};
use crate::redshift::look::{self, There};
use crate::redshift::server::Server;
use crate::redshift::session::{Session, SqlFailure};
use crate::redshift::stage::{self, Staged, Staging};
use crate::redshift::statements::{Entering, Target};
use crate::redshift::way::{Why, ways};
use crate::redshift::{columns, errors, file_counts, load_errors, lock};

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
    /// The id under which it is to be entered, if rows of it are in quarantine: that is named alike.
    pub id: BatchId,
    /// Rows of the seal that were taken out of what the manifest names, because Redshift refused them.
    pub quarantined: u64,
    /// The set of objects that holds those rows, if there are any; the ledger names it.
    pub set: Option<String>,
}

impl Part {
    /// All rows of a batch.
    #[must_use]
    pub fn whole(seal: Seal) -> Self {
        Self { id: seal.batch, seal, quarantined: 0, set: None }
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

/// By whom a batch was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By this attempt.
    Applied,
    /// By an earlier one, or by another ingester.
    Before,
}

/// A batch that the ledger has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The batch.
    pub batch: BatchId,
    /// The id under which the ledger has it: its own, unless that is another batch's there.
    pub entered: BatchId,
    /// By whom it was loaded.
    pub how: How,
    /// Rows that the table had already.
    pub known: u64,
    /// Why this attempt loaded it the staged way, if it did.
    pub staged: Option<Why>,
}

impl Settled {
    /// A batch that the ledger had.
    #[must_use]
    pub fn before(batch: BatchId, entered: BatchId, known: u64) -> Self {
        Self { batch, entered, how: How::Before, known, staged: None }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// These are settled: all of them; or, if some were in the ledger already, only those, and nothing was loaded.
    Settled(Vec<Settled>),
    /// Nothing was loaded: these must be loaded alone, the staged way.
    Isolated(Vec<(BatchId, Why)>),
}

/// What to do about a batch whose rows cannot be compared.
const INCOMPARABLE_ADVICE: &str = "load it with an ingester whose [schema] is the one it was made for: that compares by its own columns, and does not \
     compare if it has none; other batches are loaded meanwhile";

/// In the ledger, of a COPY whose id Redshift does not tell; as `pg_last_copy_id()` answers where there was none.
const UNKNOWN_QUERY: i64 = -1;

/// Loads what is known to be whole in S3.
///
/// # Errors
/// When nothing of it is loaded as far as is known. Trying again is always right, and never loads twice.
pub async fn load(session: &Session, target: &Target, loading: &Loading) -> Result<Loaded, LoadFailure> {
    let failed = match transaction(session, target, loading).await {
        Ok(loaded) => return Ok(loaded),
        Err(failed) => failed,
    };
    // Nothing to roll back when COMMIT was refused or the connection is gone; then it does no harm.
    session.roll_back().await;
    match failed {
        Failed::LoadFailure(trouble) => Err(trouble),
        Failed::Count { copied, query } => {
            let blamed = file_counts::short(session, target, &loading.parts, query).await;
            let mut why = format!("COPY loaded {copied} rows, the seal says {}; rolled back", loading.rows());
            if let ([_], [(_, file)]) = (loading.parts.as_slice(), blamed.as_slice()) {
                why = format!("{why}; {file}");
            }
            Err(LoadFailure { blamed, ..LoadFailure::of_batch(ErrorClass::Incomplete, why) })
        }
        Failed::Sql(failure, "COMMIT") if matches!(failure, SqlFailure::Lost(_)) => {
            let trouble = errors::trouble(&failure, "COMMIT was sent and not answered, the ledger will tell");
            Err(trouble)
        }
        Failed::Sql(failure, doing) => {
            let trouble = errors::trouble(&failure, doing);
            if trouble.class == ErrorClass::Configuration
                && let Some(own) = columns::trouble_of(session, target, loading).await
            {
                return Err(own);
            }
            let [part] = loading.parts.as_slice() else { return Err(trouble) };
            if trouble.class != ErrorClass::Data {
                return Err(trouble);
            }
            let reason = load_errors::first(session, target, part.seal.batch).await;
            let why = reason.map_or(trouble.why, |reason| format!("Redshift refused rows; {reason}"));
            Err(LoadFailure { advice: trouble.advice, ..LoadFailure::of_batch(ErrorClass::Data, why) })
        }
    }
}

async fn transaction(server: &impl Server, own: &Target, loading: &Loading) -> Result<Loaded, Failed> {
    // The columns of the rows are the same for all parts.
    let target = &loading.parts.first().map_or_else(|| own.clone(), |part| own.for_rows_of(&part.seal));
    lock::begin(server, target).await?;
    let seals: Vec<&Seal> = loading.parts.iter().map(|part| &part.seal).collect();
    let reading = |failure| Failed::Sql(failure, "reading the ledger");
    let entries = look::entries(server, target, &seals).await.map_err(reading)?;
    let there: Vec<There> = seals.iter().map(|seal| look::judge(seal, &entries)).collect();
    let before = seals.iter().zip(&there).filter_map(|(seal, there)| match there {
        There::Yes(row) => Some(Settled::before(seal.batch, row.id, row.known)),
        There::No | There::Other(_) => None,
    });
    let before: Vec<_> = before.collect();
    if !before.is_empty() {
        server.roll_back().await;
        return Ok(Loaded::Settled(before));
    }
    // Whether rows must be compared follows from the table, which is of our own schema, and not from their columns.
    let ground = look::ground(server, own, &seals).await.map_err(reading)?;
    let mut whys = ground.map_or_else(|| vec![None; seals.len()], |ground| ways(&seals, &ground));
    for (why, there) in whys.iter_mut().zip(&there) {
        if matches!(there, There::Other(_)) {
            *why = Some(Why::OtherContent);
        }
    }
    let settled = if let ([part], [why]) = (loading.parts.as_slice(), whys.as_slice()) {
        if let Some(trouble) = why.as_ref().and_then(|why| incomparable(own, target, &part.seal, why)) {
            return Err(trouble.into());
        }
        vec![alone(server, target, loading, part, why.clone()).await?]
    } else if whys.iter().any(Option::is_some) {
        server.roll_back().await;
        let isolated = seals.iter().zip(whys).filter_map(|(seal, why)| Some((seal.batch, why?)));
        return Ok(Loaded::Isolated(isolated.collect()));
    } else {
        together(server, target, loading).await?
    };
    run(server, "COMMIT", "COMMIT").await?;
    if own.comparable().is_some() && target.comparable().is_none() {
        tracing::warn!(
            batches = seals.len(),
            first = %seals.iter().map(|seal| seal.batch.to_string()).next().unwrap_or_default(),
            "the rows that were loaded lack hitIdHigh, hitIdLow or receivedTimeGMT: later loads cannot be compared with them"
        );
    }
    Ok(Loaded::Settled(settled))
}

/// Why a batch that must be compared with the table cannot be, if the table can and its rows cannot: loading them as they
/// are might load hits that the table has.
fn incomparable(own: &Target, of_rows: &Target, seal: &Seal, why: &Why) -> Option<LoadFailure> {
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

/// All by one plain COPY.
async fn together(server: &impl Server, target: &Target, loading: &Loading) -> Result<Vec<Settled>, Failed> {
    let sql = target.copy(&loading.manifest, loading.compression);
    let query = copy(server, &sql, loading.rows()).await?;
    let entering: Vec<_> =
        loading.parts.iter().map(|part| Entering { part, id: part.seal.batch, known: 0 }).collect();
    enter(server, target, &entering, query).await?;
    let settled = |part: &Part| Settled {
        batch: part.seal.batch,
        entered: part.seal.batch,
        how: How::Applied,
        known: 0,
        staged: None,
    };
    Ok(loading.parts.iter().map(settled).collect())
}

/// One batch, the staged way if there is a reason.
async fn alone(
    server: &impl Server,
    target: &Target,
    loading: &Loading,
    part: &Part,
    why: Option<Why>,
) -> Result<Settled, Failed> {
    let batch = part.seal.batch;
    let entered = if why == Some(Why::OtherContent) { look::derived_id(&part.seal) } else { batch };
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
    let why = why.filter(|_| target.comparable().is_some());
    let (known, query) = match (&why, target.comparable()) {
        (Some(_), Some(by)) => {
            let staging = Staging {
                name: &entered.to_string(),
                manifest: &loading.manifest,
                compression: loading.compression,
                rows: part.rows(),
            };
            let Staged { known, query } = stage::through(server, target, by, &staging).await?;
            (known, query)
        }
        _ => (0, copy(server, &target.copy(&loading.manifest, loading.compression), part.rows()).await?),
    };
    enter(server, target, &[Entering { part, id: entered, known }], query).await?;
    Ok(Settled { batch, entered, how: How::Applied, known, staged: why })
}

async fn enter(
    server: &impl Server,
    target: &Target,
    entering: &[Entering<'_>],
    query: Option<i64>,
) -> Result<(), Failed> {
    let sql = target.enter(entering, query.unwrap_or(UNKNOWN_QUERY), Utc::now());
    run(server, &sql, "writing the ledger").await.map(drop)
}

#[cfg(test)]
mod tests;
