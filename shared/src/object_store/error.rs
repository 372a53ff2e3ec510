//! What a request that failed means for its caller.

use crate::exit::Exit;

/// What to do when S3 refuses for good.
pub(super) const REFUSED_ADVICE: &str = "check s3.bucket, s3.region, s3.expected_bucket_owner and the credentials; that their policy \
     (deploy/iam-*.json) may list, get, put and delete in the bucket; and what the bucket's own policy and that of its KMS key \
     ask for (s3.server_side_encryption, s3.kms_key_id, s3.acl)";

/// What to do when a request fails that should pass.
pub(super) const PASSING_ADVICE: &str =
    "if it lasts, check the network, its proxy (HTTPS_PROXY), s3.endpoint and s3.region";
/// What to do when nobody gives a credential now.
pub(super) const CREDENTIAL_ADVICE: &str = "if it lasts, check that this machine reaches what gives the credential: STS \
     (s3.role_arn, s3.sts_endpoint), or the source of the AWS chain";

/// Where the credential comes from, for advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeySource {
    /// `s3.access_key_id`.
    Configuration,
    /// Variables, profile, or the role of the machine.
    Chain,
}

/// What to do about an error code of S3.
pub(super) fn advice(code: Option<&str>, key: KeySource) -> &'static str {
    use KeySource::{Chain, Configuration};
    match (code.unwrap_or_default(), key) {
        ("SignatureDoesNotMatch", Configuration) => {
            "check s3.secret_access_key (or the file of s3.secret_access_key_file): it is not the secret of s3.access_key_id"
        }
        ("SignatureDoesNotMatch", Chain) => {
            "check the secret key of the AWS chain (AWS_SECRET_ACCESS_KEY, or that of the profile): it does not belong to its \
             access key id"
        }
        ("InvalidAccessKeyId", Configuration) => "check s3.access_key_id: S3 does not know it",
        ("InvalidAccessKeyId", Chain) => {
            "check the access key id of the AWS chain (AWS_ACCESS_KEY_ID, or that of the profile): S3 does not know it"
        }
        ("ExpiredToken" | "InvalidToken", Configuration) => {
            "replace s3.session_token and the keys that came with it"
        }
        ("ExpiredToken" | "InvalidToken", Chain) => "renew the session of the AWS chain",
        ("RequestTimeTooSkewed", _) => "set the clock of this machine",
        ("NoSuchBucket" | "InvalidBucketName", _) => "there is no bucket of this name: check s3.bucket",
        ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) => {
            "set s3.region to the region of the bucket"
        }
        (code, _) if code.starts_with("KMS.") => {
            "let the credential use the key of s3.kms_key_id or of the bucket, and see that the key is enabled"
        }
        _ => REFUSED_ADVICE,
    }
}

/// A request to the store that failed.
#[derive(Debug, thiserror::Error)]
#[error("S3 {operation} {bucket}/{key}: {reason}")]
pub struct ObjectStoreError {
    pub(super) operation: &'static str,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) reason: String,
    pub(super) kind: ObjectStoreErrorKind,
    pub(super) too_large: bool,
    pub(super) advice: &'static str,
}

/// What a caller does differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectStoreErrorKind {
    /// There is no such object.
    NotFound,
    /// Credentials, permission, bucket or region are wrong: this needs an operator.
    Configuration,
    /// It lies in an archive class of S3 and cannot be read before it is restored.
    InArchive,
    /// Anything else: the network, throttling, the service. Try again.
    Passing,
}

impl ObjectStoreErrorKind {
    /// Its word in metrics and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Configuration => "configuration",
            Self::InArchive => "in_archive",
            Self::Passing => "passing",
        }
    }
}

impl ObjectStoreError {
    /// What a caller does differently.
    pub fn kind(&self) -> ObjectStoreErrorKind {
        self.kind
    }

    /// Whether S3 said which part of the request is at fault, so that the advice is about that part.
    pub fn names_the_fault(&self) -> bool {
        self.advice != REFUSED_ADVICE
    }

    /// The error and what to do about it.
    pub fn advised(&self) -> String {
        if self.advice.is_empty() { self.to_string() } else { format!("{self}: {}", self.advice) }
    }

    /// The code that a command ends with because of it.
    pub fn exit(&self) -> Exit {
        if self.kind == ObjectStoreErrorKind::Passing { Exit::Unavailable } else { Exit::Config }
    }

    /// What an operator can do; empty when the error says it.
    pub fn advice(&self) -> &'static str {
        self.advice
    }

    /// Whether the object is there and cannot be read, because it lies in an archive class.
    pub fn is_in_archive(&self) -> bool {
        self.kind == ObjectStoreErrorKind::InArchive
    }

    /// Whether the object holds more than may be read: this product did not write it, and an operator must look.
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == ObjectStoreErrorKind::NotFound
    }
}

/// Sorts an error by its HTTP status and S3 code
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
pub(super) fn classify(status: Option<u16>, code: Option<&str>, unsendable: bool) -> ObjectStoreErrorKind {
    match (code, status) {
        (
            Some("NoSuchBucket" | "PermanentRedirect" | "AuthorizationHeaderMalformed" | "InvalidBucketName"),
            _,
        ) => ObjectStoreErrorKind::Configuration,
        (Some("NoSuchKey" | "NotFound"), _) => ObjectStoreErrorKind::NotFound,
        (Some("InvalidObjectState"), _) => ObjectStoreErrorKind::InArchive,
        (Some("RequestTimeout" | "SlowDown" | "IncompleteBody" | "BadDigest"), _) => {
            ObjectStoreErrorKind::Passing
        }
        (_, Some(404)) => ObjectStoreErrorKind::NotFound,
        (_, Some(301 | 400 | 401 | 403)) => ObjectStoreErrorKind::Configuration,
        // No credentials were found in the chain, or the request could not be built.
        _ if unsendable => ObjectStoreErrorKind::Configuration,
        _ => ObjectStoreErrorKind::Passing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_operator_must_mend_is_a_configuration_error() {
        use ObjectStoreErrorKind::{Configuration, InArchive, NotFound, Passing};
        assert_eq!(classify(Some(404), Some("NoSuchKey"), false), NotFound);
        assert_eq!(classify(Some(404), Some("NoSuchBucket"), false), Configuration);
        assert_eq!(classify(Some(403), Some("AccessDenied"), false), Configuration);
        assert_eq!(classify(Some(403), Some("InvalidObjectState"), false), InArchive);
        assert_eq!(classify(Some(503), Some("SlowDown"), false), Passing);
        assert_eq!(classify(None, None, false), Passing);
    }

    #[test]
    fn advice_names_the_key_that_is_wrong() {
        use KeySource::{Chain, Configuration};
        let wrong = Some("SignatureDoesNotMatch");
        assert!(advice(wrong, Configuration).starts_with("check s3.secret_access_key "));
        assert!(advice(wrong, Chain).contains("AWS_SECRET_ACCESS_KEY"));
        assert!(advice(Some("PermanentRedirect"), Chain).contains("s3.region"));
        assert_eq!(advice(Some("AccessDenied"), Chain), REFUSED_ADVICE);
    }
}
