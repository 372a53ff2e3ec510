//! The files that are searched, and objects of some of their rows. Names of those objects are made of what is in them,
//! so writing one twice, after a crash too, is harmless.

use std::collections::HashSet;

use bytes::Bytes;
use shared::compress::{compress, decompress};
use shared::layout::Compression;
use shared::object_store::{ObjectStore, crc32};
use shared::seal::{MAX_OBJECT_BYTES, Manifest, Seal};
use state::loads::ErrorClass;
use xxhash_rust::xxh3::xxh3_64;

use crate::failure::LoadFailure;
use crate::quarantine::MAX_BYTES;
use crate::quarantine::search::Piece;
use crate::quarantine::set::is_hash;
use crate::quarantine::split::{Row, split};

/// A file of rows.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Its name, for people.
    pub name: String,
    /// Its key.
    pub key: String,
    /// Rows it holds.
    pub rows: u64,
    /// Bytes of the object.
    pub bytes: u64,
    /// Its CRC-32, if that is known.
    pub crc32: Option<String>,
}

/// A file that is held in memory.
#[derive(Debug)]
struct Opened {
    file: usize,
    content: Bytes,
    rows: Vec<Row>,
}

/// The files of a search.
#[derive(Debug)]
pub(crate) struct Pieces {
    store: ObjectStore,
    files: Vec<File>,
    compression: Compression,
    /// Folder of what is written.
    folder: String,
    /// The file that was looked at last: one is held at a time.
    opened: Option<Opened>,
    written: HashSet<String>,
}

/// Whether an object of this name within the folder of a search was written by one.
#[must_use]
pub(crate) fn is_of_search(name: &str) -> bool {
    if let Some(hash) = name.strip_prefix("manifest-").and_then(|rest| rest.strip_suffix(".json")) {
        return is_hash(hash);
    }
    let piece = || {
        let (stem, suffix) = name.split_once(".csv")?;
        let (file, hash) = stem.split_once('-')?;
        let number = !file.is_empty() && file.bytes().all(|byte| byte.is_ascii_digit());
        Some(number && is_hash(hash) && Compression::of_suffix(suffix).is_some())
    };
    piece().unwrap_or(false)
}

/// How Redshift writes an object's address.
pub(crate) fn url(bucket: &str, key: &str) -> String {
    format!("s3://{bucket}/{key}")
}

impl Pieces {
    /// The files of a batch, which stand in `from`.
    #[must_use]
    pub(crate) fn of_batch(store: &ObjectStore, seal: &Seal, from: &str, folder: String) -> Self {
        let file = |file: &shared::seal::SealedFile| File {
            name: file.name.clone(),
            key: format!("{from}{}", file.name),
            rows: file.rows,
            bytes: file.bytes,
            crc32: Some(file.crc32.clone()),
        };
        Self::of(store, seal.files.iter().map(file).collect(), seal.compression, folder)
    }

    /// These files.
    #[must_use]
    pub(crate) fn of(
        store: &ObjectStore,
        files: Vec<File>,
        compression: Compression,
        folder: String,
    ) -> Self {
        Self { store: store.clone(), files, compression, folder, opened: None, written: HashSet::new() }
    }

    /// How they are compressed.
    #[must_use]
    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// Rows of all files.
    #[must_use]
    pub(crate) fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).fold(0, u64::saturating_add)
    }

    /// All rows of all files.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Piece> {
        (0..self.files.len()).map(|file| Piece { file, rows: 0..self.len(file) }).collect()
    }

    fn len(&self, file: usize) -> usize {
        self.files.get(file).map_or(0, |file| usize::try_from(file.rows).unwrap_or(usize::MAX))
    }

    /// Whether these are all rows of their file.
    #[must_use]
    pub(crate) fn is_whole(&self, piece: &Piece) -> bool {
        piece.rows == (0..self.len(piece.file))
    }

    /// Key of a file.
    #[must_use]
    pub(crate) fn key(&self, file: usize) -> String {
        self.files.get(file).map(|file| file.key.clone()).unwrap_or_default()
    }

    /// Name of a file.
    #[must_use]
    pub(crate) fn name(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |file| &file.name)
    }

    /// Writes an object of these rows of a file; its key.
    ///
    /// # Errors
    /// When S3 fails, or the file is not as it was sealed.
    pub(crate) async fn put(&mut self, file: usize, kept: &[usize]) -> Result<String, LoadFailure> {
        let mut id = self.key(file).into_bytes();
        id.extend(kept.iter().flat_map(|row| (*row as u64).to_le_bytes()));
        let key = format!("{}{file}-{:016x}.csv{}", self.folder, xxh3_64(&id), self.compression.suffix());
        if self.written.contains(&key) {
            return Ok(key);
        }
        let compression = self.compression;
        let opened = self.open(file).await?;
        let rows = kept.iter().filter_map(|number| opened.bytes(*number)).collect::<Vec<_>>().concat();
        let content = blocking(move || compress(&rows, compression)).await?;
        let content = content.map_err(|error| LoadFailure::of_batch(ErrorClass::Passing, error))?;
        self.store.put(&key, content).await?;
        self.written.insert(key.clone());
        Ok(key)
    }

    /// Writes a manifest of these objects; its key.
    ///
    /// # Errors
    /// When S3 fails.
    pub(crate) async fn manifest(&mut self, keys: &[String]) -> Result<String, LoadFailure> {
        let manifest = Manifest::of(self.store.bucket(), keys.iter().map(String::as_str));
        let json = serde_json::to_vec(&manifest)
            .map_err(|error| LoadFailure::of_batch(ErrorClass::Passing, error))?;
        let key = format!("{}manifest-{:016x}.json", self.folder, xxh3_64(&json));
        if !self.written.contains(&key) {
            self.store.put(&key, json.into()).await?;
            self.written.insert(key.clone());
        }
        Ok(key)
    }

    /// The last line of each of these rows, in an object that holds no others.
    ///
    /// # Errors
    /// When S3 fails, or the file is not as it was sealed.
    pub(crate) async fn last_lines(&mut self, file: usize, kept: &[usize]) -> Result<Vec<u64>, LoadFailure> {
        let opened = self.open(file).await?;
        let mut last = 0;
        let lines = kept.iter().map(|number| {
            last += opened.rows.get(*number).map_or(0, |row| row.lines);
            last
        });
        Ok(lines.collect())
    }

    /// A row: name of its file, the line on which it begins there, and its bytes.
    ///
    /// # Errors
    /// When S3 fails, or the file is not as it was sealed.
    pub(crate) async fn row(
        &mut self,
        file: usize,
        number: usize,
    ) -> Result<(String, u64, Vec<u8>), LoadFailure> {
        let opened = self.open(file).await?;
        let before = opened.rows.iter().take(number).map(|row| row.lines).sum::<u64>();
        let bytes = opened.bytes(number).unwrap_or_default().to_vec();
        Ok((self.name(file).to_owned(), before + 1, bytes))
    }

    async fn open(&mut self, number: usize) -> Result<&Opened, LoadFailure> {
        let opened = match self.opened.take().filter(|opened| opened.file == number) {
            Some(opened) => opened,
            None => self.read(number).await?,
        };
        Ok(self.opened.insert(opened))
    }

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
        let (compression, sealed) = (self.compression, self.len(number));
        let read = blocking(move || {
            decompress(&object, compression, MAX_BYTES).map(|content| (split(&content, sealed), content))
        });
        let (rows, content) = read.await?.map_err(|error| unfit(error.to_string()))?;
        if rows.len() as u64 != file.rows {
            // Its quotes are not those of CSV: where one row ends and the next begins is anybody's guess.
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
