//! The records of the log, as they are stored.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::ids::{BatchId, RunId};
use shared::layout::Compression;
use shared::seal::{Compared, Counts, KnownRun};

use crate::log::coverage::{Coverage, StreamTime};
use crate::log::status::{BatchStatus, FileStatus, LogError};
use crate::store::{Change, Store, StoreError, Table};

/// Identity of a hit: `hitIdHigh` and `hitIdLow`, both unsigned 64-bit, the same in every copy Adobe sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HitId {
    /// `hitIdHigh`
    pub high: u64,
    /// `hitIdLow`
    pub low: u64,
}

impl HitId {
    pub(super) fn key(self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }
}

/// A file of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct FileRecord {
    pub batch: u64,
    /// Its number within the batch, from 0.
    pub no: u32,
    pub status: FileStatus,
    pub chunks: u32,
    pub rows: u64,
    /// Bytes of its rows, uncompressed.
    pub bytes: u64,
    pub log_bytes: u64,
    /// When its first row was committed.
    pub opened: DateTime<Utc>,
}

impl FileRecord {
    pub(super) fn read(store: &Store, file: u64) -> Result<Self, LogError> {
        let record = store.get(Table::Files, &seq_key(file))?;
        record.ok_or_else(|| LogError::Missing(format!("file {file}")))
    }
}

/// A batch of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct BatchRecord {
    /// Its name in S3 and in the ledger.
    pub id: BatchId,
    pub status: BatchStatus,
    /// Fingerprint of the columns its rows were made for: never mixed within a batch.
    pub schema: String,
    /// How its files are compressed: never mixed either.
    pub compression: Compression,
    /// Bucket and prefix its files go to: never two of them either.
    pub place: String,
    /// Number of its first file; the others follow it.
    pub first_file: u64,
    pub files: u32,
    pub rows: u64,
    /// Bytes of its rows, uncompressed.
    pub bytes: u64,
    /// First `receivedTimeGMT` of its hits.
    pub first_received: Option<DateTime<Utc>>,
    pub last_received: Option<DateTime<Utc>>,
    pub opened: DateTime<Utc>,
    pub sealed: Option<DateTime<Utc>>,
    pub published: Option<DateTime<Utc>>,
    /// What became of the records received since the batch before; known once it is sealed.
    pub counts: Counts,
    /// Its rows whose earlier copy might be forgotten. None: written in format 1, with the batch's id in its rows.
    #[serde(default)]
    pub uncompared: Option<u64>,
    #[serde(default)]
    pub compared: Option<Compared>,
    /// The key of the pseudonyms in its rows; none without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pseudonym_key: Option<String>,
    /// How these pseudonyms are spelled; none without any, or of an earlier version, which did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pseudonym_spelling: Option<String>,
}

impl BatchRecord {
    pub(super) fn read(store: &Store, batch: u64) -> Result<Self, LogError> {
        let record = store.get(Table::Batches, &seq_key(batch))?;
        record.ok_or_else(|| LogError::Missing(format!("batch {batch}")))
    }

    pub(super) fn file_numbers(&self) -> std::ops::Range<u64> {
        self.first_file..self.first_file.saturating_add(self.files.into())
    }

    pub(super) fn read_files(&self, store: &Store) -> Result<Vec<FileRecord>, LogError> {
        self.file_numbers().map(|file| FileRecord::read(store, file)).collect()
    }
}

/// A connection to the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Session {
    pub session: u64,
    /// Number of the connection, from 0. Of a log that had one only: 0.
    #[serde(default)]
    pub connection: u8,
    pub connected: DateTime<Utc>,
    pub alive: DateTime<Utc>,
    /// When it ended; None while it reads.
    pub ended: Option<DateTime<Utc>>,
    pub why: Option<String>,
    pub records: u64,
    /// What became of them; None when the version that wrote it did not count.
    #[serde(default)]
    pub counts: Option<Counts>,
    /// Lowest `receivedTimeGMT` of its hits.
    pub first_received: Option<DateTime<Utc>>,
    pub last_received: Option<DateTime<Utc>>,
    pub gap: Option<Gap>,
}

