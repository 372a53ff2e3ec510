//! What the seal of a batch says.

use chrono::DateTime;
use chrono::TimeDelta;
use chrono::Utc;
use serde::Deserialize;
use serde::Serialize;

use crate::content::Content;
use crate::ids::{BatchId, Instance, RunId};
use crate::json_fault::json_fault;
use crate::layout::Compression;

/// The format this program writes and the newest it reads. Format 1 has no checksum, comparison or columns of its rows.
pub const SEAL_FORMAT: u32 = 2;

/// A `receivedTimeGMT` before 2000 is older than the product.
const BELIEVED_FROM: DateTime<Utc> = DateTime::from_timestamp_nanos(946_684_800_000_000_000);
/// No `receivedTimeGMT` is further ahead of the clock.
pub const AHEAD: TimeDelta = TimeDelta::days(1);

/// Whether a hit can have been received then. One odd record must not make its batch overlap with all others.
pub fn believed(received: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (BELIEVED_FROM..now + AHEAD).contains(&received)
}

/// `batch.json`: written last, it makes the folder a batch that may be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Seal {
    /// [`SEAL_FORMAT`] of the writer.
    pub format: u32,
    pub batch: BatchId,
    pub instance: Instance,
    pub created: DateTime<Utc>,
    pub sealed: DateTime<Utc>,
    pub schema: String,
    /// The columns of its rows, in their order. None (format 1): only a schema of the same fingerprint fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    pub compression: Compression,
    pub files: Vec<SealedFile>,
    pub rows: u64,
    pub bytes: u64,
    /// First and last `receivedTimeGMT` of its hits, if any bore one.
    pub first_received: Option<DateTime<Utc>>,
    pub last_received: Option<DateTime<Utc>>,
    pub counts: Counts,
    /// Checksum of its rows. None in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// What its rows were compared with. None: with nothing that anybody knows of (format 1, or sealed by hand).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
}

/// What the hits of a batch were compared with when they were accepted: with every hit of the same run, and with the
/// hits of the known ones. None of those is in the batch again, but for `uncompared` rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The run that sealed the batch.
    pub run: RunId,
    /// Number of the batch in its log; it grows from batch to batch, also over runs.
    pub number: u64,
    /// Earlier runs of the same log.
    pub known: Vec<KnownRun>,
    /// Rows whose hit id was unknown, of a time for which not all ids are remembered: another batch may have them.
    pub uncompared: u64,
}

/// A run whose hits were remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRun {
    /// The run.
    pub run: RunId,
    /// Number of its last batch that is meant: what it sealed after that is not known.
    pub until: u64,
}

impl Compared {
    /// Whether the hits of batch `number` of `run` were compared with those of this batch, either way round.
    /// `wholly`: all its rows were compared; if not, a later batch of the same run may repeat hits of this one.
    pub fn covers(&self, run: RunId, number: u64, wholly: bool) -> bool {
        let own = run == self.run && (number <= self.number || wholly);
        own || self.known.iter().any(|known| known.run == run && number <= known.until)
    }
}

/// One file of a sealed batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SealedFile {
    pub name: String,
    pub rows: u64,
    pub bytes: u64,
    /// CRC-32 of the object as S3 spells it: base64 of the big-endian value.
    pub crc32: String,
    pub etag: String,
}

/// Why a seal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSeal {
    /// Not the JSON of a seal.
    #[error("it is not the JSON of a seal: {}", json_fault(.0))]
    Json(#[from] serde_json::Error),
    /// Written by a newer program.
    #[error("it has format {0}; this version reads up to {SEAL_FORMAT}: update the ingester")]
    Newer(u32),
    /// It does not fit the folder it stands in, contradicts itself, or says what no batch can be.
    #[error("{0}")]
    Contradiction(String),
}

