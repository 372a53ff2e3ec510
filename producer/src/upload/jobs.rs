//! The jobs: upload a file of rows, publish a batch, and upload a batch once more from its copies.

use std::io::Write;
use std::sync::Arc;

use shared::compress::CompressedFile;
use shared::content::ContentSum;
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use state::log::{FileStatus, LogError, LogReader, Upload};
use state::status::feed::Published;

use crate::append::UploadReport;
use crate::upload::context::{Context, UploadError, blocking};

/// A sealed batch, by its number in the log, and what is left to do for it.
pub(super) struct SealedBatch {
    pub(super) number: u64,
    pub(super) id: BatchId,
    /// Its files that are not in S3: the number in the log, and that in the batch.
    pub(super) missing: Vec<(u64, u32)>,
}

/// What is left to do for a sealed batch.
pub(super) async fn to_upload(log: LogReader, number: u64) -> Result<SealedBatch, LogError> {
    let read = tokio::task::spawn_blocking(move || {
        let record = log.batch(number)?;
        let files = (record.first_file..).zip(log.files_of(&record)?);
        let missing = files.filter(|(_, file)| !matches!(file.status, FileStatus::Uploaded(_)));
        let missing = missing.map(|(number, file)| (number, file.no)).collect();
        Ok(SealedBatch { number, id: record.id, missing })
    });
    read.await.map_err(|error| LogError::Missing(error.to_string()))?
}

/// Uploads a file and notes it in the log, which then drops the rows. Returns its batch.
pub(super) async fn upload(context: Arc<Context>, file: u64) -> Result<Option<u64>, UploadError> {
    let log = context.log.clone();
    // Reading and compressing a file takes 10 ms of CPU or more. Of its rows, memory holds a commit.
    let prepared = blocking(move || {
        let record = log.file(file)?;
        let batch = log.batch(record.batch)?;
        let mut compressed = CompressedFile::new(record.bytes, batch.compression)?;
        let mut content = ContentSum::default();
        log.each_chunk(file, |rows| {
            content.add(rows);
            compressed.write_all(rows)
        })?;
        Ok::<_, UploadError>((record, batch, content.content(), compressed.finish()?))
    });
    let (record, batch, rows, content) = prepared.await??;
    let name = layout::file_name(record.no, batch.compression);
    let (store, place) = context.destination(&batch.place);
    let key = layout::folder(&place.to_ingest, batch.id) + &name;
    let bytes = content.len() as u64;
    let stored = store.put(&key, content.clone()).await?;
    // Before the log drops the rows.
    context.keep_copy(batch.id, name, content).await;
    let upload = Upload { bytes, crc32: stored.crc32, etag: stored.etag, content: Some(rows) };
    context.report(|noted| UploadReport::FileUploaded(file, upload, noted)).await?;
    tracing::debug!(key, rows = record.rows, bytes, "file uploaded");
    Ok(Some(record.batch))
}

/// Puts manifest and seal of a batch whose files are all in S3. The seal comes last: it says that everything else is there.
pub(super) async fn publish(context: Arc<Context>, batch: u64) -> Result<Option<u64>, UploadError> {
    let log = context.log.clone();
    let read = blocking(move || {
        let record = log.batch(batch)?;
        let files = log.files_of(&record)?;
        // The columns the batch was made for: the schema may have changed since.
        let columns = log.columns(&record.schema)?;
        Ok::<_, LogError>((record, columns, files))
    });
    let (record, columns, files) = read.await??;
    let (store, place) = context.destination(&record.place);
    let seal = place.seal(&record, columns, &files).ok_or(UploadError::Closed)?;
    let [(manifest_key, manifest), (seal_key, sealed)] = place.manifest_and_seal(&seal);
    store.put(&manifest_key, manifest).await?;
    store.put(&seal_key, sealed.clone()).await?;
    context.keep_copy(record.id, SEAL.to_owned(), sealed).await;
    context.report(|noted| UploadReport::BatchPublished(batch, noted)).await?;
    tracing::info!(batch = %record.id, rows = record.rows, files = record.files, "batch published");
    // There may be no subscriber.
    let _ = context.feed.send(Published { batch: record.id });
    Ok(None)
}

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
        // The process ends: nobody tries again.
        Err(error @ UploadError::Closed) => {
            context.copies.end_republish(batch);
            return Err(error);
        }
        Err(error) => return Err(error),
    }
    context.copies.end_republish(batch);
    Ok(None)
}

/// Returns the rows of the batch. The files are the same, byte for byte, so whoever reads them meanwhile reads what was
/// sealed; with encryption their `ETag`s are new, so the seal is too.
async fn put_copies(context: &Context, batch: BatchId) -> Result<u64, UploadError> {
    let copies = context.copies.clone();
    let mut seal = blocking(move || copies.seal(batch)).await?.map_err(UploadError::CopyGone)?;
    let log = context.log.clone();
    let batches = blocking(move || log.batches()).await?.map_err(LogError::from)?;
    let recorded = batches.iter().find(|(_, known)| known.id == batch).map(|(_, known)| known.place.as_str());
    // The log may have forgotten it.
    let (store, place) = context.destination(recorded.unwrap_or_default());
    let folder = layout::folder(&place.to_ingest, batch);
    for file in &mut seal.files {
        let (copies, wanted) = (context.copies.clone(), file.clone());
        let content = blocking(move || copies.file(batch, &wanted)).await?.map_err(UploadError::CopyGone)?;
        file.etag = store.put(&format!("{folder}{}", file.name), content).await?.etag;
    }
    for (key, content) in place.manifest_and_seal(&seal) {
        store.put(&key, content).await?;
    }
    Ok(seal.rows)
}
