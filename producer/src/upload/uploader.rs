//! The loop: chooses which file is uploaded and which batch is published next, so many at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use shared::clock::Clock;
use shared::config::Config;
use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use state::log::{LogError, LogReader, Resumed};
use state::status::activity::{Activity, Component, Reporter};
use state::status::feed::Published;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::task::JoinSet;

use crate::append::UploadReport;
use crate::upload::context::{Context, Place, UploadError};
use crate::upload::copies::UploadCopies;
use crate::upload::jobs::{self, SealedBatch, to_upload};
use crate::upload::rejects::Rejects;
use crate::upload::retry::Retry;

/// Brings what the log holds to S3.
pub struct Uploader {
    context: Context,
    rejected: String,
    rejects_every: Duration,
    /// Files on their way at once; so many batches, too.
    at_once: usize,
    republish: mpsc::Receiver<BatchId>,
    reporter: Reporter,
    clock: Clock,
}

impl Uploader {
    /// Uploads as configured, and keeps no copies.
    pub fn new(
        config: &Config,
        store: ObjectStore,
        log: LogReader,
        upload_reports: mpsc::Sender<UploadReport>,
        feed: broadcast::Sender<Published>,
        clock: Clock,
    ) -> Self {
        let place = Place {
            bucket: config.s3.bucket.clone(),
            to_ingest: config.s3.to_ingest.clone(),
            instance: config.instance.name.clone(),
        };
        Self {
            context: Context { store, log, upload_reports, feed, place, copies: UploadCopies::default() },
            rejected: config.s3.rejected.clone(),
            rejects_every: config.batch.max_batch_age.0,
            at_once: config.s3.uploads,
            republish: mpsc::channel(1).1,
            reporter: Activity::new(clock.clone()).reporter(Component::Upload),
            clock,
        }
    }

    /// Keeps copies of what it uploads, and uploads a batch of `republish` once more from them.
    pub(crate) fn with_copies(mut self, copies: UploadCopies, republish: mpsc::Receiver<BatchId>) -> Self {
        self.context.copies = copies;
        Self { republish, ..self }
    }

    /// Reports to the activity of the service.
    pub(crate) fn with_reporter(self, reporter: Reporter) -> Self {
        Self { reporter, ..self }
    }

    /// Uploads all rejects so often.
    pub fn with_rejects_every(self, rejects_every: Duration) -> Self {
        Self { rejects_every, ..self }
    }

    /// Tries once the next step of a sealed batch: a file that is not in S3 yet, or else its manifest and seal. True when the
    /// batch is published. A simulation waits between two tries itself.
    pub async fn try_next(&self, batch: u64) -> anyhow::Result<bool> {
        let context = Arc::new(self.context.clone());
        let next = to_upload(context.log.clone(), batch).await?;
        match next.missing.first() {
            Some((file, _)) => jobs::upload(context, *file).await?,
            None => jobs::publish(context, batch).await?,
        };
        Ok(next.missing.is_empty())
    }

    /// Uploads what is `left` and what comes from `sealed`, until shutdown. The next start uploads again what is under
    /// way then.
    pub async fn run(
        mut self,
        left: Resumed,
        mut sealed: mpsc::UnboundedReceiver<u64>,
        shutdown: Shutdown,
    ) -> Result<(), LogError> {
        let context = Arc::new(self.context);
        let retry = Retry::new(self.reporter, self.clock, shutdown.clone());
        let mut jobs = Jobs { tasks: JoinSet::new(), retry: retry.clone(), context: context.clone() };
        let rejects = Rejects { context: context.clone(), prefix: self.rejected, every: self.rejects_every };
        jobs.tasks.spawn(async move { rejects.run(retry).await.map(|()| None) });
        // After an outage thousands of batches may be ready at once, and each job holds what it read of the log.
        let [uploading, publishing, republishing] = [(); 3].map(|()| Arc::new(Semaphore::new(self.at_once)));
        let mut queue = Queue::default();
        for batch in left.sealed {
            queue.add(to_upload(context.log.clone(), batch).await?);
        }
        loop {
            tokio::select! {
                () = shutdown.stopping() => return Ok(()),
                Some(batch) = sealed.recv() => {
                    queue.add(to_upload(context.log.clone(), batch).await?);
                }
                Ok(permit) = uploading.clone().acquire_owned(), if !queue.files.is_empty() => {
                    if let Some((file, batch, no)) = queue.files.pop_front() {
                        jobs.spawn(format!("upload of batch {batch}, file {no}"), permit, file, jobs::upload);
                    }
                }
                // Each sealed batch is published by one job, started when its last file is up.
                Ok(permit) = publishing.clone().acquire_owned(), if !queue.complete.is_empty() => {
                    if let Some((batch, id)) = queue.complete.pop_front() {
                        jobs.spawn(format!("publishing of batch {id}"), permit, batch, jobs::publish);
                    }
                }
                // The condition is evaluated again when a job has ended.
                Some(batch) = self.republish.recv(), if republishing.available_permits() > 0 => {
                    if let Ok(permit) = republishing.clone().try_acquire_owned() {
                        let what = format!("upload of batch {batch} once more");
                        jobs.spawn(what, permit, batch, jobs::republish);
                    }
                }
                // A panic ends a job with what it held: that must show.
                Some(ended) = jobs.tasks.join_next() => {
                    if let Some(batch) = ended.map_err(|error| LogError::Missing(error.to_string()))?? {
                        queue.file_uploaded(batch);
                    }
                }
            }
        }
    }
}

/// The jobs under way. They are dropped with it. A job that uploads a file returns the file's batch.
struct Jobs {
    tasks: JoinSet<Result<Option<u64>, LogError>>,
    retry: Retry,
    context: Arc<Context>,
}

impl Jobs {
    /// Starts a job that is retried until it is done, and holds its permit as long.
    fn spawn<I, J>(
        &mut self,
        what: String,
        permit: OwnedSemaphorePermit,
        id: I,
        job: impl Fn(Arc<Context>, I) -> J + Send + Sync + 'static,
    ) where
        I: Copy + Send + Sync + 'static,
        J: Future<Output = Result<Option<u64>, UploadError>> + Send + 'static,
    {
        let (retry, context) = (self.retry.clone(), self.context.clone());
        self.tasks.spawn(async move {
            let done = retry.until_done(&what, || job(context.clone(), id)).await;
            drop(permit);
            done.map(Option::flatten)
        });
    }
}

#[derive(Default)]
struct Queue {
    /// Files to upload: the number in the log, the batch, and the number in the batch.
    files: VecDeque<(u64, BatchId, u32)>,
    /// How many files of each sealed batch are not in S3.
    missing: BTreeMap<u64, (BatchId, usize)>,
    /// Batches whose files are all in S3.
    complete: VecDeque<(u64, BatchId)>,
}

impl Queue {
    fn add(&mut self, SealedBatch { number, id, missing }: SealedBatch) {
        match missing.len() {
            0 => self.complete.push_back((number, id)),
            files => _ = self.missing.insert(number, (id, files)),
        }
        self.files.extend(missing.into_iter().map(|(file, no)| (file, id, no)));
    }

    fn file_uploaded(&mut self, batch: u64) {
        let Some((id, missing)) = self.missing.get_mut(&batch) else { return };
        *missing -= 1;
        if *missing == 0 {
            self.complete.push_back((batch, *id));
            self.missing.remove(&batch);
        }
    }
}
