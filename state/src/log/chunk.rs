//! A chunk as it is stored: the number of its rows, their bytes uncompressed, and their lines in one zstd frame.

use crate::log::status::LogError;

/// Level 1 keeps up with the disk; rows still shrink to a quarter or less.
const ZSTD_LEVEL: i32 = 1;

pub(super) struct Encoder {
    compressor: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl Encoder {
    pub(super) fn new() -> Result<Self, LogError> {
        let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(LogError::Compress)?;
        Ok(Self { compressor, buffer: Vec::new() })
    }

    pub(super) fn encode(&mut self, lines: &[u8], rows: u64) -> Result<&[u8], LogError> {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
        let header = [number(rows), number(lines.len() as u64)];
        let header = header.as_flattened();
        let most = header.len() + zstd::zstd_safe::compress_bound(lines.len());
        self.buffer.resize(self.buffer.len().max(most), 0);
        let (head, frame) = self.buffer.split_at_mut(header.len());
        head.copy_from_slice(header);
        let compressed = self.compressor.compress_to_buffer(lines, frame).map_err(LogError::Compress)?;
        Ok(self.buffer.get(..header.len() + compressed).unwrap_or_default())
    }
}

/// Reads chunks, one after the other.
#[derive(Default)]
pub(super) struct Decoder(zstd::bulk::Decompressor<'static>);

impl Decoder {
    /// Puts the lines of a chunk in place of what `lines` holds, and returns how many they are.
    pub(super) fn decode(&mut self, content: &[u8], lines: &mut Vec<u8>) -> Result<u64, String> {
        let Some((&[r0, r1, r2, r3, l0, l1, l2, l3], frame)) = content.split_first_chunk() else {
            return Err("it is cut off".to_owned());
        };
        let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        lines.clear();
        lines.reserve(len);
        self.0.decompress_to_buffer(frame, lines).map_err(|error| error.to_string())?;
        if lines.len() != len {
            return Err(format!("its rows are {} bytes, it says {len}", lines.len()));
        }
        Ok(u64::from(u32::from_be_bytes([r0, r1, r2, r3])))
    }
}
