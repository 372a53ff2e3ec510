//! S3, or any store that speaks it: the few calls this product makes, each of which may be repeated.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode};
use base64::Engine;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};

use crate::causes::causes;
use crate::config::S3;

/// Objects a LIST answers with at most; S3's own limit.
const PAGE: i32 = 1000;

/// Bytes of a seal, a manifest or any other object that says something of others, at most. A seal of the most files
/// that `batch.files_per_batch` allows takes a fifth of it.
pub const SMALL: u64 = 1 << 20;
/// Bytes of any object that is read whole, at most.
const LARGE: u64 = 256 << 20;

/// Everything but what stands for itself in a URL's path.
const UNSAFE_IN_COPY_SOURCE: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A bucket.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    client: Client,
    bucket: String,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its whole key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its `ETag`, quotes included; empty when the store's listings do not tell.
    pub etag: String,
}

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Behind this key.
    After(String),
    /// Where S3 says: a page may be empty although there are more.
    Token(String),
}

/// What S3 said of an object it has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The object's `ETag`, quotes included.
    pub etag: String,
    /// CRC-32 of its content, as S3 spells it.
    pub crc32: String,
}

/// A request to the store that failed.
#[derive(Debug, thiserror::Error)]
#[error("S3 {operation} {bucket}/{key}: {reason}")]
pub struct StoreError {
    operation: &'static str,
    bucket: String,
    key: String,
    reason: String,
    kind: StoreErrorKind,
    too_large: bool,
}

/// What a caller does differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// There is no such object.
    NotFound,
    /// Credentials, permission, bucket or region are wrong: only a person mends that.
    Configuration,
    /// It lies in an archive class of S3 and cannot be read before it is restored.
    Asleep,
    /// Anything else: the network, throttling, the service. Try again.
    Passing,
}

