//! Keys of the log: big-endian numbers, so that the order of keys is the order of time.

/// Key of the sums and next numbers, in the table `Meta`.
pub(super) const SUMS: &[u8] = b"sums";
/// Key of what format 1 kept and nothing reads any more: times at which not everything was read.
pub(super) const HOLES: &[u8] = b"holes";

pub(super) fn seq_key(seq: u64) -> [u8; 8] {
    seq.to_be_bytes()
}

pub(super) fn chunk_key(file: u64, chunk: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&file.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

pub(super) fn seq_of(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn chunk_of(key: &[u8]) -> u32 {
    key.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
