//! The bucket, the client that reaches it, and the errors of its requests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::types::{ObjectCannedAcl, ServerSideEncryption, StorageClass};

use crate::aws::{CredentialFault, credential_fault};
use crate::causes::causes;
use crate::config::{Acl, Encryption, S3};
use crate::layout::IDENTITY;
use crate::lock::locked;
use crate::object_store::error::{
    CREDENTIAL_ADVICE, KeySource, ObjectStoreError, ObjectStoreErrorKind, PASSING_ADVICE, REFUSED_ADVICE,
    advice, classify,
};

/// A bucket.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    /// All clones have the same one.
    reach: Arc<Mutex<Reach>>,
    pub(super) bucket: String,
    pub(super) terms: Arc<Terms>,
    /// `s3.timeout`.
    pub(super) timeout: Duration,
}

/// The client with the credential of now.
#[derive(Debug, Clone)]
struct Reach {
    client: Client,
    key: KeySource,
}

impl Reach {
    fn new(config: &S3, sdk: &SdkConfig) -> Self {
        let key = if config.access_key_id.is_empty() { KeySource::Chain } else { KeySource::Configuration };
        Self { client: client(config, sdk), key }
    }
}

impl ObjectStore {
    /// A client for the configured bucket. Nothing is sent but what looks for credentials.
    pub async fn connect(config: &S3) -> Self {
        Self::over(config, &crate::aws::load(config).await)
    }

    /// The same with the credential and the HTTP client of `sdk`: a simulation answers in the process.
    pub fn over(config: &S3, sdk: &SdkConfig) -> Self {
        let terms = Arc::new(Terms::of(config));
        let reach = Arc::new(Mutex::new(Reach::new(config, sdk)));
        Self { reach, bucket: config.bucket.clone(), terms, timeout: config.timeout.0 }
    }

    /// Takes the credential of another client. The next request of each clone is signed with it.
    pub fn take_credential(&self, other: &Self) {
        let new = locked(&other.reach).clone();
        *locked(&self.reach) = new;
    }

    pub(super) fn client(&self) -> Client {
        locked(&self.reach).client.clone()
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The same store, another bucket, which may belong to anybody.
    pub fn of_bucket(&self, bucket: &str) -> Self {
        let terms = Arc::new(Terms { owner: None, ..Terms::clone(&self.terms) });
        Self { reach: self.reach.clone(), bucket: bucket.to_owned(), terms, timeout: self.timeout }
    }

    pub(super) fn failed<E>(
        &self,
        operation: &'static str,
        key: &str,
        error: &SdkError<E>,
    ) -> ObjectStoreError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
        let kind = classify(status, code, matches!(error, SdkError::ConstructionFailure(_)));
        if let Some(code) = code {
            let message = error.as_service_error().and_then(ProvideErrorMetadata::message);
            let reason = format!("{code} {}", message.unwrap_or_default()).trim_end().to_owned();
            let error = self.error(operation, key, reason + &in_region(error), kind);
            return match kind {
                ObjectStoreErrorKind::Passing => error,
                _ => ObjectStoreError { advice: advice(Some(code), locked(&self.reach).key), ..error },
            };
        }
        if let Some(CredentialFault { why, lasting }) = credential_fault(error) {
            let (kind, advice) = match lasting {
                // It says what to do.
                true => (ObjectStoreErrorKind::Configuration, ""),
                false => (ObjectStoreErrorKind::Passing, CREDENTIAL_ADVICE),
            };
            return ObjectStoreError { advice, ..self.error(operation, key, why, kind) };
        }
        let address = &self.terms.address;
        let reason = match (error, status) {
            // The answer to a HEAD has no body that could say why.
            (SdkError::ServiceError(_), Some(status)) => format!("{address} answered with status {status}"),
            (SdkError::TimeoutError(_), _) => format!("no answer from {address} within s3.timeout"),
            (SdkError::DispatchFailure(failure), _) if !failure.is_user() => {
                format!("cannot reach {address} (s3.endpoint, s3.region): {}", inner_causes(error))
            }
            _ => causes(error),
        };
        self.error(operation, key, reason + &in_region(error), kind)
    }

