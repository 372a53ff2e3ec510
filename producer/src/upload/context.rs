//! What every job works with.

use bytes::Bytes;
use shared::content::Content;
use shared::ids::{BatchId, Instance};
use shared::layout::{self, MANIFEST, SEAL};
use shared::object_store::{ObjectStore, ObjectStoreError};
use shared::seal::{SEAL_FORMAT, Seal, SealedFile};
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

    /// The place that the log has recorded for a batch. It is another one than the configuration's when a part of the batch
    /// was there already as the configuration changed.
    pub(super) fn destination(&self, recorded: &str) -> (ObjectStore, Place) {
        let place = self.place.recorded(recorded);
        let store = match place.bucket == self.place.bucket {
            true => self.store.clone(),
            false => self.store.of_bucket(&place.bucket),
        };
        (store, place)
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
    /// The place that the log records as `s3://bucket/prefix`.
    fn recorded(&self, place: &str) -> Self {
        let instance = self.instance.clone();
        match place.strip_prefix("s3://").and_then(|place| place.split_once('/')) {
            Some((bucket, prefix)) => {
                Self { bucket: bucket.to_owned(), to_ingest: prefix.to_owned(), instance }
            }
            None => self.clone(),
        }
    }

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
            pseudonym_key: batch.pseudonym_key.clone(),
            forgotten: None,
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
    Store(#[from] ObjectStoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("compressing: {0}")]
    Compress(#[from] std::io::Error),
    #[error("its copies are not whole any more: {0}")]
    CopyGone(String),
    #[error("the log is closed")]
    Closed,
}
