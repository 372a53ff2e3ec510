//! Follows hints, and lists.

use std::collections::BTreeSet;
use std::time::Duration;

use shared::clock::Steady;
use shared::exit::Failure;
use shared::human::duration;
use shared::ids::BatchId;
use shared::retry::{Backoff, NEIGHBOUR_MAX};
use state::loads::ErrorClass;
use state::status::activity::{Component, Reporter};
use tokio::sync::{mpsc, oneshot, watch};

use crate::discover::lister::Lister;
use crate::discover::seals::SealReader;
use crate::facts::unknown_folders::{Hint, UnknownFolders};
use crate::failure::{LoadFailure, StepError};
use crate::load::combine;
use crate::services::Services;

const HINTS: usize = 64;
/// How often manifests that were left behind are deleted.
const TIDYING: Duration = Duration::from_secs(24 * 3600);

/// Enters the batches in S3 into the load store.
#[derive(Debug)]
pub struct Discovery {
    services: Services,
    hints: mpsc::Receiver<Hint>,
    lister: Lister,
    seals: SealReader,
    next_tidying: Steady,
    reporter: Reporter,
    interval: Duration,
    backoff: Backoff,
    next_listing: Steady,
    /// Whether a listing has been through.
    listed: bool,
    waits: Option<oneshot::Sender<()>>,
    /// When the latest complete listing ended; before the first one, when this began.
    complete: watch::Sender<Steady>,
}

impl Discovery {
    /// A discovery that has not listed yet.
    pub fn new(
        services: &Services,
        unknown_folders: UnknownFolders,
        hints: mpsc::Receiver<Hint>,
    ) -> Result<Self, Failure> {
        let (ingester, now) = (&services.config.ingester, services.clock.steady());
        let longest = ingester.retry_max.0.min(ingester.list_interval.0).min(NEIGHBOUR_MAX);
        Ok(Self {
            hints,
            lister: Lister::new(services, unknown_folders)?,
            seals: SealReader::new(services),
            next_tidying: now + TIDYING,
            reporter: services.activity.reporter(Component::Discovery),
            interval: ingester.list_interval.0,
            backoff: Backoff::new(ingester.retry_first.0, longest),
            next_listing: now,
            listed: false,
            waits: None,
            complete: watch::Sender::new(now),
            services: services.clone(),
        })
    }

    /// Answers after the first listing. Every batch that was in S3 at start is in the load store then, but for seals that
    /// could not be read: reconciling must not wait for one of them for ever.
    pub fn listed(&mut self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.waits = Some(tell);
        told
    }

    /// When the latest complete listing ended; before the first one, when this discovery was made.
    pub fn complete(&self) -> watch::Receiver<Steady> {
        self.complete.subscribe()
    }

    /// When it lists S3 next.
    pub fn due(&self) -> Steady {
        self.next_listing
    }

    /// The folders that hints name, and whether to list S3, as soon as there is one or the other. `first`: the listing goes
    /// before all hints.
    async fn next(&mut self, first: bool) -> (BTreeSet<BatchId>, bool) {
        let mut hints = Vec::with_capacity(HINTS);
        tokio::select! {
            // None at all: everybody who could give a hint has ended.
            1.. = self.hints.recv_many(&mut hints, HINTS), if !first => {}
            () = self.services.clock.sleep_until(self.next_listing) => hints.push(Hint::List),
        }
        while first && let Ok(hint) = self.hints.try_recv() {
            hints.push(hint);
        }
        let list = hints.contains(&Hint::List);
        let folder = |hint| if let Hint::Folder(batch) = hint { Some(batch) } else { None };
        (hints.into_iter().filter_map(folder).collect(), list)
    }

