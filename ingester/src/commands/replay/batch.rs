//! Loads the quarantined rows of one batch: reads the set that its ledger row names, leaves out rows that are still refused,
//! and lets one transaction load the others. Repeated while failures pass; after a crash the next replay does the same.

use std::time::Duration;

use shared::clock::Clock;
use shared::config::Config;
use shared::human::{counted, duration};
use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use shared::retry::Backoff;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::quarantine::row_files::{RowFile, RowFiles};
use crate::quarantine::search::BadRowSearch;
use crate::quarantine::set::{self, BadSet, MAX_BYTES, REASONS, Refusal, Set};
use crate::quarantine::trial::{How, Warehouse};
use crate::quarantine::{Quarantine, tidy};
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::quarantine_release::{Entry, Release, Released, fetch_entries, release};
use crate::redshift::{Connector, Session, Target, stage};

/// Tries of one batch while failures pass; a person waits for the answer.
const TRIES: u32 = 8;

/// Times the ledger may have changed while one batch is replayed.
const CHANGES: u32 = 100;

/// What became of a batch: rows loaded, rows that the table had, and what is left. `left_over` is why objects in S3 could not
/// be deleted, `reasons` the address of the object with the reasons of refused rows.
#[derive(Debug)]
pub(super) enum Ending {
    /// Nothing is left in quarantine.
    Loaded { rows: u64, known: u64, left_over: Option<LoadFailure> },
    /// Nothing of it was in quarantine any more.
    Nothing,
    /// The ledger does not know it.
    NotLoaded,
    /// Some rows are still refused.
    Refused { rows: u64, known: u64, left: Vec<Refusal>, reasons: String },
}

impl Ending {
    /// Rows that are still in quarantine; None when the ledger does not know the batch.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Loaded { .. } | Self::Nothing => Some(0),
            Self::Refused { left, .. } => Some(left.len() as u64),
            Self::NotLoaded => None,
        }
    }
}

enum Tried {
    Done(Ending),
    /// So many rows were loaded, the table had so many already, and nothing is left.
    Applied(u64, u64),
    /// The ledger has changed meanwhile: read it again.
    Changed,
}

pub(super) struct Replayer {
    target: Target,
    connector: Connector,
    store: ObjectStore,
    quarantine: Quarantine,
    backoff: (Duration, Duration),
    session: Option<Session>,
    clock: Clock,
}

impl Replayer {
    pub(super) fn new(
        config: &Config,
        target: Target,
        connector: Connector,
        store: ObjectStore,
        clock: &Clock,
    ) -> Self {
        let backoff = (config.ingester.retry_first.0, config.ingester.retry_max.0);
        let (quarantine, clock) = (Quarantine::new(config), clock.clone());
        Self { target, connector, store, quarantine, backoff, session: None, clock }
    }

    pub(super) async fn batch(&mut self, batch: BatchId) -> Result<Ending, LoadFailure> {
        let mut backoff = Backoff::new(self.backoff.0, self.backoff.1);
        let (mut rows, mut known, mut changes) = (0, 0, 0);
        loop {
            match self.attempt(batch).await {
                Ok(Tried::Done(Ending::Nothing)) if rows + known > 0 => {
                    return Ok(Ending::Loaded { rows, known, left_over: None });
                }
                Ok(Tried::Done(ending)) => return Ok(ending),
                Ok(Tried::Applied(new, there)) => (rows, known) = (rows + new, known + there),
                // Each time another has changed it; that ends.
                Ok(Tried::Changed) => {
                    changes += 1;
                    if changes > CHANGES {
                        let why = format!("its ledger row has changed {changes} times while it was replayed");
                        return Err(LoadFailure::of_batch(ErrorClass::Passing, why));
                    }
                }
                Err(failure) => {
                    let passes = matches!(failure.class, ErrorClass::Passing | ErrorClass::Incomplete);
                    if passes && backoff.failures() < TRIES {
                        let wait = backoff.failed();
                        tracing::warn!(%batch, "not replayed yet, again in {}: {failure}", duration(wait));
                        self.clock.sleep(wait).await;
                    } else if rows + known > 0 {
                        return Ok(Ending::Loaded { rows, known, left_over: Some(failure) });
                    } else {
                        return Err(failure);
                    }
                }
            }
        }
    }

