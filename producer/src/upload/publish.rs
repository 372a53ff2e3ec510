//! Publishes one batch: manifest first, seal last, since the seal says that everything else is there.

use std::sync::Arc;

use shared::layout::SEAL;
use state::log::LogError;
use state::status::feed::Published;

use crate::append::UploadReport;
use crate::upload::context::{Context, blocking};
use crate::upload::retry::UploadError;

/// Puts manifest and seal of a batch whose files are all in S3.
pub(super) async fn publish(context: Arc<Context>, batch: u64) -> Result<Option<u64>, UploadError> {
    let log = context.log.clone();
    let read = blocking(move || {
        let record = log.batch(batch)?;
        let files = log.files_of(&record)?;
        // Those its rows were made for: the schema may be another one by now.
        let columns = log.columns(&record.schema)?;
        Ok::<_, LogError>((record, columns, files))
    });
    let (record, columns, files) = read.await??;
    let seal = context.place.seal(&record, columns, &files).ok_or(UploadError::Closed)?;
    let [(manifest_key, manifest), (seal_key, sealed)] = context.place.manifest_and_seal(&seal);
    context.store.put(&manifest_key, manifest).await?;
    context.store.put(&seal_key, sealed.clone()).await?;
    context.keep_copy(record.id, SEAL.to_owned(), sealed).await;
    context.report(|noted| UploadReport::Batch(batch, noted)).await?;
    tracing::info!(batch = %record.id, rows = record.rows, files = record.files, "batch published");
    // There may be no subscriber.
    let _ = context.feed.send(Published { batch: record.id });
    Ok(None)
}
