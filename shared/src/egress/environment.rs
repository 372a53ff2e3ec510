//! What the environment says of the way out.

use std::path::PathBuf;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::TlsContext;
use hyper::Uri;

use crate::egress::authorities::Authorities;
use crate::egress::no_proxy;
use crate::egress::proxy::Proxy;
use crate::exit::Failure;
use crate::secret::Secret;

/// The variables that are read. Of two spellings the first counts, if it is set.
pub(crate) const VARIABLES: [&str; 14] = [
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    CA_BUNDLE,
    ENDPOINTS[0].0,
    ENDPOINTS[1].0,
    ENDPOINTS[2].0,
];

/// Other programs of AWS read authorities from here.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// The SDK would send its requests to these addresses, whatever they are: plain http too, which is never proxied.
pub(super) const ENDPOINTS: [(&str, &str); 3] = [
    ("AWS_ENDPOINT_URL", "s3.endpoint, and s3.sts_endpoint,"),
    ("AWS_ENDPOINT_URL_S3", "s3.endpoint"),
    ("AWS_ENDPOINT_URL_STS", "s3.sts_endpoint"),
];

/// The way out. The default is direct, trusting the system's authorities.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    pub(super) proxy: Option<Proxy>,
    /// Plain http has a proxy and https has none: most likely a mistake.
    only_http: bool,
    authorities: Authorities,
    warnings: Vec<String>,
}

impl Egress {
    /// What these variables say. The error is the variable whose value is no proxy, or that must not be set, and why.
    pub fn of(env: &[(String, String)]) -> Result<Self, (&'static str, String)> {
        let set = |name: &&'static str| {
            let found = env.iter().find(|(set, value)| set == name && !value.trim().is_empty());
            found.map(|(_, value)| (*name, value.trim()))
        };
        let first = |names: &[&'static str]| names.iter().find_map(set);
        let path = |name: &'static str| set(&name).map(|(_, value)| PathBuf::from(value));
        for (name, instead) in ENDPOINTS {
            if set(&name).is_some() {
                let rule =
                    "must not be set: requests would go there unchecked; unset it. To send them there, set";
                return Err((name, format!("{rule} {instead} in the configuration")));
            }
        }
        let (listed, own) = first(&["NO_PROXY", "no_proxy"]).unwrap_or(("NO_PROXY", ""));
        let own = no_proxy::parse(own);
        let proxy = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
        let proxy = proxy.map(|(variable, address)| {
            Proxy::parse(variable, address, &own.usable).map_err(|why| (variable, why))
        });
        let proxy = proxy.transpose()?;
        let only_http = proxy.is_none() && first(&["HTTP_PROXY", "http_proxy"]).is_some();
        let authorities = Authorities::new(path("SSL_CERT_FILE"), path("SSL_CERT_DIR"));
        let mut warnings = Vec::new();
        if proxy.is_some() && !own.useless.is_empty() {
            let useless: Vec<_> = own.useless.iter().map(|one| format!("{one:?}")).collect();
            warnings.push(format!(
                "{listed}: no host fits {}: write a host, a domain, an address or a network such as 10.0.0.0/8",
                useless.join(", ")
            ));
        }
        if set(&CA_BUNDLE).is_some() && authorities.named().is_none() {
            warnings.push(format!("{CA_BUNDLE}: it is not read; name its file in SSL_CERT_FILE"));
        }
        Ok(Self { proxy, only_http, authorities, warnings })
    }

    /// The proxy for https, with its password, and what is reached without it: as every client here takes them.
    pub fn proxy(&self) -> Option<(&Secret, &str)> {
        self.proxy.as_ref().map(|proxy| (&proxy.address, proxy.direct.as_str()))
    }

    pub(crate) fn proxy_of_aws(&self) -> Option<&ProxyConfig> {
        self.proxy.as_ref().map(|proxy| &proxy.of_aws)
    }

    /// What an operator should know of variables that have no effect, a line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Which way a request to this address takes, for an operator: no password.
    pub fn way_to(&self, address: &str) -> String {
        let Some(proxy) = &self.proxy else {
            let hint = ": HTTP_PROXY is for plain http, set HTTPS_PROXY";
            return format!("directly{}", if self.only_http { hint } else { "" });
        };
        let uri = address.parse::<Uri>().unwrap_or_default();
        match proxy.matcher.intercept(&uri) {
            Some(_) => format!("through {} ({})", proxy.shown, proxy.variable),
            None => format!("directly, not through {} (NO_PROXY, or never)", proxy.shown),
        }
    }

    /// Which way the requests to each of these take, the hosts named, and which authorities are trusted, for an operator.
    pub fn report(&self, to: impl IntoIterator<Item = (&'static str, String)>) -> String {
        let mut ways: Vec<(Vec<String>, String)> = Vec::new();
        for (name, address) in to {
            let way = self.way_to(&address);
            let uri = address.parse::<Uri>().unwrap_or_default();
            let name = uri.host().map_or_else(|| name.to_owned(), |host| format!("{name} ({host})"));
            match ways.iter_mut().find(|(_, known)| *known == way) {
                Some((names, _)) => names.push(name),
                None => ways.push((vec![name], way)),
            }
        }
        let ways: Vec<_> = ways.iter().map(|(names, way)| format!("{} {way}", names.join(", "))).collect();
        let told = [vec![ways.join("; "), format!("trusting {}", self.trusted())], self.warnings.clone()];
        told.concat().join("; ")
    }

    /// Which authorities are trusted, for an operator.
    pub fn trusted(&self) -> String {
        self.authorities.named().unwrap_or_else(|| "the system's authorities".to_owned())
    }

    /// Reads the authorities that the environment names. Fails when none is usable: every connection would fail later.
    pub fn read_authorities(&mut self) -> Result<(), Failure> {
        self.authorities.read()
    }

    pub(crate) fn context_of_aws(&self) -> Option<&TlsContext> {
        self.authorities.context()
    }

    /// The certificates (DER) to trust and no others; None for the system's.
    pub fn certificates(&self) -> Option<&[Vec<u8>]> {
        self.authorities.certificates()
    }
}