    async fn attempt(&mut self, batch: BatchId) -> Result<Tried, LoadFailure> {
        let session = self.connect().await?;
        let tried = self.replay(&session, batch).await;
        self.session = Some(session).filter(Session::usable);
        tried
    }

    async fn connect(&mut self) -> Result<Session, LoadFailure> {
        if let Some(session) = self.session.take().filter(Session::usable) {
            return Ok(session);
        }
        let session = self.connector.open().await.doing(Doing::Connect)?;
        let not_null = stage::not_null(&session, &self.target).await;
        self.target.not_null = not_null.doing(Doing::ReadColumns)?;
        Ok(session)
    }

    async fn replay(&self, session: &Session, batch: BatchId) -> Result<Tried, LoadFailure> {
        let fault = |why: String| Err(LoadFailure::of_batch(ErrorClass::Data, why));
        let mut entries = fetch_entries(session, &self.target, &[batch]).await?;
        if entries.len() > 1 {
            let rows = entries.len();
            return fault(format!(
                "the ledger has {rows} rows of it; `ingester audit` tells which rows are in the table"
            ));
        }
        let Some(entry) = entries.pop() else { return Ok(Tried::Done(Ending::NotLoaded)) };
        if entry.rows == 0 {
            self.tidy(session, batch).await?;
            return Ok(Tried::Done(Ending::Nothing));
        }
        let rows = counted(entry.rows, "row", "rows");
        let Some(name) = &entry.set else {
            return fault(format!("the ledger counts {rows} in quarantine and does not say which"));
        };
        let set = match Set::get(&self.store, &self.quarantine.prefix, batch, name, entry.rows).await {
            Ok(set) => set,
            Err(BadSet::Store(error)) if error.is_not_found() => {
                // Another replay may have been faster.
                if fetch_entries(session, &self.target, &[batch]).await?.pop().as_ref() != Some(&entry) {
                    return Ok(Tried::Changed);
                }
                let advice = "restore it from an older version or a copy: the ledger counts its rows";
                return Err(LoadFailure { advice, ..LoadFailure::of_batch(ErrorClass::Data, error) });
            }
            Err(bad) => return Err(bad.into()),
        };
        let there = set.description.rows;
        if there != entry.rows {
            return fault(format!("the ledger counts {rows} in quarantine, its set {name} holds {there}"));
        }
        self.load(session, &entry, &set).await
    }

