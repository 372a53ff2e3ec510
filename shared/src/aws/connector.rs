//! The HTTP client of every request to AWS.

use aws_sdk_s3::config::ConfigBag;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
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

use crate::egress::{Egress, may_be_plain};

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

pub(super) fn http(egress: &Egress) -> SharedHttpClient {
    let egress = egress.clone();
    HttpsOnly::over(Builder::new().build_with_connector_fn(move |settings, components| {
        connector(&egress, settings.cloned(), components)
    }))
}

#[derive(Debug)]
pub(super) struct HttpsOnly<T>(T);

impl HttpsOnly<SharedHttpClient> {
    pub(super) fn over(client: SharedHttpClient) -> SharedHttpClient {
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
