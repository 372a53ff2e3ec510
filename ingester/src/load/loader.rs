//! The loop: decides what the next step does, and how long to wait when nothing is due.

use std::time::Duration;

use futures_util::future::OptionFuture;
use shared::clock::Steady;
use shared::exit::Failure;
use state::loads::ErrorClass;
use state::status::activity::{Component, Reporter};
use tokio::sync::{mpsc, watch};

use crate::facts::unknown_folders::{Hint, UnknownFolders};
use crate::failure::StepError;
use crate::redshift::{Connector, Target};
use crate::reload_notifier::ReloadListener;
use crate::services::Services;

use super::batch_loader::BatchLoader;
use super::plan::Next;
use super::unknown::UnknownCheck;

/// A pause ends by the wall clock. Read it this often, because somebody may set it.
const RECHECK_PAUSE: Duration = Duration::from_secs(60);

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Something was done; there may be more.
    Worked,
    /// Nothing is due before this moment, or before the load store changes.
    Wait(Option<Steady>),
    /// Nothing may be tried before this moment, or before a pause by hand begins or ends.
    Hold(Option<Steady>),
}

/// Loads what the load store has due.
pub struct Loader {
    services: Services,
    unknown: UnknownCheck,
    batch_loader: BatchLoader,
    reporter: Reporter,
    reloads: ReloadListener,
}

impl Loader {
    /// A loader that has loaded nothing yet, and is not connected.
    pub fn new(
        services: &Services,
        targets: watch::Receiver<Target>,
        connector: Connector,
        unknown_folders: UnknownFolders,
        hints: mpsc::Sender<Hint>,
    ) -> Self {
        Self {
            unknown: UnknownCheck::new(services, unknown_folders, hints),
            batch_loader: BatchLoader::new(services, targets, connector),
            reporter: services.activity.reporter(Component::Load),
            reloads: services.reloads.listen(),
            services: services.clone(),
        }
    }

    /// Does the one thing that is next. Records failures of S3 and Redshift, and the next steps wait for them.
    pub async fn step(&mut self) -> Result<Progress, Failure> {
        let (now, pauses) = (self.services.clock.now(), &self.services.pauses);
        if let Some(paused) = pauses.report_change(now.wall) {
            // A pause may be for Redshift's sake: an open session would keep a cluster from being paused or resized.
            self.batch_loader.connection.close();
            // The pause itself is shown as what holds up loading.
            self.reporter.succeeded();
            let left = pauses.left(&paused, now);
            return Ok(Progress::Hold(left.map(|left| now.steady + left.min(RECHECK_PAUSE))));
        }
        if let Some(until) = self.batch_loader.planner.held_until(now.steady) {
            return Ok(Progress::Hold(Some(until)));
        }
        if self.reloads.has_come() {
            // The wait for it may not come for long, if other batches are due.
            self.services.load_store.retry_now(ErrorClass::Configuration);
        }
        let next = self.batch_loader.planner.next(now.steady);
        let oldest = match &next {
            Next::Load(batches) => batches.first().copied(),
            Next::Wait(until)
                if self.batch_loader.connection.connected_before
                    && !self.unknown.folders.any()
                    && !self.batch_loader.planner.needs_proof() =>
            {
                return Ok(Progress::Wait(*until));
            }
            Next::Wait(_) => None,
        };
        self.reloads.attempt_begins();
        let worked = self.work(next).await;
        self.reporter.waits();
        match worked {
            Err(StepError::Fatal(fatal)) => return Err(fatal),
            // The failure came before any attempt. It is noted for the oldest batch that is due, and counts no attempt.
            Err(StepError::Load(failure)) => {
                self.batch_loader.not_started(oldest, &failure).await?;
            }
            Ok(()) => {}
        }
        Ok(Progress::Worked)
    }

    async fn work(&mut self, next: Next) -> Result<(), StepError> {
        let Self { batch_loader, unknown, .. } = self;
        batch_loader.connect().await?;
        let unknown_first = unknown.folders.any();
        if let Next::Load(batches) = next
            && !unknown_first
        {
            return Ok(batch_loader.attempt(batches).await?);
        }
        batch_loader.quarantine.refresh(&batch_loader.connection).await?;
        if unknown_first {
            return unknown.resolve(&batch_loader.connection).await;
        }
        // With a batch due, its outcome is the better proof that all is well again.
        batch_loader.planner.succeeded();
        Ok(())
    }

    /// Loads until shutdown; then the attempt under way has `patience` to end by itself.
    pub(crate) async fn run(mut self, patience: Duration) -> Result<(), Failure> {
        let Services { load_store, pauses, clock, shutdown, .. } = self.services.clone();
        while !shutdown.is_stopping() {
            let Some(step) = shutdown.within(patience, &clock, self.step()).await else {
                // Redshift rolls the attempt back; or it was at its COMMIT, and the ledger says so at the next start.
                tracing::warn!(
                    "the load under way takes longer than the stop may: cancelling it; the next start asks the ledger"
                );
                self.batch_loader.connection.cancel(patience / 3).await;
                return Ok(());
            };
            let (until, by_load_store) = match step? {
                Progress::Worked => continue,
                Progress::Wait(until) => (until, true),
                Progress::Hold(until) => (until, false),
            };
            tokio::select! {
                () = load_store.to_load(), if by_load_store => {}
                () = pauses.changed() => {}
                () = self.reloads.next() => {
                    self.batch_loader.planner.succeeded();
                    load_store.retry_now(ErrorClass::Configuration);
                }
                Some(()) = OptionFuture::from(until.map(|moment| clock.sleep_until(moment))) => {}
                () = shutdown.stopping() => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use shared::clock::Clock;
    use shared::config::{Config, Secrets};
    use shared::object_store::ObjectStore;
    use shared::schema::Schema;
    use shared::shutdown::Shutdown;
    use state::status::activity::Activity;

    use super::*;
    use crate::load_store::LoadStore;

    #[tokio::test]
    async fn a_failure_is_not_waited_for_after_a_reload_that_came_during_it_but_after_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let example = include_str!("../../../deploy/pipeline.example.toml");
        let mut config =
            Config::parse(example, "pipeline.toml".as_ref(), std::iter::empty(), Secrets::Unused).unwrap();
        // Nobody listens there.
        (config.redshift.host, config.redshift.port) = ("127.0.0.1".to_owned(), 9);
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let load_store = LoadStore::open(dir.path(), Duration::ZERO, &clock).unwrap();
        let (store, activity) = (ObjectStore::connect(&config.s3).await, Activity::new(clock.clone()));
        let services =
            Services::new(config, store, load_store, activity, clock.clone(), Shutdown::new()).unwrap();
        let target = Target::new(&services.config, &Schema::default(), "test".to_owned());
        let connector = Connector::new(&services.config, "test", clock.clone()).unwrap();
        let (targets, hints) = (watch::Sender::new(target), mpsc::channel(1).0);
        let folders = UnknownFolders::default();
        let mut loader = Loader::new(&services, targets.subscribe(), connector, folders, hints);

        services.reloads.taken();
        assert_eq!(loader.step().await.unwrap(), Progress::Worked, "Redshift is away");
        assert!(matches!(loader.step().await.unwrap(), Progress::Hold(Some(_))));
        assert!(loader.reloads.next().now_or_never().is_none(), "the attempt had the new values");
        services.reloads.taken();
        assert!(matches!(loader.step().await.unwrap(), Progress::Hold(Some(_))));
        assert!(loader.reloads.next().now_or_never().is_some(), "it had the old ones");
    }
}