    /// Waits for hints or for the next listing, and follows them. Fails with the load store only: S3 is asked again.
    pub async fn step(&mut self) -> Result<(), Failure> {
        // Hints name what is published now. What was published before the start goes first, if it can be listed.
        let first = !self.listed && self.backoff.failures() == 0;
        let (mut batches, list) = self.next(first).await;
        if list && self.listed && self.next_tidying <= self.services.clock.steady() {
            // In the place of a listing, so that an idle ingester sends no more requests than it says.
            self.tidy().await;
            self.next_listing = self.services.clock.steady() + self.interval;
            return Ok(());
        }
        if list {
            batches.append(&mut self.seals.held.due());
        }
        let mut batches: Vec<_> = batches.into_iter().map(|batch| (batch, String::new())).collect();
        let mut failed = None;
        if !first {
            // Seals that cannot be read now hold up no listing.
            self.reporter.begins("reading seals");
            failed = self.seals.read(std::mem::take(&mut batches)).await?.map(LoadFailure::from);
        }
        if list {
            match self.list().await {
                Ok(()) => {}
                // Report the failure of the listing rather than that of a seal: it concerns all batches.
                Err(StepError::Load(failure)) => failed = Some(failure),
                Err(StepError::Fatal(failure)) => return Err(failure),
            }
        }
        if !batches.is_empty() {
            failed = self.seals.read(batches).await?.map(LoadFailure::from).or(failed);
        }
        match failed {
            Some(failure) => self.retry(&failure),
            // A hint that was followed says nothing about listings, nor about the seals that wait for one.
            None if list => {
                self.backoff.succeeded();
                // A seal that was refused or is of no use is reported until it is read or gone.
                if !self.seals.held.any() {
                    self.reporter.succeeded();
                }
                let usual = self.services.clock.steady() + self.interval;
                self.next_listing = self.seals.held.next_retry().map_or(usual, |retry| retry.min(usual));
            }
            None => {}
        }
        self.reporter.waits();
        Ok(())
    }

    async fn list(&mut self) -> Result<(), StepError> {
        if self.hints.is_empty() && !self.seals.held.any_to_read() {
            self.lister.keep_progress().await?;
        }
        let first = !self.listed;
        self.reporter.begins("listing S3");
        let mut listing = self.lister.list(&mut self.seals.held, first, self.services.clock.wall()).await?;
        self.listed = true;
        self.reporter.begins("reading seals");
        let failed = self.seals.read(std::mem::take(&mut listing.to_read)).await?;
        let _ = self.waits.take().map(|waits| waits.send(()));
        // A seal that could not be asked for, by this listing or before, holds the progress back: were it kept, the next
        // process would begin behind that seal.
        if self.seals.held.unread.is_empty() {
            self.lister.completed(listing);
            self.complete.send_replace(self.services.clock.steady());
        }
        if first {
            self.tidy().await;
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Puts the next listing off, and logs why: as an error if it concerns operators, since with an empty load store
    /// nobody else does.
    fn retry(&mut self, failure: &LoadFailure) {
        let (now, wait) = (self.services.clock.steady(), self.backoff.failed());
        if self.next_listing <= now || self.next_listing > now + wait {
            self.next_listing = now + wait;
        }
        self.reporter.failed(failure.class.name(), failure, Some(wait));
        let (failures, wait) = (self.backoff.failures(), duration(wait));
        if failure.class == ErrorClass::Configuration || failures >= self.services.config.ingester.alert_after
        {
            tracing::error!(failures, "S3 cannot be listed or read; trying again in {wait}: {failure}");
        } else {
            tracing::warn!(failures, "S3 cannot be listed or read; trying again in {wait}: {failure}");
        }
    }

    async fn tidy(&mut self) {
        self.next_tidying = self.services.clock.steady() + TIDYING;
        let Services { config, store, clock, .. } = &self.services;
        // Loads may have left manifests behind.
        if let Err(error) = combine::tidy(store, &config.s3.loads, clock.wall()).await {
            tracing::warn!(%error, "manifests that were left behind stay for another day");
        }
    }

    /// Discovers until shutdown.
    pub async fn run(mut self) -> Result<(), Failure> {
        let shutdown = self.services.shutdown.clone();
        while let Some(step) = shutdown.until(self.step()).await {
            step?;
        }
        Ok(())
    }
}