    pub(super) fn error(
        &self,
        operation: &'static str,
        key: &str,
        reason: String,
        kind: ObjectStoreErrorKind,
    ) -> ObjectStoreError {
        let bucket = self.bucket.clone();
        let key = key.to_owned();
        let advice = match kind {
            ObjectStoreErrorKind::Configuration | ObjectStoreErrorKind::NotFound => REFUSED_ADVICE,
            ObjectStoreErrorKind::InArchive => "",
            ObjectStoreErrorKind::Passing => PASSING_ADVICE,
        };
        ObjectStoreError { operation, bucket, key, reason, kind, too_large: false, advice }
    }

    pub(super) fn too_large(&self, key: &str, held: &str, limit: u64) -> ObjectStoreError {
        let reason = format!("it holds {held}, and may hold {limit} bytes: this program did not write it");
        let error = self.error("GET", key, reason, ObjectStoreErrorKind::Configuration);
        ObjectStoreError { too_large: true, ..error }
    }
}

/// Where the bucket is, if S3 refused because it is in another region.
fn in_region<E>(error: &SdkError<E>) -> String {
    let response = error.raw_response().filter(|response| matches!(response.status().as_u16(), 301 | 400));
    let region = response.and_then(|response| response.headers().get("x-amz-bucket-region"));
    region.map_or_else(String::new, |region| format!(" (the bucket is in {region})"))
}

/// The causes of an error without its own words, which name a phase of the SDK.
fn inner_causes(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), causes)
}

fn client(config: &S3, sdk: &SdkConfig) -> Client {
    let mut s3 = aws_sdk_s3::config::Builder::from(sdk).force_path_style(config.path_style);
    // Also when it is empty: an `endpoint_url` of the profile is not checked. And of S3 alone: the SDK's own setting would
    // send requests to STS there, too.
    s3.set_endpoint_url(Some(config.endpoint.clone()).filter(|given| !given.is_empty()));
    Client::from_conf(s3.build())
}

#[derive(Debug, Clone)]
pub(super) struct Terms {
    encryption: Option<ServerSideEncryption>,
    kms_key: Option<String>,
    acl: Option<ObjectCannedAcl>,
    owner: Option<String>,
    archive: Option<(String, StorageClass)>,
    /// Where requests go.
    pub(super) address: String,
}

impl Terms {
    pub(super) fn of(config: &S3) -> Self {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let class = given(&config.archive_storage_class);
        Self {
            encryption: match config.server_side_encryption {
                Encryption::OfBucket => None,
                Encryption::Aes256 => Some(ServerSideEncryption::Aes256),
                Encryption::Kms => Some(ServerSideEncryption::AwsKms),
                Encryption::KmsDsse => Some(ServerSideEncryption::AwsKmsDsse),
            },
            kms_key: given(&config.kms_key_id),
            acl: match config.acl {
                Acl::OfBucket => None,
                Acl::BucketOwnerFullControl => Some(ObjectCannedAcl::BucketOwnerFullControl),
            },
            owner: given(&config.expected_bucket_owner),
            archive: class.map(|class| (config.ingested.clone(), StorageClass::from(class.as_str()))),
            address: config.address(),
        }
    }

    pub(super) fn owner(&self) -> Option<String> {
        self.owner.clone()
    }

    /// What says whose the prefix is, is no part of a batch, and is written anew now and then.
    fn class_of(&self, key: &str) -> Option<StorageClass> {
        let archive = self.archive.as_ref().filter(|(prefix, _)| key.starts_with(prefix));
        archive.filter(|_| !key.ends_with(IDENTITY)).map(|(_, class)| class.clone())
    }

    pub(super) fn put(&self, request: PutObjectFluentBuilder, key: &str) -> PutObjectFluentBuilder {
        request
            .set_storage_class(self.class_of(key))
            .set_server_side_encryption(self.encryption.clone())
            .set_ssekms_key_id(self.kms_key.clone())
            .set_acl(self.acl.clone())
            .set_expected_bucket_owner(self.owner())
    }

