//! One attempt: verifies the due batches in S3, loads them with one COPY, and records the result of each. A bad batch
//! fails alone. The others stay *loading*, which is due; the next step retries them. So it is with batches that must be
//! loaded the staged way: each is loaded alone.

use std::time::Duration;

use shared::clock::{Moment, Steady};
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::seal::Seal;
use state::loads::{Entered, ErrorClass, Load, LoadEvent};
use state::status::activity::{Component, Reporter};
use tokio::sync::watch;

use crate::failure::{LoadFailure, Scope, StepError};
use crate::producer_link::Producer;
use crate::redshift::catalog::keep_alike;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::stage_reason::{StageReason, stage_reasons};
use crate::redshift::transaction::{How, Loaded, LoadedBatch, Loading, load};
use crate::redshift::{Connector, Target, ledger_lookup};
use crate::services::Services;

use super::combine::{self, is_combined};
use super::connection::Connection;
use super::due_folders::{Unfit, in_ledger, verify_all};
use super::planner::Planner;
use super::quarantine_check::QuarantineCheck;

/// A combined manifest that is not deleted within this time is left to be tidied.
const DELETING: Duration = Duration::from_secs(5);

/// What is loaded, and since when.
type Attempt<'l> = (&'l Loading, Steady);

pub(super) struct BatchLoader {
    pub(super) connection: Connection,
    pub(super) planner: Planner,
    pub(super) quarantine: QuarantineCheck,
    services: Services,
    producer: Producer,
    reporter: Reporter,
}

impl BatchLoader {
    pub(super) fn new(services: &Services, targets: watch::Receiver<Target>, connector: Connector) -> Self {
        Self {
            connection: Connection::new(services, targets, connector),
            planner: Planner::new(services),
            quarantine: QuarantineCheck::new(services),
            producer: Producer::new(services.config.producer_socket()),
            reporter: services.activity.reporter(Component::Load),
            services: services.clone(),
        }
    }

    pub(super) async fn connect(&mut self) -> Result<(), StepError> {
        if self.connection.ensure().await? {
            self.quarantine.refresh_soon();
        }
        Ok(())
    }

    pub(super) async fn attempt(&mut self, mut batches: Vec<BatchId>) -> Result<(), Failure> {
        match self.load_due(&mut batches).await {
            Err(StepError::Load(failure)) => self.failed(&batches, &failure).await,
            Err(StepError::Fatal(fatal)) => Err(fatal),
            Ok(()) => Ok(()),
        }
    }

    /// Narrows `batches` as it goes on: a failure concerns those that are left.
    async fn load_due(&mut self, batches: &mut Vec<BatchId>) -> Result<(), StepError> {
        let started = self.services.clock.steady();
        let attempts = batches.iter().map(|batch| (*batch, LoadEvent::Attempt)).collect();
        self.services.load_store.note_all(attempts).await?;
        self.reporter.begins("verifying the files in S3");
        let (mut fit, unfit) = self.verify(batches).await?;
        if !unfit.is_empty() {
            self.resolve_unfit(unfit).await?;
        }
        if fit.is_empty() {
            return Ok(());
        }
        for seal in &fit {
            // Compare the ledger with the current seal.
            if self.services.load_store.get(seal.batch)?.is_some_and(|load| load.rows != seal.sealed_rows()) {
                self.services.load_store.discovered(self.services.load_store.found(seal)).await?;
            }
        }
        // The others stay *loading*.
        keep_alike(&self.connection.target.columns, &mut fit);
        *batches = fit.iter().map(|seal| seal.batch).collect();
        self.isolate_staged(&mut fit).await?;
        *batches = fit.iter().map(|seal| seal.batch).collect();
        let (session, target) = self.connection.get()?;
        let loading = combine::loading(&self.services.store, target, fit).await?;
        match load(session, target, &loading).await {
            Ok(Loaded::Batches(loaded)) => Ok(self.finish((&loading, started), &loaded).await?),
            // The ledger has changed since it was read.
            Ok(Loaded::Isolated(isolated)) => {
                self.isolate(&isolated);
                Ok(())
            }
            Err(failure) => self.not_loaded((&loading, started), failure).await,
        }
    }

    async fn verify(&self, batches: &[BatchId]) -> Result<(Vec<Seal>, Unfit), LoadFailure> {
        let Services { config, store, clock, .. } = &self.services;
        verify_all(store, &self.connection.target, config.s3.uploads, batches, clock.wall()).await
    }

