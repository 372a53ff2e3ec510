//! The files of rows that are searched, and objects of some of their rows. The names of those objects are made of what is
//! in them, so writing one twice, even after a crash, is harmless.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;
use shared::compress::{compress, decompress};
use shared::layout::Compression;
use shared::object_store::{ObjectStore, crc32};
use shared::seal::{MAX_OBJECT_BYTES, Manifest};
use state::loads::ErrorClass;
use xxhash_rust::xxh3::xxh3_64;

use crate::failure::LoadFailure;

use super::csv::{self, MAX_ROW, Row};
use super::set::{MAX_BYTES, is_hash};

#[derive(Debug, Clone)]
pub(crate) struct RowFile {
    pub key: String,
    pub rows: u64,
    pub bytes: u64,
    pub crc32: Option<String>,
}

/// Some rows of a file, by the number of the file and those of the rows, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowRange {
    pub file: usize,
    pub rows: Range<usize>,
}

#[derive(Debug)]
struct Opened {
    file: usize,
    content: Bytes,
    rows: Vec<Row>,
}

#[derive(Debug)]
pub(crate) struct RowFiles {
    store: ObjectStore,
    files: Vec<RowFile>,
    pub(super) compression: Compression,
    folder: String,
    /// The file that was read last. No other is held.
    opened: Option<Opened>,
    written: HashSet<String>,
}

/// Whether an object of this name within [`super::SCRATCH`] was written by a bad-row search.
pub(crate) fn is_of_search(name: &str) -> bool {
    if let Some(hash) = name.strip_prefix("manifest-").and_then(|rest| rest.strip_suffix(".json")) {
        return is_hash(hash);
    }
    let rows = || {
        let (stem, suffix) = name.split_once(".csv")?;
        let (file, hash) = stem.split_once('-')?;
        let number = !file.is_empty() && file.bytes().all(|byte| byte.is_ascii_digit());
        Some(number && is_hash(hash) && Compression::of_suffix(suffix).is_some())
    };
    rows().unwrap_or(false)
}

impl RowFiles {
    pub(crate) fn new(
        store: &ObjectStore,
        files: Vec<RowFile>,
        compression: Compression,
        folder: String,
    ) -> Self {
        Self { store: store.clone(), files, compression, folder, opened: None, written: HashSet::new() }
    }

    pub(super) fn count(&self) -> u64 {
        self.files.iter().map(|file| file.rows).fold(0, u64::saturating_add)
    }

    pub(super) fn all(&self) -> Vec<RowRange> {
        let whole = |(file, of): (usize, &RowFile)| RowRange { file, rows: 0..of.len() };
        self.files.iter().enumerate().map(whole).collect()
    }

    pub(super) fn is_whole(&self, range: &RowRange) -> bool {
        self.files.get(range.file).is_some_and(|file| range.rows == (0..file.len()))
    }

