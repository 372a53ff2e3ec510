//! What goes to S3, as bytes: files of rows, the manifest and the seal, and files of rejects. Made from the log
//! alone, so that a crash at any point is followed by the same objects once more.

use bytes::Bytes;
use shared::content::Content;
use shared::ids::Instance;
use shared::layout::{self, MANIFEST, SEAL};
use shared::seal::{SEAL_FORMAT, Seal, SealedFile};
use state::log::{BatchRecord, FileRecord, FileStatus};

/// The two objects that end a batch, in the order they must be written.
#[derive(Debug)]
pub struct Ending {
    /// Key and content of the manifest.
    pub manifest: (String, Bytes),
    /// Key and content of the seal.
    pub seal: (String, Bytes),
}

/// Where the batch's files go.
#[derive(Debug, Clone)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// The prefix of batches to load.
    pub to_ingest: String,
    /// Who writes.
    pub instance: Instance,
}

impl Place {
    /// The key of a file.
    #[must_use]
    pub fn file_key(&self, batch: &BatchRecord, file: &FileRecord) -> String {
        layout::folder(&self.to_ingest, batch.id) + &layout::file_name(file.no, batch.compression)
    }

    /// Manifest and seal of a sealed batch with rows of these `columns`, if the log knows their names; None while one of
    /// its files is not in S3.
    #[must_use]
    pub fn ending(
        &self,
        batch: &BatchRecord,
        columns: Option<Vec<String>>,
        files: &[FileRecord],
    ) -> Option<Ending> {
        let sealed = batch.sealed?;
        let mut listed = Vec::with_capacity(files.len());
        for file in files {
            let FileStatus::Uploaded(upload) = &file.status else { return None };
            listed.push(SealedFile {
                name: layout::file_name(file.no, batch.compression),
                rows: file.rows,
                bytes: upload.bytes,
                crc32: upload.crc32.clone(),
                etag: upload.etag.clone(),
            });
        }
        let content = files.iter().map(|file| match &file.status {
            FileStatus::Uploaded(upload) => upload.content,
            FileStatus::Open | FileStatus::Closed => None,
        });
        let content = content.collect::<Option<Vec<_>>>().map(Content::of_files);
        let seal = Seal {
            format: SEAL_FORMAT,
            batch: batch.id,
            instance: self.instance.clone(),
            created: batch.opened,
            sealed,
            schema: batch.schema.clone(),
            columns,
            compression: batch.compression,
            rows: batch.rows,
            bytes: listed.iter().map(|file| file.bytes).sum(),
            files: listed,
            first_received: batch.first_received,
            last_received: batch.last_received,
            counts: batch.counts,
            content,
            compared: batch.compared.clone(),
        };
        let (manifest, seal) = self.end(&seal);
        Some(Ending { manifest, seal })
    }

    /// Manifest and seal as objects: key and content.
    #[must_use]
    pub fn end(&self, seal: &Seal) -> ((String, Bytes), (String, Bytes)) {
        let folder = layout::folder(&self.to_ingest, seal.batch);
        let [manifest, sealed] = seal.ending(&self.bucket, &folder);
        ((format!("{folder}{MANIFEST}"), manifest.into()), (format!("{folder}{SEAL}"), sealed.into()))
    }
}