    pub(super) fn copy(&self, request: CopyObjectFluentBuilder, to: &str) -> CopyObjectFluentBuilder {
        request
            .set_server_side_encryption(self.encryption.clone())
            .set_ssekms_key_id(self.kms_key.clone())
            .set_acl(self.acl.clone())
            .set_storage_class(self.class_of(to))
            .set_expected_bucket_owner(self.owner())
            .set_expected_source_bucket_owner(self.owner())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::{ProvideCredentials, future};
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
    use aws_smithy_runtime_api::client::result::ConnectorError;

    use super::*;
    use crate::config::{Config, Secrets};

    /// Answers nothing; notes whom requests are for.
    #[derive(Debug, Clone, Default)]
    struct Noting(Arc<Mutex<Vec<String>>>);

    impl HttpConnector for Noting {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            self.0.lock().unwrap().push(request.uri().to_owned());
            HttpConnectorFuture::ready(Err(ConnectorError::user("noted".into())))
        }
    }

    /// What is said of a request that is signed with `credential` and refused by the network.
    async fn said(credential: SharedCredentialsProvider) -> ObjectStoreError {
        let text = include_str!("../../../deploy/pipeline.example.toml");
        let config = Config::parse(text, Path::new("p"), std::iter::empty(), Secrets::Ingester).unwrap();
        let refusing = http_client_fn(move |_, _| SharedHttpConnector::new(Refusing));
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(credential)
            .http_client(refusing)
            .build();
        let terms = Arc::new(Terms::of(&config.s3));
        let reach = Arc::new(Mutex::new(Reach::new(&config.s3, &sdk)));
        let timeout = config.s3.timeout.0;
        let store = ObjectStore { reach, bucket: config.s3.bucket, terms, timeout };
        store.get_at_most("k", 1).await.unwrap_err()
    }

    #[derive(Debug)]
    struct Nobody;

    impl ProvideCredentials for Nobody {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("no providers in chain")))
        }
    }

    #[derive(Debug)]
    struct Refusing;

    impl HttpConnector for Refusing {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            HttpConnectorFuture::ready(Err(ConnectorError::io("connection refused".into())))
        }
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_reached_is_told_with_its_address_and_keys() {
        let key = Credentials::new("id", "secret", None, None, "test");
        let error = said(SharedCredentialsProvider::new(key)).await;
        let told = error.to_string();
        let place = "cannot reach https://s3.eu-central-1.amazonaws.com (s3.endpoint, s3.region): ";
        assert!(told.contains(place) && told.contains("connection refused"), "{told}");
        assert!(!told.contains("dispatch") && error.kind() == ObjectStoreErrorKind::Passing, "{told}");
    }

    #[tokio::test]
    async fn a_request_without_a_credential_is_an_error_of_the_configuration() {
        let error = said(SharedCredentialsProvider::new(Nobody)).await;
        assert_eq!(error.kind(), ObjectStoreErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("no AWS credential found; give one: s3.access_key_id"), "{error}");
    }

    #[tokio::test]
    async fn requests_go_where_the_configuration_says_whatever_the_profile_says() {
        let text = include_str!("../../../deploy/pipeline.example.toml");
        for (configured, called) in [
            ("", "https://example-livestream.s3.eu-central-1.amazonaws.com/k"),
            ("https://store.example:9000", "https://example-livestream.store.example:9000/k"),
        ] {
            let config = Config::parse(text, Path::new("p"), std::iter::empty(), Secrets::Ingester).unwrap();
            let config =
                S3 { endpoint: configured.to_owned(), region: "eu-central-1".to_owned(), ..config.s3 };
            let noting = Noting::default();
            let shared = SharedHttpConnector::new(noting.clone());
            let key = Credentials::new("id", "secret", None, None, "test");
            // As the SDK sets it when a profile has an endpoint_url.
            let sdk = SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("eu-central-1"))
                .credentials_provider(SharedCredentialsProvider::new(key))
                .http_client(http_client_fn(move |_, _| shared.clone()))
                .endpoint_url("http://10.0.0.1:9000")
                .build();
            let store = client(&config, &sdk);
            store.get_object().bucket("example-livestream").key("k").send().await.unwrap_err();
            let noted = noting.0.lock().unwrap().clone();
            assert!(noted.iter().all(|uri| uri.split('?').next() == Some(called)), "{noted:?}");
            assert!(!noted.is_empty());
            // What an operator is told is the host that is called.
            let told = config.addresses()[0].1.clone();
            assert!(called.starts_with(&told), "{told} {called}");
        }
    }
}
