//! What the calls to AWS have in common: the credential, the HTTP client, and requests signed without an SDK.
//!
//! Two actions of two services are needed besides S3's. Their SDKs are some 1,800 generated operations, 209 s of a core to
//! build; a request is a signature (`aws-sigv4`, which S3's SDK needs anyway) and a POST.

mod https_only;

use std::time::{Duration, SystemTime};

use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings, SharedHttpClient};
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use bytes::{Bytes, BytesMut};

use crate::boxed::Boxed;
use crate::causes::causes;
use crate::config::S3;
use crate::egress::Egress;
use https_only::HttpsOnly;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// The name by which CloudTrail shows the sessions of an assumed role.
const SESSION: &str = "livestream";
/// Bytes of an answer at most; a password takes some hundred.
const REPLY: usize = 1 << 20;

fn provider() -> tls::Provider {
    tls::Provider::Rustls(CryptoMode::Ring)
}

/// A connector that takes the way out that the environment names, as every client of the product does.
fn connector(
    egress: &Egress,
    settings: Option<HttpConnectorSettings>,
    components: Option<&RuntimeComponents>,
) -> Connector {
    let mut builder = Connector::builder().tls_provider(provider());
    builder.set_connector_settings(settings);
    builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
    if let Some(proxy) = egress.proxy_of_aws() {
        builder = builder.proxy_config(proxy.clone());
    }
    if let Some(context) = egress.context_of_aws() {
        builder = builder.tls_context(context.clone());
    }
    builder.build()
}

/// The HTTP client of an SDK.
fn http(egress: &Egress) -> SharedHttpClient {
    let egress = egress.clone();
    HttpsOnly::over(Builder::new().build_with_connector_fn(move |settings, components| {
        connector(&egress, settings.cloned(), components)
    }))
}

/// What the clients of AWS have in common; the credential is the fixed key of [s3] or the AWS chain, or a role that is
/// assumed with one of them.
pub(crate) fn load(config: &S3) -> Boxed<'_, SdkConfig> {
    Box::pin(async move {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(config.timeout.0)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http(&config.egress))
            .region(Region::new(config.region.clone()))
            .timeout_config(timeouts);
        if !config.access_key_id.is_empty() {
            let (id, secret) = (&config.access_key_id, config.secret_access_key.reveal());
            let token = Some(config.session_token.reveal().to_owned()).filter(|token| !token.is_empty());
            loader = loader.credentials_provider(Credentials::new(id, secret, token, None, "configuration"));
        }
        let sdk = loader.load().await;
        if config.role_arn.is_empty() { sdk } else { assuming(config, sdk).await }
    })
}

/// What STS is asked with. Made anew, without what the SDK would look up for a service: an `endpoint_url` of the profile
/// goes before an address that is set here.
fn asking(config: &S3, sdk: &SdkConfig) -> SdkConfig {
    let mut asking = SdkConfig::builder();
    asking.set_behavior_version(sdk.behavior_version());
    asking.set_region(sdk.region().cloned());
    asking.set_http_client(sdk.http_client());
    asking.set_credentials_provider(sdk.credentials_provider());
    asking.set_timeout_config(sdk.timeout_config().cloned());
    asking.set_retry_config(sdk.retry_config().cloned());
    asking.set_sleep_impl(sdk.sleep_impl());
    asking.set_time_source(sdk.time_source());
    asking.set_use_fips(sdk.use_fips());
    asking.set_use_dual_stack(sdk.use_dual_stack());
    asking.set_endpoint_url(Some(config.sts_endpoint.clone()).filter(|given| !given.is_empty()));
    asking.build()
}

/// The same, as the role of [s3].
async fn assuming(config: &S3, sdk: SdkConfig) -> SdkConfig {
    let mut role =
        AssumeRoleProvider::builder(&config.role_arn).session_name(SESSION).configure(&asking(config, &sdk));
    if !config.external_id.is_empty() {
        role = role.external_id(&config.external_id);
    }
    // The cache of the SDK keeps what the role gave out, and asks again before it ends.
    sdk.into_builder().credentials_provider(SharedCredentialsProvider::new(role.build().await)).build()
}

/// What to do about a source of credentials that is not built in. A program that AWS itself offers reads it.
const INSTEAD: &str = "name in AWS_PROFILE another profile, with `credential_process = aws configure export-credentials \
     --profile <the present one> --format process`, whose credential passes with the session; or give the service one of its own: \
     the role of its container or instance, a web identity, a profile with keys or with role_arn and source_profile, \
     AWS_ACCESS_KEY_ID, or s3.access_key_id";