impl StoreError {
    /// What a caller does differently.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the object is there and cannot be read, because it lies in an archive class.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.kind == StoreErrorKind::Asleep
    }

    /// Whether the object holds more than whatever is read there can hold: this product did not write it. A person has
    /// to look, as for any error of configuration.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind == StoreErrorKind::NotFound
    }
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
        let mut loader = crate::aws::loader(config);
        if !config.endpoint.is_empty() {
            loader = loader.endpoint_url(&config.endpoint);
        }
        let sdk = crate::aws::load(loader).await;
        let s3 = aws_sdk_s3::config::Builder::from(&sdk).force_path_style(config.path_style).build();
        Self { client: Client::from_conf(s3), bucket: config.bucket.clone() }
    }

    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Stores an object with its CRC-32, which S3 checks on arrival; what S3 answers is compared here once more.
    ///
    /// # Errors
    /// When S3 refuses, or answers with another checksum. An error may come after the effect.
    pub async fn put(&self, key: &str, content: Bytes) -> Result<Stored, StoreError> {
        let crc32 = crc32(&content);
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .checksum_crc32(&crc32)
            .content_length(i64::try_from(content.len()).unwrap_or(i64::MAX))
            .body(ByteStream::from(content));
        let answer = send::put_object(request).await.map_err(|error| self.failed("PUT", key, &error))?;
        if let Some(answered) = answer.checksum_crc32().filter(|answered| *answered != crc32) {
            let reason = format!("stored with checksum {answered}, sent with {crc32}");
            return Err(self.error("PUT", key, reason, StoreErrorKind::Passing));
        }
        Ok(Stored { etag: answer.e_tag.unwrap_or_default(), crc32 })
    }

    /// As [`ObjectStore::put`], unless there is such an object already; then None.
    ///
    /// # Errors
    /// As [`ObjectStore::put`].
    pub async fn put_new(&self, key: &str, content: Bytes) -> Result<Option<Stored>, StoreError> {
        let crc32 = crc32(&content);
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .checksum_crc32(&crc32)
            .content_length(i64::try_from(content.len()).unwrap_or(i64::MAX))
            .body(ByteStream::from(content));
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

    /// Reads a whole object, of 256 MiB at most. Where it is known how large the object may be, ask with
    /// [`ObjectStore::get_at_most`].
    ///
    /// # Errors
    /// As [`ObjectStore::get_at_most`].
    pub async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.get_at_most(key, LARGE).await
    }

    /// Reads a whole object, if it holds no more than `limit` bytes: anybody who may write into the bucket decides how
    /// large an object is, and must not decide how much memory this process takes.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or holds more ([`StoreError::is_too_large`]).
    pub async fn get_at_most(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        let answer = send::get_object(request).await.map_err(|error| self.failed("GET", key, &error))?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        if let Some(length) = length.filter(|length| *length > limit) {
            return Err(self.too_large(key, &format!("{length} bytes"), limit));
        }
        let room = usize::try_from(length.unwrap_or(0).min(limit)).unwrap_or(0);
        let (mut body, mut content) = (answer.body, BytesMut::with_capacity(room));
        // The length is what the answer says, and not every answer says one.
        loop {
            match body.try_next().await {
                Ok(Some(chunk)) if (content.len() + chunk.len()) as u64 > limit => {
                    return Err(self.too_large(key, "more", limit));
                }
                Ok(Some(chunk)) => content.extend_from_slice(&chunk),
                Ok(None) => return Ok(content.freeze()),
                Err(error) => return Err(self.error("GET", key, causes(&error), StoreErrorKind::Passing)),
            }
        }
    }

    /// The same store, another bucket.
    #[must_use]
    pub fn of_bucket(&self, bucket: &str) -> Self {
        Self { client: self.client.clone(), bucket: bucket.to_owned() }
    }

    /// The size of an object in bytes.
    ///
    /// # Errors
    /// When it is not there or S3 refuses.
    pub async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        let answer = send::head_object(request).await.map_err(|error| self.failed("HEAD", key, &error))?;
        Ok(answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0))
    }

    /// CRC-32 of an object's content as S3 spells it: as S3 stored it with the object, or, where it has none of the whole
    /// object, by reading it.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub async fn crc32_of(&self, key: &str) -> Result<String, StoreError> {
        let head = self.client.head_object().bucket(&self.bucket).key(key);
        let head = head.checksum_mode(ChecksumMode::Enabled);
        let answer = send::head_object(head).await.map_err(|error| self.failed("HEAD", key, &error))?;
        // That of an object that was uploaded in parts is one of the parts' checksums: `value-parts`.
        if let Some(crc32) = answer.checksum_crc32().filter(|crc32| !crc32.contains('-')) {
            return Ok(crc32.to_owned());
        }
        let mut opened = self.open(key, 0, None).await?;
        let mut hasher = crc32fast::Hasher::new();
        loop {
            let chunk = opened.chunk().await?;
            if chunk.is_empty() {
                return Ok(base64(&hasher.finalize().to_be_bytes()));
            }
            hasher.update(&chunk);
        }
    }

    /// Begins to read an object of any size, from byte `at` on, which must be one of its bytes; of this `ETag` if one
    /// is given.
    ///
    /// # Errors
    /// When it is not there, is another, or cannot be read.
    pub async fn open(&self, key: &str, at: u64, etag: Option<&str>) -> Result<Opened, StoreError> {
        let request =
            self.client.get_object().bucket(&self.bucket).key(key).set_if_match(etag.map(str::to_owned));
        let request = request.set_range((at > 0).then(|| format!("bytes={at}-")));
        let answer = send::get_object(request).await.map_err(|error| self.failed("GET", key, &error))?;
        let etag = answer.e_tag.unwrap_or_default();
        Ok(Opened { store: self.clone(), key: key.to_owned(), etag, body: answer.body })
    }

    /// One page of a listing, in the order of the keys: up to 1000 objects below `prefix`, and where it goes on. Only
    /// S3's word that nothing follows ends a listing; a page may be empty before.
    ///
    /// # Errors
    /// When S3 refuses, or does not come on.
    pub async fn list_page(
        &self,
        prefix: &str,
        from: Option<&Next>,
    ) -> Result<(Vec<Object>, Option<Next>), StoreError> {
        let (page, next) = self.list_raw(prefix, from).await?;
        let object = |object: aws_sdk_s3::types::Object| Object {
            size: object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            key: object.key.unwrap_or_default(),
            etag: object.e_tag.unwrap_or_default(),
        };
        Ok((page.into_iter().map(object).collect(), next))
    }

    async fn list_raw(
        &self,
        prefix: &str,
        from: Option<&Next>,
    ) -> Result<(Vec<aws_sdk_s3::types::Object>, Option<Next>), StoreError> {
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(PAGE);
        let request = match from {
            None => request,
            Some(Next::After(key)) => request.start_after(key),
            Some(Next::Token(token)) => request.continuation_token(token),
        };
        let answer =
            send::list_objects_v2(request).await.map_err(|error| self.failed("LIST", prefix, &error))?;
        let page = answer.contents.unwrap_or_default();
        let last = page.last().and_then(|object| object.key.clone());
        let next = following(answer.is_truncated, last, answer.next_continuation_token, from);
        let next = next.map_err(|why| self.error("LIST", prefix, why.to_owned(), StoreErrorKind::Passing))?;
        Ok((page, next))
    }

    /// Every object below `prefix` and after `after`, in the order of the keys.
    ///
    /// # Errors
    /// When S3 refuses.
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Object>, StoreError> {
        let mut objects = Vec::new();
        let mut from = after.map(|after| Next::After(after.to_owned()));
        loop {
            let (page, next) = self.list_page(prefix, from.as_ref()).await?;
            objects.extend(page);
            if next.is_none() {
                return Ok(objects);
            }
            from = next;
        }
    }

    /// The objects below `prefix` whose names behind it are `ours`, in the order of the keys: however many others lie there,
    /// they take no memory.
    ///
    /// # Errors
    /// When S3 refuses.
    pub async fn list_where(
        &self,
        prefix: &str,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<Object>, StoreError> {
        let (mut objects, mut from) = (Vec::new(), None::<Next>);
        loop {
            let (page, next) = self.list_page(prefix, from.as_ref()).await?;
            let of_ours = |object: &Object| object.key.strip_prefix(prefix).is_some_and(&ours);
            objects.extend(page.into_iter().filter(of_ours));
            if next.is_none() {
                return Ok(objects);
            }
            from = next;
        }
    }

    /// The folders directly below `prefix`, in order, each as `{prefix}name/`: one request for a thousand of them, however
    /// many objects they hold.
    ///
    /// # Errors
    /// When S3 refuses.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let (mut folders, mut token) = (Vec::new(), None::<String>);
        loop {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).delimiter("/");
            let request = request.set_continuation_token(token.clone());
            let answer =
                send::list_objects_v2(request).await.map_err(|error| self.failed("LIST", prefix, &error))?;
            let found = answer.common_prefixes.unwrap_or_default();
            folders.extend(found.into_iter().filter_map(|folder| folder.prefix));
            // Several names fold into one folder, so that no key says where to go on.
            let from = token.map(Next::Token);
            let next = following(answer.is_truncated, None, answer.next_continuation_token, from.as_ref());
            token = match next {
                Ok(Some(Next::Token(token))) => Some(token),
                Ok(None | Some(Next::After(_))) => return Ok(folders),
                Err(why) => return Err(self.error("LIST", prefix, why.to_owned(), StoreErrorKind::Passing)),
            };
        }
    }

    /// The keys below `prefix` that are `ours`, of objects that were written before `before`.
    ///
    /// # Errors
    /// When S3 refuses.
    pub async fn list_older(
        &self,
        prefix: &str,
        before: DateTime<Utc>,
        ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, StoreError> {
        let old = |object: &aws_sdk_s3::types::Object| {
            object.last_modified.is_some_and(|at| at.secs() < before.timestamp())
        };
        let (mut keys, mut from) = (Vec::new(), None::<Next>);
        loop {
            let (page, next) = self.list_raw(prefix, from.as_ref()).await?;
            let found = page.into_iter().filter(old).filter_map(|object| object.key);
            keys.extend(found.filter(|key| ours(key)));
            if next.is_none() {
                return Ok(keys);
            }
            from = next;
        }
    }

    /// Copies an object within the bucket.
    ///
    /// # Errors
    /// When the source is not there or S3 refuses.
    pub async fn copy(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let copy = self.client.copy_object().bucket(&self.bucket).key(to);
        // A header, which the SDK does not encode: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
        let from_encoded = percent_encoding::utf8_percent_encode(from, UNSAFE_IN_COPY_SOURCE);
        let copy = copy.copy_source(format!("{}/{from_encoded}", self.bucket));
        send::copy_object(copy).await.map(|_| ()).map_err(|error| self.failed("COPY", from, &error))
    }

    /// Deletes an object; one that is not there is no error.
    ///
    /// # Errors
    /// When S3 refuses.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match send::delete_object(self.client.delete_object().bucket(&self.bucket).key(key)).await {
            Ok(_) => Ok(()),
            Err(error) => match self.failed("DELETE", key, &error) {
                gone if gone.is_not_found() => Ok(()),
                error => Err(error),
            },
        }
    }

    fn failed<E>(&self, operation: &'static str, key: &str, error: &SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
        let kind = classify(status, code, matches!(error, SdkError::ConstructionFailure(_)));
        let reason = match (code, error.as_service_error().and_then(ProvideErrorMetadata::message)) {
            (Some(code), message) => format!("{code} {}", message.unwrap_or_default()),
            _ => {
                let said = causes(error);
                if let Some(told) = crate::aws::not_built_in(&said) {
                    return self.error(operation, key, told, StoreErrorKind::Configuration);
                }
                said
            }
        };
        self.error(operation, key, reason, kind)
    }

    fn error(&self, operation: &'static str, key: &str, reason: String, kind: StoreErrorKind) -> StoreError {
        let bucket = self.bucket.clone();
        StoreError { operation, bucket, key: key.to_owned(), reason, kind, too_large: false }
    }

    fn too_large(&self, key: &str, held: &str, limit: u64) -> StoreError {
        let reason = format!("it holds {held}, and may hold {limit} bytes: this program did not write it");
        let error = self.error("GET", key, reason, StoreErrorKind::Configuration);
        StoreError { too_large: true, ..error }
    }
}