    /// Keeps those of several batches that may be loaded together, or the oldest alone if each must be loaded the staged
    /// way. The transaction asks the ledger again.
    async fn isolate_staged(&mut self, fit: &mut Vec<Seal>) -> Result<(), LoadFailure> {
        if fit.len() < 2 {
            return Ok(());
        }
        let (session, target) = self.connection.get()?;
        let seals: Vec<&Seal> = fit.iter().collect();
        let range = ledger_lookup::fetch_range(session, target, &seals).await.doing(Doing::ReadLedger)?;
        let Some(range) = range else { return Ok(()) };
        let isolated: Vec<(BatchId, StageReason)> = seals
            .iter()
            .zip(stage_reasons(&seals, &range))
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

    fn isolate(&mut self, isolated: &[(BatchId, StageReason)]) {
        for (batch, why) in isolated {
            tracing::debug!(%batch, "is loaded alone, compared with the table: {why}");
        }
        self.planner.isolated.extend(isolated.iter().map(|(batch, _)| *batch));
    }

    /// A folder that is not whole may be loaded and half archived, or published again in between: the ledger tells.
    async fn resolve_unfit(&mut self, unfit: Unfit) -> Result<(), StepError> {
        let (session, target) = self.connection.get()?;
        let batches: Vec<BatchId> = unfit.iter().map(|(batch, _)| *batch).collect();
        let before = in_ledger(session, target, &self.services.store, &batches).await?;
        self.loaded(&before, None).await?;
        for (batch, failure) in unfit {
            if before.iter().all(|one| one.batch != batch) {
                let failure = self.producer.request_upload(batch, failure).await;
                self.failed(&[batch], &failure).await?;
            }
        }
        Ok(())
    }

    /// All of it is loaded now, or some of it was before; the rest is due at once.
    async fn finish(&mut self, attempt: Attempt<'_>, loaded: &[LoadedBatch]) -> Result<(), Failure> {
        self.loaded(loaded, Some(attempt)).await?;
        if is_combined(attempt.0) {
            let key = &attempt.0.manifest;
            if !matches!(tokio::time::timeout(DELETING, self.services.store.delete(key)).await, Ok(Ok(()))) {
                tracing::debug!(key, "could not delete the combined manifest; a later cleanup removes it");
            }
        }
        Ok(())
    }

    /// A COPY failed, and probably loaded nothing: finds the batches at fault.
    async fn not_loaded(&mut self, attempt: Attempt<'_>, mut failure: LoadFailure) -> Result<(), StepError> {
        let (loading, _) = attempt;
        if let (ErrorClass::Data, [part]) = (failure.class, loading.parts.as_slice()) {
            match self.quarantine.load_without_bad_rows(&self.connection, &part.seal).await {
                Ok(loaded) => return Ok(self.finish(attempt, &[loaded]).await?),
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
        if failure.blamed.is_empty() {
            let together = batches.len();
            tracing::warn!(
                batches = together,
                "loading them one by one, to find the batch at fault: {failure}"
            );
            self.planner.isolated.extend(batches);
            // Redshift answered, so nothing holds loading up. The batches stay *loading*: the next step tries each alone.
            self.planner.succeeded();
        }
        for (batch, why) in &failure.blamed {
            let own = LoadFailure::of_batch(failure.class, format!("{}; {why}", failure.why));
            self.failed(&[*batch], &own).await?;
        }
        Ok(())
    }

    /// Records that the ledger has these batches; `attempt` is what loaded them, if it was ours.
    async fn loaded(&mut self, loaded: &[LoadedBatch], attempt: Option<Attempt<'_>>) -> Result<(), Failure> {
        let wrong = match self.quarantine.verify_loaded(&self.connection, loaded).await {
            Ok(wrong) => wrong,
            Err(StepError::Load(failure)) => {
                let batches: Vec<BatchId> = loaded.iter().map(|one| one.batch).collect();
                return self.failed(&batches, &failure).await;
            }
            Err(StepError::Fatal(fatal)) => return Err(fatal),
        };
        for (batch, failure) in &wrong {
            self.failed(&[*batch], failure).await?;
        }
        let right = |one: &&LoadedBatch| wrong.iter().all(|(wrong, _)| *wrong != one.batch);
        let loaded: Vec<_> = loaded.iter().filter(right).collect();
        if loaded.is_empty() {
            return Ok(());
        }
        for one in &loaded {
            let entered = Entered {
                known: one.known,
                staged: one.staged.is_some(),
                entered_as: Some(one.entered).filter(|entered| *entered != one.batch),
            };
            if entered != Entered::default() {
                let batch = one.batch;
                self.services.load_store.change_one(move |loads| loads.entered(batch, entered)).await?;
            }
        }
        let moves = loaded.iter().map(|one| (one.batch, LoadEvent::Loaded)).collect();
        let noted = self.services.load_store.note_all(moves).await?;
        self.planner.loaded(loaded.iter().map(|one| one.batch));
        self.quarantine.refresh(&self.connection).await?;
        report(&loaded, noted, attempt, self.services.clock.now());
        Ok(())
    }

    /// Records a failure that came before any attempt, for the oldest batch that is due, if one is.
    pub(super) async fn not_started(
        &mut self,
        oldest: Option<BatchId>,
        failure: &LoadFailure,
    ) -> Result<(), Failure> {
        // A new connection verifies the tables again.
        self.connection.close();
        self.planner.not_started(oldest, failure).await
    }

    /// Records a failure of these batches.
    async fn failed(&mut self, batches: &[BatchId], failure: &LoadFailure) -> Result<(), Failure> {
        if failure.class == ErrorClass::Configuration && failure.scope == Scope::Whole {
            // A new connection verifies the tables again, and names what is wrong with them.
            self.connection.close();
        }
        self.planner.failed(batches, failure).await
    }
}

fn report(loaded: &[&LoadedBatch], noted: Vec<Load>, attempt: Option<Attempt<'_>>, now: Moment) {
    let seconds = attempt.map(|(_, started)| started.until(now.steady).as_secs_f64());
    let seconds = seconds.map(|seconds| (seconds * 1000.0).round() / 1000.0);
    let together = loaded.len();
    for (LoadedBatch { batch, how, known, staged, .. }, load) in loaded.iter().zip(noted) {
        let Load { rows, quarantined, bytes, attempts, instance, .. } = load;
        let parts = attempt.map(|(loading, _)| loading.parts.as_slice()).unwrap_or_default();
        let part = parts.iter().find(|part| part.seal.batch == *batch);
        let lag_s = part.and_then(|part| part.seal.last_received).map(|at| (now.wall - at).num_seconds());
        let staged = staged.as_ref().map(tracing::field::display);
        match how {
            How::Applied => {
                tracing::info!(%batch, rows, known, quarantined, bytes, seconds, together, attempt = attempts, lag_s, %instance, staged, "loaded");
            }
            How::Before => {
                tracing::info!(%batch, rows, attempt = attempts, "is in the ledger: loaded before");
            }
        }
    }
}
