//! One batch in the producer's log.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::exit::Failure;
use shared::ids::{BatchId, BatchPrefix, Instance};
use shared::layout::Compression;
use shared::seal::Counts;

use crate::log::{BatchRecord, BatchStatus, FileRecord, FileStatus, LogError, LogReader, Upload};

/// A batch in the producer's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct BatchSnapshot {
    pub batch: BatchId,
    pub status: BatchStatus,
    pub files: u32,
    /// Files in S3.
    pub files_uploaded: u32,
    pub rows: u64,
    /// Bytes of its rows, uncompressed.
    pub bytes: u64,
    /// When its first row was committed.
    pub opened: DateTime<Utc>,
    pub sealed: Option<DateTime<Utc>>,
    /// When S3 confirmed its seal.
    pub published: Option<DateTime<Utc>>,
}

/// Everything the producer's log has of one batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct BatchDetail {
    #[serde(flatten)]
    pub summary: BatchSnapshot,
    pub instance: Instance,
    pub schema: String,
    pub compression: Compression,
    pub place: String,
    /// Lowest `receivedTimeGMT` of its hits.
    pub first_received: Option<DateTime<Utc>>,
    /// Highest `receivedTimeGMT` of its hits.
    pub last_received: Option<DateTime<Utc>>,
    /// Outcomes of the records received since the batch before; None until it is sealed.
    pub counts: Option<Counts>,
    /// Its files in order; None once it is published: then batch.json in S3 lists them.
    pub file_list: Option<Vec<FileDetail>>,
}

/// A file of a batch that is not published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileDetail {
    /// Its number within the batch, from 0.
    pub no: u32,
    /// `open`, `closed` or `uploaded`.
    pub status: String,
    /// Rows so far.
    pub rows: u64,
    /// Bytes of its rows, uncompressed.
    pub bytes: u64,
    /// When its first row was committed.
    pub opened: DateTime<Utc>,
    /// What S3 confirmed of it.
    pub uploaded: Option<Upload>,
}

/// The batches whose id begins with a prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matching<T> {
    /// Their ids.
    pub ids: Vec<BatchId>,
    /// The batch, if exactly one matches.
    pub batch: Option<T>,
}

impl<T> Matching<T> {
    /// Filters `batches`, and reads the one that matches if it is the only one.
    pub(crate) fn find<R>(
        batches: impl Iterator<Item = (BatchId, R)>,
        prefix: &BatchPrefix,
        read: impl FnOnce(R) -> Result<T, Failure>,
    ) -> Result<Self, Failure> {
        let (ids, mut found): (Vec<_>, Vec<_>) = batches.filter(|(id, _)| prefix.begins(*id)).unzip();
        let only = if ids.len() == 1 { found.pop() } else { None };
        Ok(Self { ids, batch: only.map(read).transpose()? })
    }
}

impl BatchSnapshot {
    /// A batch of which so many files stand in S3 and have their record still.
    pub(super) fn new(record: &BatchRecord, uploaded: u32) -> Self {
        let published = record.status == BatchStatus::Published;
        Self {
            batch: record.id,
            status: record.status,
            files: record.files,
            files_uploaded: if published { record.files } else { uploaded },
            rows: record.rows,
            bytes: record.bytes,
            opened: record.opened,
            sealed: record.sealed,
            published: record.published,
        }
    }
}

impl FileDetail {
    fn new(file: FileRecord) -> Self {
        let (status, uploaded) = match file.status {
            FileStatus::Open => ("open", None),
            FileStatus::Closed => ("closed", None),
            FileStatus::Uploaded(upload) => ("uploaded", Some(upload)),
        };
        let FileRecord { no, rows, bytes, opened, .. } = file;
        Self { no, status: status.to_owned(), rows, bytes, opened, uploaded }
    }
}

impl BatchDetail {
    pub(crate) fn read(log: &LogReader, seq: u64, record: BatchRecord) -> Result<Self, LogError> {
        let (record, files) = log.with_files(seq, record)?;
        let file_list: Option<Vec<_>> = files.map(|files| files.into_iter().map(FileDetail::new).collect());
        let uploaded = file_list.iter().flatten().filter(|file| file.uploaded.is_some()).count();
        Ok(Self {
            summary: BatchSnapshot::new(&record, u32::try_from(uploaded).unwrap_or(u32::MAX)),
            instance: log.instance()?,
            schema: record.schema,
            compression: record.compression,
            place: record.place,
            first_received: record.first_received,
            last_received: record.last_received,
            counts: record.sealed.map(|_| record.counts),
            file_list,
        })
    }
}
