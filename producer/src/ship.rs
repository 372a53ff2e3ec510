//! The way from the log to S3: several files at once, a batch's manifest and seal once all its files are up, and
//! rejects. Every step may be repeated after a crash with the same result.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use shared::config::Config;
use shared::ids::Instance;
use shared::layout::{self, Compression};
use shared::object_store::{ObjectStore, StoreError};
use shared::retry::Backoff;
use shared::shutdown::Shutdown;
use state::feed::Published;
use state::log::{BatchStatus, LogError, LogReader, RejectLine, Resumed, Upload};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::append::{Shipped, ToShip};
use crate::upload::{Place, compress};

/// Rejects of one object at most.
const REJECTS_PER_FILE: usize = 1000;

/// What the shipping side works with.
#[derive(Debug, Clone)]
pub struct Shipping {
    /// The bucket.
    pub store: ObjectStore,
    /// The log, to read from.
    pub log: LogReader,
    /// Where confirmations go.
    pub shipped: mpsc::Sender<Shipped>,
    /// Whoever follows the feed hears of published batches here.
    pub feed: broadcast::Sender<Published>,
    /// Prefixes and names.
    pub place: Place,
    /// The prefix of rejects.
    pub rejected: String,
    /// How often rejects are shipped.
    pub rejects_every: Duration,
    /// Files on their way at once.
    pub uploads: usize,
}

/// Why something was not shipped.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("compressing: {0}")]
    Compress(#[from] std::io::Error),
    /// The process is ending.
    #[error("the log is closed")]
    Closed,
}

impl Shipping {
    /// Ships as configured.
    #[must_use]
    pub fn new(
        config: &Config,
        store: ObjectStore,
        log: LogReader,
        shipped: mpsc::Sender<Shipped>,
        feed: broadcast::Sender<Published>,
    ) -> Self {
        let place = Place {
            bucket: config.s3.bucket.clone(),
            to_ingest: config.s3.to_ingest.clone(),
            instance: config.instance.name.clone(),
        };
        let rejected = config.s3.rejected.clone();
        let rejects_every = config.batch.max_batch_age.0;
        Self { store, log, shipped, feed, place, rejected, rejects_every, uploads: config.s3.uploads }
    }

