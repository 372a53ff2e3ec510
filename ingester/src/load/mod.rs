//! Loads batches, one COPY at a time, over one connection that is kept. Each step does one thing: connect
//! ([`connect`]), ask the ledger about doubtful folders, or attempt what is due ([`attempt`]).

pub(crate) mod circuit_breaker;
pub mod combine;
pub(crate) mod pause;
pub(crate) mod plan;
mod attempt;
mod connect;
mod quarantined;

use chrono::Utc;
use shared::clock::{Moment, Steady};
use shared::config::{Archive, Config};
use shared::exit::Failure;
use shared::ids::Instance;
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use state::loads::Load;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

use crate::facts::unknown_folders::{Hint, UnknownFolders};
use crate::failure::LoadFailure;
use crate::identity::Identity;
use crate::load::circuit_breaker::CircuitBreaker;
use crate::load::pause::Pauses;
use crate::load::plan::{Bounds, Isolated, Next};
use crate::load_store::LoadStore;
use crate::producer_link::Producer;
use crate::quarantine::Quarantine;
use crate::redshift::{Connector, Rows, Session, Target, errors};

/// The end of a pause is a time of the wall clock, which is looked at this often, since somebody may set it.
const LOOK: Duration = Duration::from_secs(60);
/// Batches the ledger is asked about in one statement.
const ASKED_AT_ONCE: usize = 500;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Something was done; there may be more.
    Worked,
    /// Nothing is to be done before this moment, or before the load store changes.
    Wait(Option<Steady>),
    /// Nothing may be tried before this moment, whatever the load store says.
    Hold(Steady),
    /// Loading is paused for so long, or until a pause by hand begins or ends.
    Paused(Option<Duration>),
}

/// The loader.
pub(crate) struct Loader {
    target: Target,
    store: ObjectStore,
    load_store: LoadStore,
    unknown_folders: UnknownFolders,
    hints: mpsc::Sender<Hint>,
    connector: Connector,
    /// A connection over which the tables were seen to be as they should.
    session: Option<Session>,
    /// The tables are looked at once at start, even with nothing to load: a fault is better known early.
    greeted: bool,
    keep: bool,
    bounds: Bounds,
    isolated: Isolated,
    breaker: CircuitBreaker,
    pauses: Pauses,
    quarantine: Quarantine,
    identity: Identity,
    producer: Producer,
    /// When the ledger is next asked whether rows in quarantine were loaded meanwhile.
    next_look: Instant,
    /// Requests to S3 at once.
    at_once: usize,
    /// Failures after which trouble that should pass is worth a person's attention.
    alert_after: u32,
}

impl Loader {
    /// A loader that has not connected yet.
    #[must_use]
    pub(crate) fn new(
        config: &Config,
        target: Target,
        connector: Connector,
        store: ObjectStore,
        (load_store, unknown_folders, hints): (LoadStore, UnknownFolders, mpsc::Sender<Hint>),
        pauses: Pauses,
    ) -> Self {
        let ingester = &config.ingester;
        let breaker = CircuitBreaker::new(ingester.retry_first.0, ingester.retry_max.0);
        let keep = ingester.archive == Archive::Keep;
        let identity = Identity::new(config, store.clone());
        Self {
            target,
            store,
            identity,
            load_store,
            unknown_folders,
            hints,
            connector,
            session: None,
            greeted: false,
            keep,
            bounds: Bounds::new(ingester),
            isolated: Isolated::default(),
            breaker,
            pauses,
            quarantine: Quarantine::new(config),
            producer: Producer::new(config.producer_socket()),
            next_look: Instant::now(),
            at_once: config.s3.uploads,
            alert_after: ingester.alert_after,
        }
    }

    /// Does the one thing that is next.
    ///
    /// # Errors
    /// When the bookkeeping fails. LoadFailure with S3 or Redshift is noted and waited for.
    pub(crate) async fn step(&mut self) -> Result<Progress, Failure> {
        let now = Moment::now();
        if let Some(paused) = self.pauses.hold(now.wall) {
            // A pause may be for Redshift's sake: an open session would keep a cluster from being paused or resized.
            self.session = None;
            return Ok(Progress::Paused(self.pauses.left(&paused, now).map(|left| left.min(LOOK))));
        }
        if let Some(until) = self.breaker.shut(now.steady) {
            return Ok(Progress::Hold(until));
        }
        let next = self.load_store.next_load(now.steady, &self.bounds, &self.isolated);
        if let (Next::Wait(until), true, false) = (&next, self.greeted, self.unknown_folders.any()) {
            return Ok(Progress::Wait(*until));
        }
        if let Err(trouble) = self.connect().await? {
            self.held(&trouble, next).await?;
        } else if self.unknown_folders.any() {
            self.look_into_quarantine().await?;
            if let Err(trouble) = self.ask_ledger().await? {
                self.held(&trouble, next).await?;
            }
        } else if let Next::Load(batches) = next {
            self.attempt(batches).await?;
        } else {
            self.look_into_quarantine().await?;
            // With a batch due, its outcome is the better proof that all is well again.
            self.breaker.succeeded();
        }
        Ok(Progress::Worked)
    }

