//! Records what became of batches, in the load store and in the log, once it is known.

use shared::clock::{Clock, Steady};
use shared::config::Config;
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use state::loads::{Entered, ErrorClass, Load, LoadEvent};

use crate::failure::{LoadFailure, Scope, StepError};
use crate::load_store::LoadStore;
use crate::redshift::transaction::{How, Loading, Settled};

use super::connection::Connection;
use super::planner::Planner;
use super::quarantine_check::QuarantineCheck;

pub(super) struct Recorder {
    pub(super) planner: Planner,
    pub(super) quarantine: QuarantineCheck,
    load_store: LoadStore,
    clock: Clock,
}

impl Recorder {
    pub(super) fn new(config: &Config, store: &ObjectStore, load_store: &LoadStore, clock: &Clock) -> Self {
        Self {
            planner: Planner::new(&config.ingester, load_store.clone(), clock),
            quarantine: QuarantineCheck::new(config, store.clone(), load_store.clone(), clock),
            load_store: load_store.clone(),
            clock: clock.clone(),
        }
    }

    /// Records that the ledger has these batches; `attempt` is what loaded them and when it started, if it was ours.
    pub(super) async fn loaded(
        &mut self,
        connection: &mut Connection,
        settled: &[Settled],
        attempt: Option<(&Loading, Steady)>,
    ) -> Result<(), Failure> {
        let wrong = match self.quarantine.verify_settled(connection, settled).await {
            Ok(wrong) => wrong,
            Err(StepError::Load(failure)) => {
                let batches: Vec<BatchId> = settled.iter().map(|one| one.batch).collect();
                return self.failed(connection, &batches, &failure).await;
            }
            Err(StepError::Fatal(fatal)) => return Err(fatal),
        };
        for (batch, failure) in &wrong {
            self.failed(connection, &[*batch], failure).await?;
        }
        let right = |one: &&Settled| wrong.iter().all(|(wrong, _)| *wrong != one.batch);
        let settled: Vec<_> = settled.iter().filter(right).collect();
        if settled.is_empty() {
            return Ok(());
        }
        for one in &settled {
            let entered = Entered {
                known: one.known,
                staged: one.staged.is_some(),
                entered_as: Some(one.entered).filter(|entered| *entered != one.batch),
            };
            if entered != Entered::default() {
                self.load_store.entered(one.batch, entered).await?;
            }
        }
        let moves = settled.iter().map(|one| (one.batch, LoadEvent::Loaded)).collect();
        let noted = self.load_store.note_all(moves).await?;
        self.planner.loaded(settled.iter().map(|one| one.batch));
        self.quarantine.refresh(connection).await?;
        self.report(&settled, noted, attempt);
        Ok(())
    }

    fn report(&self, settled: &[&Settled], noted: Vec<Load>, attempt: Option<(&Loading, Steady)>) {
        let now = self.clock.now();
        let seconds =
            attempt.map(|(_, started)| (started.until(now.steady).as_secs_f64() * 1000.0).round() / 1000.0);
        let together = settled.len();
        for (Settled { batch, how, known, staged, .. }, load) in settled.iter().zip(noted) {
            let Load { rows, quarantined, bytes, attempts: attempt_no, instance, .. } = load;
            let part =
                attempt.and_then(|(loading, _)| loading.parts.iter().find(|part| part.seal.batch == *batch));
            let last_received = part.and_then(|part| part.seal.last_received);
            let lag = last_received.map(|at| (now.wall - at).num_seconds());
            let staged = staged.as_ref().map(tracing::field::display);
            match how {
                How::Applied => {
                    tracing::info!(%batch, rows, known, quarantined, bytes, seconds, together, attempt = attempt_no, lag_s = lag, %instance, staged, "loaded");
                }
                How::Before => {
                    tracing::info!(%batch, rows, attempt = attempt_no, "is in the ledger: loaded before");
                }
            }
        }
    }

    /// Records that these batches met a failure; no batch, when none was due.
    pub(super) async fn failed(
        &mut self,
        connection: &mut Connection,
        batches: &[BatchId],
        failure: &LoadFailure,
    ) -> Result<(), Failure> {
        if failure.class == ErrorClass::Configuration && failure.scope == Scope::Whole {
            // A new connection verifies the tables again, and names what is wrong with them.
            connection.close();
        }
        self.planner.failed(batches, failure).await
    }
}
