//! The stand-in of S3: objects that appear as a whole, and remember what they were.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use shared::object_store::crc32;
use shared::seal::{SEAL_FORMAT, Seal, SealedFile};
use state::log::{BatchRecord, FileRecord, FileStatus, Upload};
use xxhash_rust::xxh3::xxh3_64;

/// A directory of objects.
#[derive(Debug, Clone)]
pub(crate) struct Objects(PathBuf);

impl Objects {
    pub(crate) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("tmp")).unwrap();
        Self(dir.to_owned())
    }

    /// Puts an object. The same key may come again after a crash, with the same content.
    pub(crate) fn put(&self, key: &str, content: &[u8]) {
        if let Some(before) = self.get(key) {
            let same = content == before;
            assert!(same, "{key} came again with another content: {} bytes, {}", before.len(), content.len());
        }
        let path = self.0.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let temporary = self.0.join("tmp").join("object");
        fs::write(&temporary, content).unwrap();
        fs::rename(temporary, path).unwrap();
    }

    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        match fs::read(self.0.join(key)) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// Names below a key, in order.
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        let Ok(dir) = fs::read_dir(self.0.join(key)) else { return Vec::new() };
        let mut names: Vec<_> = dir.map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(crate) fn file_key(batch: &BatchRecord, no: u32) -> String {
    format!("batches/{}/{no}.csv", batch.id)
}

pub(crate) fn seal_key(batch: &BatchRecord) -> String {
    format!("batches/{}/batch.json", batch.id)
}

pub(crate) fn rejects_key(first: u64) -> String {
    format!("rejects/{first:012}.jsonl")
}

/// What the stand-in confirms.
pub(crate) fn confirm(content: &[u8]) -> Upload {
    let etag = format!("{:016x}", xxh3_64(content));
    Upload { bytes: content.len() as u64, crc32: crc32(content), etag, content: None }
}

/// The seal of a batch; None while one of its files is not up.
pub(crate) fn seal(batch: &BatchRecord, files: &[FileRecord]) -> Option<Vec<u8>> {
    let sealed = batch.sealed?;
    let mut listed = Vec::new();
    for file in files {
        let FileStatus::Uploaded(Upload { bytes, crc32, etag, .. }) = file.status.clone() else {
            return None;
        };
        listed.push(SealedFile { name: format!("{}.csv", file.no), rows: file.rows, bytes, crc32, etag });
    }
    let seal = Seal {
        format: SEAL_FORMAT,
        batch: batch.id,
        instance: "test".to_owned().try_into().unwrap(),
        created: batch.opened,
        sealed,
        schema: batch.schema.clone(),
        columns: None,
        pseudonym_key: None,
        forgotten: None,
        compression: batch.compression,
        rows: batch.rows,
        bytes: listed.iter().map(|file| file.bytes).sum(),
        files: listed,
        first_received: batch.first_received,
        last_received: batch.last_received,
        counts: batch.counts,
        content: None,
        compared: batch.compared.clone(),
    };
    Some(serde_json::to_vec(&seal).unwrap())
}
