//! How far the database goes at least: the number of the last durable commit, in a small file beside it. sled takes
//! a damaged end of its file for the torn end that a crash leaves and cuts it off; the mark tells the two apart.
//!
//! It is written after the commit is durable and is not synced: it may lag behind after a power cut, but it never
//! runs ahead.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::store::StoreError;

const BYTES: usize = 16;

#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    path: PathBuf,
}

impl Mark {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = path(dir);
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        match file {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(StoreError::Io { path, error }),
        }
    }

    pub(super) fn set(&self, number: u64) -> Result<(), StoreError> {
        let mut bytes = [0; BYTES];
        let (head, check) = bytes.split_at_mut(8);
        head.copy_from_slice(&number.to_be_bytes());
        check.copy_from_slice(&xxh3_64(head).to_be_bytes());
        self.file.write_all_at(&bytes, 0).map_err(|error| StoreError::Io { path: self.path.clone(), error })
    }
}

/// The last commit that is surely durable; 0 when there is no mark or half a one.
pub(super) fn read(dir: &Path) -> Result<u64, StoreError> {
    let path = path(dir);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(StoreError::Io { path, error }),
    };
    let Some((head, check)) = bytes.split_first_chunk::<8>() else { return Ok(0) };
    let whole = check == xxh3_64(head).to_be_bytes();
    Ok(if whole { u64::from_be_bytes(*head) } else { 0 })
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("accepted")
}
