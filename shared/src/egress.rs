//! How HTTPS requests leave this machine: through which proxy, and which authorities are trusted. The environment says
//! it, once for every client of a program: Adobe's (reqwest) and those of AWS (the SDK's own).
//!
//! Plain http is accepted towards loopback only, and the AWS chain uses it for the metadata of an instance or container.
//! None of these may leave the machine through a proxy. So only `https` is ever proxied.

use std::path::PathBuf;
use std::sync::Arc;

use hyper_util::client::proxy::matcher::Matcher;
use rustls::RootCertStore;
use url::Url;

use crate::exit::{Exit, Failure};
use crate::secret::Secret;

/// The variables that are read. Of two spellings the first counts, if it is set.
pub const VARIABLES: [&str; 10] = [
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
];

/// What is never proxied: this machine, and where AWS hands out the credentials of an instance or container
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>,
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).
const NEVER: &str =
    "localhost,127.0.0.0/8,::1,169.254.169.254,fd00:ec2::254,169.254.170.2,169.254.170.23,fd00:ec2::23";

/// The way out. The default is direct, trusting the system's authorities.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    proxy: Option<Proxy>,
    /// Plain http has a proxy and https has none: most likely a mistake.
    only_http: bool,
    authorities: Authorities,
}

#[derive(Debug, Clone)]
struct Proxy {
    variable: &'static str,
    /// It may hold a password.
    address: Secret,
    shown: String,
    direct: String,
}

#[derive(Debug, Clone, Default)]
struct Authorities {
    file: Option<PathBuf>,
    dir: Option<PathBuf>,
    /// DER, once they are read.
    read: Option<Arc<[Vec<u8>]>>,
}

impl Egress {
    /// What these variables say.
    ///
    /// # Errors
    /// The variable whose value is no proxy, and why.
    pub fn of(env: &[(String, String)]) -> Result<Self, (&'static str, String)> {
        let set = |name: &&'static str| {
            let found = env.iter().find(|(set, value)| set == name && !value.trim().is_empty());
            found.map(|(_, value)| (*name, value.trim()))
        };
        let first = |names: &[&'static str]| names.iter().find_map(set);
        let path = |name: &'static str| set(&name).map(|(_, value)| PathBuf::from(value));
        let own = first(&["NO_PROXY", "no_proxy"]).map_or("", |(_, value)| value);
        let proxy = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
        let proxy = match proxy {
            Some((variable, address)) => {
                Some(Proxy::parse(variable, address, own).map_err(|why| (variable, why))?)
            }
            None => None,
        };
        let only_http = proxy.is_none() && first(&["HTTP_PROXY", "http_proxy"]).is_some();
        let authorities = Authorities { file: path("SSL_CERT_FILE"), dir: path("SSL_CERT_DIR"), read: None };
        Ok(Self { proxy, only_http, authorities })
    }

    /// The proxy for https, with its password, and what is reached without it: as every client here takes them.
    #[must_use]
    pub fn proxy(&self) -> Option<(&Secret, &str)> {
        self.proxy.as_ref().map(|proxy| (&proxy.address, proxy.direct.as_str()))
    }

    /// Which way a request to this address takes, for an operator: no password.
    #[must_use]
    pub fn way_to(&self, address: &str) -> String {
        let Some(proxy) = &self.proxy else {
            let hint = ": HTTP_PROXY is for plain http, set HTTPS_PROXY";
            return format!("directly{}", if self.only_http { hint } else { "" });
        };
        let uri = address.parse::<hyper::Uri>().unwrap_or_default();
        match proxy.matcher().intercept(&uri) {
            Some(_) => format!("through {} ({})", proxy.shown, proxy.variable),
            None => format!("directly, not through {} (NO_PROXY, or never)", proxy.shown),
        }
    }