/// What an operator is told about a source of credentials that is not built in: the SDK speaks of features of cargo. None
/// if the error is another.
#[must_use]
pub(crate) fn not_built_in(said: &str) -> Option<String> {
    let source = if let Some((_, rest)) = said.split_once("cargo feature(s) enabled: ") {
        match rest.split(['.', ' ', ',']).next().unwrap_or_default() {
            "sso" => "IAM Identity Center (`aws sso login`)".to_owned(),
            "credentials-login" => "a console session (`aws login`)".to_owned(),
            other => format!("{other:?}"),
        }
    } else {
        let (_, rest) = said.split_once("profile referenced `")?;
        let (name, rest) = rest.split_once('`')?;
        rest.contains("not supported").then(|| format!("{name:?}"))?
    };
    Some(format!("the AWS profile takes its credential from {source}, which is not built in: {INSTEAD}"))
}

/// An error of finding or using a credential, for an operator.
fn of_credentials(error: &dyn std::error::Error) -> ApiError {
    let said = causes(error);
    ApiError::Credentials(not_built_in(&said).unwrap_or(said))
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
        let credentials = load(config).await.credentials_provider();
        let connector = connector(&config.egress, None, None);
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
            let (mut body, mut read) = (ByteStream::new(answer.into_body()), BytesMut::new());
            while let Some(chunk) = body.try_next().await.map_err(|error| unreachable(causes(&error)))? {
                if read.len() + chunk.len() > REPLY {
                    return Err(unreachable(format!("an answer of more than {REPLY} bytes")));
                }
                read.extend_from_slice(&chunk);
            }
            Ok(Reply { status, error_type, body: read.freeze() })
        })
    }

    async fn signed(&self, headers: &[(&'static str, &str)], body: String) -> Result<HttpRequest, ApiError> {
        let credentials = match &self.credentials {
            Some(provider) => provider.provide_credentials().await,
            None => return Err(ApiError::Credentials("the AWS chain has none".to_owned())),
        };
        let identity: Identity = credentials.map_err(|error| of_credentials(&error))?.into();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the SDK says of this profile.
    #[allow(deprecated, reason = "the names of now are those of a crate that is not a dependency here")]
    async fn said(profile: &str) -> String {
        use aws_config::profile::ProfileFileCredentialsProvider;
        use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
        use aws_config::provider_config::ProviderConfig;

        let http = Builder::new().tls_provider(provider()).build_https();
        let files = ProfileFiles::builder().with_contents(ProfileFileKind::Config, profile).build();
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&ProviderConfig::without_region().with_http_client(http))
            .profile_files(files)
            .build();
        causes(&provider.provide_credentials().await.unwrap_err())
    }

    #[tokio::test]
    async fn a_source_that_is_not_built_in_is_told_without_a_word_of_cargo() {
        let sso = "[default]\nsso_start_url = https://example.com/start\nsso_region = eu-central-1\n\
                   sso_account_id = 123456789012\nsso_role_name = r\n";
        let login = "[default]\nlogin_session = arn:aws:iam::123456789012:user/u\n";
        for (profile, source) in [(sso, "aws sso login"), (login, "aws login")] {
            let said = said(profile).await;
            let told = not_built_in(&said);
            assert!(told.is_some(), "the SDK has other words by now: {said}");
            let told = told.unwrap();
            for part in [source, "AWS_PROFILE", "credential_process", "s3.access_key_id"] {
                assert!(told.contains(part), "{part}: {told}");
            }
            assert!(!told.contains("cargo") && !told.contains("feature"), "{told}");
        }
    }

    #[test]
    fn a_source_nobody_knows_is_named_and_other_errors_are_left_as_they_are() {
        let unknown = "invalid: profile referenced `Foo` provider but that provider is not supported";
        assert!(not_built_in(unknown).unwrap().contains("\"Foo\", which is not built in"));
        for other in ["no providers in chain provided credentials", "profile `x` was not defined: …", ""] {
            assert_eq!(not_built_in(other), None, "{other}");
        }
    }

    #[test]
    fn sts_is_asked_where_the_configuration_says_whatever_the_profile_says() {
        use crate::config::{Config, Secrets};

        let text = include_str!("../../../deploy/pipeline.example.toml");
        let config =
            Config::parse(text, std::path::Path::new("p"), std::iter::empty(), Secrets::Ingester).unwrap();
        // As the SDK sets it when a profile has an endpoint_url.
        let sdk = SdkConfig::builder().region(Region::new("eu-central-1")).endpoint_url("http://10.0.0.1");
        let sdk = sdk.build();
        for (given, asked) in [("", None), ("https://sts.example", Some("https://sts.example"))] {
            let config = S3 { sts_endpoint: given.to_owned(), ..config.s3.clone() };
            let asking = asking(&config, &sdk);
            assert_eq!(asking.endpoint_url(), asked);
            assert!(asking.service_config().is_none(), "it would go before");
            assert_eq!(asking.region(), sdk.region());
        }
    }
}
