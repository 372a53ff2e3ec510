//! The two objects that end a batch's folder: the manifest that COPY reads, and the seal. Anybody who may write into the
//! bucket can write or damage a seal, so nothing in it is believed that no batch can be: COPY would load what it names,
//! and memory is taken for as many rows and bytes as it says.

mod bounds;

use std::collections::HashSet;
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::human::{count, counted};
use crate::ids::{BatchId, Instance, RunId};
use crate::json_fault::json_fault;
use crate::layout::Compression;

pub use bounds::{MAX_FILE_BYTES, MAX_FILE_ROWS, MAX_OBJECT_BYTES, column_fault, schema_fault};

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
    /// Tells which key the pseudonyms in its rows were made with. None: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pseudonym_key: Option<String>,
    /// What was taken out of its files after it was loaded. `counts` and `content` stay those of what was sealed: the
    /// batch is still what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<Forgotten>,
}

/// Rows that `ingester forget` took out of the files of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// How many.
    pub rows: u64,
    /// Bytes of all objects, as they were sealed.
    pub sealed_bytes: u64,
    /// Names of files that others have taken the place of. They are to be deleted where they are still there.
    pub replaced: Vec<String>,
    /// Highest number of a file that stood here, so that no name is ever used again.
    #[serde(default)]
    pub highest: u32,
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
    /// Rows that were sealed, those included that were taken out since.
    pub fn sealed_rows(&self) -> u64 {
        self.rows.saturating_add(self.forgotten.as_ref().map_or(0, |forgotten| forgotten.rows))
    }

    /// Bytes of all objects, as they were sealed.
    pub fn sealed_bytes(&self) -> u64 {
        self.forgotten.as_ref().map_or(self.bytes, |forgotten| forgotten.sealed_bytes)
    }

    /// The contents of manifest and seal, in the order in which they are to be written, for a folder of this bucket.
    pub fn manifest_and_seal(&self, bucket: &str, folder: &str) -> [Vec<u8>; 2] {
        let keys: Vec<_> = self.files.iter().map(|file| format!("{folder}{}", file.name)).collect();
        let manifest = Manifest::of(bucket, keys.iter().map(String::as_str));
        // Our own plain structs: their serialisation cannot fail.
        [serde_json::to_vec(&manifest), serde_json::to_vec_pretty(self)].map(Result::unwrap_or_default)
    }
}

#[cfg(test)]
mod tests {
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
            pseudonym_key: Some("0123abcd".to_owned()),
            forgotten: None,
        }
    }

    #[test]
    fn what_was_sealed_is_known_after_rows_were_taken_out() {
        let sealed = seal();
        assert_eq!((sealed.sealed_rows(), sealed.sealed_bytes()), (20, 200));
        let replaced = vec!["1.csv.zst".to_owned()];
        let mut less = Seal { rows: 10, bytes: 100, ..seal() };
        less.files.pop();
        less.forgotten = Some(Forgotten { rows: 10, sealed_bytes: 200, replaced, highest: 1 });
        assert_eq!((less.sealed_rows(), less.sealed_bytes()), (20, 200));
        let json = serde_json::to_vec(&less).unwrap();
        assert_eq!(Seal::read(less.batch, &json).unwrap(), less);
        assert!(!serde_json::to_string(&sealed).unwrap().contains("forgotten"));
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

/// For people.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, rows, duplicates, filtered, rejected, .. } = *self;
        let (rows, duplicates) =
            (counted(rows, "row", "rows"), counted(duplicates, "duplicate", "duplicates"));
        let [received, filtered, rejected] = [received, filtered, rejected].map(count);
        write!(f, "{received} = {rows} + {duplicates} + {filtered} filtered + {rejected} rejected")
    }
}

/// Redshift's manifest: exactly one JSON object, UTF-8, never compressed.
/// <https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html>
/// One that says more is not of ours: COPY may know the field, and this program would not see what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The files, each loaded once; one that is listed twice would load twice.
    pub entries: Vec<ManifestEntry>,
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