impl Seal {
    /// The contents of manifest and seal, in the order in which they are to be written, for a folder of this bucket.
    pub fn manifest_and_seal(&self, bucket: &str, folder: &str) -> [Vec<u8>; 2] {
        let keys: Vec<_> = self.files.iter().map(|file| format!("{folder}{}", file.name)).collect();
        let manifest = Manifest::of(bucket, keys.iter().map(String::as_str));
        // Our own plain structs: their serialisation cannot fail.
        [serde_json::to_vec(&manifest), serde_json::to_vec_pretty(self)].map(Result::unwrap_or_default)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::object_store::SMALL;
    use crate::schema::MAX_COLUMNS;

    pub(crate) fn seal() -> Seal {
        let file = |n: u32| SealedFile {
            name: format!("{n}.csv.zst"),
            rows: 10,
            bytes: 100,
            crc32: "AAAAAA==".to_owned(),
            etag: "e".to_owned(),
        };
        Seal {
            format: SEAL_FORMAT,
            batch: BatchId::new(),
            instance: Instance::try_from("a".to_owned()).unwrap(),
            created: DateTime::UNIX_EPOCH,
            sealed: DateTime::UNIX_EPOCH,
            schema: "0123456789abcdef".to_owned(),
            columns: Some(vec!["hitidhigh".to_owned(), "pagename".to_owned()]),
            compression: Compression::Zstd,
            files: vec![file(0), file(1)],
            rows: 20,
            bytes: 200,
            first_received: None,
            last_received: None,
            counts: Counts { received: 20, rows: 20, ..Counts::default() },
            content: Some(Content::of_rows(b"")),
            compared: Some(Compared { run: RunId::new(), number: 7, known: vec![], uncompared: 0 }),
        }
    }

    #[test]
    fn a_seal_reads_back_as_it_was_written() {
        let seal = seal();
        let json = serde_json::to_vec(&seal).unwrap();
        assert_eq!(Seal::read(seal.batch, &json).unwrap(), seal);
    }

    #[test]
    fn a_seal_of_format_1_was_compared_with_nothing() {
        let old = Seal { format: 1, columns: None, content: None, compared: None, ..seal() };
        let json = serde_json::to_string(&old).unwrap();
        for key in ["columns", "content", "compared"] {
            assert!(!json.contains(key), "{json}");
        }
        assert_eq!(Seal::read(old.batch, json.as_bytes()).unwrap(), old);
    }

    #[test]
    fn the_largest_seal_fits_what_is_read_of_one() {
        let columns = (0..MAX_COLUMNS).map(|n| format!("c{n:0>width$}", width = 126)).collect();
        // As many as `batch.files_per_batch` may be.
        let files: Vec<_> = seal().files.iter().cycle().take(1_000).cloned().collect();
        let known = vec![KnownRun { run: RunId::new(), until: u64::MAX }; 32];
        let compared = Some(Compared { run: RunId::new(), number: u64::MAX, known, uncompared: u64::MAX });
        let seal = Seal { columns: Some(columns), files, compared, ..seal() };
        let [_, json] = seal.manifest_and_seal("bucket", "folder/");
        assert!((json.len() as u64) < SMALL, "{} bytes", json.len());
    }

    #[test]
    fn a_batch_covers_its_own_run_and_of_others_what_came_before() {
        let (own, other) = (RunId::new(), RunId::new());
        let known = vec![KnownRun { run: other, until: 5 }];
        let compared = Compared { run: own, number: 9, known, uncompared: 0 };
        assert!(compared.covers(own, 8, false) && compared.covers(own, 10, true));
        assert!(!compared.covers(own, 10, false), "it may have a hit of this one that was forgotten");
        assert!(compared.covers(other, 5, false) && !compared.covers(other, 6, true));
        assert!(!compared.covers(RunId::new(), 1, true));
    }
}

/// What became of the records received, since the batch before: they add up to `received`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub received: u64,
    /// Rows made durable.
    pub rows: u64,
    pub duplicates: u64,
    pub filtered: u64,
    /// Records that could not become a row; kept with their reason.
    pub rejected: u64,
    /// Of the rows, those without hit id: they cannot be compared.
    #[serde(default)]
    pub without_id: u64,
}

impl Counts {
    /// Whether every record received is accounted for.
    pub fn add_up(&self) -> bool {
        // A seal may name any numbers: their sum need not fit.
        let sum =
            [self.duplicates, self.filtered, self.rejected].into_iter().try_fold(self.rows, u64::checked_add);
        sum == Some(self.received) && self.without_id <= self.rows
    }

    /// Counts these too.
    pub fn add(&mut self, more: Self) {
        *self = self.with(more, |a, b| a + b);
    }

    /// What came between `earlier` and now.
    pub fn since(&self, earlier: &Self) -> Self {
        self.with(*earlier, |now, before| now - before)
    }

    fn with(self, other: Self, count: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            received: count(self.received, other.received),
            rows: count(self.rows, other.rows),
            duplicates: count(self.duplicates, other.duplicates),
            filtered: count(self.filtered, other.filtered),
            rejected: count(self.rejected, other.rejected),
            without_id: count(self.without_id, other.without_id),
        }
    }
}

/// Redshift's manifest: exactly one JSON object, UTF-8, never compressed.
/// <https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The files, each loaded once; one that is listed twice would load twice.
    pub entries: Vec<ManifestEntry>,
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// `s3://bucket/key`.
    pub url: String,
    /// Always true here: without it COPY passes over a file that is missing.
    pub mandatory: bool,
}

impl Manifest {
    /// The manifest of these keys in `bucket`, every one of them mandatory.
    pub fn of<'k>(bucket: &str, keys: impl IntoIterator<Item = &'k str>) -> Self {
        let entry = |key| ManifestEntry { url: format!("s3://{bucket}/{key}"), mandatory: true };
        Self { entries: keys.into_iter().map(entry).collect() }
    }
}

#[cfg(test)]
mod manifest_tests {
    use super::*;

    #[test]
    fn every_entry_of_a_manifest_is_mandatory() {
        let manifest = Manifest::of("b", ["k/0.csv", "k/1.csv"]);
        let json = serde_json::to_string(&manifest).unwrap();
        let entry = |n| format!(r#"{{"url":"s3://b/k/{n}.csv","mandatory":true}}"#);
        assert_eq!(json, format!(r#"{{"entries":[{},{}]}}"#, entry(0), entry(1)));
    }
}
