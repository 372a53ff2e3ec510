//! Reading objects: whole, within a limit, or piece by piece.

use aws_sdk_s3::operation::head_object::builders::HeadObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use bytes::{Bytes, BytesMut};

use crate::causes::causes;
use crate::object_store::error::{ObjectStoreError, ObjectStoreErrorKind};
use crate::object_store::send;
use crate::object_store::store::ObjectStore;
use crate::object_store::write::base64;

/// Bytes of a seal or manifest at most: five times the largest that a configuration allows.
pub const SMALL: u64 = 1 << 20;
/// Bytes of any object that is read whole, at most.
const LARGE: u64 = 256 << 20;
/// Memory that is taken before the first byte has come, at most; more is taken as more comes.
const AT_FIRST: u64 = 4 << 20;

impl ObjectStore {
    /// Reads a whole object of at most 256 MiB.
    pub async fn get(&self, key: &str) -> Result<Bytes, ObjectStoreError> {
        self.get_at_most(key, LARGE).await
    }

    /// Reads a whole object of at most `limit` bytes, so that no writer of objects decides how much memory this takes.
    pub async fn get_at_most(&self, key: &str, limit: u64) -> Result<Bytes, ObjectStoreError> {
        self.get_with_etag(key, limit).await.map(|(content, _)| content)
    }

    /// As [`ObjectStore::get_at_most`], with the object's `ETag`, quotes included.
    pub async fn get_with_etag(&self, key: &str, limit: u64) -> Result<(Bytes, String), ObjectStoreError> {
        let mut opened = self.open(key, 0, None).await?;
        if let Some(length) = opened.length.filter(|length| *length > limit) {
            return Err(self.too_large(key, &format!("{length} bytes"), limit));
        }
        let mut content = BytesMut::with_capacity(room(opened.length));
        let reading = async {
            loop {
                let chunk = opened.chunk().await?;
                if chunk.is_empty() {
                    return Ok(());
                }
                // The length is what the answer says, and not every answer says one.
                if (content.len() + chunk.len()) as u64 > limit {
                    return Err(self.too_large(key, "more", limit));
                }
                content.extend_from_slice(&chunk);
            }
        };
        self.in_time(key, reading).await?;
        Ok((content.freeze(), opened.etag))
    }

    /// Reads a body to its end within `s3.timeout`. The SDK's own limit is over with the head of the answer, and it takes a
    /// byte a second for a body that goes on.
    async fn in_time<T>(
        &self,
        key: &str,
        reading: impl Future<Output = Result<T, ObjectStoreError>>,
    ) -> Result<T, ObjectStoreError> {
        tokio::time::timeout(self.timeout, reading).await.unwrap_or_else(|_| {
            let reason = format!("{} sent only a part of it within s3.timeout", self.terms.address);
            Err(self.error("GET", key, reason, ObjectStoreErrorKind::Passing))
        })
    }

