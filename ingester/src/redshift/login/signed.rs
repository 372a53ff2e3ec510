//! Requests that are signed without an SDK.
//!
//! Two actions of two services are needed besides S3's. Their SDKs are some 1,800 generated operations, 209 s of a core
//! to build; a request is a signature (`aws-sigv4`, which S3's SDK needs anyway) and a POST.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use bytes::{Bytes, BytesMut};
use shared::aws;
use shared::boxed::Boxed;
use shared::causes::causes;
use shared::config::S3;

/// Bytes of an answer at most; a password takes some hundred.
const REPLY: usize = 1 << 20;

/// A service of AWS that is asked by signed POSTs to one address.
#[derive(Debug)]
pub struct Api {
    service: &'static str,
    region: String,
    endpoint: String,
    sdk: SdkConfig,
    connector: Connector,
}

/// The body may hold a password.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    /// The kind of an error, where a header names it.
    pub error_type: Option<String>,
    pub body: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("no AWS credentials: {0}")]
    Credentials(String),
    #[error("no answer from {0}")]
    Unreachable(String),
}

impl Api {
    /// Prepares requests to `service`, as signatures name it. The AWS chain may look for credentials.
    pub async fn connect(config: &S3, service: &'static str, region: String, endpoint: String) -> Self {
        let connector = aws::connector(&config.egress, None, None);
        Self { service, region, endpoint, sdk: aws::load(config).await, connector }
    }

    /// Sends a signed POST to the root of the service. Fails when there is no answer within `limit`.
    pub async fn post(
        &self,
        headers: &[(&'static str, &str)],
        body: String,
        limit: Duration,
    ) -> Result<Reply, ApiError> {
        let answer = tokio::time::timeout(limit, self.send(headers, body)).await;
        let late = |_| self.unreachable(&format!("nothing within {}", shared::human::duration(limit)));
        answer.map_err(late)?
    }

    fn unreachable(&self, why: &str) -> ApiError {
        ApiError::Unreachable(format!("{}: {why}", self.endpoint))
    }

    fn send<'a>(
        &'a self,
        headers: &'a [(&'static str, &'a str)],
        body: String,
    ) -> Boxed<'a, Result<Reply, ApiError>> {
        Box::pin(async move {
            let request = self.signed(headers, body).await?;
            let answer = self.connector.call(request).await;
            let answer = answer.map_err(|error| self.unreachable(&causes(&error)))?;
            let status = answer.status().as_u16();
            let error_type = answer.headers().get("x-amzn-errortype").map(str::to_owned);
            let (mut body, mut read) = (ByteStream::new(answer.into_body()), BytesMut::new());
            while let Some(chunk) =
                body.try_next().await.map_err(|error| self.unreachable(&causes(&error)))?
            {
                if read.len() + chunk.len() > REPLY {
                    return Err(self.unreachable(&format!("an answer of more than {REPLY} bytes")));
                }
                read.extend_from_slice(&chunk);
            }
            Ok(Reply { status, error_type, body: read.freeze() })
        })
    }

    async fn signed(&self, headers: &[(&'static str, &str)], body: String) -> Result<HttpRequest, ApiError> {
        let none = || ApiError::Credentials("the AWS chain has none".to_owned());
        let provider = self.sdk.credentials_provider().ok_or_else(none)?;
        let credentials = provider.provide_credentials().await;
        let unusable = |error| ApiError::Credentials(aws::credential_error(&error));
        let identity: Identity = credentials.map_err(unusable)?.into();
        let unsignable = |error: &dyn std::error::Error| ApiError::Unreachable(causes(error));
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(self.sdk.time_source().unwrap_or_default().now())
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