    /// Loads the rows of a set: all, or those that are not refused.
    async fn load(&self, session: &Session, entry: &Entry, set: &Set) -> Result<Tried, LoadFailure> {
        let (batch, prefix, compression) =
            (entry.batch, &self.quarantine.prefix, set.description.compression);
        // Rows of another schema are loaded into the columns they were made for.
        let target = Target { columns: set.description.columns.clone(), ..self.target.clone() };
        let file = RowFile { key: set.rows_key(prefix), rows: entry.rows, bytes: MAX_BYTES, crc32: None };
        let files = RowFiles::new(&self.store, vec![file], compression, self.quarantine.scratch(batch));
        let warehouse = Warehouse { session, target: &target, clock: &self.clock };
        let mut search = BadRowSearch::new(warehouse, files, None);
        for how in [None, Some(How::NoLoad), Some(How::RolledBack)] {
            if let Some(how) = how {
                search.search(how).await?;
            }
            let left = still_refused(&mut search, set).await?;
            let rows = entry.rows.saturating_sub(search.refused());
            if rows == 0 {
                // The old set stays, with the reasons of then; report those of now.
                report_left_over(batch, self.tidy(session, batch).await);
                return Ok(Tried::Done(self.refused((0, 0), left, &set.name, batch)));
            }
            let put_left = async || match &left {
                Some(left) => Ok(left.put(&self.store, prefix).await?),
                None => Ok(()),
            };
            let manifest = search.good_rows().await?;
            let left_counts = left.as_ref().map(|left| (left.name.as_str(), left.description.rows));
            let releasing =
                Release { batch, from: entry, manifest: &manifest, compression, rows, left: left_counts };
            match release(session, &target, &releasing, put_left).await {
                Ok(Released::Changed) => return Ok(Tried::Changed),
                Ok(Released::Applied { known }) => {
                    let new = rows.saturating_sub(known);
                    let Some(left) = left else { return Ok(Tried::Applied(new, known)) };
                    // An ingester of an older version that lost the lock in the midst of tidying may have deleted it:
                    // it is there before the old one goes.
                    let tidied = match left.put(&self.store, prefix).await {
                        Ok(()) => self.tidy(session, batch).await,
                        Err(bad) => Err(bad.into()),
                    };
                    report_left_over(batch, tidied);
                    let name = left.name.clone();
                    return Ok(Tried::Done(self.refused((new, known), Some(left), &name, batch)));
                }
                Err(failure) if failure.class == ErrorClass::Data && how != Some(How::RolledBack) => {}
                Err(failure) if failure.class == ErrorClass::Configuration => {
                    return Err(self.explained(failure, &set.description.schema));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(Tried::Changed)
    }

    async fn tidy(&self, session: &Session, batch: BatchId) -> Result<(), LoadFailure> {
        tidy(session, &self.target, &self.store, &self.quarantine, batch).await.map(drop)
    }

    fn refused(&self, (rows, known): (u64, u64), left: Option<Set>, name: &str, batch: BatchId) -> Ending {
        let folder = set::folder(&self.quarantine.prefix, batch, name);
        let reasons = format!("s3://{}/{folder}{REASONS}", self.store.bucket());
        Ending::Refused { rows, known, left: left.map(|left| left.refusals).unwrap_or_default(), reasons }
    }

    /// Rows made for other columns than the configured ones need these columns in the table, if only for a while.
    fn explained(&self, failure: LoadFailure, schema: &str) -> LoadFailure {
        if schema == self.target.fingerprint {
            return failure;
        }
        let why = format!(
            "{} (its rows were made for schema {schema}, and are loaded into the columns of that; the configured one \
             is {})",
            failure.why, self.target.fingerprint
        );
        let advice = "add the columns that are gone to the table, replay, and drop them again";
        LoadFailure { advice, ..LoadFailure::of_batch(ErrorClass::Configuration, why) }
    }
}

/// Left-overs are no reason to say that nothing was loaded.
fn report_left_over(batch: BatchId, tidied: Result<(), LoadFailure>) {
    if let Err(failure) = tidied {
        tracing::warn!(%batch, "left-overs in quarantine stay until `ingester reconcile` deletes them: {failure}");
    }
}

/// The set of what is still refused, where each row stood in its batch; None if nothing is known to be.
async fn still_refused(search: &mut BadRowSearch<'_>, set: &Set) -> Result<Option<Set>, LoadFailure> {
    let (rows, mut refusals) = search.bad_rows().await?;
    if refusals.is_empty() {
        return Ok(None);
    }
    for refusal in &mut refusals {
        let number = usize::try_from(refusal.row.saturating_sub(1)).unwrap_or(usize::MAX);
        if let Some(Refusal { file, row, line, .. }) = set.refusals.get(number) {
            (refusal.file, refusal.row, refusal.line) = (file.clone(), *row, *line);
        }
    }
    let set::Description { batch, schema, columns, compression, .. } = set.description.clone();
    Ok(Some(Set::new(batch, schema, columns, compression, (rows, refusals))))
}