/// Where a listing goes on that came to `last`; None at its end. A page that ends where it began is a fault of the store:
/// asking again for ever would not show it.
fn following(
    truncated: Option<bool>,
    last: Option<String>,
    token: Option<String>,
    from: Option<&Next>,
) -> Result<Option<Next>, &'static str> {
    // A store that does not say whether there is more says it by a token.
    if !truncated.unwrap_or(token.is_some()) {
        return Ok(None);
    }
    let next = last.map(Next::After).or(token.map(Next::Token));
    match next {
        None => Err("it says that there is more, and not where"),
        next if next.as_ref() == from => Err("it says that there is more, and does not come on"),
        next => Ok(next),
    }
}

/// Sends the SDK's requests, each by a function that is compiled here and nowhere else (see [`crate::boxed`]).
mod send {
    use aws_sdk_s3::error::SdkError;

    use crate::boxed::Boxed;

    macro_rules! operations {
        ($($name:ident: $request:ident -> $answer:ident or $error:ident;)*) => {$(
            #[inline(never)]
            pub(super) fn $name(
                request: aws_sdk_s3::operation::$name::builders::$request,
            ) -> Boxed<'static, Result<aws_sdk_s3::operation::$name::$answer, SdkError<aws_sdk_s3::operation::$name::$error>>>
            {
                Box::pin(request.send())
            }
        )*};
    }

