//! What the calls to AWS have in common: the credential, the HTTP client, and requests signed without an SDK.
//!
//! Two actions of two services are needed besides S3's. Their SDKs are some 1,800 generated operations, 209 s of a core to
//! build; a request is a signature (`aws-sigv4`, which S3's SDK needs anyway) and a POST.

use std::time::{Duration, SystemTime};

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use bytes::Bytes;

use crate::boxed::Boxed;
use crate::causes::causes;
use crate::config::S3;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

fn provider() -> tls::Provider {
    tls::Provider::Rustls(CryptoMode::Ring)
}

/// The configuration of an SDK: the fixed key of [s3], or the AWS chain.
pub(crate) fn loader(config: &S3) -> ConfigLoader {
    let http = Builder::new().tls_provider(provider()).build_https();
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(config.timeout.0).build();
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(config.region.clone()))
        .timeout_config(timeouts);
    if config.access_key_id.is_empty() {
        return loader;
    }
    let (id, secret) = (&config.access_key_id, config.secret_access_key.reveal());
    loader.credentials_provider(Credentials::new(id, secret, None, None, "configuration"))
}

/// Finds the credentials and all else that the loader looks for.
pub(crate) fn load(loader: ConfigLoader) -> Boxed<'static, SdkConfig> {
    Box::pin(loader.load())
}

/// A service of AWS that is asked by signed POSTs to one address.
#[derive(Debug)]
pub struct Api {
    service: &'static str,
    region: String,
    endpoint: String,
    credentials: Option<SharedCredentialsProvider>,
    connector: Connector,
}

/// What the service answered.
#[derive(Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The kind of an error, where a header names it.
    pub error_type: Option<String>,
    /// The body. It may hold a password.
    pub body: Bytes,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nothing to sign with.
    #[error("no AWS credentials: {0}")]
    Credentials(String),
    /// The service cannot be reached.
    #[error("no answer from {0}")]
    Unreachable(String),
}

impl Api {
    /// The service `service`, as signatures name it, at `endpoint`. Nothing is sent yet, except that the AWS chain
    /// may look for credentials.
    pub async fn connect(config: &S3, service: &'static str, region: String, endpoint: String) -> Self {
        let credentials = load(loader(config)).await.credentials_provider();
        let connector = Connector::builder().tls_provider(provider()).build();
        Self { service, region, endpoint, credentials, connector }
    }

    /// Sends a signed POST to the root of the service.
    ///
    /// # Errors
    /// When there is nothing to sign with, or no answer within `limit`.
    pub async fn post(
        &self,
        headers: &[(&'static str, &str)],
        body: String,
        limit: Duration,
    ) -> Result<Reply, ApiError> {
        let unreachable = |why: String| ApiError::Unreachable(format!("{}: {why}", self.endpoint));
        match tokio::time::timeout(limit, self.send(headers, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable(format!("nothing within {}", crate::human::duration(limit)))),
        }
    }

    fn send<'a>(
        &'a self,
        headers: &'a [(&'static str, &'a str)],
        body: String,
    ) -> Boxed<'a, Result<Reply, ApiError>> {
        Box::pin(async move {
            let unreachable = |why: String| ApiError::Unreachable(format!("{}: {why}", self.endpoint));
            let request = self.signed(headers, body).await?;
            let answer = self.connector.call(request).await.map_err(|error| unreachable(causes(&error)))?;
            let status = answer.status().as_u16();
            let error_type = answer.headers().get("x-amzn-errortype").map(str::to_owned);
            let body = ByteStream::new(answer.into_body()).collect().await;
            let body = body.map_err(|error| unreachable(causes(&error)))?.into_bytes();
            Ok(Reply { status, error_type, body })
        })
    }

    async fn signed(&self, headers: &[(&'static str, &str)], body: String) -> Result<HttpRequest, ApiError> {
        let credentials = match &self.credentials {
            Some(provider) => provider.provide_credentials().await,
            None => return Err(ApiError::Credentials("the AWS chain has none".to_owned())),
        };
        let identity: Identity = credentials.map_err(|error| ApiError::Credentials(causes(&error)))?.into();
        let unsignable = |error: &dyn std::error::Error| ApiError::Unreachable(causes(error));
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsignable(&error))?
            .into();
        let signable = SignableRequest::new(
            "POST",
            &self.endpoint,
            headers.iter().copied(),
            SignableBody::Bytes(body.as_bytes()),
        );
        let signing = signable.and_then(|request| sign(request, &params));
        let (instructions, _) = signing.map_err(|error| unsignable(&error))?.into_parts();
        let mut request = hyper::Request::builder().method("POST").uri(&self.endpoint);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(SdkBody::from(body)).map_err(|error| unsignable(&error))?;
        instructions.apply_to_request_http1x(&mut request);
        HttpRequest::try_from(request).map_err(|error| unsignable(&error))
    }
}
