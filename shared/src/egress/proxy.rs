//! A proxy, in the forms that the HTTP clients take, and what is never sent through one. NO_PROXY is read in the forms
//! that their matcher knows: addresses, networks, domains and `*`. Other programs take more forms. Those that mean the
//! same are rewritten; one that would match nothing is a warning.

use std::fmt;
use std::net::IpAddr;
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

/// The entries that can match, as the matcher takes them, and those that cannot, as they were written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    pub(super) usable: Vec<String>,
    pub(super) useless: Vec<String>,
}

pub(super) fn no_proxy(value: &str) -> Entries {
    let mut entries = Entries::default();
    for written in value.split(|c: char| c == ',' || c.is_whitespace()).filter(|one| !one.is_empty()) {
        match usable(written) {
            Some(one) => entries.usable.push(one),
            None => entries.useless.push(written.to_owned()),
        }
    }
    entries
}

fn usable(written: &str) -> Option<String> {
    if written == "*" || is_network(written) || written.parse::<IpAddr>().is_ok() {
        return Some(written.to_owned());
    }
    let host = without_port(written)?;
    if host.parse::<IpAddr>().is_ok() {
        return Some(host.to_owned());
    }
    // The matcher compares whole names and their ends: `*.example.com` is its `.example.com`.
    let name = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    let bare = name.strip_prefix('.').unwrap_or(name);
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let labels = bare.split('.').all(|label| !label.is_empty() && label.chars().all(legal));
    // No name of a host ends in a number: `10.` and `10.1` mean a network, which is written `10.0.0.0/8`.
    let last = bare.rsplit('.').next().unwrap_or_default();
    let number = !last.is_empty() && last.chars().all(|c| c.is_ascii_digit());
    (labels && !number).then(|| name.to_owned())
}

/// `address/bits`, as the matcher reads it.
fn is_network(written: &str) -> bool {
    let Some((address, bits)) = written.split_once('/') else { return false };
    let digits = !bits.is_empty() && bits.chars().all(|c| c.is_ascii_digit());
    let bits = bits.parse::<u8>().ok().filter(|_| digits);
    match (address.parse::<IpAddr>(), bits) {
        (Ok(IpAddr::V4(_)), Some(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Some(bits)) => bits <= 128,
        _ => false,
    }
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`. The matcher knows no ports.
fn without_port(written: &str) -> Option<&str> {
    let port = |text: &str| !text.is_empty() && text.parse::<u16>().is_ok();
    if let Some(rest) = written.strip_prefix('[') {
        let (host, behind) = rest.split_once(']')?;
        let right = behind.is_empty() || behind.strip_prefix(':').is_some_and(port);
        return (right && host.contains(':')).then_some(host);
    }
    match written.split_once(':') {
        None => Some(written),
        Some((host, behind)) => port(behind).then_some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_that_means_what_the_matcher_can_say_is_rewritten() {
        for (written, usable) in [
            ("a.example, .b.example,c.example.", vec!["a.example", ".b.example", "c.example"]),
            ("a.example b.example\tc.example", vec!["a.example", "b.example", "c.example"]),
            ("*.corp.example", vec![".corp.example"]),
            ("s3.corp.example:443", vec!["s3.corp.example"]),
            ("*.corp.example:9000", vec![".corp.example"]),
            ("[fd00::7]:9000,[fd00::8],fd00::9", vec!["fd00::7", "fd00::8", "fd00::9"]),
            ("10.1.2.3:8443,10.1.2.4", vec!["10.1.2.3", "10.1.2.4"]),
            ("10.0.0.0/8,fd00::/8", vec!["10.0.0.0/8", "fd00::/8"]),
            ("*", vec!["*"]),
            (" , ,", vec![]),
        ] {
            let entries = no_proxy(written);
            assert_eq!(entries.usable, usable, "{written}");
            assert_eq!(entries.useless, Vec::<String>::new(), "{written}");
        }
    }

    #[test]
    fn a_form_that_matches_nothing_is_told_of() {
        for written in [
            "10.*",
            "10.",
            "10.1",
            "1.2.3.4.5",
            "s3.*.amazonaws.com",
            "*corp.example",
            "http://a.example",
            "a.example/path",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/255.0.0.0",
            "[a.example]",
            "a.example:port",
            "a..example",
            "<local>",
            ".",
        ] {
            let entries = no_proxy(written);
            assert_eq!(entries.useless, [written]);
            assert_eq!(entries.usable, Vec::<String>::new(), "{written}");
        }
    }
}
