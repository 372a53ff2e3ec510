//! What every job works with.

use std::time::Duration;

use bytes::Bytes;
use shared::clock::Clock;
use shared::content::Content;
use shared::human;
use shared::ids::{BatchId, Instance};
use shared::layout::{self, MANIFEST, SEAL};
use shared::object_store::{ObjectStore, StoreError};
use shared::retry::Backoff;
use shared::seal::{SEAL_FORMAT, Seal, SealedFile};
use shared::shutdown::Shutdown;
use state::log::{BatchRecord, FileRecord, FileStatus, LogError, LogReader, Upload};
use state::status::feed::Published;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::append::UploadReport;
use crate::upload::copies::UploadCopies;

#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) store: ObjectStore,
    pub(super) log: LogReader,
    pub(super) upload_reports: mpsc::Sender<UploadReport>,
    /// Sends the id of every published batch to feed subscribers.
    pub(super) feed: broadcast::Sender<Published>,
    pub(super) place: Place,
    pub(super) copies: UploadCopies,
}

impl Context {
    /// Reports what is in S3, and returns when the log has noted it.
    pub(super) async fn report(
        &self,
        report: impl FnOnce(oneshot::Sender<()>) -> UploadReport,
    ) -> Result<(), UploadError> {
        let (noted, answer) = oneshot::channel();
        self.upload_reports.send(report(noted)).await.map_err(|_| UploadError::Closed)?;
        answer.await.map_err(|_| UploadError::Closed)
    }

    pub(super) async fn keep_copy(&self, batch: BatchId, name: String, content: Bytes) {
        let copies = self.copies.clone();
        // A copy that is not kept is no failure of the upload.
        let _ = blocking(move || copies.keep(batch, &name, &content)).await;
    }
}

/// Runs what reads a disk or compresses on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, UploadError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| UploadError::Closed)
}

/// Makes keys, manifest and seal from the log alone: after a crash at any point the same objects are uploaded again.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) to_ingest: String,
    pub(super) instance: Instance,
}

impl Place {
    /// None while the batch is not sealed or one of its files is not in S3. The log may not know the names of its
    /// `columns`.
    pub(super) fn seal(
        &self,
        batch: &BatchRecord,
        columns: Option<Vec<String>>,
        files: &[FileRecord],
    ) -> Option<Seal> {
        let uploads = files.iter().map(|file| match &file.status {
            FileStatus::Uploaded(upload) => Some((file, upload)),
            FileStatus::Open | FileStatus::Closed => None,
        });
        let uploads: Vec<_> = uploads.collect::<Option<_>>()?;
        let content = uploads.iter().map(|(_, upload)| upload.content).collect::<Option<Vec<_>>>();
        let sealed_file = |(file, upload): &(&FileRecord, &Upload)| SealedFile {
            name: layout::file_name(file.no, batch.compression),
            rows: file.rows,
            bytes: upload.bytes,
            crc32: upload.crc32.clone(),
            etag: upload.etag.clone(),
        };
        Some(Seal {
            format: SEAL_FORMAT,
            batch: batch.id,
            instance: self.instance.clone(),
            created: batch.opened,
            sealed: batch.sealed?,
            schema: batch.schema.clone(),
            columns,
            compression: batch.compression,
            rows: batch.rows,
            bytes: uploads.iter().map(|(_, upload)| upload.bytes).sum(),
            files: uploads.iter().map(sealed_file).collect(),
            first_received: batch.first_received,
            last_received: batch.last_received,
            counts: batch.counts,
            content: content.map(Content::of_files),
            compared: batch.compared.clone(),
        })
    }

    /// Manifest and seal, each its key and content, in the order they must be written.
    pub(super) fn manifest_and_seal(&self, seal: &Seal) -> [(String, Bytes); 2] {
        let folder = layout::folder(&self.to_ingest, seal.batch);
        let [manifest, sealed] = seal.manifest_and_seal(&self.bucket, &folder);
        [(format!("{folder}{MANIFEST}"), manifest.into()), (format!("{folder}{SEAL}"), sealed.into())]
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("compressing: {0}")]
    Compress(#[from] std::io::Error),
    #[error("its copies are not whole any more: {0}")]
    CopyGone(String),
    #[error("the log is closed")]
    Closed,
}

/// Every job is retried until it is done: what is in the log must get to S3, however long that takes.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
}

impl Retry {
    /// Runs `job` until it succeeds, or the log cannot be read. None when the process ends before.
    pub(super) async fn until_done<T, F>(
        &self,
        what: &str,
        job: impl Fn() -> F,
    ) -> Result<Option<T>, LogError>
    where
        F: Future<Output = Result<T, UploadError>>,
    {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        loop {
            match self.shutdown.until(job()).await {
                None | Some(Err(UploadError::Closed)) => return Ok(None),
                Some(Ok(done)) => return Ok(Some(done)),
                Some(Err(UploadError::Log(error))) => return Err(error),
                Some(Err(error)) => {
                    let wait = backoff.failed();
                    let again = human::duration(wait);
                    tracing::error!(%error, failures = backoff.failures(), "{what} failed; again in {again}");
                    if !self.sleep(wait).await {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// False when the process ends before the wait is over.
    pub(super) async fn sleep(&self, wait: Duration) -> bool {
        self.shutdown.until(self.clock.sleep(wait)).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use chrono::DateTime;

    use super::*;

    #[tokio::test]
    async fn a_job_that_fails_is_retried_after_a_pause_that_grows_to_a_minute() {
        let clock = Clock::by_hand(DateTime::UNIX_EPOCH);
        let retry = Retry { clock: clock.clone(), shutdown: Shutdown::new() };
        let tries = Arc::new(AtomicU32::new(0));
        let job = tokio::spawn({
            let tries = tries.clone();
            async move {
                retry
                    .until_done("a job", || {
                        let tries = tries.fetch_add(1, Ordering::SeqCst) + 1;
                        async move {
                            if tries < 20 { Err(io::Error::other("not yet").into()) } else { Ok(tries) }
                        }
                    })
                    .await
            }
        });
        let mut pauses = Vec::new();
        for done in 1..20 {
            let begun = clock.steady();
            while tries.load(Ordering::SeqCst) <= done {
                tokio::task::yield_now().await;
                clock.advance(Duration::from_millis(10));
                tokio::task::yield_now().await;
            }
            pauses.push(begun.until(clock.steady()));
        }
        assert_eq!(job.await.unwrap().unwrap(), Some(20));
        assert!(pauses[0] < Duration::from_secs(1) && pauses[18] > Duration::from_secs(29), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(61)), "{pauses:?}");
    }

    #[tokio::test]
    async fn a_pause_ends_when_the_process_stops_and_so_does_a_damaged_log() {
        let retry = Retry { clock: Clock::by_hand(DateTime::UNIX_EPOCH), shutdown: Shutdown::new() };
        let damaged = || async { Err::<(), _>(UploadError::Log(LogError::Missing("a file".to_owned()))) };
        assert!(retry.until_done("a job", damaged).await.is_err());
        let (stopping, failing) = (retry.clone(), || async { Err::<(), _>(io::Error::other("no").into()) });
        let job = tokio::spawn(async move { stopping.until_done("a job", failing).await });
        tokio::task::yield_now().await;
        retry.shutdown.stop();
        assert!(job.await.unwrap().unwrap().is_none());
    }
}
