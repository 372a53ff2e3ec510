//! Bytes and checksums as JSON and S3 spell them.

use base64::Engine;

/// Standard base64, the spelling of bytes that are no text wherever this product writes JSON.
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes that [`base64()`] spells so; None if it is no such text.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// CRC-32 as S3 spells it: base64 of the big-endian value.
pub fn crc32(content: &[u8]) -> String {
    base64(&crc32fast::hash(content).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_spelled_as_s3_spells_it() {
        // The CRC-32 check value of "123456789" is cbf43926.
        assert_eq!(crc32(b"123456789"), "y/Q5Jg==");
    }
}
