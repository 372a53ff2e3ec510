//! Opens the stream. HTTP libraries drop `Authorization` on a redirect to another host, and Livestream answers with
//! just such a redirect. So this follows redirects by hand, and only to hosts on the allow-list, because the token goes
//! with them.

use std::borrow::Cow;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use shared::causes::causes;
use shared::clock::Clock;
use shared::config::{Adobe, Reset};
use shared::secret::Secret;

use super::answer::{one_line, read_body, retry_after};

/// Why the stream is not open.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Livestream refuses the request.
    #[error("{host} answered {status} {message}")]
    Refused {
        /// The host that answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// `error_description` of the body, or the beginning of a body in another form.
        message: String,
        /// `Retry-After` of the answer.
        retry_after: Option<Duration>,
    },
    /// A redirect leads where the token must not go.
    #[error("refused to follow a redirect to {0}: the token would go with it")]
    Forbidden(String),
    /// A redirect that cannot be followed.
    #[error("{0}")]
    BadRedirect(String),
    /// The network failed.
    #[error("cannot reach {host}: {reason}")]
    Network {
        /// The host that was called.
        host: String,
        /// What happened.
        reason: String,
    },
}

/// What to do when a redirect leads elsewhere, leads nowhere, or the network fails.
pub(crate) const REDIRECT_ADVICE: &str = "if it is right, add the host to adobe.redirect_hosts";
pub(crate) const BAD_REDIRECT_ADVICE: &str = "check adobe.stream_url, and what stands between";
pub(crate) const NETWORK_ADVICE: &str = "check the network, its proxy (HTTPS_PROXY) and adobe.stream_url";

const MAX_REDIRECTS: usize = 5;
/// Bytes read of a refusal, and characters shown of it.
const MAX_REFUSAL: usize = 4 * 1024;
const MAX_SHOWN: usize = 300;
/// How often a connection without traffic is probed, so that a dead one is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The client for IMS and Livestream: HTTP/1.1 (Livestream answers 505 to any other), no redirects, no decompression.
pub fn client(config: &Adobe) -> reqwest::Result<Client> {
    let builder = config.egress.http_client()?;
    builder
        .connect_timeout(config.connect_timeout.0)
        .tcp_keepalive(KEEPALIVE)
        .user_agent(concat!("livestream-producer/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Opens the stream. `reset` says where to read from; without it, Adobe decides.
pub async fn open(
    http: &Client,
    config: &Adobe,
    token: &Secret,
    reset: Option<Reset>,
    clock: &Clock,
) -> Result<Response, ConnectError> {
    let mut url = stream_url(config, reset)?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
        .map_err(|_| ConnectError::BadRedirect("the token cannot stand in a header".to_owned()))?;
    bearer.set_sensitive(true);
    for _ in 0..=MAX_REDIRECTS {
        let port = url.port_or_known_default().unwrap_or_default();
        let host = format!("{}:{port}", url.host_str().unwrap_or_default());
        let network = |reason: String| ConnectError::Network { host: host.clone(), reason };
        let sending = http
            .get(url.clone())
            .header(AUTHORIZATION, bearer.clone())
            .header("x-api-key", &config.client_id)
            .header(ACCEPT_ENCODING, "gzip")
            .send();
        let response = tokio::time::timeout(config.connect_timeout.0, sending)
            .await
            .map_err(|_| network(format!("no answer within {}", config.connect_timeout)))?
            .map_err(|error| network(causes(&error.without_url())))?;
        match response.status() {
            StatusCode::OK => return Ok(response),
            status if status.is_redirection() => {
                url = target(response.headers(), &url, &config.redirect_hosts)?;
            }
            status => {
                let retry_after = retry_after(response.headers(), clock.wall());
                let message = message(&read_body(response, MAX_REFUSAL).await, token);
                return Err(ConnectError::Refused { host, status: status.as_u16(), message, retry_after });
            }
        }
    }
    Err(ConnectError::BadRedirect(format!("gave up after {MAX_REDIRECTS} redirects")))
}

/// The `error_description` of a refusal, or the whole body in another form. Livestream may repeat the token: it is
/// taken out before the text is cut, since a cut could leave half of it.
fn message(body: &[u8], token: &Secret) -> String {
    let refusal: Value = serde_json::from_slice(body).unwrap_or_default();
    let description = refusal.get("error_description").and_then(Value::as_str).map(Cow::Borrowed);
    let message = description.unwrap_or_else(|| String::from_utf8_lossy(body));
    one_line(&token.hidden_in(&message), MAX_SHOWN)
}

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

/// Where a redirect leads, if the token may go there. Adds what its query lacks of ours.
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
