//! Where things stand in S3. The folder layout is the Python daemon's, so that tools built around it keep working:
//! `{prefix}{yyyymmdd}/{batch id}/{n}.csv.zst`, with `manifest.json` and `batch.json` beside the files.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::ids::{BatchId, Instance};

/// Name of the object Redshift's COPY reads.
pub const MANIFEST: &str = "manifest.json";
/// Name of the seal: the object written last, which says that the folder is whole.
pub const SEAL: &str = "batch.json";

/// Name of the object directly below a prefix that says which pipeline the prefix belongs to.
pub const IDENTITY: &str = ".pipeline.json";

/// Name of the object by which a `check` finds out what it may do below a prefix; `who` is the instance or process.
pub fn probe_name(who: impl std::fmt::Display) -> String {
    format!(".check-{who}")
}

/// How the rows of a file are compressed in S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// `.csv.zst`
    Zstd,
    /// `.csv.gz`
    Gzip,
    /// `.csv`
    None,
}

impl Compression {
    /// Its word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::None => "none",
        }
    }

    /// What follows `.csv` in the name of a file.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
            Self::None => "",
        }
    }

    /// The one whose suffix that is, if there is one.
    pub fn of_suffix(suffix: &str) -> Option<Self> {
        [Self::Zstd, Self::Gzip, Self::None].into_iter().find(|compression| compression.suffix() == suffix)
    }
}

/// The folder of a batch under a prefix such as `ToIngest/`, ending in `/`.
pub fn folder(prefix: &str, batch: BatchId) -> String {
    format!("{}{batch}/", day_folder(prefix, batch.day()))
}

/// The folder of a UTC day under a prefix, ending in `/`.
pub fn day_folder(prefix: &str, day: NaiveDate) -> String {
    format!("{prefix}{}/", day.format("%Y%m%d"))
}

/// The day that a folder directly below a prefix is named after; None for any other name.
pub fn parse_day(name: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(name, "%Y%m%d").ok().filter(|day| day.format("%Y%m%d").to_string() == name)
}

/// The name of file `no` (from 0) within its batch's folder.
pub fn file_name(no: u32, compression: Compression) -> String {
    format!("{no}.csv{}", compression.suffix())
}

/// Number and compression of a file of rows, by its name within the folder; None for any other name.
pub fn parse_file_name(name: &str) -> Option<(u32, Compression)> {
    let (number, suffix) = name.split_once(".csv")?;
    let (number, compression) = (number.parse().ok()?, Compression::of_suffix(suffix)?);
    // As it is written: no other spelling of the number.
    (file_name(number, compression) == name).then_some((number, compression))
}

/// Whether an object of this name in the folder of a batch belongs to it. Others are neither moved nor deleted.
pub fn is_of_batch(name: &str) -> bool {
    name == SEAL || name == MANIFEST || parse_file_name(name).is_some()
}

/// The key of a file of rejects. The checksum keeps a new log, or a copy of a log, from replacing another's object; an
/// upload that is repeated after a crash replaces its own.
pub fn rejects_key(
    prefix: &str,
    at: DateTime<Utc>,
    instance: &Instance,
    first: u64,
    content: Content,
) -> String {
    let (folder, time) = (day_folder(prefix, at.date_naive()), at.format("%H%M%S%3f"));
    format!("{folder}{instance}-{time}-{first:012}-{content}.ndjson.zst")
}

/// The producer that wrote an object of rejects, by its name below their prefix; None for an object that no producer
/// names so. Earlier versions put no checksum into the name.
pub fn instance_of_rejects(name: &str) -> Option<Instance> {
    let digits = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    let (day, file) = name.split_once('/')?;
    let mut stem = file.strip_suffix(".ndjson.zst")?;
    if let Some((before, content)) = stem.rsplit_once('-')
        && content.parse::<Content>().is_ok()
    {
        stem = before;
    }
    let (rest, number) = stem.rsplit_once('-')?;
    let (instance, time) = rest.rsplit_once('-')?;
    let instance = Instance::try_from(instance.to_owned()).ok()?;
    (digits(day, 8) && digits(time, 9) && digits(number, 12)).then_some(instance)
}

