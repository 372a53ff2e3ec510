//! The addresses of the stream: the first one, and those that a redirect may lead to.

use reqwest::Url;
use reqwest::header::{HeaderMap, LOCATION};
use shared::config::{Adobe, Reset};

use super::error::ConnectError;

pub(super) fn stream_url(config: &Adobe, reset: Option<Reset>) -> Result<Url, ConnectError> {
    let mut url =
        Url::parse(&config.stream_url).map_err(|error| ConnectError::BadRedirect(error.to_string()))?;
    let mut query = url.query_pairs_mut();
    query.append_pair("maxConnections", &config.max_connections.to_string());
    if config.smoothing {
        query.append_pair("smoothing", "1");
        query.append_pair("smoothingBucketSize", &config.smoothing_bucket_size.to_string());
    }
    match reset {
        Some(Reset::Smallest) => drop(query.append_pair("reset", "smallest")),
        Some(Reset::Largest) => drop(query.append_pair("reset", "largest")),
        Some(Reset::None) | None => {}
    }
    drop(query);
    Ok(url)
}

/// Where a redirect leads, if the token may go there. Adds what its query lacks of ours: the number of connections and
/// where to read from.
pub(super) fn target(headers: &HeaderMap, from: &Url, allowed: &[String]) -> Result<Url, ConnectError> {
    let bad = ConnectError::BadRedirect;
    let location = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| bad("a redirect without a usable Location".to_owned()))?;
    let mut to =
        from.join(location).map_err(|error| bad(format!("redirect to what is no address: {error}")))?;
    if !may_have_the_token(&to, allowed) {
        let host = to.host_str().unwrap_or_default();
        return Err(ConnectError::Forbidden(format!("{}://{host}", to.scheme())));
    }
    let given: Vec<_> = to.query_pairs().map(|(name, _)| name.into_owned()).collect();
    for (name, value) in from.query_pairs().filter(|(name, _)| !given.iter().any(|given| given == name)) {
        to.query_pairs_mut().append_pair(&name, &value);
    }
    Ok(to)
}

/// Whether the host is on the allow-list. Plain http is for stand-ins on the loopback of this machine only.
fn may_have_the_token(url: &Url, allowed: &[String]) -> bool {
    let Some(host) = url.host_str() else { return false };
    let listed = allowed.iter().any(|pattern| match pattern.strip_prefix("*.") {
        Some(domain) => {
            host.strip_suffix(domain).is_some_and(|label| label.len() > 1 && label.ends_with('.'))
        }
        None => host == pattern,
    });
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    listed && (url.scheme() == "https" || (url.scheme() == "http" && loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(url: &str) -> bool {
        let allowed = ["*.adobe.net".to_owned(), "localhost".to_owned()];
        may_have_the_token(&Url::parse(url).unwrap(), &allowed)
    }

    #[test]
    fn the_token_goes_to_listed_https_hosts_only() {
        assert!(may("https://livestream2.adobe.net/x"));
        assert!(may("https://a.b.adobe.net/x"));
        assert!(may("http://localhost:8080/x"));
        for wrong in [
            "http://livestream2.adobe.net/x",
            "https://adobe.net.example.com/x",
            "https://evil-adobe.net/x",
            "https://adobe.net/x",
            "https://example.com/?u=.adobe.net",
            "https://adobe.net@example.com/",
            "http://127.0.0.1/x",
        ] {
            assert!(!may(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_redirect_keeps_of_the_query_what_it_does_not_say_itself() {
        let from = Url::parse("https://livestream.adobe.net/x?maxConnections=3&reset=smallest").unwrap();
        let to = |location: &str| {
            let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
            target(&headers, &from, &["*.adobe.net".to_owned()]).map(|url| url.to_string())
        };
        let all = "https://ls2.adobe.net/y?maxConnections=3&reset=smallest";
        assert_eq!(to("https://ls2.adobe.net/y").unwrap(), all);
        assert_eq!(to("//ls2.adobe.net/y?maxConnections=3").unwrap(), all);
        assert_eq!(
            to("/z?reset=largest&a=b").unwrap(),
            "https://livestream.adobe.net/z?reset=largest&a=b&maxConnections=3"
        );
        assert!(
            matches!(to("https://example.com/y"), Err(ConnectError::Forbidden(host)) if host == "https://example.com")
        );
        assert!(matches!(to("http://ls2.adobe.net/y"), Err(ConnectError::Forbidden(_))), "no TLS");
        assert!(matches!(to("https://[y"), Err(ConnectError::BadRedirect(_))));
        assert!(matches!(target(&HeaderMap::new(), &from, &[]), Err(ConnectError::BadRedirect(_))));
    }
}