    /// Which way the requests to each of these take, and which authorities are trusted, for an operator.
    #[must_use]
    pub fn report(&self, to: impl IntoIterator<Item = (&'static str, String)>) -> String {
        let mut ways: Vec<(Vec<&str>, String)> = Vec::new();
        for (name, address) in to {
            let way = self.way_to(&address);
            match ways.iter_mut().find(|(_, known)| *known == way) {
                Some((names, _)) => names.push(name),
                None => ways.push((vec![name], way)),
            }
        }
        let ways: Vec<_> = ways.iter().map(|(names, way)| format!("{} {way}", names.join(", "))).collect();
        format!("{}; trusting {}", ways.join("; "), self.trusted())
    }

    /// Which authorities are trusted, for an operator.
    #[must_use]
    pub fn trusted(&self) -> String {
        match self.authorities.told() {
            Some(told) => told,
            None => "the system's authorities".to_owned(),
        }
    }

    /// Reads the authorities that the environment names. Does nothing when it names none.
    ///
    /// # Errors
    /// Exit 78 when it names some and no usable certificate is there: every connection would fail later with less to say.
    pub fn read_authorities(&mut self) -> Result<(), Failure> {
        let Some(told) = self.authorities.told() else { return Ok(()) };
        let (file, dir) = (self.authorities.file.as_deref(), self.authorities.dir.as_deref());
        let found = rustls_native_certs::load_certs_from_paths(file, dir);
        // One that rustls does not take is left out, as it is of the system's: the others are still good.
        let usable = |der: &Vec<u8>| RootCertStore::empty().add(der.as_slice().into()).is_ok();
        let usable: Vec<_> = found.certs.iter().map(|found| found.as_ref().to_vec()).filter(usable).collect();
        if usable.is_empty() {
            let why = found.errors.first().map_or(String::new(), |error| format!(": {error}"));
            let error = anyhow::anyhow!("no usable certificate (PEM) among {told}{why}");
            return Err(Failure::new(Exit::Config, error));
        }
        self.authorities.read = Some(usable.into());
        Ok(())
    }

    /// The certificates (DER) to trust and no others; None for the system's.
    #[must_use]
    pub fn certificates(&self) -> Option<&[Vec<u8>]> {
        self.authorities.read.as_deref()
    }
}

impl Proxy {
    fn parse(variable: &'static str, address: &str, own: &str) -> Result<Self, String> {
        // As curl reads it: `proxy.example:3128`.
        let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        // The value is not shown: it may hold a password.
        let url = Url::parse(&address).map_err(|error| format!("is no address of a proxy: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("is a {} proxy; only http:// and https:// ones are supported", url.scheme()));
        }
        let Some(host) = url.host_str() else { return Err("names no host".to_owned()) };
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        let shown = format!("{}://{host}{port}", url.scheme());
        // `*.example.com` is how many write `.example.com`, the only form that the clients know.
        let own = own.split(',').map(str::trim).filter(|one| !one.is_empty());
        let own = own.map(|one| if one.starts_with("*.") { &one[1..] } else { one });
        let direct = [NEVER].into_iter().chain(own).collect::<Vec<_>>().join(",");
        Ok(Self { variable, address: Secret::new(address), shown, direct })
    }

    /// The rule itself, as both HTTP clients have it.
    fn matcher(&self) -> Matcher {
        Matcher::builder().https(self.address.reveal()).no(self.direct.as_str()).build()
    }
}

impl Authorities {
    fn told(&self) -> Option<String> {
        let named = [("SSL_CERT_FILE", &self.file), ("SSL_CERT_DIR", &self.dir)];
        let told: Vec<_> = named
            .iter()
            .filter_map(|(name, path)| path.as_ref().map(|path| format!("{name} {}", path.display())))
            .collect();
        (!told.is_empty()).then(|| format!("those of {}", told.join(" and ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(env: &[(&str, &str)]) -> Result<Egress, (&'static str, String)> {
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Egress::of(&env)
    }

    #[test]
    fn https_goes_through_the_proxy_and_this_machine_and_the_metadata_of_aws_never_do() {
        let egress = of(&[
            ("https_proxy", "http://user:hunter2@proxy.example:3128"),
            ("no_proxy", "corp.example, 10.0.0.0/8, *.internal"),
        ]);
        let egress = egress.unwrap();
        for proxied in
            ["https://s3.eu-central-1.amazonaws.com/b/k", "https://livestream.adobe.net", "https://11.0.0.1"]
        {
            assert_eq!(
                egress.way_to(proxied),
                "through http://proxy.example:3128 (https_proxy)",
                "{proxied}"
            );
        }
        for direct in [
            "https://s3.corp.example",
            "https://10.1.2.3",
            "https://s3.internal",
            "http://127.0.0.1:9000",
            "https://localhost:1",
            "https://127.1.2.3",
            "https://[::1]:1",
            "http://169.254.169.254/latest",
            "http://[fd00:ec2::254]/latest",
            "http://169.254.170.2/v2",
            "https://169.254.170.23/v1",
            "http://[fd00:ec2::23]/v1",
        ] {
            assert!(
                egress.way_to(direct).starts_with("directly, not through http://proxy.example:3128"),
                "{direct}"
            );
        }
        assert!(!format!("{egress:?}").contains("hunter2"), "{egress:?}");
    }

    #[test]
    fn of_several_variables_the_nearest_counts_and_an_empty_one_is_not_set() {
        let way = |env: &[(&str, &str)]| of(env).unwrap().way_to("https://x.example");
        assert_eq!(way(&[]), "directly");
        assert_eq!(
            way(&[("HTTPS_PROXY", "a:1"), ("https_proxy", "b:1")]),
            "through http://a:1 (HTTPS_PROXY)"
        );
        assert_eq!(
            way(&[("HTTPS_PROXY", " "), ("ALL_PROXY", "https://c:1")]),
            "through https://c:1 (ALL_PROXY)"
        );
        assert!(way(&[("HTTP_PROXY", "a:1")]).contains("set HTTPS_PROXY"));
        assert!(way(&[("HTTPS_PROXY", "a:1"), ("NO_PROXY", "*")]).starts_with("directly, not through"));
    }

    #[test]
    fn what_is_no_proxy_is_refused_by_its_variable_without_its_password() {
        for (value, why) in [
            ("socks5://user:hunter2@p:1080", "only http:// and https://"),
            ("http://user:hunter2@p:99999", "no address of a proxy"),
            ("http://", "no address of a proxy"),
        ] {
            let (variable, said) = of(&[("HTTPS_PROXY", value)]).unwrap_err();
            assert_eq!(variable, "HTTPS_PROXY");
            assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn authorities_that_are_named_and_not_there_are_an_error_of_configuration() {
        let mut egress = of(&[("SSL_CERT_FILE", "/nowhere/ca.pem")]).unwrap();
        assert_eq!(egress.trusted(), "those of SSL_CERT_FILE /nowhere/ca.pem");
        let failure = egress.read_authorities().unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        assert!(failure.to_string().contains("SSL_CERT_FILE /nowhere/ca.pem"), "{failure}");
        let mut system = of(&[]).unwrap();
        system.read_authorities().unwrap();
        assert!(system.certificates().is_none());
    }
}
