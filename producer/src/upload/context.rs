//! What every job works with.

use bytes::Bytes;
use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use state::log::LogReader;
use state::status::feed::Published;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::append::UploadReport;
use crate::upload::copies::UploadCopies;
use crate::upload::objects::Place;
use crate::upload::retry::UploadError;

#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) store: ObjectStore,
    pub(super) log: LogReader,
    /// To the thread that writes the log.
    pub(super) shipped: mpsc::Sender<UploadReport>,
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
        self.shipped.send(report(noted)).await.map_err(|_| UploadError::Closed)?;
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
