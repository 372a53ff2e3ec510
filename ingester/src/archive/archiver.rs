use shared::human::duration;
use std::collections::HashMap;
use std::time::Duration;

use shared::clock::{Clock, Steady};
use shared::config::{Archive, Config};
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use shared::retry::Backoff;
use shared::shutdown::Shutdown;
use state::loads::LoadEvent;
use state::status::activity::Reporter;

use crate::archive::put_away::{NotPutAway, put_away};
use crate::failure::LoadFailure;
use crate::load_store::LoadStore;
use crate::producer_link::Producer;

/// Archives loaded batches, one folder at a time with several requests at once, beside the loading of the next.
#[derive(Debug)]
pub struct Archiver {
    store: ObjectStore,
    load_store: LoadStore,
    mode: Archive,
    from: String,
    to: String,
    at_once: usize,
    retry: (Duration, Duration),
    /// Folders that could not be archived, and when each is tried again. The others do not wait for them.
    waiting: HashMap<BatchId, (Backoff, Steady)>,
    producer: Producer,
    reporter: Reporter,
    clock: Clock,
}

impl Archiver {
    /// An archiver of this configuration.
    pub fn new(
        config: &Config,
        store: ObjectStore,
        load_store: LoadStore,
        reporter: Reporter,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            load_store,
            mode: config.ingester.archive,
            from: config.s3.to_ingest.clone(),
            to: config.s3.ingested.clone(),
            at_once: config.s3.uploads,
            retry: (config.ingester.retry_first.0, config.ingester.retry_max.0),
            waiting: HashMap::new(),
            producer: Producer::new(config.producer_socket()),
            reporter,
            clock,
        }
    }

    /// Archives the oldest loaded batch that may be tried; None when there is none. It waits while S3 is away.
    pub async fn step(&mut self) -> Result<Option<BatchId>, Failure> {
        let (now, waiting) = (self.clock.steady(), &self.waiting);
        let may = |batch| waiting.get(&batch).is_none_or(|(_, next)| *next <= now);
        let Some(batch) = self.load_store.next_loaded(may) else { return Ok(None) };
        let id = self.load_store.get(batch)?.map_or(batch, |load| load.ledger_id());
        let to = (self.mode, self.from.as_str(), self.to.as_str());
        self.reporter.begins(format!("archiving batch {batch}"));
        match put_away(&self.store, to, self.at_once, (batch, id)).await {
            Ok(()) => {
                self.waiting.remove(&batch);
                // Those that fail on are reported until they are archived.
                if self.waiting.is_empty() {
                    self.reporter.succeeded();
                } else {
                    self.reporter.waits();
                }
                self.load_store.note(batch, LoadEvent::Archived).await?;
                self.producer.loaded(batch);
                tracing::debug!(%batch, "archived");
            }
            Err(error) => self.wait(batch, error),
        }
        Ok(Some(batch))
    }

    fn wait(&mut self, batch: BatchId, error: NotPutAway) {
        let ((first, max), now) = (self.retry, self.clock.steady());
        let (backoff, next) = self.waiting.entry(batch).or_insert_with(|| (Backoff::new(first, max), now));
        let wait = backoff.failed();
        *next = now + wait;
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
    pub async fn run(mut self, shutdown: Shutdown, patience: Duration) -> Result<(), Failure> {
        while !shutdown.is_stopping() {
            let clock = self.clock.clone();
            let Some(done) = shutdown.within(patience, &clock, self.step()).await else {
                tracing::info!("archiving is left half done; it is repeated at the next start");
                return Ok(());
            };
            if done?.is_none() {
                let next = self.waiting.values().map(|(_, next)| *next).min();
                let retry = async {
                    match next {
                        Some(next) => clock.sleep_until(next).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = self.load_store.to_archive() => {}
                    () = retry => {}
                    () = shutdown.stopping() => {}
                }
            }
        }
        Ok(())
    }
}
