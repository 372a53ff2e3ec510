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

/// Compresses `size` bytes of rows that `write` writes piece by piece, so that memory never holds them all.
pub fn compress_pieces(
    size: u64,
    compression: Compression,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Bytes> {
    let content = match compression {
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
            // As `compress`: one frame that says its size. It fails when another number of bytes comes.
            encoder.set_pledged_src_size(Some(size))?;
            write(&mut encoder)?;
            encoder.finish()?
        }
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            write(&mut encoder)?;
            encoder.finish()?
        }
        Compression::None => {
            let mut content = Vec::new();
            write(&mut content)?;
            content
        }
    };
    Ok(content.into())
}

/// Reads the rows of a file piece by piece.
pub fn reader(file: &[u8], compression: Compression) -> io::Result<Box<dyn Read + '_>> {
    Ok(match compression {
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Compression::None => Box::new(file),
    })
}

/// The rows of a file. It is an error when the file is damaged or holds more than `limit` bytes of rows.
pub fn decompress(file: &Bytes, compression: Compression, limit: u64) -> io::Result<Bytes> {
    if compression == Compression::None {
        return Ok(file.clone());
    }
    let mut rows = Vec::new();
    reader(file, compression)?.take(limit.saturating_add(1)).read_to_end(&mut rows)?;
    if rows.len() as u64 > limit {
        return Err(io::Error::other(format!("it holds more than {limit} bytes of rows")));
    }
    Ok(rows.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_one_frame_that_says_its_size_and_read_back() {
        let rows = "a~b\n".repeat(100_000);
        let half = rows.len() / 2;
        for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
            let write = |out: &mut dyn Write| {
                out.write_all(&rows.as_bytes()[..half])?;
                out.write_all(&rows.as_bytes()[half..])
            };
            let file = compress_pieces(rows.len() as u64, compression, write).unwrap();
            let mut read = String::new();
            reader(&file, compression).unwrap().read_to_string(&mut read).unwrap();
            assert!(read == rows, "{compression:?}");
            if compression == Compression::Zstd {
                let size = zstd::zstd_safe::get_frame_content_size(&file);
                assert_eq!(size.unwrap(), Some(rows.len() as u64));
            }
        }
    }

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
