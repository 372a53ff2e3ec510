//! Uploads a batch once more from its copies, because an object of it in S3 was lost or altered.

use std::sync::Arc;

use shared::ids::BatchId;
use shared::layout;
use state::status::feed::Published;

use crate::upload::context::{Context, blocking};
use crate::upload::retry::UploadError;

/// Puts every object of a batch once more. Copies that are not whole any more end it for good.
pub(super) async fn republish(context: Arc<Context>, batch: BatchId) -> Result<Option<u64>, UploadError> {
    match put_copies(&context, batch).await {
        Ok(rows) => {
            tracing::warn!(%batch, rows, "batch uploaded once more: what stood in S3 was not as sealed");
            let _ = context.feed.send(Published { batch });
        }
        Err(error @ UploadError::CopyGone(_)) => {
            tracing::error!(%batch, %error, "the batch cannot be uploaded once more");
        }
        Err(error) => return Err(error),
    }
    context.copies.end_republish(batch);
    Ok(None)
}

/// Puts files, manifest and seal, and returns the rows of the batch. The files are the same, byte for byte, so whoever
/// reads them meanwhile reads what was sealed; with encryption their `ETag`s are new, so the seal is too.
async fn put_copies(context: &Context, batch: BatchId) -> Result<u64, UploadError> {
    let copies = context.copies.clone();
    let mut seal = blocking(move || copies.seal(batch)).await?.map_err(UploadError::CopyGone)?;
    let folder = layout::folder(&context.place.to_ingest, batch);
    for file in &mut seal.files {
        let (copies, wanted) = (context.copies.clone(), file.clone());
        let content = blocking(move || copies.file(batch, &wanted)).await?.map_err(UploadError::CopyGone)?;
        file.etag = context.store.put(&format!("{folder}{}", file.name), content).await?.etag;
    }
    for (key, content) in context.place.manifest_and_seal(&seal) {
        context.store.put(&key, content).await?;
    }
    Ok(seal.rows)
}
