//! The loop: which folder is next, and when one that could not be archived is tried again.

use std::time::Duration;

use shared::exit::Failure;
use shared::human::duration;
use shared::ids::BatchId;
use state::loads::LoadEvent;
use state::status::activity::{Component, Reporter};

use crate::archive::put_away::{Archiving, NotPutAway, put_away};
use crate::failure::LoadFailure;
use crate::producer_link::Producer;
use crate::retry_queue::RetryQueue;
use crate::services::Services;

/// Archives loaded batches, one folder at a time with several requests at once, beside the loading of the next.
#[derive(Debug)]
pub struct Archiver {
    services: Services,
    /// Folders that could not be archived.
    waiting: RetryQueue,
    producer: Producer,
    reporter: Reporter,
}

impl Archiver {
    /// An archiver that has archived nothing yet.
    pub fn new(services: &Services) -> Self {
        let ingester = &services.config.ingester;
        Self {
            waiting: RetryQueue::new(ingester.retry_first.0, ingester.retry_max.0),
            producer: Producer::new(services.config.producer_socket()),
            reporter: services.activity.reporter(Component::Archive),
            services: services.clone(),
        }
    }

    /// Archives the oldest loaded batch that may be tried; None when there is none. It waits while S3 is away.
    pub async fn step(&mut self) -> Result<Option<BatchId>, Failure> {
        let Services { config, store, load_store, clock, .. } = &self.services;
        let (now, waiting) = (clock.steady(), &self.waiting);
        let may = |batch| !waiting.waits(batch, now);
        let Some(batch) = load_store.next_loaded(may) else { return Ok(None) };
        let id = load_store.get(batch)?.map_or(batch, |load| load.ledger_id());
        self.reporter.begins(format!("archiving batch {batch}"));
        match put_away(store, Archiving::of(config), batch, id).await {
            Ok(()) => {
                self.waiting.remove(batch);
                // Those that fail on are reported until they are archived.
                if self.waiting.is_empty() {
                    self.reporter.succeeded();
                } else {
                    self.reporter.waits();
                }
                load_store.note(batch, LoadEvent::Archived).await?;
                self.producer.loaded(batch);
                tracing::debug!(%batch, "archived");
            }
            Err(error) => self.wait(batch, error),
        }
        Ok(Some(batch))
    }

    fn wait(&mut self, batch: BatchId, error: NotPutAway) {
        let wait = self.waiting.failed(batch, self.services.clock.steady());
        let again = duration(wait);
        if let Some(advice) = error.advice() {
            tracing::error!(%batch, %error, "loaded, but cannot be archived: {advice}; again in {again}");
        } else {
            tracing::warn!(%batch, %error, "loaded, but not archived yet; again in {again}");
        }
        let failure = LoadFailure::from(error);
        let why = format!("batch {batch} is loaded, and cannot be archived: {failure}");
        self.reporter.failed(failure.class.name(), &why, Some(wait));
    }

    /// Archives until shutdown; then the folder under way has `patience` to be finished.
    pub async fn run(mut self, patience: Duration) -> Result<(), Failure> {
        let shutdown = self.services.shutdown.clone();
        while !shutdown.is_stopping() {
            let clock = self.services.clock.clone();
            let Some(done) = shutdown.within(patience, &clock, self.step()).await else {
                tracing::info!("archiving is left half done; it is repeated at the next start");
                return Ok(());
            };
            if done?.is_none() {
                let next = self.waiting.next();
                let retry = async {
                    match next {
                        Some(next) => clock.sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = self.services.load_store.to_archive() => {}
                    () = retry => {}
                    () = shutdown.stopping() => {}
                }
            }
        }
        Ok(())
    }
}