    pub(super) fn key(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |file| &file.key)
    }

    pub(super) fn name(&self, file: usize) -> &str {
        self.key(file).rsplit('/').next().unwrap_or_default()
    }

    /// Writes an object of these rows of a file; its key.
    pub(super) async fn put(&mut self, file: usize, rows: &[usize]) -> Result<String, LoadFailure> {
        let mut id = self.key(file).as_bytes().to_vec();
        id.extend(rows.iter().flat_map(|row| (*row as u64).to_le_bytes()));
        let key = format!("{}{file}-{:016x}.csv{}", self.folder, xxh3_64(&id), self.compression.suffix());
        if self.written.contains(&key) {
            return Ok(key);
        }
        let compression = self.compression;
        let opened = self.open(file).await?;
        let rows = rows.iter().filter_map(|number| opened.bytes(*number)).collect::<Vec<_>>().concat();
        let content = blocking(move || compress(&rows, compression)).await?;
        let content = content.map_err(|error| LoadFailure::of_batch(ErrorClass::Passing, error))?;
        self.put_once(key, content).await
    }

    pub(super) async fn manifest(&mut self, keys: &[&str]) -> Result<String, LoadFailure> {
        let manifest = Manifest::of(self.store.bucket(), keys.iter().copied());
        let json = serde_json::to_vec(&manifest)
            .map_err(|error| LoadFailure::of_batch(ErrorClass::Passing, error))?;
        let key = format!("{}manifest-{:016x}.json", self.folder, xxh3_64(&json));
        self.put_once(key, json.into()).await
    }

    async fn put_once(&mut self, key: String, content: Bytes) -> Result<String, LoadFailure> {
        if !self.written.contains(&key) {
            self.store.put(&key, content).await?;
            self.written.insert(key.clone());
        }
        Ok(key)
    }

    /// The last line of each of these rows, in an object that holds no others.
    pub(super) async fn last_lines(&mut self, file: usize, rows: &[usize]) -> Result<Vec<u64>, LoadFailure> {
        let opened = self.open(file).await?;
        let mut last = 0;
        let lines = rows.iter().map(|number| {
            last += opened.rows.get(*number).map_or(0, |row| row.lines);
            last
        });
        Ok(lines.collect())
    }

    /// The line of its file on which a row begins, and its bytes.
    pub(super) async fn row(&mut self, file: usize, number: usize) -> Result<(u64, Vec<u8>), LoadFailure> {
        let opened = self.open(file).await?;
        let before = opened.rows.iter().take(number).map(|row| row.lines).sum::<u64>();
        Ok((before + 1, opened.bytes(number).unwrap_or_default().to_vec()))
    }

    async fn open(&mut self, number: usize) -> Result<&Opened, LoadFailure> {
        let opened = match self.opened.take().filter(|opened| opened.file == number) {
            Some(opened) => opened,
            None => self.read(number).await?,
        };
        Ok(self.opened.insert(opened))
    }

    /// Reads a file, and checks that it is as it was sealed.
    async fn read(&self, number: usize) -> Result<Opened, LoadFailure> {
        let Some(file) = self.files.get(number) else {
            return Err(LoadFailure::of_batch(ErrorClass::Incomplete, format!("there is no file {number}")));
        };
        let object = self.store.get_at_most(&file.key, file.bytes.min(MAX_OBJECT_BYTES)).await?;
        let unfit =
            |why: String| LoadFailure::of_batch(ErrorClass::Incomplete, format!("{}: {why}", file.key));
        if file.crc32.as_ref().is_some_and(|sealed| *sealed != crc32(&object)) {
            return Err(unfit("its content is not what was sealed".to_owned()));
        }
        let (compression, sealed) = (self.compression, file.len());
        let most = MAX_BYTES.min(file.rows.saturating_mul(MAX_ROW as u64));
        let read = blocking(move || {
            decompress(&object, compression, most).map(|content| (csv::rows(&content, sealed), content))
        });
        let (rows, content) = read.await?.map_err(|error| unfit(error.to_string()))?;
        if rows.len() as u64 != file.rows {
            // Its quotes are not those of CSV: where one row ends and the next begins is unknown.
            let more = if rows.len() as u64 > file.rows { " or more" } else { "" };
            let why = format!(
                "Redshift refuses rows of {}, which cannot be told apart: the seal says {}, its quotes and line ends {}{more}",
                file.key,
                file.rows,
                rows.len()
            );
            return Err(LoadFailure::of_batch(ErrorClass::Data, why));
        }
        Ok(Opened { file: number, content, rows })
    }
}

impl RowFile {
    fn len(&self) -> usize {
        usize::try_from(self.rows).unwrap_or(usize::MAX)
    }
}

impl Opened {
    fn bytes(&self, number: usize) -> Option<&[u8]> {
        let row = self.rows.get(number)?;
        self.content.get(row.start..row.end)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LoadFailure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|fault| LoadFailure::of_batch(ErrorClass::Passing, fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_search_writes_is_its_own() {
        for own in ["0-0123456789abcdef.csv", "12-0123456789abcdef.csv.zst", "manifest-0123456789abcdef.json"]
        {
            assert!(is_of_search(own), "{own}");
        }
        for other in [
            "notes.txt",
            "0.csv.zst",
            "manifest.json",
            "manifest-0123456789abcdeg.json",
            "x-0123456789abcdef.csv",
            "0-0123456789abcdef.csv.bak",
            "sub/0-0123456789abcdef.csv",
            "",
        ] {
            assert!(!is_of_search(other), "{other}");
        }
    }
}
