//! What the calls to AWS have in common: the HTTP client, and the credential, which is the fixed key of `[s3]`, the AWS
//! chain, or a role assumed with one of them. No request of an SDK leaves this machine as plain http, wherever its
//! address comes from: the AWS chain also takes addresses from the profile (`endpoint_url` of STS).

use std::error::Error;
use std::time::Duration;

use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::{ConfigBag, Credentials};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, Connector, tls};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use hyper::Uri;

use crate::boxed::Boxed;
use crate::causes::causes;
use crate::config::S3;
use crate::egress::{Egress, may_be_plain};

const CONNECT: Duration = Duration::from_secs(10);
/// The name by which CloudTrail shows the sessions of an assumed role.
const SESSION: &str = "livestream";

/// What the clients of AWS have in common.
pub fn load(config: &S3) -> Boxed<'_, SdkConfig> {
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

/// The configuration for STS, made anew: an `endpoint_url` of the profile would override the address set here.
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

async fn assuming(config: &S3, sdk: SdkConfig) -> SdkConfig {
    let mut role =
        AssumeRoleProvider::builder(&config.role_arn).session_name(SESSION).configure(&asking(config, &sdk));
    if !config.external_id.is_empty() {
        role = role.external_id(&config.external_id);
    }
    // The SDK caches the credential of the role, and renews it before it expires.
    sdk.into_builder().credentials_provider(SharedCredentialsProvider::new(role.build().await)).build()
}

/// The ways to give a credential, where none was found.
const WAYS: &str = "no AWS credential found; give one: s3.access_key_id with s3.secret_access_key_file, or the variables \
     AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile (AWS_PROFILE), or a role of the instance, the container or the \
     service account";
/// What to do when STS does not give out the credential of the role.
const ASSUME: &str = "let the credential of [s3] assume s3.role_arn, and check what the role's trust policy asks for (s3.external_id)";

/// What to do about a source of credentials that is not built in. A program that AWS itself offers reads it.
const INSTEAD: &str = "name in AWS_PROFILE another profile, with `credential_process = aws configure export-credentials \
     --profile <the present one> --format process`, whose credential passes with the session; or give the service one of its own: \
     the role of its container or instance, a web identity, a profile with keys or with role_arn and source_profile, \
     AWS_ACCESS_KEY_ID, or s3.access_key_id";

/// The message for a source of credentials that is not built in, in place of the SDK's; None for any other error.
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

/// Why no credential was found or could be used, for an operator.
pub fn credential_error(error: &(dyn Error + 'static)) -> String {
    credential_fault(error).map_or_else(|| causes(error), |fault| fault.why)
}

/// Why a request could not be signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CredentialFault {
    pub(crate) why: String,
    /// Whether it needs an operator. Otherwise a service that gives out credentials may be away for a moment.
    pub(crate) lasting: bool,
}

/// The fault, if the credential is what failed.
pub(crate) fn credential_fault(error: &(dyn Error + 'static)) -> Option<CredentialFault> {
    if let Some(why) = not_built_in(&causes(error)) {
        return Some(CredentialFault { why, lasting: true });
    }
    let mut cause = error;
    let fault = loop {
        match cause.downcast_ref::<CredentialsError>() {
            Some(fault) => break fault,
            None => cause = cause.source()?,
        }
    };
    let said = causes(fault);
    let (why, lasting) = match fault {
        CredentialsError::CredentialsNotLoaded(_) => (WAYS.to_owned(), true),
        CredentialsError::InvalidConfiguration(_) => (format!("no AWS credential: {said}"), true),
        _ if said.contains("AccessDenied") => (format!("no AWS credential: {said}: {ASSUME}"), true),
        _ => (format!("no AWS credential: {said}"), false),
    };
    Some(CredentialFault { why, lasting })
}

fn provider() -> tls::Provider {
    tls::Provider::Rustls(CryptoMode::Ring)
}

/// A connector that takes the way out that the environment names, as every client of the product does.
pub fn connector(
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

fn http(egress: &Egress) -> SharedHttpClient {
    let egress = egress.clone();
    HttpsOnly::over(Builder::new().build_with_connector_fn(move |settings, components| {
        connector(&egress, settings.cloned(), components)
    }))
}

#[derive(Debug)]
struct HttpsOnly<T>(T);

impl HttpsOnly<SharedHttpClient> {
    fn over(client: SharedHttpClient) -> SharedHttpClient {
        SharedHttpClient::new(Self(client))
    }
}

impl HttpClient for HttpsOnly<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(HttpsOnly(self.0.http_connector(settings, components)))
    }

    /// The client below reads the system's authorities here, before the first request and not within its time.
    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.validate_base_client_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

impl HttpConnector for HttpsOnly<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match refusal(request.uri()) {
            Some(why) => HttpConnectorFuture::ready(Err(ConnectorError::user(why.into()))),
            None => self.0.call(request),
        }
    }
}

/// Why no request goes to this address, if so.
fn refusal(address: &str) -> Option<String> {
    let uri = address.parse::<Uri>().unwrap_or_default();
    let plain = uri.scheme_str() != Some("https") && !may_be_plain(&uri);
    let host = uri.host().unwrap_or_default();
    plain.then(|| {
        format!("refused to send plain http to {host}: only https leaves this machine; is it an endpoint_url of the AWS profile?")
    })
}

#[cfg(test)]
mod tests {
    use aws_credential_types::provider::ProvideCredentials;
    use aws_smithy_http_client::Builder;
    use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

    use super::*;

    /// What the SDK says of this profile.
    #[allow(deprecated, reason = "the names of now are those of a crate that is not a dependency here")]
    async fn said(profile: &str) -> String {
        use aws_config::profile::ProfileFileCredentialsProvider;
        use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
        use aws_config::provider_config::ProviderConfig;

        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
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
    fn without_a_credential_the_ways_to_give_one_are_told() {
        let fault = |error: CredentialsError| credential_fault(&error).unwrap();
        let none = fault(CredentialsError::not_loaded("no providers in chain provided credentials"));
        for way in ["s3.access_key_id", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "role of the instance"] {
            assert!(none.lasting && none.why.contains(way), "{way}: {none:?}");
        }
        let refused = fault(CredentialsError::provider_error("AccessDenied: not authorized to assume"));
        assert!(refused.lasting && refused.why.contains("s3.role_arn"), "{refused:?}");
        assert!(!fault(CredentialsError::provider_error("no answer from STS")).lasting);
        assert_eq!(credential_fault(&std::io::Error::other("refused")), None);
    }

    #[test]
    fn sts_is_asked_where_the_configuration_says_whatever_the_profile_says() {
        use crate::config::{Config, Secrets};

        let text = include_str!("../../deploy/pipeline.example.toml");
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

#[cfg(test)]
mod connector_tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_this_machine_and_the_metadata_of_aws_alone() {
        for sent in [
            "https://s3.eu-central-1.amazonaws.com/b/k?x=1",
            "http://127.0.0.1:9000/b/k",
            "http://localhost:9000/",
            "http://169.254.169.254/latest/api/token",
            "http://169.254.170.2/v2/credentials",
        ] {
            assert_eq!(refusal(sent), None, "{sent}");
        }
        for refused in ["http://10.0.0.1/secret", "http://sts.example/?secret", "ftp://h/secret", "/secret"] {
            let why = refusal(refused).unwrap();
            assert!(why.contains("plain http") && !why.contains("secret"), "{why}");
        }
    }
}
