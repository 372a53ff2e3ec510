//! A proxy, in the forms that the HTTP clients take, and what is never sent through one.

use std::fmt;
use std::sync::{Arc, LazyLock};

use aws_smithy_http_client::proxy::ProxyConfig;
use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::secret::Secret;

/// What is never proxied: this machine, and where AWS hands out the credentials of an instance or container
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>,
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).
const NEVER: &str =
    "localhost,127.0.0.0/8,::1,169.254.169.254,fd00:ec2::254,169.254.170.2,169.254.170.23,fd00:ec2::23";

#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) variable: &'static str,
    /// It may hold a password.
    pub(super) address: Secret,
    pub(super) shown: String,
    pub(super) direct: String,
    pub(super) matcher: Arc<Matcher>,
    /// The same for the clients of AWS. Its own `Debug` would show the password.
    pub(super) of_aws: ProxyConfig,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, shown, direct, .. } = self;
        write!(f, "Proxy({variable} {shown}, direct: {direct})")
    }
}

/// Whether plain http to this address stays on this machine or its link: loopback, and the metadata of AWS.
pub(crate) fn may_be_plain(uri: &Uri) -> bool {
    static NEAR: LazyLock<Matcher> =
        LazyLock::new(|| Matcher::builder().http("http://elsewhere.invalid").no(NEVER).build());
    uri.scheme_str() == Some("http") && uri.host().is_some() && NEAR.intercept(uri).is_none()
}

impl Proxy {
    pub(super) fn parse(variable: &'static str, address: &str, own: &[String]) -> Result<Self, String> {
        // As curl reads it: `proxy.example:3128`.
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        // The value is not shown: it may hold a password.
        let url = Url::parse(&address).map_err(|error| format!("is no address of a proxy: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("is a {} proxy; only http:// and https:// ones are supported", url.scheme()));
        }
        let Some(host) = url.host_str() else { return Err("names no host".to_owned()) };
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            // More likely a password with one of these in it than a proxy with a path.
            return Err("has something behind the host: write / ? # in a password as %2F %3F %23".to_owned());
        }
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let shown = format!("{}://{host}{port}", url.scheme());
        let own = own.iter().map(String::as_str);
        let direct = [NEVER].into_iter().chain(own).collect::<Vec<_>>().join(",");
        // Percent-encoded. As it was written, the HTTP clients would not take `^` or `{` in a password, and the matcher
        // would go without the proxy. They decode user and password.
        let address = url.as_str();
        let unusable = "is an address that the HTTP clients do not take: percent-encode user and password";
        let of_aws = ProxyConfig::https(address).map_err(|_| unusable.to_owned())?.no_proxy(&direct);
        let everywhere = Matcher::builder().https(address).build();
        if everywhere.intercept(&Uri::from_static("https://elsewhere.invalid")).is_none() {
            return Err(unusable.to_owned());
        }
        let matcher = Arc::new(Matcher::builder().https(address).no(direct.as_str()).build());
        Ok(Self { variable, address: Secret::new(address), shown, direct, matcher, of_aws })
    }
}
