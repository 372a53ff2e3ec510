//! Uploads one file of rows.

use std::sync::Arc;

use shared::compress::compress;
use shared::content::Content;
use shared::layout;
use state::log::{FileStatus, LogError, LogReader, Upload};

use crate::append::UploadReport;
use crate::upload::context::{Context, blocking};
use crate::upload::retry::UploadError;

/// The files of a sealed batch that are not in S3.
pub(super) async fn to_upload(log: LogReader, batch: u64) -> Result<Vec<u64>, LogError> {
    let read = tokio::task::spawn_blocking(move || {
        let record = log.batch(batch)?;
        let files = (record.first_file..).zip(log.files_of(&record)?);
        let missing = files.filter(|(_, file)| !matches!(file.status, FileStatus::Uploaded(_)));
        Ok(missing.map(|(file, _)| file).collect())
    });
    read.await.map_err(|error| LogError::Missing(error.to_string()))?
}

/// Uploads a file and notes it in the log, which then drops the rows. Returns its batch.
pub(super) async fn upload(context: Arc<Context>, file: u64) -> Result<Option<u64>, UploadError> {
    let log = context.log.clone();
    // Reading and compressing a file takes some 10 ms of CPU.
    let prepared = blocking(move || {
        let mut rows = Vec::new();
        let record = log.rows(file, &mut rows)?;
        let batch = log.batch(record.batch)?;
        let compressed = compress(&rows, batch.compression)?;
        Ok::<_, UploadError>((record, batch, Content::of_rows(&rows), compressed))
    });
    let (record, batch, rows, content) = prepared.await??;
    let key = context.place.file_key(&batch, &record);
    let bytes = content.len() as u64;
    let stored = context.store.put(&key, content.clone()).await?;
    // Before the log drops the rows.
    context.keep_copy(batch.id, layout::file_name(record.no, batch.compression), content).await;
    let upload = Upload { bytes, crc32: stored.crc32, etag: stored.etag, content: Some(rows) };
    context.report(|noted| UploadReport::File(file, upload, noted)).await?;
    tracing::debug!(key, rows = record.rows, bytes, "file uploaded");
    Ok(Some(record.batch))
}