/// Time in which the stream was not read and which Adobe did not send again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The last `receivedTimeGMT` before it.
    pub from: DateTime<Utc>,
    /// The first after it.
    pub to: DateTime<Utc>,
    /// Why the session ended that was the last to bring hits before it; None if that is not known.
    #[serde(default)]
    pub why: Option<String>,
}

impl Gap {
    /// How long it is.
    pub fn seconds(&self) -> u64 {
        u64::try_from((self.to - self.from).num_seconds()).unwrap_or(0)
    }
}

/// Sums of gaps since the log was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapTotals {
    /// How many there were.
    pub gaps: u64,
    /// How long they were together.
    pub seconds: u64,
}

pub(super) const CHOSEN: &[u8] = b"rejects";

/// Rejects that go to S3 as one object. The choice is durable first, so that a retry writes the same object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) totals: Counts,
    pub(super) sealed: Counts,
    pub(super) hits: u64,
    pub(super) next_file: u64,
    pub(super) next_batch: u64,
    pub(super) next_reject: u64,
    pub(super) next_session: u64,
    /// Highest `receivedTimeGMT` ever seen.
    pub(super) last_received: Option<DateTime<Utc>>,
    #[serde(default)]
    pub(super) gaps: GapTotals,
    /// What each connection has received. Empty: written by a version that kept one time for all connections.
    #[serde(default)]
    pub(super) coverage: Coverage,
    /// Highest time of any hit that was forgotten: every later one that was accepted is known by its id.
    #[serde(default)]
    pub(super) horizon: Option<StreamTime>,
    /// Whether that is later than `log.dedup_window` would have it.
    #[serde(default)]
    pub(super) too_short: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Numbered<T> {
    pub(super) seq: u64,
    pub(super) record: T,
}

pub(super) fn next(number: &mut u64) -> u64 {
    let this = *number;
    *number += 1;
    this
}

pub(super) fn widen(first: &mut Option<DateTime<Utc>>, last: &mut Option<DateTime<Utc>>, at: DateTime<Utc>) {
    *first = Some(first.map_or(at, |first| first.min(at)));
    *last = (*last).max(Some(at));
}

pub(super) const SUMS: &[u8] = b"sums";
/// Key of what format 1 kept and nothing reads any more: times at which not everything was read.
pub(super) const HOLES: &[u8] = b"holes";

pub(super) fn seq_key(seq: u64) -> [u8; 8] {
    seq.to_be_bytes()
}

pub(super) fn chunk_key(file: u64, chunk: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&file.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

pub(super) fn seq_of(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn chunk_of(key: &[u8]) -> u32 {
    key.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

pub(super) const RUNS: &[u8] = b"runs";
/// Earlier runs remembered at most, so that a seal stays small. Rows of forgotten ones are compared with the table.
const KNOWN: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Runs {
    current: RunId,
    known: Vec<KnownRun>,
}

impl Runs {
    /// A new run begins; `last` is the number of the last batch that the log has sealed.
    pub(super) fn begin(store: &Store, last: Option<u64>, change: &mut Change) -> Result<Self, StoreError> {
        let before: Option<Self> = store.get(Table::Meta, RUNS)?;
        let mut known = before.map_or_else(Vec::new, |before| {
            let Self { current, mut known } = before;
            let sealed = last.filter(|last| known.last().is_none_or(|known| known.until < *last));
            known.extend(sealed.map(|until| KnownRun { run: current, until }));
            known
        });
        known.drain(..known.len().saturating_sub(KNOWN));
        let runs = Self { current: RunId::new(), known };
        change.put(Table::Meta, RUNS, &runs);
        Ok(runs)
    }

    /// What the rows of batch `number`, which this run seals, were compared with, but for `uncompared` of them.
    pub(super) fn compared(&self, number: u64, uncompared: u64) -> Compared {
        Compared { run: self.current, number, known: self.known.clone(), uncompared }
    }
}