    /// The size of an object in bytes.
    pub async fn size(&self, key: &str) -> Result<u64, ObjectStoreError> {
        let request = self.heading(key);
        let answer = send::head_object(request).await.map_err(|error| self.failed("HEAD", key, &error))?;
        Ok(answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0))
    }

    /// CRC-32 of an object as S3 stored it; where S3 has none of the whole object, the object is read.
    pub async fn crc32_of(&self, key: &str) -> Result<String, ObjectStoreError> {
        let head = self.heading(key).checksum_mode(ChecksumMode::Enabled);
        let answer = send::head_object(head).await.map_err(|error| self.failed("HEAD", key, &error))?;
        // That of an object that was uploaded in parts is one of the parts' checksums: `value-parts`.
        if let Some(crc32) = answer.checksum_crc32().filter(|crc32| !crc32.contains('-')) {
            return Ok(crc32.to_owned());
        }
        let mut opened = self.open(key, 0, None).await?;
        let mut hasher = crc32fast::Hasher::new();
        let reading = async {
            loop {
                let chunk = opened.chunk().await?;
                if chunk.is_empty() {
                    return Ok::<_, ObjectStoreError>(());
                }
                hasher.update(&chunk);
            }
        };
        self.in_time(key, reading).await?;
        Ok(base64(&hasher.finalize().to_be_bytes()))
    }

    fn heading(&self, key: &str) -> HeadObjectFluentBuilder {
        let request = self.client().head_object().bucket(&self.bucket).key(key);
        request.set_expected_bucket_owner(self.terms.owner())
    }

    /// Begins to read an object from byte `at`, which must be one of its bytes, and of this `ETag` if one is given.
    pub async fn open(&self, key: &str, at: u64, etag: Option<&str>) -> Result<Opened, ObjectStoreError> {
        let request = self.client().get_object().bucket(&self.bucket).key(key);
        let request = request.set_expected_bucket_owner(self.terms.owner());
        let request = request.set_if_match(etag.map(str::to_owned));
        let request = request.set_range((at > 0).then(|| format!("bytes={at}-")));
        let answer = send::get_object(request).await.map_err(|error| self.failed("GET", key, &error))?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let (etag, body) = (answer.e_tag.unwrap_or_default(), answer.body);
        Ok(Opened { store: self.clone(), key: key.to_owned(), etag, length, body })
    }
}

fn room(length: Option<u64>) -> usize {
    usize::try_from(length.unwrap_or(0).min(AT_FIRST)).unwrap_or(0)
}

/// An object that is being read, piece by piece.
#[derive(Debug)]
pub struct Opened {
    store: ObjectStore,
    key: String,
    etag: String,
    length: Option<u64>,
    body: ByteStream,
}

impl Opened {
    /// The object's `ETag`, quotes included.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// The next piece; empty at the end. After an error the pieces that came are good.
    pub async fn chunk(&mut self) -> Result<Bytes, ObjectStoreError> {
        loop {
            let chunk = self.body.try_next().await.map_err(|error| {
                self.store.error("GET", &self.key, causes(&error), ObjectStoreErrorKind::Passing)
            })?;
            match chunk {
                Some(chunk) if chunk.is_empty() => {}
                chunk => return Ok(chunk.unwrap_or_default()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::object_store::tests::{read_request, store};

    /// A store that answers every request with this head, and then with bytes for as long as somebody reads.
    async fn endless(head: &'static str) -> ObjectStore {
        store(move |mut socket, _| async move {
            read_request(&mut socket).await;
            let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            let mut sent = socket.write_all(head.as_bytes()).await;
            while sent.is_ok() {
                sent = socket.write_all(piece.as_bytes()).await;
            }
        })
        .await
    }

    #[tokio::test]
    async fn an_object_without_end_is_read_no_further_than_its_limit() {
        for (head, why) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5368709120\r\n\r\n", "5368709120 bytes"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "more"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n", ""),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "more"),
        ] {
            let store = endless(head).await;
            let error = store.get_at_most("ToIngest/batch.json", SMALL).await.unwrap_err();
            let said = error.to_string();
            assert!(said.contains("ToIngest/batch.json") && said.contains(why), "{said}");
            assert!(error.is_too_large() || why.is_empty(), "{said}");
        }
    }

    #[tokio::test]
    async fn what_is_refused_without_a_word_is_told_by_its_status() {
        let store = store(|mut socket, _| async move {
            read_request(&mut socket).await;
            let answer = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            let _ = socket.write_all(answer.as_bytes()).await;
        })
        .await;
        let error = store.size("ToIngest/batch.json").await.unwrap_err();
        assert_eq!(error.kind(), ObjectStoreErrorKind::Configuration);
        assert!(error.to_string().contains("answered with status 403"), "{error}");
    }

    #[test]
    fn no_length_takes_much_memory_before_the_bytes_have_come() {
        assert_eq!((room(None), room(Some(0)), room(Some(7))), (0, 0, 7));
        assert_eq!((room(Some(1 << 30)), room(Some(u64::MAX))), (4 << 20, 4 << 20));
    }
}
