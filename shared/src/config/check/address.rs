//! Addresses must be https; plain http is for stand-ins on this machine's loopback.

use url::{Host, Url};

use crate::config::problems::Problems;

pub(super) fn check_url(key: &str, address: &str, problems: &mut Problems) {
    match Url::parse(address) {
        Ok(url) if url.scheme() == "https" && url.has_host() => {}
        Ok(url) if url.scheme() == "http" && is_loopback(&url) => {}
        Ok(url) if url.scheme() == "http" => {
            problems.add(key, "must be https; http is accepted only towards this machine's loopback");
        }
        Ok(_) => problems.add(key, "must be an https address"),
        Err(error) => problems.add(key, format_args!("{address:?} is not an address: {error}")),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_loopback_name(name),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

pub(super) fn is_loopback_name(name: &str) -> bool {
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
