//! Files of rows, compressed and back.

use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::layout::Compression;

/// Level 3, zstd's default, saves at most a tenth of a file and takes twice the time.
const ZSTD_LEVEL: i32 = 1;

/// Compresses rows; the same rows give the same bytes.
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

/// The rows of a file. It is an error when the file is damaged or holds more than `limit` bytes of rows.
pub fn decompress(file: &Bytes, compression: Compression, limit: u64) -> io::Result<Bytes> {
    let mut rows = Vec::new();
    let more = limit.saturating_add(1);
    match compression {
        Compression::Zstd => {
            zstd::stream::read::Decoder::new(&file[..])?.take(more).read_to_end(&mut rows)?
        }
        Compression::Gzip => {
            flate2::read::MultiGzDecoder::new(&file[..]).take(more).read_to_end(&mut rows)?
        }
        Compression::None => return Ok(file.clone()),
    };
    if rows.len() as u64 > limit {
        return Err(io::Error::other(format!("it holds more than {limit} bytes of rows")));
    }
    Ok(rows.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_and_no_more_than_they_may() {
        let rows = Bytes::from("a~b\n".repeat(1000));
        for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
            let file = compress(&rows, compression).unwrap();
            assert_eq!(file, compress(&rows, compression).unwrap());
            assert_eq!(decompress(&file, compression, 4000).unwrap(), rows);
            if compression != Compression::None {
                assert!(decompress(&file, compression, 3999).is_err());
                assert!(decompress(&file.slice(..file.len() / 2), compression, 4000).is_err());
            }
        }
    }
}