    operations! {
        put_object: PutObjectFluentBuilder -> PutObjectOutput or PutObjectError;
        get_object: GetObjectFluentBuilder -> GetObjectOutput or GetObjectError;
        head_object: HeadObjectFluentBuilder -> HeadObjectOutput or HeadObjectError;
        list_objects_v2: ListObjectsV2FluentBuilder -> ListObjectsV2Output or ListObjectsV2Error;
        copy_object: CopyObjectFluentBuilder -> CopyObjectOutput or CopyObjectError;
        delete_object: DeleteObjectFluentBuilder -> DeleteObjectOutput or DeleteObjectError;
    }
}

/// An object that is being read, piece by piece.
#[derive(Debug)]
pub struct Opened {
    store: ObjectStore,
    key: String,
    etag: String,
    body: ByteStream,
}

impl Opened {
    /// The object's `ETag`, quotes included.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// The next piece; empty at the end.
    ///
    /// # Errors
    /// When the connection breaks: what came is good, and the rest can be asked for.
    pub async fn chunk(&mut self) -> Result<Bytes, StoreError> {
        let chunk = self.body.try_next().await;
        chunk
            .map(Option::unwrap_or_default)
            .map_err(|error| self.store.error("GET", &self.key, causes(&error), StoreErrorKind::Passing))
    }
}

