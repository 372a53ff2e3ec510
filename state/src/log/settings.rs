//! What the log is configured with.

use std::path::PathBuf;
use std::time::Duration;

use shared::config::Config;
use shared::ids::Instance;
use shared::layout::Compression;
use shared::schema::Schema;

/// Limits and names the log works with.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Settings {
    pub dir: PathBuf,
    pub instance: Instance,
    pub schema: String,
    /// The names of those columns, which go into seals; none, if they are not known.
    pub columns: Vec<String>,
    pub compression: Compression,
    /// Where files go: bucket and prefix, as `s3://bucket/prefix`.
    pub place: String,
    pub commit_rows: usize,
    pub commit_interval: Duration,
    pub records_per_file: u64,
    /// Bytes of a file's rows, uncompressed: before the first it is not closed for its rows, at the second always.
    pub min_file_bytes: u64,
    pub max_file_bytes: u64,
    pub max_file_age: Duration,
    pub files_per_batch: u32,
    /// Before it a batch is not sealed for its rows.
    pub min_batch_age: Duration,
    pub max_batch_age: Duration,
    /// Bytes of rows and rejects that wait here for S3, at most.
    pub max_bytes: u64,
    pub cache: u64,
    pub dedup_window: Duration,
    pub dedup_hits: usize,
    /// A longer hole is a gap.
    pub gap_tolerance: Duration,
    pub connections: u8,
    /// The id of the key of the pseudonyms in rows; none without any.
    pub pseudonym_key: Option<String>,
    /// How these pseudonyms are spelled, and how long they are; none without any.
    pub pseudonym_spelling: Option<String>,
}

impl Settings {
    /// Where the files of a configuration go.
    pub fn place_of(config: &Config) -> String {
        format!("s3://{}/{}", config.s3.bucket, config.s3.to_ingest)
    }

    /// The settings a configuration asks for. Only the producer knows its pseudonyms:
    /// [`Settings::with_pseudonyms_of`].
    pub fn of(config: &Config, schema: &Schema) -> Self {
        Self {
            dir: config.log.dir.clone(),
            instance: config.instance.name.clone(),
            schema: schema.fingerprint(),
            columns: schema.in_row().map(|column| column.name.clone()).collect(),
            compression: config.batch.compression,
            place: Self::place_of(config),
            commit_rows: config.log.commit_rows as usize,
            commit_interval: config.log.commit_interval.0,
            records_per_file: config.batch.records_per_file.into(),
            min_file_bytes: config.batch.min_file_bytes.0,
            max_file_bytes: config.batch.max_file_bytes.0,
            max_file_age: config.batch.max_file_age.0,
            files_per_batch: config.batch.files_per_batch,
            min_batch_age: config.batch.min_batch_age.0,
            max_batch_age: config.batch.max_batch_age.0,
            max_bytes: config.log.max_bytes.0,
            cache: config.log.cache.0,
            dedup_window: config.log.dedup_window.0,
            dedup_hits: config.log.dedup_hits,
            gap_tolerance: config.log.gap_tolerance.0,
            connections: config.adobe.connections,
            pseudonym_key: None,
            pseudonym_spelling: None,
        }
    }
}

/// Milliseconds of a time.
pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
