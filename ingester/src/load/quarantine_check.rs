//! What the loader does about rows that Redshift refuses ([`crate::quarantine`]), and keeps the load store in step with
//! what the ledger says of them.

use std::time::Duration;

use shared::clock::Steady;
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::seal::Seal;
use state::loads::{ErrorClass, Load};

use crate::failure::{LoadFailure, Scope, StepError};
use crate::quarantine::{LEFT_OVER, Quarantine, Warehouse, load_good_rows, tidy};
use crate::redshift::transaction::{How, LoadedBatch};
use crate::redshift::{ledger_mark, quarantine_release};
use crate::services::Services;

use super::connection::Connection;

/// Batches the ledger is asked about in one statement.
pub(super) const ASKED_AT_ONCE: usize = 500;
/// How often to ask the ledger about rows in quarantine, while batches come.
const INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct QuarantineCheck {
    services: Services,
    quarantine: Quarantine,
    /// When to [`Self::refresh`] next.
    next: Steady,
}

impl QuarantineCheck {
    pub(super) fn new(services: &Services) -> Self {
        let quarantine = Quarantine::new(&services.config);
        Self { quarantine, next: services.clock.steady(), services: services.clone() }
    }

    /// Loads a batch without the rows that Redshift refuses. A failure of S3 holds this batch only: others need no
    /// quarantine.
    pub(super) async fn load_without_bad_rows(
        &self,
        connection: &Connection,
        seal: &Seal,
    ) -> Result<LoadedBatch, StepError> {
        let (session, target) = connection.get()?;
        // Before the search writes anything to S3.
        let batch = seal.batch;
        self.services.load_store.change_one(move |loads| loads.search_began(batch)).await?;
        let warehouse = Warehouse { session, target, clock: &self.services.clock };
        match load_good_rows(warehouse, &self.services.store, &self.quarantine, seal).await {
            Ok((loaded, rows, first)) => {
                self.services.load_store.quarantined(seal.batch, rows, first).await?;
                Ok(loaded)
            }
            Err(failure) if session.usable() => Err(LoadFailure { scope: Scope::Batch, ..failure }.into()),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Finishes batches that are loaded now, by an attempt that was cut short or by another ingester: deletes what
    /// searches for bad rows have left of them, and compares the rows that the ledger counts with those sealed. Returns
    /// the batches of which it counts others: they must not be archived.
    pub(super) async fn verify_loaded(
        &self,
        connection: &Connection,
        loaded: &[LoadedBatch],
    ) -> Result<Vec<(BatchId, LoadFailure)>, StepError> {
        let Ok((session, target)) = connection.get() else { return Ok(Vec::new()) };
        let mut before = Vec::new();
        for LoadedBatch { batch, entered, how, .. } in loaded {
            let Some(load) = self.services.load_store.get(*batch)? else { continue };
            if load.search_objects
                && let Err(failure) =
                    tidy(session, target, &self.services.store, &self.quarantine, *entered).await
            {
                if !session.usable() {
                    return Err(failure.into());
                }
                tracing::warn!(%batch, "{LEFT_OVER}: {failure}");
            }
            if load.search_objects || *how == How::Before {
                before.push((load, *entered));
            }
        }
        let ids: Vec<BatchId> = before.iter().map(|(_, entered)| *entered).collect();
        let entries = quarantine_release::fetch_entries(session, target, &ids).await?;
        let mut wrong = Vec::new();
        for (load, entered) in before {
            let Some(entry) = entries.iter().find(|entry| entry.batch == entered) else { continue };
            self.services.load_store.quarantined(load.batch, entry.rows, None).await?;
            if entry.sealed() != load.rows {
                let why = format!(
                    "the ledger says that {} rows of it are loaded, {} were in the table, {} are in quarantine and {} \
                     forgotten, its seal says {}; it is not archived",
                    entry.loaded, entry.known, entry.rows, entry.forgotten, load.rows
                );
                let advice = "run `ingester audit`, which counts again, and decide which is right";
                let failure = LoadFailure { advice, ..LoadFailure::of_batch(ErrorClass::Incomplete, why) };
                wrong.push((load.batch, failure));
            }
        }
        Ok(wrong)
    }

    pub(super) fn refresh_soon(&mut self) {
        self.next = self.services.clock.steady();
    }

    /// Asks the ledger at an interval, when there is something to do anyway, whether rows in quarantine were loaded
    /// meanwhile: `ingester replay` may run on another machine, and reports to its own ingester only.
    pub(super) async fn refresh(&mut self, connection: &Connection) -> Result<(), Failure> {
        let now = self.services.clock.steady();
        let Some((session, target)) = connection.get().ok().filter(|_| now >= self.next) else {
            return Ok(());
        };
        self.next = now + INTERVAL;
        let mut known = Vec::new();
        for batch in self.services.load_store.in_quarantine(ASKED_AT_ONCE) {
            known.extend(self.services.load_store.get(batch)?);
        }
        let ids: Vec<BatchId> = known.iter().map(Load::ledger_id).collect();
        match quarantine_release::fetch_entries(session, target, &ids).await {
            Ok(entries) => {
                for load in known {
                    let entry = entries.iter().find(|entry| entry.batch == load.ledger_id());
                    // Unless something of a search is left, which is another matter.
                    if let Some(entry) =
                        entry.filter(|entry| !load.search_objects && load.quarantined != entry.rows)
                    {
                        self.services.load_store.quarantined(load.batch, entry.rows, None).await?;
                    }
                }
            }
            Err(failure) => tracing::debug!("could not ask the ledger about rows in quarantine: {failure}"),
        }
        // An operator may have moved the mark.
        match ledger_mark::read(session, target).await {
            Ok(Some(mark)) => connection.note_mark(mark).await?,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "could not read the mark of the ledger"),
        }
        Ok(())
    }
}
