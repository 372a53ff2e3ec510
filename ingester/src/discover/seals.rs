//! Reads seals, and enters their batches into the load store.

use futures_util::StreamExt;
use shared::config::Archive;
use shared::exit::Failure;
use shared::human::duration;
use shared::ids::BatchId;
use shared::layout;
use shared::object_store::{ObjectStore, ObjectStoreError, ObjectStoreErrorKind};
use shared::seal::Seal;
use state::loads::ErrorClass;
use state::status::activity::{Component, Reporter};

use crate::discover::held::HeldSeals;
use crate::facts::folder::{SealRead, read_seal};
use crate::failure::LoadFailure;
use crate::load_store::LoadStore;
use crate::producer_link::{self, Producer};
use crate::services::Services;

#[derive(Debug)]
pub(super) struct SealReader {
    store: ObjectStore,
    load_store: LoadStore,
    producer: Producer,
    prefix: String,
    keep: bool,
    at_once: usize,
    pub held: HeldSeals,
    reporter: Reporter,
}

impl SealReader {
    pub(super) fn new(services: &Services) -> Self {
        let Services { config, store, load_store, activity, clock, .. } = services;
        Self {
            store: store.clone(),
            load_store: load_store.clone(),
            producer: Producer::new(config.producer_socket()),
            prefix: config.s3.to_ingest.clone(),
            keep: config.ingester.archive == Archive::Keep,
            at_once: config.s3.uploads,
            held: HeldSeals::new(&config.ingester, clock.clone()),
            reporter: activity.reporter(Component::Discovery),
        }
    }

    /// Reads the seals of these batches, several at once, and enters those that are there, in this order: a batch that is
    /// loaded after one of a later run is compared with the table. With each comes the `ETag` that a listing showed.
    /// Returns the error of one that could not be asked for.
    pub(super) async fn read(
        &mut self,
        batches: Vec<(BatchId, String)>,
    ) -> Result<Option<ObjectStoreError>, Failure> {
        let (store, prefix) = (self.store.clone(), self.prefix.clone());
        let read = batches.into_iter().map(|(batch, etag)| {
            let (store, folder) = (&store, layout::folder(&prefix, batch));
            async move { (batch, etag, read_seal(store, &folder, batch).await) }
        });
        let mut read = futures_util::stream::iter(read).buffered(self.at_once);
        let mut failed = None;
        while let Some((batch, etag, answer)) = read.next().await {
            match answer {
                Ok(SealRead::Usable(seal)) => {
                    self.held.usable(batch);
                    self.enter(&seal).await?;
                }
                Ok(SealRead::Unusable(error)) => {
                    self.held.unusable(batch, etag);
                    let answer = self.producer.republish(batch).await;
                    let outlook = producer_link::outlook(&answer);
                    let why = format!("the seal of batch {batch} cannot be used: {error}; {outlook}");
                    self.reporter.failed(ErrorClass::Incomplete.name(), &why, None);
                    tracing::error!(%batch, %error, "unusable seal; the folder is left as it is: {outlook}");
                }
                Ok(SealRead::Missing) => {
                    self.held.gone(batch);
                    tracing::debug!(%batch, "no seal there (any more)");
                }
                Err(error) if error.kind() == ObjectStoreErrorKind::Passing => {
                    self.held.unread.insert(batch);
                    failed = Some(error);
                }
                // S3 answers listings, so this is a matter of the one object.
                Err(error) => {
                    let retry = error.kind() == ObjectStoreErrorKind::Configuration && !error.is_too_large();
                    let failure = LoadFailure::from(error);
                    let wait = if retry {
                        Some(self.held.refused(batch))
                    } else {
                        self.held.unusable(batch, etag);
                        None
                    };
                    let why = format!("the seal of batch {batch} cannot be read: {failure}");
                    self.reporter.failed(failure.class.name(), &why, wait);
                    let then = wait.map_or_else(
                        || "the folder is left as it is".to_owned(),
                        |wait| format!("trying again in {}", duration(wait)),
                    );
                    let LoadFailure { why, advice, .. } = failure;
                    tracing::error!(%batch, "the seal cannot be read; {then}: {why}: {advice}");
                }
            }
        }
        Ok(failed)
    }

    async fn enter(&self, seal: &Seal) -> Result<(), Failure> {
        // A kept folder is read again when a producer tells of it; only another batch of the same id is news.
        let known = if self.keep { self.load_store.get(seal.batch)? } else { None };
        if known.is_some_and(|known| known.content.is_none() || known.content == seal.content) {
            return Ok(());
        }
        let load = self.load_store.discovered(self.load_store.found(seal)).await?;
        tracing::debug!(batch = %load.batch, rows = load.rows, instance = %load.instance, "discovered");
        Ok(())
    }
}
