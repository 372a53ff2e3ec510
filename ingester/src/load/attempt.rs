//! One attempt: verifies the due batches in S3, loads them with one COPY, and has the result of each recorded. A bad batch
//! fails alone. The others stay *loading*, which is due; the next step retries them. So it is with batches that must be
//! loaded the staged way: each is loaded alone.

use std::time::Duration;

use shared::clock::{Clock, Steady};
use shared::config::Config;
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use shared::seal::Seal;
use state::loads::{ErrorClass, LoadEvent};

use crate::failure::{LoadFailure, Scope, StepError};
use crate::load_store::LoadStore;
use crate::producer_link::Producer;
use crate::redshift::columns::keep_alike;
use crate::redshift::transaction::{Loaded, Loading, Settled, load};
use crate::redshift::way::{Why, ways};
use crate::redshift::{Connector, Target, errors, look};

use super::combine::{self, is_combined};
use super::connection::Connection;
use super::folders::{Unfit, in_ledger, verify_all};
use super::recorder::Recorder;

/// A combined manifest that is not deleted within this time is left to be tidied.
const DELETING: Duration = Duration::from_secs(5);

/// Runs attempts.
pub(super) struct Runner {
    pub(super) connection: Connection,
    pub(super) recorder: Recorder,
    store: ObjectStore,
    load_store: LoadStore,
    producer: Producer,
    /// Requests to S3 at once.
    at_once: usize,
    clock: Clock,
}

impl Runner {
    pub(super) fn new(
        config: &Config,
        target: Target,
        connector: Connector,
        store: ObjectStore,
        load_store: &LoadStore,
        clock: &Clock,
    ) -> Self {
        Self {
            connection: Connection::new(config, target, connector, store.clone(), load_store.clone()),
            recorder: Recorder::new(config, &store, load_store, clock),
            store,
            load_store: load_store.clone(),
            producer: Producer::new(config.producer_socket()),
            at_once: config.s3.uploads,
            clock: clock.clone(),
        }
    }

    /// Connects, unless there is a usable connection.
    pub(super) async fn connect(&mut self) -> Result<(), StepError> {
        if self.connection.ensure().await? {
            self.recorder.quarantine.refresh_soon();
        }
        Ok(())
    }

    pub(super) async fn refresh_quarantine(&mut self) -> Result<(), Failure> {
        self.recorder.quarantine.refresh(&self.connection).await
    }

    /// Attempts to load these batches.
    pub(super) async fn attempt(&mut self, mut batches: Vec<BatchId>) -> Result<(), Failure> {
        match self.load_due(&mut batches).await {
            Err(StepError::Load(failure)) => {
                self.recorder.failed(&mut self.connection, &batches, &failure).await
            }
            Err(StepError::Fatal(fatal)) => Err(fatal),
            Ok(()) => Ok(()),
        }
    }

    /// Narrows `batches` as it goes on: a failure concerns those that are left.
    async fn load_due(&mut self, batches: &mut Vec<BatchId>) -> Result<(), StepError> {
        let started = self.clock.steady();
        let attempts = batches.iter().map(|batch| (*batch, LoadEvent::Attempt)).collect();
        self.load_store.note_all(attempts).await?;
        let (mut fit, unfit) = self.verify(batches).await?;
        if !unfit.is_empty() {
            self.resolve_unfit(unfit).await?;
        }
        if fit.is_empty() {
            return Ok(());
        }
        for seal in &fit {
            // Compare the ledger with the current seal.
            if self.load_store.get(seal.batch)?.is_some_and(|load| load.rows != seal.rows) {
                self.load_store.discovered(self.load_store.found(seal)).await?;
            }
        }
        // The others stay *loading*.
        keep_alike(&self.connection.target().columns, &mut fit);
        *batches = fit.iter().map(|seal| seal.batch).collect();
        self.isolate_staged(&mut fit).await?;
        *batches = fit.iter().map(|seal| seal.batch).collect();
        let (session, target) = self.connection.get()?;
        let loading = combine::loading(&self.store, target, fit).await?;
        match load(session, target, &loading).await {
            Ok(Loaded::Settled(settled)) => Ok(self.loaded(&loading, &settled, started).await?),
            // The ledger has changed since it was read.
            Ok(Loaded::Isolated(isolated)) => {
                self.isolate(&isolated);
                Ok(())
            }
            Err(failure) => self.not_loaded(&loading, failure, started).await,
        }
    }

