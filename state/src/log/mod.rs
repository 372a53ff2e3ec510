//! The producer's log: what makes an accepted record safe, and what is left to do about it.
//!
//! ```text
//! record ─► staged (memory) ─► committed (durable: accepted) ─► in S3 ─► dropped here
//! ```
//! One [`Log`] writes, on one thread; any number of [`LogReader`]s look. Numbers of files, batches, rejects and
//! sessions only grow, also over restarts. Keys are big-endian, so that order is time order:
//!
//! | table | key | value |
//! |---|---|---|
//! | chunks | file, chunk, piece | the rows of one commit: count, length, then the CSV lines in one zstd frame; the mark stands in them for the id of their batch |
//! | hits | file, chunk, piece | the lowest and highest time of the hits of that commit, then 16 bytes for each hit id in it |
//! | files | file | [`FileRecord`] |
//! | batches | batch | [`BatchRecord`] |
//! | rejects | reject, piece | one line of JSON, as it will stand in S3 |
//! | sessions | session | [`Session`] |
//! | meta | `sums` | totals, what of them is sealed already, next numbers, what each connection has received |
//! | meta | `runs` | this run, and earlier ones with the last batch of each |
//! | meta | `mark` | what stands in rows for the id of their batch |
//! | meta | `columns/<fingerprint>/`, piece | the names of the columns of a schema that rows here were made for |
//! | meta | `rejects` | the rejects that go to S3 next as one object, first to last |

pub mod hit_set;
mod batch_mark;
mod columns;
mod commit;
mod coverage;
mod known;
mod pipeline;
mod progress;
mod reader;
mod record;
mod resume;
mod runs;
mod session;
mod shipped;
mod stage;
mod status;
mod verify;
mod window;

use std::path::PathBuf;
use std::time::Duration;

use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::Instance;
use shared::layout::Compression;
use shared::schema::Schema;

use crate::store::{Store, StoreError};

pub use commit::{Committed, Log};
pub use known::KnownHits;
pub(crate) use reader::Figures;
pub use reader::{Dedup, LogReader};
pub use record::{BatchRecord, FileRecord, Gap, GapTotals, HitId, RejectLine, Session};
pub use resume::{ENDED_WITHOUT_A_WORD, Resumed};
pub use shipped::Chosen;
pub use stage::Staged;
pub use status::{BatchEvent, BatchStatus, FileEvent, FileStatus, IllegalMove, Upload};

/// Limits and names the log works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it stands.
    pub dir: PathBuf,
    /// Whose it is.
    pub instance: Instance,
    /// Fingerprint of the columns rows are made for.
    pub schema: String,
    /// The names of those columns, which go into seals; none, if they are not known.
    pub columns: Vec<String>,
    /// How files will be compressed in S3.
    pub compression: Compression,
    /// Where files will stand: bucket and prefix, as `s3://bucket/prefix`.
    pub place: String,
    /// Rows of a commit.
    pub commit_rows: usize,
    /// Longest wait of a staged row.
    pub commit_interval: Duration,
    /// Rows of a file.
    pub records_per_file: u64,
    /// Bytes of a file's rows, uncompressed.
    pub max_file_bytes: u64,
    /// Age of a file.
    pub max_file_age: Duration,
    /// Files of a batch.
    pub files_per_batch: u32,
    /// Age of a batch.
    pub max_batch_age: Duration,
    /// Bytes of rows and rejects that wait here for S3, at most.
    pub max_bytes: u64,
    /// Memory of sled's page cache.
    pub cache: u64,
    /// How long hit ids are remembered, in the stream's time.
    pub dedup_window: Duration,
    /// How many hit ids are remembered.
    pub dedup_hits: usize,
    /// A longer hole is a gap.
    pub gap_tolerance: Duration,
    /// Connections that read the stream.
    pub connections: u8,
}

impl Settings {
    /// In milliseconds, a longer hole is a gap.
    fn gap(&self) -> i64 {
        millis(self.gap_tolerance)
    }

    /// The settings a configuration asks for.
    #[must_use]
    pub fn of(config: &Config, schema: &Schema) -> Self {
        Self {
            dir: config.log.dir.clone(),
            instance: config.instance.name.clone(),
            schema: schema.fingerprint(),
            columns: schema.in_row().map(|column| column.name.clone()).collect(),
            compression: config.batch.compression,
            place: format!("s3://{}/{}", config.s3.bucket, config.s3.to_ingest),
            commit_rows: config.log.commit_rows as usize,
            commit_interval: config.log.commit_interval.0,
            records_per_file: config.batch.records_per_file.into(),
            max_file_bytes: config.batch.max_file_bytes.0,
            max_file_age: config.batch.max_file_age.0,
            files_per_batch: config.batch.files_per_batch,
            max_batch_age: config.batch.max_batch_age.0,
            max_bytes: config.log.max_bytes.0,
            cache: config.log.cache.0,
            dedup_window: config.log.dedup_window.0,
            dedup_hits: config.log.dedup_hits,
            gap_tolerance: config.log.gap_tolerance.0,
            connections: config.adobe.connections,
        }
    }
}

/// Why the log cannot go on. None of these may be passed over: after a failed write nothing may be believed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault in the program.
    #[error(transparent)]
    Move(#[from] IllegalMove),
    /// A fault in the program: a file or batch that should be there is not.
    #[error("the log has no {0}")]
    Missing(String),
    /// Compressing failed, for want of memory most likely.
    #[error("compressing rows: {0}")]
    Compress(std::io::Error),
    /// There can be no more threads.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
    /// A thread of the log has ended, after an error that was told already or with a panic.
    #[error("the log has stopped after an error")]
    Ended,
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Store(error) => error.into(),
            other => Failure::new(Exit::Software, other),
        }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn seq_key(seq: u64) -> [u8; 8] {
    seq.to_be_bytes()
}

fn chunk_key(file: u64, chunk: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&file.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

fn seq_of(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Reads everything in a log that may be damaged.
pub(crate) fn check(store: &Store) -> Result<(), StoreError> {
    crate::verdict::sound(store, &LogReader::new(store.clone(), None).verify()?)
}
