//! What the environment says of the way out.

use std::path::PathBuf;
use std::sync::Arc;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use base64::Engine;
use hyper::Uri;
use rustls::RootCertStore;

use crate::egress::proxy::{Proxy, no_proxy};
use crate::exit::{Exit, Failure};
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
        let own = no_proxy(own);
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
    pub(crate) fn way_to(&self, address: &str) -> String {
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
        self.authorities.read.as_ref().map(|read| &read.context)
    }

    /// The certificates (DER) to trust and no others; None for the system's.
    pub fn certificates(&self) -> Option<&[Vec<u8>]> {
        self.authorities.read.as_ref().map(|read| read.der.as_slice())
    }
}

#[derive(Debug, Clone, Default)]
struct Authorities {
    file: Option<PathBuf>,
    dir: Option<PathBuf>,
    read: Option<Arc<Read>>,
}

#[derive(Debug)]
struct Read {
    der: Vec<Vec<u8>>,
    context: TlsContext,
}

impl Authorities {
    fn new(file: Option<PathBuf>, dir: Option<PathBuf>) -> Self {
        Self { file, dir, read: None }
    }

    /// Which are named, for an operator. None for the system's.
    fn named(&self) -> Option<String> {
        let variables = [("SSL_CERT_FILE", &self.file), ("SSL_CERT_DIR", &self.dir)];
        let set = variables.iter().filter_map(|(name, path)| Some((name, path.as_ref()?.display())));
        let set: Vec<_> = set.map(|(name, path)| format!("{name} {path}")).collect();
        (!set.is_empty()).then(|| format!("those of {}", set.join(" and ")))
    }

    fn read(&mut self) -> Result<(), Failure> {
        let Some(named) = self.named() else { return Ok(()) };
        let found = rustls_native_certs::load_certs_from_paths(self.file.as_deref(), self.dir.as_deref());
        // Skip one that rustls does not take, as is done with the system's: the others are still good.
        let usable = |der: &Vec<u8>| RootCertStore::empty().add(der.as_slice().into()).is_ok();
        let der: Vec<_> = found.certs.iter().map(|found| found.as_ref().to_vec()).filter(usable).collect();
        if der.is_empty() {
            let why = found.errors.first().map_or(String::new(), |error| format!(": {error}"));
            let error = anyhow::anyhow!("no usable certificate (PEM) among {named}{why}");
            return Err(Failure::new(Exit::Config, error));
        }
        let text: String = der.iter().map(|der| pem(der)).collect();
        let trust = TrustStore::empty().with_pem_certificate(text);
        // Built here, where it can fail: a client without it would trust the system's authorities.
        let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| {
            Failure::new(Exit::Config, anyhow::anyhow!("the HTTP client does not take {named}: {error}"))
        })?;
        self.read = Some(Arc::new(Read { der, context }));
        Ok(())
    }
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn a_certificate_reads_back_from_its_one_line() {
        let der: Vec<u8> = (0..3_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let text = pem(&der) + &pem(&der);
        let read = CertificateDer::pem_slice_iter(text.as_bytes()).map(|found| found.unwrap().to_vec());
        assert_eq!(read.collect::<Vec<_>>(), [der.clone(), der]);
    }
}
