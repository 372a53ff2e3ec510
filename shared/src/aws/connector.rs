//! The HTTP client of every request to AWS.

use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpClient};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::aws::https_only::HttpsOnly;
use crate::egress::Egress;

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
