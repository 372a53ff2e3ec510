//! The text of a file, whatever it is compressed with.

use std::io::{self, BufReader, Read};

use crate::commands::replay::read::form;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes decompressed at once.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// Why a file is no lines of JSON, and what to do, if its beginning tells.
pub(crate) fn not_lines(mut file: impl Read) -> Option<&'static str> {
    let mut reader = decompressed(&mut file).ok()?;
    form::beginning(&mut reader, &mut vec![0; PIECE_BYTES]).ok()?.err()
}

/// Reads what stands there in the form its first bytes tell.
pub(super) fn decompressed<R: Read>(bytes: &mut R) -> io::Result<Box<dyn Read + '_>> {
    let mut head = Vec::new();
    bytes.by_ref().take(ZSTD.len() as u64).read_to_end(&mut head)?;
    let (gzip, zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
    let whole = Read::chain(io::Cursor::new(head), bytes);
    if gzip {
        let buffered = BufReader::with_capacity(PIECE_BYTES, whole);
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(buffered)));
    }
    if zstd {
        return Ok(Box::new(zstd::stream::read::Decoder::new(whole)?));
    }
    Ok(Box::new(whole))
}
