//! Everything that the producer's log has of one batch, for `state dump --batch`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::ids::Instance;
use shared::layout::Compression;
use shared::seal::Counts;

use crate::log::{BatchRecord, FileRecord, FileStatus, LogError, LogReader, Upload};
use crate::status::snapshot::BatchSnapshot;

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
    pub last_received: Option<DateTime<Utc>>,
    /// Outcomes of the records received since the batch before; None until it is sealed.
    pub counts: Option<Counts>,
    /// Its files in order; None once it is published: then batch.json in S3 lists them.
    pub file_list: Option<Vec<FileDetail>>,
}

/// A file of a batch that is not published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct FileDetail {
    pub no: u32,
    /// `open`, `closed` or `uploaded`.
    pub status: String,
    pub rows: u64,
    /// Bytes of its rows, uncompressed.
    pub bytes: u64,
    pub opened: DateTime<Utc>,
    pub uploaded: Option<Upload>,
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
