//! S3, or any store that speaks it: the few calls this product makes, each of which may be repeated.

mod error;
mod list;
mod read;
mod send;
mod terms;
mod write;

use std::sync::Arc;

use aws_sdk_s3::Client;
use base64::Engine;

use crate::config::S3;
use terms::Terms;

pub use error::{REFUSED_ADVICE, StoreError, StoreErrorKind};
pub use list::{Next, Object};
pub use read::{Opened, SMALL};
pub use write::Stored;

/// A bucket.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    client: Client,
    bucket: String,
    terms: Arc<Terms>,
}

/// Standard base64, the spelling of bytes that are no text wherever this product writes JSON.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes that [`base64`] spells so; None if it is no such text.
#[must_use]
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// CRC-32 as S3 spells it: base64 of the big-endian value.
#[must_use]
pub fn crc32(content: &[u8]) -> String {
    base64(&crc32fast::hash(content).to_be_bytes())
}

impl ObjectStore {
    /// A client for the configured bucket. Nothing is sent yet, except that credentials of the AWS chain may be
    /// looked for.
    pub async fn connect(config: &S3) -> Self {
        let sdk = crate::aws::load(config).await;
        let mut s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(config.path_style);
        // Of S3 alone: the SDK's own setting would send what asks for a role there, too.
        if !config.endpoint.is_empty() {
            s3 = s3.endpoint_url(&config.endpoint);
        }
        let terms = Arc::new(Terms::of(config));
        Self { client: Client::from_conf(s3.build()), bucket: config.bucket.clone(), terms }
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The same store, another bucket, which may belong to anybody.
    #[must_use]
    pub fn of_bucket(&self, bucket: &str) -> Self {
        let terms = Arc::new(self.terms.of_any_owner());
        Self { client: self.client.clone(), bucket: bucket.to_owned(), terms }
    }
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