    /// Ships what an earlier process left and what comes, until shutdown; what is on its way then is given up, and
    /// goes once more after the next start.
    pub async fn run(self, left: Resumed, mut work: mpsc::UnboundedReceiver<ToShip>, shutdown: Shutdown) {
        let this = Arc::new(self);
        let places = Arc::new(Semaphore::new(this.uploads));
        let mut tasks = JoinSet::new();
        let mut sealed: BTreeSet<u64> = left.sealed.into_iter().collect();
        let rejects = tokio::spawn(this.clone().ship_rejects_for_ever(shutdown.clone()));
        let (uploaded, mut batch_advanced) = mpsc::unbounded_channel();
        let mut waiting: std::collections::VecDeque<u64> = left.closed.into();
        let mut ready: Vec<u64> = sealed.iter().copied().collect();
        loop {
            for batch in ready.drain(..) {
                // Each sealed batch is published by one task, started when its last file is up.
                if sealed.contains(&batch) && this.is_up(batch) {
                    sealed.remove(&batch);
                    let (this, shutdown) = (this.clone(), shutdown.clone());
                    tasks.spawn(async move { this.publish_until_done(batch, &shutdown).await });
                }
            }
            tokio::select! {
                () = shutdown.stopping() => break,
                Some(item) = work.recv() => match item {
                    ToShip::File(file) => waiting.push_back(file),
                    ToShip::Batch(batch) => {
                        sealed.insert(batch);
                        ready.push(batch);
                    }
                },
                Ok(place) = places.clone().acquire_owned(), if !waiting.is_empty() => {
                    if let Some(file) = waiting.pop_front() {
                        let (this, shutdown, uploaded) = (this.clone(), shutdown.clone(), uploaded.clone());
                        tasks.spawn(async move {
                            if let Some(batch) = this.upload_until_done(file, &shutdown).await {
                                let _ = uploaded.send(batch);
                            }
                            drop(place);
                        });
                    }
                }
                Some(batch) = batch_advanced.recv() => ready.push(batch),
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
        // Tasks see the shutdown at their next wait for S3; nothing they hold is needed.
        tasks.shutdown().await;
        rejects.abort();
        let _ = rejects.await;
    }

    fn is_up(&self, batch: u64) -> bool {
        let ending = self.log.batch(batch).and_then(|record| {
            let files = self.log.files_of(&record)?;
            Ok(record.status == BatchStatus::Sealed && self.place.ending(&record, &files).is_some())
        });
        ending.unwrap_or_else(|error| {
            tracing::error!(%error, batch, "cannot read the log");
            false
        })
    }

    /// The batch of the file, once it is up; None when the process ends before.
    async fn upload_until_done(&self, file: u64, shutdown: &Shutdown) -> Option<u64> {
        self.until_done(&format!("upload of file {file}"), shutdown, || self.upload(file)).await
    }

    async fn publish_until_done(&self, batch: u64, shutdown: &Shutdown) {
        self.until_done(&format!("publishing of batch {batch}"), shutdown, || self.publish(batch)).await;
    }

    /// Tries until it works: what is in the log must get to S3, however long that takes.
    async fn until_done<T, F>(&self, what: &str, shutdown: &Shutdown, step: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, ShipError>>,
    {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        loop {
            match shutdown.until(step()).await? {
                Ok(done) => return Some(done),
                Err(ShipError::Closed) => return None,
                Err(error) => {
                    let wait = backoff.failed();
                    let wait_for = shared::human::duration(wait);
                    tracing::error!(%error, failures = backoff.failures(), "{what} failed; again in {wait_for}");
                    shutdown.sleep(wait).await.then_some(())?;
                }
            }
        }
    }

    async fn upload(&self, file: u64) -> Result<u64, ShipError> {
        let log = self.log.clone();
        // Reading and compressing a file takes some 10 ms of CPU.
        let prepared = tokio::task::spawn_blocking(move || {
            let mut rows = Vec::new();
            let record = log.rows(file, &mut rows)?;
            let batch = log.batch(record.batch)?;
            let content = compress(&rows, batch.compression)?;
            Ok::<_, ShipError>((record, batch, content))
        });
        let (record, batch, content) = prepared.await.map_err(|_| ShipError::Closed)??;
        let key = self.place.file_key(&batch, &record);
        let bytes = content.len() as u64;
        let stored = self.store.put(&key, content).await?;
        let upload = Upload { bytes, crc32: stored.crc32, etag: stored.etag };
        self.report(|noted| Shipped::File(file, upload, noted)).await?;
        tracing::debug!(key, rows = record.rows, bytes, "file uploaded");
        Ok(record.batch)
    }

    /// Manifest first, seal last: the seal says that everything else is there.
    async fn publish(&self, batch: u64) -> Result<(), ShipError> {
        let record = self.log.batch(batch)?;
        let files = self.log.files_of(&record)?;
        let Some(ending) = self.place.ending(&record, &files) else { return Err(ShipError::Closed) };
        let (key, content) = ending.manifest;
        self.store.put(&key, content).await?;
        let (key, content) = ending.seal;
        self.store.put(&key, content).await?;
        self.report(|noted| Shipped::Batch(batch, noted)).await?;
        tracing::info!(batch = %record.id, rows = record.rows, files = record.files, "batch published");
        // Nobody may be following.
        let _ = self.feed.send(Published { batch: record.id });
        Ok(())
    }

    async fn report(&self, report: impl FnOnce(oneshot::Sender<()>) -> Shipped) -> Result<(), ShipError> {
        let (noted, answer) = oneshot::channel();
        self.shipped.send(report(noted)).await.map_err(|_| ShipError::Closed)?;
        answer.await.map_err(|_| ShipError::Closed)
    }

    async fn ship_rejects_for_ever(self: Arc<Self>, shutdown: Shutdown) {
        while shutdown.sleep(self.rejects_every).await {
            // All there are, a file at a time.
            while self.until_done("upload of rejects", &shutdown, || self.ship_rejects()).await == Some(true)
            {
            }
        }
    }

    /// Ships the oldest rejects; false when there were none.
    async fn ship_rejects(&self) -> Result<bool, ShipError> {
        let log = self.log.clone();
        let reading = tokio::task::spawn_blocking(move || log.rejects(REJECTS_PER_FILE));
        let rejects = reading.await.map_err(|_| ShipError::Closed)?.map_err(LogError::from)?;
        let (Some((first, line)), Some((last, _))) = (rejects.first(), rejects.last()) else {
            return Ok(false);
        };
        // The day of the first reject, not today: repeated after a crash, the key must be the same.
        let day = serde_json::from_slice::<RejectLine>(line)
            .map_or_else(|_| Utc::now(), |line| line.at)
            .date_naive();
        let (first, last) = (*first, *last);
        let lines: Vec<u8> =
            rejects.iter().flat_map(|(_, line)| line.iter().copied().chain([b'\n'])).collect();
        let content: Bytes = compress(&lines, Compression::Zstd)?;
        let instance: &Instance = &self.place.instance;
        let key = layout::rejects_key(&self.rejected, day, instance, first);
        self.store.put(&key, content).await?;
        self.report(|noted| Shipped::Rejects(first, last, noted)).await?;
        tracing::info!(key, records = rejects.len(), "rejects shipped");
        Ok(true)
    }
}