    async fn verify(&self, batches: &[BatchId]) -> Result<(Vec<Seal>, Unfit), LoadFailure> {
        verify_all(&self.store, self.connection.target(), self.at_once, batches).await
    }

    /// Keeps those of several batches that may be loaded together, or the oldest alone if each must be loaded the staged
    /// way. The transaction asks the ledger again.
    async fn isolate_staged(&mut self, fit: &mut Vec<Seal>) -> Result<(), LoadFailure> {
        if fit.len() < 2 {
            return Ok(());
        }
        let (session, target) = self.connection.get()?;
        let seals: Vec<&Seal> = fit.iter().collect();
        let ground = look::ground(session, target, &seals).await;
        let ground = ground.map_err(|failure| errors::trouble(&failure, "reading the ledger"))?;
        let Some(ground) = ground else { return Ok(()) };
        let isolated: Vec<(BatchId, Why)> = seals
            .iter()
            .zip(ways(&seals, &ground))
            .filter_map(|(seal, why)| Some((seal.batch, why?)))
            .collect();
        self.isolate(&isolated);
        if isolated.len() == fit.len() {
            fit.truncate(1);
        } else {
            fit.retain(|seal| isolated.iter().all(|(batch, _)| *batch != seal.batch));
        }
        Ok(())
    }

    fn isolate(&mut self, isolated: &[(BatchId, Why)]) {
        for (batch, why) in isolated {
            tracing::debug!(%batch, "is loaded alone, compared with the table: {why}");
        }
        self.recorder.planner.isolate(isolated.iter().map(|(batch, _)| *batch));
    }

    /// A folder that is not whole may be one that was loaded and is half archived, here or by another ingester, or
    /// was published again in between: the ledger tells.
    async fn resolve_unfit(&mut self, unfit: Unfit) -> Result<(), StepError> {
        let (session, target) = self.connection.get()?;
        let batches: Vec<BatchId> = unfit.iter().map(|(batch, _)| *batch).collect();
        let before = in_ledger(session, target, &self.store, &batches).await?;
        self.recorder.loaded(&mut self.connection, &before, None).await?;
        for (batch, failure) in unfit {
            if before.iter().all(|one| one.batch != batch) {
                let failure = self.producer.mend(batch, failure).await;
                self.recorder.failed(&mut self.connection, &[batch], &failure).await?;
            }
        }
        Ok(())
    }

    /// All of it is loaded now, or some of it was before; the rest is due at once.
    async fn loaded(
        &mut self,
        loading: &Loading,
        settled: &[Settled],
        started: Steady,
    ) -> Result<(), Failure> {
        self.recorder.loaded(&mut self.connection, settled, Some((loading, started))).await?;
        if is_combined(loading) {
            let deleting = tokio::time::timeout(DELETING, self.store.delete(&loading.manifest)).await;
            if !matches!(deleting, Ok(Ok(()))) {
                tracing::debug!(
                    key = loading.manifest,
                    "could not delete the combined manifest; a later cleanup removes it"
                );
            }
        }
        Ok(())
    }

    /// A COPY was tried, and loaded nothing as far as is known: finds out which batches are at fault.
    async fn not_loaded(
        &mut self,
        loading: &Loading,
        mut failure: LoadFailure,
        started: Steady,
    ) -> Result<(), StepError> {
        if let (ErrorClass::Data, [part]) = (failure.class, loading.parts.as_slice()) {
            match self.recorder.quarantine.load_good_rows(&self.connection, &part.seal).await {
                Ok(settled) => return Ok(self.loaded(loading, &[settled], started).await?),
                Err(StepError::Load(of_search)) => failure = of_search,
                Err(fatal) => return Err(fatal),
            }
        }
        let batches = loading.batches();
        if failure.at_s3 {
            let (_, unfit) = self.verify(&batches).await?;
            // The others had nothing to do with it. Another ingester may have loaded and archived these meanwhile.
            if !unfit.is_empty() {
                return self.resolve_unfit(unfit).await;
            }
        }
        if !is_combined(loading) || failure.scope == Scope::Whole {
            return Err(failure.into());
        }
        let planner = &mut self.recorder.planner;
        if failure.blamed.is_empty() {
            tracing::warn!(
                batches = batches.len(),
                "loading them one by one, to find the batch at fault: {failure}"
            );
            planner.isolate(batches);
            planner.succeeded();
        }
        for (batch, why) in &failure.blamed {
            let own = LoadFailure::of_batch(failure.class, format!("{}; {why}", failure.why));
            self.recorder.failed(&mut self.connection, &[*batch], &own).await?;
        }
        Ok(())
    }
}
