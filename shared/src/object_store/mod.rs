//! S3, or any store that speaks it: the few calls this product makes, each of which may be repeated.

mod error;
mod list;
mod read;
mod send;
mod terms;
mod write;

use std::sync::Arc;

use aws_config::SdkConfig;
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
        let terms = Arc::new(Terms::of(config));
        Self { client: client(config, &sdk), bucket: config.bucket.clone(), terms }
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

fn client(config: &S3, sdk: &SdkConfig) -> Client {
    let mut s3 = aws_sdk_s3::config::Builder::from(sdk).force_path_style(config.path_style);
    // Also when it is empty: an `endpoint_url` of the profile is not checked. And of S3 alone: the SDK's own setting would
    // send what asks for a role there, too.
    s3.set_endpoint_url(Some(config.endpoint.clone()).filter(|given| !given.is_empty()));
    Client::from_conf(s3.build())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

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

    #[test]
    fn a_checksum_is_spelled_as_s3_spells_it() {
        // The CRC-32 check value of "123456789" is cbf43926.
        assert_eq!(crc32(b"123456789"), "y/Q5Jg==");
    }
}