impl Seal {
    /// Reads the seal that stands in the folder of `batch`, and checks it.
    pub fn read(batch: BatchId, json: &[u8]) -> Result<Self, BadSeal> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(json)?;
        if format > SEAL_FORMAT {
            return Err(BadSeal::Newer(format));
        }
        let seal: Self = serde_json::from_slice(json)?;
        if seal.batch != batch {
            let other = seal.batch;
            return Err(BadSeal::Contradiction(format!("it belongs to batch {other}, not to this folder")));
        }
        seal.check()?;
        Ok(seal)
    }

    /// Checks that sums add up, that each file is named once and can be of this batch, and that columns, texts, times and
    /// numbers can be those of a batch.
    pub fn check(&self) -> Result<(), BadSeal> {
        let Self { pseudonym_key, created, sealed, first_received: first, last_received: last, .. } = self;
        let replaced = self.forgotten.as_ref().map_or(&[][..], |forgotten| &forgotten.replaced);
        let fault = self
            .files_fault()
            .or_else(|| column_fault(self.columns.as_deref()?))
            .or_else(|| schema_fault(&self.schema))
            .or_else(|| bounds::key_id_fault(pseudonym_key.as_deref()?))
            .or_else(|| bounds::replaced_fault(replaced))
            .or_else(|| bounds::time_fault([Some(*created), Some(*sealed), *first, *last]))
            .or_else(|| bounds::order_fault(*first, *last))
            .or_else(|| bounds::runs_fault(self.compared.as_ref()?.known.len()))
            .or_else(|| bounds::count_fault(self.numbers()));
        fault.map_or(Ok(()), |fault| Err(BadSeal::Contradiction(fault)))
    }

    fn files_fault(&self) -> Option<String> {
        if let Some(too_many) = bounds::files_fault(self.files.len()) {
            return Some(too_many);
        }
        let mut names = HashSet::with_capacity(self.files.len());
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        for (number, file) in self.files.iter().enumerate() {
            if let Some(what) = file_fault(file, self.compression) {
                return Some(format!("its file {} {what}", number + 1));
            }
            // COPY would load it as often as it is named.
            if !names.insert(file.name.as_str()) {
                return Some(format!("it names the file {} twice", file.name));
            }
            // Each is bounded, and so is the length of the list: no overflow.
            rows = rows.saturating_add(file.rows);
            bytes = bytes.saturating_add(file.bytes);
        }
        let said = format!("{} rows and {} bytes", self.rows, self.bytes);
        ((rows, bytes) != (self.rows, self.bytes))
            .then(|| format!("it says {said}, its files sum up to {rows} and {bytes}"))
    }

    /// All that are not those of files.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let Counts { received, rows, duplicates, filtered, rejected, without_id } = self.counts;
        let forgotten = self.forgotten.iter().flat_map(|forgotten| [forgotten.rows, forgotten.sealed_bytes]);
        let compared = self.compared.iter().flat_map(|Compared { number, known, uncompared, .. }| {
            known.iter().map(|known| known.until).chain([*number, *uncompared])
        });
        [received, rows, duplicates, filtered, rejected, without_id]
            .into_iter()
            .chain(forgotten)
            .chain(compared)
    }
}

