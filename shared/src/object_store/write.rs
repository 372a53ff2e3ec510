//! Storing, copying and deleting objects. Every object is written on the bucket's terms.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use base64::Engine;
use bytes::Bytes;

use crate::object_store::error::{ObjectStoreError, ObjectStoreErrorKind};
use crate::object_store::send;
use crate::object_store::store::ObjectStore;

/// Everything but what stands for itself in a URL's path.
const UNSAFE_IN_COPY_SOURCE: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What S3 said of an object it has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The object's `ETag`, quotes included.
    pub etag: String,
    /// CRC-32 of its content, as S3 spells it.
    pub crc32: String,
}

impl ObjectStore {
    /// Stores an object with its CRC-32, which S3 and this check. After an error it may be stored all the same.
    pub async fn put(&self, key: &str, content: Bytes) -> Result<Stored, ObjectStoreError> {
        let crc32 = crc32(&content);
        let request = self.putting(key, content, &crc32);
        let answer = send::put_object(request).await.map_err(|error| self.failed("PUT", key, &error))?;
        if let Some(answered) = answer.checksum_crc32().filter(|answered| *answered != crc32) {
            let reason = format!("stored with checksum {answered}, sent with {crc32}");
            return Err(self.error("PUT", key, reason, ObjectStoreErrorKind::Passing));
        }
        Ok(Stored { etag: answer.e_tag.unwrap_or_default(), crc32 })
    }

    /// As [`ObjectStore::put`], unless there is such an object already; then None.
    pub async fn put_new(&self, key: &str, content: Bytes) -> Result<Option<Stored>, ObjectStoreError> {
        let crc32 = crc32(&content);
        let request = self.putting(key, content, &crc32).if_none_match("*");
        match send::put_object(request).await {
            Ok(answer) => Ok(Some(Stored { etag: answer.e_tag.unwrap_or_default(), crc32 })),
            Err(error)
                if error.as_service_error().and_then(ProvideErrorMetadata::code)
                    == Some("PreconditionFailed") =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed("PUT", key, &error)),
        }
    }

    /// As [`ObjectStore::put`], over the object of this `ETag` and no other; None: another stands there by now, or none. One
    /// that this very call has put, and of which the answer was lost, is another.
    pub async fn put_over(
        &self,
        key: &str,
        content: Bytes,
        etag: &str,
    ) -> Result<Option<Stored>, ObjectStoreError> {
        let crc32 = crc32(&content);
        let request = self.putting(key, content, &crc32).if_match(etag);
        match send::put_object(request).await {
            Ok(answer) => Ok(Some(Stored { etag: answer.e_tag.unwrap_or_default(), crc32 })),
            Err(error) => {
                let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
                if matches!(code, Some("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey")) {
                    return Ok(None);
                }
                Err(self.failed("PUT", key, &error))
            }
        }
    }

    fn putting(&self, key: &str, content: Bytes, crc32: &str) -> PutObjectFluentBuilder {
        let request = self.client().put_object().bucket(&self.bucket).key(key);
        let length = i64::try_from(content.len()).unwrap_or(i64::MAX);
        let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32).checksum_crc32(crc32);
        self.terms.put(request.content_length(length).body(ByteStream::from(content)), key)
    }

    /// Copies an object within the bucket.
    pub async fn copy(&self, from: &str, to: &str) -> Result<(), ObjectStoreError> {
        let copy = self.client().copy_object().bucket(&self.bucket).key(to);
        // A header, which the SDK does not encode: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
        let from_encoded = percent_encoding::utf8_percent_encode(from, UNSAFE_IN_COPY_SOURCE);
        let copy = self.terms.copy(copy.copy_source(format!("{}/{from_encoded}", self.bucket)), to);
        send::copy_object(copy).await.map(|_| ()).map_err(|error| self.failed("COPY", from, &error))
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), ObjectStoreError> {
        let request = self.client().delete_object().bucket(&self.bucket).key(key);
        match send::delete_object(request.set_expected_bucket_owner(self.terms.owner())).await {
            Ok(_) => Ok(()),
            Err(error) => match self.failed("DELETE", key, &error) {
                gone if gone.is_not_found() => Ok(()),
                error => Err(error),
            },
        }
    }
}

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