/// The batch whose folder has this name. Only as it is written: an id in capitals is another key, and what lies there is not in
/// the folder of the batch.
pub fn parse_folder(name: &str) -> Option<BatchId> {
    name.parse().ok().filter(|batch: &BatchId| batch.to_string() == name)
}

/// The batch and the name in a key `{prefix}{yyyymmdd}/{batch id}/{name}`; None for a key that is not laid out so.
pub fn parse_key<'k>(prefix: &str, key: &'k str) -> Option<(BatchId, &'k str)> {
    let mut parts = key.strip_prefix(prefix)?.splitn(3, '/');
    let (day, batch, name) = (parts.next()?, parts.next()?, parts.next()?);
    let batch = parse_folder(batch)?;
    (day == batch.day().format("%Y%m%d").to_string() && !name.is_empty()).then_some((batch, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_back_to_its_batch() {
        let batch = BatchId::new();
        let key = format!("{}{}", folder("ToIngest/", batch), file_name(3, Compression::Zstd));
        assert_eq!(parse_key("ToIngest/", &key), Some((batch, "3.csv.zst")));
    }

    #[test]
    fn a_batch_is_its_files_its_manifest_and_its_seal_and_nothing_else() {
        for own in ["0.csv", "12.csv.zst", "999.csv.gz", MANIFEST, SEAL] {
            assert!(is_of_batch(own), "{own}");
        }
        for other in [
            "notes.txt",
            "00.csv",
            "0.csv.bak",
            "x.csv",
            "0",
            "sub/0.csv",
            "0.csv.zst.tmp",
            "batch.json~",
            "",
        ] {
            assert!(!is_of_batch(other), "{other}");
        }
        assert_eq!(parse_file_name("12.csv.zst"), Some((12, Compression::Zstd)));
    }

    #[test]
    fn only_what_a_producer_names_so_is_an_object_of_rejects() {
        let instance = Instance::try_from("web-1".to_owned()).unwrap();
        let key = rejects_key("R/", DateTime::<Utc>::UNIX_EPOCH, &instance, 7, Content::of_rows(b""));
        for name in [key.strip_prefix("R/").unwrap(), "20260302/web-1-140000123-000000000007.ndjson.zst"] {
            assert_eq!(instance_of_rejects(name).as_ref(), Some(&instance), "{name}");
        }
        for other in [
            "",
            "notes.txt",
            "20260302/notes.ndjson.zst",
            "20260302/web-1-140000123-000000000007.ndjson",
            "20260302/-140000123-000000000007.ndjson.zst",
            "20260302/sub/web-1-140000123-000000000007.ndjson.zst",
            "2026/web-1-140000123-000000000007.ndjson.zst",
        ] {
            assert_eq!(instance_of_rejects(other), None, "{other}");
        }
    }

    #[test]
    fn foreign_objects_are_not_ours() {
        let batch = BatchId::new();
        for key in [
            "ToIngest/readme.txt".to_owned(),
            format!("ToIngest/{IDENTITY}"),
            "ToIngest/20260101/x/0.csv".to_owned(),
            format!("ToIngest/20010101/{batch}/0.csv"),
            folder("ToIngest/", batch).replace(&batch.to_string(), &batch.to_string().to_uppercase()) + SEAL,
            format!("ToIngest/{}/../{batch}/0.csv", batch.day().format("%Y%m%d")),
            format!("Other/{}/{batch}/0.csv", batch.day().format("%Y%m%d")),
            folder("ToIngest/", batch),
        ] {
            assert_eq!(parse_key("ToIngest/", &key), None, "{key}");
        }
    }
}