fn file_fault(file: &SealedFile, compression: Compression) -> Option<String> {
    let SealedFile { name, rows, bytes, crc32, etag } = file;
    let named = |fault| format!("({name}) {fault}");
    bounds::name_fault(name, compression)
        .or_else(|| bounds::size_fault(*rows, *bytes).map(named))
        .or_else(|| bounds::answer_fault(crc32, etag).map(named))
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

#[cfg(test)]
mod read_tests {
    use super::tests::seal;
    use super::*;
    use crate::schema::MAX_COLUMNS;

    fn read(seal: &Seal) -> Result<Seal, BadSeal> {
        Seal::read(seal.batch, &serde_json::to_vec(seal).unwrap())
    }

    fn refused(alter: impl FnOnce(&mut Seal), why: &str) {
        let mut seal = seal();
        alter(&mut seal);
        match read(&seal) {
            Err(BadSeal::Contradiction(said)) => assert!(said.contains(why), "{said}"),
            other => panic!("{other:?} is not refused because of {why:?}"),
        }
    }

    /// With sums that agree with the files.
    fn refused_file(alter: impl FnOnce(&mut SealedFile), why: &str) {
        let sums = |seal: &mut Seal| {
            alter(&mut seal.files[1]);
            seal.rows = seal.files.iter().fold(0, |sum, file| sum.saturating_add(file.rows));
            seal.bytes = seal.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes));
        };
        refused(sums, why);
    }

    #[test]
    fn a_seal_that_contradicts_its_folder_or_itself_is_refused() {
        let good = seal();
        let of_other = Seal::read(BatchId::new(), &serde_json::to_vec(&good).unwrap());
        assert!(matches!(of_other, Err(BadSeal::Contradiction(_))));
        refused(|seal| seal.rows = 21, "sum up to 20 and 200");
        refused(|seal| seal.bytes = 199, "sum up to 20 and 200");
        assert!(matches!(read(&Seal { format: 3, ..good.clone() }), Err(BadSeal::Newer(3))));
        assert!(matches!(Seal::read(good.batch, b"{}"), Err(BadSeal::Json(_))));
    }

    #[test]
    fn numbers_that_no_file_can_have_are_refused_before_memory_is_taken_for_them() {
        refused_file(|file| file.rows = 100_000_000_000, "has 100000000000 rows");
        refused_file(|file| file.rows = MAX_FILE_ROWS + 1, "no file has more than 1000000");
        refused_file(|file| file.rows = u64::MAX, "rows");
        refused_file(|file| file.bytes = MAX_OBJECT_BYTES + 1, "has 1090519041 bytes");
        refused_file(|file| file.bytes = u64::MAX, "bytes");
        let mut largest = seal();
        (largest.files[0].rows, largest.files[0].bytes) = (MAX_FILE_ROWS, MAX_OBJECT_BYTES);
        (largest.rows, largest.bytes) = (MAX_FILE_ROWS + 10, MAX_OBJECT_BYTES + 100);
        assert_eq!(read(&largest).unwrap(), largest);
        let mut counts = seal();
        (counts.counts.duplicates, counts.counts.filtered) = (u64::MAX, u64::MAX);
        assert!(!counts.counts.add_up() && read(&counts).is_err());
    }

    #[test]
    fn a_file_that_is_named_twice_is_refused() {
        refused_file(|file| "0.csv.zst".clone_into(&mut file.name), "the file 0.csv.zst twice");
    }

    #[test]
    fn a_file_is_named_as_files_of_its_compression_are() {
        for name in ["00.csv.zst", "x.csv.zst", "../0.csv.zst", "1.csv.zst.bak", "manifest.json", "", "1\n"] {
            refused_file(|file| name.clone_into(&mut file.name), "which no file of rows has");
        }
        refused_file(|file| file.name = "é".repeat(5_000), &format!("\"{}…\"", "é".repeat(60)));
        refused_file(|file| "1.csv.gz".clone_into(&mut file.name), "not compressed as the seal says");
        refused_file(|file| "1.csv".clone_into(&mut file.name), "not compressed as the seal says");
    }

    #[test]
    fn what_the_previous_version_wrote_is_read() {
        for (suffix, compression) in
            [(".csv.zst", Compression::Zstd), (".csv.gz", Compression::Gzip), (".csv", Compression::None)]
        {
            let mut old = Seal { format: 1, columns: None, content: None, compared: None, ..seal() };
            old.compression = compression;
            old.files.iter_mut().enumerate().for_each(|(n, file)| file.name = format!("{n}{suffix}"));
            assert_eq!(read(&old).unwrap(), old);
        }
        // A batch of which a file in between is gone is sealed by hand.
        let mut adopted = seal();
        "7.csv.zst".clone_into(&mut adopted.files[1].name);
        assert_eq!(read(&adopted).unwrap(), adopted);
    }

    #[test]
    fn columns_that_no_table_can_have_are_refused() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let long = "a".repeat(128);
        let cases: [(&[&str], &str); 10] = [
            (&[], "names 0 columns"),
            (&["a", ""], "its column 2 \"\": a name consists of"),
            (&["a", "b", "a"], "column 3 has the name of another one"),
            (&["a", "A"], "its column 2 \"A\": a name consists of"),
            (&["a", "b\n"], "\"b\\n\": a name consists of"),
            (&["a\"b"], "a name consists of"),
            (&["a", "oid"], "\"oid\": Redshift has a system column"),
            (&["xmin"], "Redshift has a system column"),
            (&["livestream_n"], "is needed for"),
            (&[&long], "at most 127 bytes, this one 128"),
        ];
        for (columns, why) in cases {
            refused(|seal| seal.columns = names(columns), why);
        }
        refused(|seal| seal.columns = Some((0..=MAX_COLUMNS).map(|n| format!("c{n}")).collect()), "1601");
        let one = Seal { columns: names(&["a"]), ..seal() };
        assert_eq!(read(&one).unwrap(), one);
    }
}
