//! Files of rows, compressed and back.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::layout::Compression;

/// Level 3, zstd's default, saves at most a tenth of a file and takes twice the time.
const ZSTD_LEVEL: i32 = 1;

/// Of level 1, and of 2 MiB, as logarithms: an encoder holds a window in memory.
const ZSTD_WINDOW: (u32, u32) = (19, 21);

/// Compresses rows; the same rows give the same bytes.
pub fn compress(rows: &[u8], compression: Compression) -> io::Result<Bytes> {
    let mut file = CompressedFile::new(rows.len() as u64, compression)?;
    file.write_all(rows)?;
    file.finish()
}

/// A file of rows that are written to it piece by piece, so that memory never holds them all. The same pieces give the same bytes.
pub struct CompressedFile(Form);

enum Form {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
    None(Vec<u8>),
}

impl CompressedFile {
    /// A file of `size` bytes of rows. With zstd it is an error when another number of bytes comes.
    pub fn new(size: u64, compression: Compression) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                // One frame with its content size: every reader of zstd takes that.
                encoder.set_pledged_src_size(Some(size))?;
                // A window that holds the file, if it is no large one: past it the encoder is slower. Every reader takes 8 MiB
                // (RFC 8878, 3.1.1.1.2).
                encoder.window_log(size.next_power_of_two().ilog2().clamp(ZSTD_WINDOW.0, ZSTD_WINDOW.1))?;
                Form::Zstd(encoder)
            }
            // No time stamp in the header.
            Compression::Gzip => Form::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default())),
            Compression::None => Form::None(Vec::new()),
        }))
    }

    /// The whole file.
    pub fn finish(self) -> io::Result<Bytes> {
        let content = match self.0 {
            Form::Zstd(encoder) => encoder.finish()?,
            Form::Gzip(encoder) => encoder.finish()?,
            Form::None(rows) => rows,
        };
        Ok(content.into())
    }
}

impl Write for CompressedFile {
    fn write(&mut self, rows: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Form::Zstd(encoder) => encoder.write(rows),
            Form::Gzip(encoder) => encoder.write(rows),
            Form::None(all) => all.write(rows),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the rows of a file piece by piece. It is an error when the file is damaged or holds more than `limit` bytes of rows:
/// a kilobyte of zstd can hold a gigabyte, and whoever writes objects must not decide how long it is read.
pub fn reader(file: &[u8], compression: Compression, limit: u64) -> io::Result<Box<dyn Read + '_>> {
    Ok(match compression {
        Compression::Zstd => Box::new(AtMost::new(zstd::stream::read::Decoder::new(file)?, limit)),
        Compression::Gzip => Box::new(AtMost::new(flate2::read::MultiGzDecoder::new(file), limit)),
        Compression::None => Box::new(AtMost::new(file, limit)),
    })
}

/// Fails when more comes.
struct AtMost<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R> AtMost<R> {
    fn new(inner: R, limit: u64) -> Self {
        Self { inner, limit, left: limit }
    }
}

impl<R: Read> Read for AtMost<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        let left = self.left.checked_sub(read as u64);
        let limit = self.limit;
        self.left =
            left.ok_or_else(|| io::Error::other(format!("it holds more than {limit} bytes of rows")))?;
        Ok(read)
    }
}

/// The rows of a file. It is an error when the file is damaged or holds more than `limit` bytes of rows.
pub fn decompress(file: &Bytes, compression: Compression, limit: u64) -> io::Result<Bytes> {
    if compression == Compression::None {
        return Ok(file.clone());
    }
    let mut rows = Vec::new();
    reader(file, compression, limit)?.read_to_end(&mut rows)?;
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
            let file = || {
                let mut file = CompressedFile::new(rows.len() as u64, compression).unwrap();
                file.write_all(&rows.as_bytes()[..half]).unwrap();
                file.write_all(&rows.as_bytes()[half..]).unwrap();
                file.finish().unwrap()
            };
            assert!(file() == file(), "the same pieces give the same bytes");
            let file = file();
            let mut read = String::new();
            reader(&file, compression, rows.len() as u64).unwrap().read_to_string(&mut read).unwrap();
            assert!(read == rows, "{compression:?}");
            if compression == Compression::Zstd {
                let size = zstd::zstd_safe::get_frame_content_size(&file);
                assert_eq!(size.unwrap(), Some(rows.len() as u64));
            }
        }
    }

    #[test]
    fn a_small_object_of_many_rows_is_read_no_further_than_its_limit() {
        for compression in [Compression::Zstd, Compression::Gzip] {
            let bomb = compress(&vec![b'\n'; 64 << 20], compression).unwrap();
            assert!(bomb.len() < 100_000, "{compression:?}: {}", bomb.len());
            let (mut read, mut block) = (0, vec![0; 128 << 10]);
            let mut reader = reader(&bomb, compression, 1 << 20).unwrap();
            let error = loop {
                match reader.read(&mut block) {
                    Ok(0) => panic!("{compression:?} was read to its end"),
                    Ok(more) => read += more,
                    Err(error) => break error.to_string(),
                }
            };
            assert_eq!(error, "it holds more than 1048576 bytes of rows");
            assert!(read <= 1 << 20, "{compression:?}: {read}");
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
