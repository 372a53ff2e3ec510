//! The way from the log to S3: the files of sealed batches, several at once, a batch's manifest and seal once all its
//! files are up, and rejects. Every step may be repeated after a crash with the same result.
//!
//! Nothing goes up before its batch is sealed: until then its id is not final (`state::log::Log::open`), and a copy of
//! the log could put other rows under the same name.

pub(crate) mod copies;
pub(crate) mod put;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use shared::compress::compress;
use shared::config::Config;
use shared::content::Content;
use shared::ids::BatchId;
use shared::layout::{self, Compression, SEAL};
use shared::object_store::{ObjectStore, StoreError};
use shared::retry::Backoff;
use shared::shutdown::Shutdown;
use state::log::{Chosen, FileStatus, LogError, LogReader, RejectLine, Resumed, Upload};
use state::status::feed::Published;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::append::Shipped;
use crate::upload::copies::Kept;
use crate::upload::put::Place;

/// Rejects of one object at most, by count and by the bytes of their lines.
const REJECTS_PER_FILE: usize = 1000;
const REJECT_BYTES_PER_FILE: usize = 8 << 20;
/// How often it is looked whether a whole object of rejects waits, which goes at once: a flood of them must not fill the
/// log.
const REJECTS_LOOKED_AT: Duration = Duration::from_secs(5);

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
    /// Copies of what was uploaded.
    pub kept: Kept,
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
        Self {
            store,
            log,
            shipped,
            feed,
            place,
            rejected,
            rejects_every,
            uploads: config.s3.uploads,
            kept: Kept::none(),
        }
    }

    /// The same, keeping copies of what it uploads.
    #[must_use]
    pub fn keeping(self, kept: Kept) -> Self {
        Self { kept, ..self }
    }

    /// As [`Shipping::run_and_mend`], asked for nothing once more.
    ///
    /// # Errors
    /// As [`Shipping::run_and_mend`].
    pub async fn run(
        self,
        left: Resumed,
        work: mpsc::UnboundedReceiver<u64>,
        shutdown: Shutdown,
    ) -> Result<(), LogError> {
        let (_, once_more) = mpsc::channel(1);
        self.run_and_mend(left, work, once_more, shutdown).await
    }

    /// Ships what an earlier process left and what comes, until shutdown, and what is wanted once more; what is on its way then is given up, and
    /// goes once more after the next start.
    ///
    /// # Errors
    /// When the log cannot be read: damage does not pass, and must not be passed over.
    pub async fn run_and_mend(
        self,
        left: Resumed,
        mut work: mpsc::UnboundedReceiver<u64>,
        mut once_more: mpsc::Receiver<BatchId>,
        shutdown: Shutdown,
    ) -> Result<(), LogError> {
        let this = Arc::new(self);
        let places = Arc::new(Semaphore::new(this.uploads));
        // After an outage thousands of batches may be ready at once, and each task holds what it read of the log.
        let publishing = Arc::new(Semaphore::new(this.uploads));
        let mending = Arc::new(Semaphore::new(this.uploads));
        let mut tasks: JoinSet<Result<(), LogError>> = JoinSet::new();
        tasks.spawn(this.clone().ship_rejects_until_stopped(shutdown.clone()));
        let (uploaded, mut batch_advanced) = mpsc::unbounded_channel();
        let mut waiting: VecDeque<u64> = VecDeque::new();
        // Files of each sealed batch that are not up yet.
        let mut missing: BTreeMap<u64, usize> = BTreeMap::new();
        let mut sealed: Vec<u64> = left.sealed;
        let mut ready: VecDeque<u64> = VecDeque::new();
        loop {
            for batch in sealed.drain(..) {
                let files = this.clone().to_upload(batch).await?;
                match files.len() {
                    0 => ready.push_back(batch),
                    more => _ = missing.insert(batch, more),
                }
                waiting.extend(files);
            }
            tokio::select! {
                () = shutdown.stopping() => return Ok(()),
                Some(batch) = work.recv() => sealed.push(batch),
                Ok(place) = places.clone().acquire_owned(), if !waiting.is_empty() => {
                    let Some(file) = waiting.pop_front() else { continue };
                    let (this, shutdown, uploaded) = (this.clone(), shutdown.clone(), uploaded.clone());
                    tasks.spawn(async move {
                        let what = format!("upload of file {file}");
                        if let Some(batch) = until_done(&what, &shutdown, || this.upload(file)).await? {
                            let _ = uploaded.send(batch);
                        }
                        drop(place);
                        Ok(())
                    });
                }
                // Each sealed batch is published by one task, started when its last file is up.
                Ok(place) = publishing.clone().acquire_owned(), if !ready.is_empty() => {
                    let Some(batch) = ready.pop_front() else { continue };
                    let (this, shutdown) = (this.clone(), shutdown.clone());
                    tasks.spawn(async move {
                        let what = format!("publishing of batch {batch}");
                        until_done(&what, &shutdown, || this.publish(batch)).await?;
                        drop(place);
                        Ok(())
                    });
                }
                Some(batch) = batch_advanced.recv() => {
                    let left = missing.get_mut(&batch).map(|left| {
                        *left -= 1;
                        *left
                    });
                    if left == Some(0) {
                        missing.remove(&batch);
                        ready.push_back(batch);
                    }
                }
                // Looked at again when a task has ended.
                Some(batch) = once_more.recv(), if mending.available_permits() > 0 => {
                    let place = mending.clone().try_acquire_owned();
                    let (this, shutdown) = (this.clone(), shutdown.clone());
                    tasks.spawn(async move {
                        let _place = place;
                        let what = format!("upload of batch {batch} once more");
                        let done = until_done(&what, &shutdown, || this.republish(batch)).await;
                        this.kept.end(batch);
                        done.map(|_| ())
                    });
                }
                // A task that was ended by a panic is gone, and with it what it held: that must show.
                Some(ended) = tasks.join_next() => ended.map_err(|error| LogError::Missing(error.to_string()))??,
            }
        }
        // Whatever is under way is dropped with the set of tasks.
    }

    /// The files of a sealed batch that are not in S3.
    async fn to_upload(self: Arc<Self>, batch: u64) -> Result<Vec<u64>, LogError> {
        let looked = tokio::task::spawn_blocking(move || {
            let record = self.log.batch(batch)?;
            let files = (record.first_file..).zip(self.log.files_of(&record)?);
            let missing = files.filter(|(_, file)| !matches!(file.status, FileStatus::Uploaded(_)));
            Ok(missing.map(|(file, _)| file).collect())
        });
        looked.await.map_err(|error| LogError::Missing(error.to_string()))?
    }

    async fn upload(&self, file: u64) -> Result<u64, ShipError> {
        let log = self.log.clone();
        // Reading and compressing a file takes some 10 ms of CPU.
        let prepared = tokio::task::spawn_blocking(move || {
            let mut rows = Vec::new();
            let record = log.rows(file, &mut rows)?;
            let batch = log.batch(record.batch)?;
            let compressed = compress(&rows, batch.compression)?;
            Ok::<_, ShipError>((record, batch, Content::of_rows(&rows), compressed))
        });
        let (record, batch, rows, content) = prepared.await.map_err(|_| ShipError::Closed)??;
        let key = self.place.file_key(&batch, &record);
        let bytes = content.len() as u64;
        let stored = self.store.put(&key, content.clone()).await?;
        // Before the log drops the rows.
        self.keep(batch.id, layout::file_name(record.no, batch.compression), content).await;
        let upload = Upload { bytes, crc32: stored.crc32, etag: stored.etag, content: Some(rows) };
        self.report(|noted| Shipped::File(file, upload, noted)).await?;
        tracing::debug!(key, rows = record.rows, bytes, "file uploaded");
        Ok(record.batch)
    }

    /// Manifest first, seal last: the seal says that everything else is there.
    async fn publish(&self, batch: u64) -> Result<(), ShipError> {
        let log = self.log.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let record = log.batch(batch)?;
            let files = log.files_of(&record)?;
            // Those its rows were made for: the schema may be another one by now.
            let columns = log.columns(&record.schema)?;
            Ok::<_, LogError>((record, columns, files))
        });
        let (record, columns, files) = looked.await.map_err(|_| ShipError::Closed)??;
        let Some(ending) = self.place.ending(&record, columns, &files) else { return Err(ShipError::Closed) };
        let (key, content) = ending.manifest;
        self.store.put(&key, content).await?;
        let (key, content) = ending.seal;
        self.store.put(&key, content.clone()).await?;
        self.keep(record.id, SEAL.to_owned(), content).await;
        self.report(|noted| Shipped::Batch(batch, noted)).await?;
        tracing::info!(batch = %record.id, rows = record.rows, files = record.files, "batch published");
        // Nobody may be following.
        let _ = self.feed.send(Published { batch: record.id });
        Ok(())
    }

    async fn keep(&self, batch: BatchId, name: String, content: Bytes) {
        let kept = self.kept.clone();
        let _ = tokio::task::spawn_blocking(move || kept.keep(batch, &name, &content)).await;
    }

    /// Puts every object of a batch once more from the copies, the seal last. The files are the same, byte for byte, so
    /// whoever reads them meanwhile reads what was sealed; with encryption their `ETag`s are new, so the seal is too.
    async fn republish(&self, batch: BatchId) -> Result<(), ShipError> {
        let copies = self.kept.clone();
        let read = tokio::task::spawn_blocking(move || copies.seal(batch));
        let mut seal = match read.await.map_err(|_| ShipError::Closed)? {
            Ok(seal) => seal,
            Err(why) => return given_up(batch, &why),
        };
        let folder = layout::folder(&self.place.to_ingest, batch);
        for file in &mut seal.files {
            let (copies, wanted) = (self.kept.clone(), file.clone());
            let read = tokio::task::spawn_blocking(move || copies.file(batch, &wanted));
            match read.await.map_err(|_| ShipError::Closed)? {
                Ok(content) => {
                    file.etag = self.store.put(&format!("{folder}{}", file.name), content).await?.etag;
                }
                Err(why) => return given_up(batch, &why),
            }
        }
        let (manifest, sealed) = self.place.end(&seal);
        self.store.put(&manifest.0, manifest.1).await?;
        self.store.put(&sealed.0, sealed.1).await?;
        tracing::warn!(%batch, rows = seal.rows, "batch uploaded once more: what stood in S3 was not as sealed");
        let _ = self.feed.send(Published { batch });
        Ok(())
    }

    async fn report(&self, report: impl FnOnce(oneshot::Sender<()>) -> Shipped) -> Result<(), ShipError> {
        let (noted, answer) = oneshot::channel();
        self.shipped.send(report(noted)).await.map_err(|_| ShipError::Closed)?;
        answer.await.map_err(|_| ShipError::Closed)
    }

    async fn ship_rejects_until_stopped(self: Arc<Self>, shutdown: Shutdown) -> Result<(), LogError> {
        // At the start all that an earlier process left.
        let (mut whole_only, mut all_shipped) = (false, Instant::now());
        loop {
            let ship = || self.ship_rejects(whole_only);
            while until_done("upload of rejects", &shutdown, ship).await? == Some(true) {}
            if !whole_only {
                all_shipped = Instant::now();
            }
            let wait = self.rejects_every.saturating_sub(all_shipped.elapsed());
            if !shutdown.sleep(wait.min(REJECTS_LOOKED_AT)).await {
                return Ok(());
            }
            whole_only = all_shipped.elapsed() < self.rejects_every;
        }
    }

    /// Ships the oldest rejects, an object of them; false when there were none, or too few if it must be a whole one.
    async fn ship_rejects(&self, whole_only: bool) -> Result<bool, ShipError> {
        let (log, rejected, instance) =
            (self.log.clone(), self.rejected.clone(), self.place.instance.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            let (rejects, chosen) =
                log.rejects(REJECTS_PER_FILE, REJECT_BYTES_PER_FILE).map_err(LogError::from)?;
            let bytes: usize = rejects.iter().map(|(_, line)| line.len()).sum();
            let few = rejects.len() < REJECTS_PER_FILE && bytes < REJECT_BYTES_PER_FILE;
            if chosen.is_none() && whole_only && few {
                return Ok(None);
            }
            let (Some((first, line)), Some((last, _))) = (rejects.first(), rejects.last()) else {
                return Ok(None);
            };
            // The time of the first reject, not the present: repeated after a crash, the key must be the same.
            let at = serde_json::from_slice::<RejectLine>(line).map_or_else(|_| Utc::now(), |line| line.at);
            let lines: Vec<&[u8]> = rejects.iter().flat_map(|(_, line)| [line.as_slice(), b"\n"]).collect();
            let lines = lines.concat();
            let key = layout::rejects_key(&rejected, at, &instance, *first, Content::of_rows(&lines));
            let content = compress(&lines, Compression::Zstd)?;
            let chosen = (Chosen { first: *first, last: *last }, chosen.is_some());
            Ok::<_, ShipError>(Some((key, content, chosen, rejects.len())))
        });
        let Some((key, content, (chosen, noted), records)) =
            prepared.await.map_err(|_| ShipError::Closed)??
        else {
            return Ok(false);
        };
        if !noted {
            self.report(|noted| Shipped::ToReject(chosen, noted)).await?;
        }
        self.store.put(&key, content).await?;
        self.report(|noted| Shipped::Rejects(chosen, noted)).await?;
        tracing::info!(key, records, "rejects shipped");
        Ok(true)
    }
}

/// The copies of a batch are not whole any more: trying again does not help, and who asks again is told.
fn given_up(batch: BatchId, why: &str) -> Result<(), ShipError> {
    tracing::error!(%batch, why, "the batch cannot be uploaded once more: its copies are not whole any more");
    Ok(())
}

/// Tries until it works: what is in the log must get to S3, however long that takes. None when the process ends
/// before.
async fn until_done<T, F>(
    what: &str,
    shutdown: &Shutdown,
    step: impl Fn() -> F,
) -> Result<Option<T>, LogError>
where
    F: Future<Output = Result<T, ShipError>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
    loop {
        match shutdown.until(step()).await {
            None | Some(Err(ShipError::Closed)) => return Ok(None),
            Some(Ok(done)) => return Ok(Some(done)),
            Some(Err(ShipError::Log(error))) => return Err(error),
            Some(Err(error)) => {
                let wait = backoff.failed();
                let again = shared::human::duration(wait);
                tracing::error!(%error, failures = backoff.failures(), "{what} failed; again in {again}");
                if !shutdown.sleep(wait).await {
                    return Ok(None);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
