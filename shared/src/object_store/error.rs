//! What a request that failed means for its caller.

/// What to do when S3 refuses for good.
const REFUSED_ADVICE: &str = "check s3.bucket, s3.region, s3.expected_bucket_owner and the credentials; that their policy \
     (deploy/iam-*.json) may list, get, put and delete in the bucket; and what the bucket's own policy and that of its KMS key \
     ask for (s3.server_side_encryption, s3.kms_key_id, s3.acl)";

const NO_BUCKET_ADVICE: &str = "there is no bucket of this name: check s3.bucket";
const REGION_ADVICE: &str = "set s3.region to the region of the bucket";

/// A request to the store that failed.
#[derive(Debug, thiserror::Error)]
#[error("S3 {operation} {bucket}/{key}: {reason}")]
pub struct StoreError {
    pub(super) operation: &'static str,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) reason: String,
    pub(super) kind: StoreErrorKind,
    pub(super) too_large: bool,
}

/// What a caller does differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// There is no such object.
    NotFound,
    /// Credentials, permission, bucket or region are wrong: this needs an operator.
    Configuration,
    /// It lies in an archive class of S3 and cannot be read before it is restored.
    InArchive,
    /// Anything else: the network, throttling, the service. Try again.
    Passing,
}

impl StoreError {
    /// What an operator can do about a refusal.
    pub fn advice(&self) -> &'static str {
        let is = |code: &str| self.reason.starts_with(code);
        if is("NoSuchBucket") {
            NO_BUCKET_ADVICE
        } else if is("PermanentRedirect") || is("AuthorizationHeaderMalformed") {
            REGION_ADVICE
        } else {
            REFUSED_ADVICE
        }
    }

    /// What a caller does differently.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the object is there and cannot be read, because it lies in an archive class.
    pub fn is_in_archive(&self) -> bool {
        self.kind == StoreErrorKind::InArchive
    }

    /// Whether the object holds more than may be read: this product did not write it, and an operator must look.
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == StoreErrorKind::NotFound
    }
}

/// Sorts an error by its HTTP status and S3 code
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
pub(super) fn classify(status: Option<u16>, code: Option<&str>, unsendable: bool) -> StoreErrorKind {
    match (code, status) {
        (
            Some("NoSuchBucket" | "PermanentRedirect" | "AuthorizationHeaderMalformed" | "InvalidBucketName"),
            _,
        ) => StoreErrorKind::Configuration,
        (Some("NoSuchKey" | "NotFound"), _) => StoreErrorKind::NotFound,
        (Some("InvalidObjectState"), _) => StoreErrorKind::InArchive,
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
    fn only_what_a_person_must_mend_is_a_configuration_error() {
        use StoreErrorKind::{Configuration, InArchive, NotFound, Passing};
        assert_eq!(classify(Some(404), Some("NoSuchKey"), false), NotFound);
        assert_eq!(classify(Some(404), Some("NoSuchBucket"), false), Configuration);
        assert_eq!(classify(Some(403), Some("AccessDenied"), false), Configuration);
        assert_eq!(classify(Some(403), Some("InvalidObjectState"), false), InArchive);
        assert_eq!(classify(Some(503), Some("SlowDown"), false), Passing);
        assert_eq!(classify(None, None, false), Passing);
    }
}
