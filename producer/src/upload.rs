//! What goes to S3, as bytes: files of rows, the manifest and the seal, and files of rejects. Made from the log
//! alone, so that a crash at any point is followed by the same objects once more.

use std::io::{self, Write};

use bytes::Bytes;
use shared::ids::Instance;
use shared::layout::{self, Compression, MANIFEST, SEAL};
use shared::seal::{SEAL_FORMAT, Seal, SealedFile};
use state::log::{BatchRecord, FileRecord, FileStatus};

/// Level 3, zstd's own default, makes files a tenth smaller or less at twice the time: on a small machine the time is
/// worth more.
const ZSTD_LEVEL: i32 = 1;

/// Compresses rows; the same rows give the same bytes.
///
/// # Errors
/// When memory is short.
pub fn compress(rows: &[u8], compression: Compression) -> io::Result<Bytes> {
    match compression {
        // One frame with its content size: every reader of zstd takes that.
        Compression::Zstd => zstd::bulk::compress(rows, ZSTD_LEVEL).map(Bytes::from),
        Compression::Gzip => {
            // No time stamp in the header.
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(rows)?;
            encoder.finish().map(Bytes::from)
        }
        Compression::None => Ok(Bytes::copy_from_slice(rows)),
    }
}

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

    /// Manifest and seal of a sealed batch; None while one of its files is not in S3.
    #[must_use]
    pub fn ending(&self, batch: &BatchRecord, files: &[FileRecord]) -> Option<Ending> {
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
        let seal = Seal {
            format: SEAL_FORMAT,
            batch: batch.id,
            instance: self.instance.clone(),
            created: batch.opened,
            sealed,
            schema: batch.schema.clone(),
            compression: batch.compression,
            rows: batch.rows,
            bytes: listed.iter().map(|file| file.bytes).sum(),
            files: listed,
            first_received: batch.first_received,
            last_received: batch.last_received,
            counts: batch.counts,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rows_give_the_same_bytes_and_come_back() {
        let rows = b"a~b~c\n".repeat(1000);
        for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
            let once = compress(&rows, compression).unwrap();
            assert_eq!(once, compress(&rows, compression).unwrap());
            let back = match compression {
                Compression::Zstd => zstd::bulk::decompress(&once, rows.len()).unwrap(),
                Compression::Gzip => {
                    let mut back = Vec::new();
                    io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&once[..]), &mut back).unwrap();
                    back
                }
                Compression::None => once.to_vec(),
            };
            assert!(back == rows);
        }
    }
}