/// Sorts an error by its HTTP status and S3 code
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
fn classify(status: Option<u16>, code: Option<&str>, unsendable: bool) -> StoreErrorKind {
    match (code, status) {
        (
            Some("NoSuchBucket" | "PermanentRedirect" | "AuthorizationHeaderMalformed" | "InvalidBucketName"),
            _,
        ) => StoreErrorKind::Configuration,
        (Some("NoSuchKey" | "NotFound"), _) => StoreErrorKind::NotFound,
        (Some("InvalidObjectState"), _) => StoreErrorKind::Asleep,
        (Some("RequestTimeout" | "SlowDown" | "IncompleteBody" | "BadDigest"), _) => StoreErrorKind::Passing,
        (_, Some(404)) => StoreErrorKind::NotFound,
        (_, Some(301 | 400 | 401 | 403)) => StoreErrorKind::Configuration,
        // No credentials were found in the chain, or the request could not be built.
        _ if unsendable => StoreErrorKind::Configuration,
        _ => StoreErrorKind::Passing,
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

    #[test]
    fn only_the_word_that_nothing_follows_ends_a_listing() {
        let (key, token) = (|| Some("k".to_owned()), || Some("t".to_owned()));
        let (after, at) = (Next::After("k".to_owned()), Next::Token("t".to_owned()));
        assert_eq!(following(Some(false), key(), token(), None), Ok(None));
        assert_eq!(following(None, key(), None, None), Ok(None));
        assert_eq!(following(Some(true), key(), token(), None), Ok(Some(after.clone())));
        assert_eq!(following(Some(true), None, token(), Some(&after)), Ok(Some(at.clone())), "an empty page");
        assert_eq!(following(None, None, token(), None), Ok(Some(at.clone())));
        assert!(following(Some(true), None, None, None).is_err());
        assert!(following(Some(true), None, token(), Some(&at)).is_err());
        assert!(following(Some(true), key(), None, Some(&after)).is_err());
    }

    #[test]
    fn only_what_a_person_must_mend_is_a_configuration_error() {
        use StoreErrorKind::{Asleep, Configuration, NotFound, Passing};
        assert_eq!(classify(Some(404), Some("NoSuchKey"), false), NotFound);
        assert_eq!(classify(Some(404), Some("NoSuchBucket"), false), Configuration);
        assert_eq!(classify(Some(403), Some("AccessDenied"), false), Configuration);
        assert_eq!(classify(Some(403), Some("InvalidObjectState"), false), Asleep);
        assert_eq!(classify(Some(503), Some("SlowDown"), false), Passing);
        assert_eq!(classify(None, None, false), Passing);
    }
}