    /// Loads until shutdown; then the attempt under way has `patience` to end by itself.
    ///
    /// # Errors
    /// As [`Loader::step`].
    pub(crate) async fn run(mut self, shutdown: Shutdown, patience: Duration) -> Result<(), Failure> {
        while !shutdown.is_stopping() {
            let impatient = async {
                shutdown.stopping().await;
                tokio::time::sleep(patience).await;
            };
            let step = tokio::select! {
                step = self.step() => step?,
                () = impatient => return self.give_up(patience).await,
            };
            match step {
                Progress::Worked => {}
                Progress::Wait(until) => {
                    tokio::select! {
                        () = self.load_store.to_load() => {}
                        () = self.pauses.changed() => {}
                        () = sleep_until(until) => {}
                        () = shutdown.stopping() => {}
                    }
                }
                Progress::Hold(until) => {
                    tokio::select! {
                        () = self.pauses.changed() => {}
                        () = sleep_until(Some(until)) => {}
                        () = shutdown.stopping() => {}
                    }
                }
                Progress::Paused(left) => {
                    tokio::select! {
                        () = self.pauses.changed() => {}
                        () = sleep_until(left.map(|left| Steady::now() + left)) => {}
                        () = shutdown.stopping() => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends an attempt that takes too long. Redshift rolls it back; or it was at its COMMIT, and the ledger will say
    /// so at the next start.
    async fn give_up(&mut self, patience: Duration) -> Result<(), Failure> {
        tracing::warn!(
            "the load under way takes longer than the stop may: cancelling it; it is settled at the next start"
        );
        if let Some(session) = self.session.take()
            && let Ok(Err(error)) = tokio::time::timeout(patience / 3, session.cancel()).await
        {
            tracing::debug!(%error, "CANCEL could not be sent");
        }
        Ok(())
    }

    /// LoadFailure before any batch was tried. The batch that would have been next shows it, without a count of attempts.
    async fn held(&mut self, trouble: &LoadFailure, next: Next) -> Result<(), Failure> {
        // A new connection looks at the tables again.
        self.session = None;
        let first = match next {
            Next::Load(batches) => batches.first().copied(),
            Next::Wait(_) => None,
        };
        self.failed(first.as_slice(), trouble).await
    }

    /// Asks the ledger about doubtful folders. The outer error is the bookkeeping's.
    async fn ask_ledger(&mut self) -> Result<Result<(), LoadFailure>, Failure> {
        let Some(session) = &self.session else { return Ok(Ok(())) };
        let asked = self.unknown_folders.some(ASKED_AT_ONCE);
        // A listing may have settled them since they were seen.
        if asked.is_empty() {
            return Ok(Ok(()));
        }
        let rows = match session.run(&self.target.look_up_all(&asked)).await {
            Ok(rows) => rows,
            Err(error) => return Ok(Err(errors::trouble(&error, "reading the ledger"))),
        };
        let loaded = ledger_rows(&rows);
        for batch in asked {
            match loaded.iter().find(|load| load.batch == batch) {
                Some(_) if self.keep => self.unknown_folders.settle(batch),
                // The rest of a folder whose archiving was cut short: it goes the way of every batch, and ends archived.
                Some(load) => {
                    self.unknown_folders.close(batch);
                    self.load_store.discovered(load.clone()).await?;
                }
                // Not loaded: to be read if it has a seal, and left to its producer if it has none.
                None => {
                    if self.keep {
                        // Discovery waits for nobody; it is gone when the process ends.
                        let _ = self.hints.send(Hint::Look(batch)).await;
                    }
                    self.unknown_folders.close(batch);
                }
            }
        }
        Ok(Ok(()))
    }
}

fn ledger_rows(rows: &Rows) -> Vec<Load> {
    let entry = |row: &Vec<Option<String>>| {
        let [Some(batch), instance, files, loaded, bytes] = row.as_slice() else { return None };
        let number =
            |value: &Option<String>| value.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
        let (batch, instance) = (batch.parse().ok()?, Instance::try_from(instance.clone()?).ok()?);
        let files = u32::try_from(number(files)).unwrap_or(u32::MAX);
        Some(Load::new(batch, instance, files, number(loaded), number(bytes), Utc::now()))
    };
    rows.0.iter().filter_map(entry).collect()
}

async fn sleep_until(moment: Option<Steady>) {
    match moment {
        Some(moment) => tokio::time::sleep(Steady::now().until(moment)).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::BatchId;

    #[test]
    fn a_ledger_row_becomes_an_entry_of_the_book() {
        let batch = BatchId::new().to_string();
        let row = |id: &str| [id, "web-1", "2", "20", "200"].map(|value| Some(value.to_owned())).to_vec();
        let loads = ledger_rows(&Rows(vec![row(&batch), row("not an id")]));
        assert_eq!(loads.len(), 1);
        assert_eq!(
            (loads[0].batch.to_string(), loads[0].files, loads[0].rows, loads[0].bytes),
            (batch, 2, 20, 200)
        );
    }
}
