//! The number of the last durable commit, in the file `accepted` beside the database. sled takes a damaged end of its file
//! for the torn end that a crash leaves, and cuts it off; this number tells the two apart.
//!
//! The number is written after the commit is durable, and is not synced: after a power cut it may lag behind, but it never
//! runs ahead.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
use xxhash_rust::xxh3::xxh3_64;

use crate::store::error::StoreError;
use crate::store::paths;

#[derive(Debug)]
pub(super) struct Accepted {
    file: File,
    path: PathBuf,
}

impl Accepted {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(paths::ACCEPTED);
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        Ok(Self { file: file.map_err(StoreError::at(&path))?, path })
    }

    pub(super) fn set(&self, number: u64) -> Result<(), StoreError> {
        let head = number.to_be_bytes();
        let bytes = [head, xxh3_64(&head).to_be_bytes()];
        self.file.write_all_at(bytes.as_flattened(), 0).map_err(StoreError::at(&self.path))
    }
}

impl Drop for Accepted {
    /// Shows when its owner stopped, which may be long after its last commit.
    fn drop(&mut self) {
        let now = Timestamps { last_access: unchanged(), last_modification: present() };
        // Only for people.
        let _ = futimens(&self.file, &now);
    }
}

fn unchanged() -> Timespec {
    Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }
}

fn present() -> Timespec {
    Timespec { tv_sec: 0, tv_nsec: UTIME_NOW }
}

/// When the owner of the database in `dir` last wrote to its files, as far as the file system tells. Whoever only reads
/// the database writes to none of these.
pub(crate) fn last_written(dir: &Path) -> Option<DateTime<Utc>> {
    let written = |name: &str| fs::metadata(dir.join(name)).and_then(|file| file.modified()).ok();
    let latest = [paths::ACCEPTED, paths::OWNER].into_iter().filter_map(written).max();
    latest.map(DateTime::from)
}

/// The last commit that is surely durable; 0 when the file is missing or half written.
pub(super) fn read(dir: &Path) -> Result<u64, StoreError> {
    let path = dir.join(paths::ACCEPTED);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        bytes => bytes.map_err(StoreError::at(&path))?,
    };
    let Some((head, check)) = bytes.split_first_chunk::<8>() else { return Ok(0) };
    let whole = check == xxh3_64(head).to_be_bytes();
    Ok(if whole { u64::from_be_bytes(*head) } else { 0 })
}
