//! Opening the stream. HTTP libraries drop `Authorization` on a redirect to another host, and Livestream answers
//! with just such a redirect: so redirects are followed here, by hand, and only to hosts on the allow-list, because
//! the token goes with them.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, LOCATION};
use reqwest::{Client, Response, StatusCode, Url};
use shared::causes::causes;
use shared::config::{Adobe, Reset};
use shared::secret::Secret;

/// Redirects followed at most.
const MAX_REDIRECTS: usize = 5;
/// How much of a refusal is read and shown.
const MAX_REFUSAL: usize = 4 * 1024;

/// The client for IMS and Livestream: HTTP/1.1 (Livestream answers 505 to any other), no redirects of its own, no
/// inflating of its own.
///
/// # Errors
/// When TLS cannot be set up, for want of root certificates for example.
pub fn client(config: &Adobe) -> reqwest::Result<Client> {
    Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(config.connect_timeout.0)
        .tcp_keepalive(Duration::from_secs(30))
        .user_agent(concat!("livestream-producer/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Why the stream is not open.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Livestream answered something else.
    #[error("{host} answered {status} {body}")]
    Refused {
        /// Who answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
    /// A redirect leads where the token must not go.
    #[error(
        "refused to follow a redirect to {0}: the token would go with it. If it is right, add the host to adobe.redirect_hosts"
    )]
    Forbidden(String),
    /// A redirect that cannot be followed.
    #[error("{0}")]
    BadRedirect(String),
    /// The network failed.
    #[error("cannot reach {host}: {reason}")]
    Network {
        /// Who was called.
        host: String,
        /// What happened.
        reason: String,
    },
}

/// Opens the stream: `reset` says where to read from, if Adobe shall not decide.
///
/// # Errors
/// When anything but the stream comes back.
pub async fn open(
    http: &Client,
    config: &Adobe,
    token: &Secret,
    reset: Option<Reset>,
) -> Result<Response, ConnectError> {
    let mut url = stream_url(config, reset)?;
    for _ in 0..=MAX_REDIRECTS {
        let host = url.host_str().unwrap_or_default().to_owned();
        let network = |reason: String| ConnectError::Network { host: host.clone(), reason };
        let sending = http
            .get(url.clone())
            .header(AUTHORIZATION, format!("Bearer {}", token.reveal()))
            .header("x-api-key", &config.client_id)
            .header(ACCEPT_ENCODING, "gzip")
            .send();
        let response = tokio::time::timeout(config.connect_timeout.0, sending)
            .await
            .map_err(|_| network(format!("no answer within {}", config.connect_timeout)))?
            .map_err(|error| network(causes(&error.without_url())))?;
        match response.status() {
            StatusCode::OK => return Ok(response),
            status if status.is_redirection() => url = redirected(&response, &url, &config.redirect_hosts)?,
            status => {
                let body = read_body(response, MAX_REFUSAL).await;
                let body = String::from_utf8_lossy(&body).split_whitespace().collect::<Vec<_>>().join(" ");
                return Err(ConnectError::Refused { host, status: status.as_u16(), body });
            }
        }
    }
    Err(ConnectError::BadRedirect(format!("gave up after {MAX_REDIRECTS} redirects")))
}

fn stream_url(config: &Adobe, reset: Option<Reset>) -> Result<Url, ConnectError> {
    let mut url =
        Url::parse(&config.stream_url).map_err(|error| ConnectError::BadRedirect(error.to_string()))?;
    url.query_pairs_mut().append_pair("maxConnections", &config.max_connections.to_string());
    match reset {
        Some(Reset::Smallest) => url.query_pairs_mut().append_pair("reset", "smallest"),
        Some(Reset::Largest) => url.query_pairs_mut().append_pair("reset", "largest"),
        Some(Reset::None) | None => return Ok(url),
    };
    Ok(url)
}

/// Where a redirect leads, if the token may go there. What its query does not say is kept of ours: how many
/// connections there are and where to read from.
fn redirected(response: &Response, from: &Url, allowed: &[String]) -> Result<Url, ConnectError> {
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| {
        ConnectError::BadRedirect(format!("{} without a usable Location", response.status()))
    })?;
    let mut to = from
        .join(location)
        .map_err(|error| ConnectError::BadRedirect(format!("redirect to {location:?}: {error}")))?;
    if !may_have_the_token(&to, allowed) {
        return Err(ConnectError::Forbidden(format!(
            "{}://{}",
            to.scheme(),
            to.host_str().unwrap_or_default()
        )));
    }
    let said: Vec<_> = to.query_pairs().map(|(name, _)| name.into_owned()).collect();
    for (name, value) in from.query_pairs().filter(|(name, _)| !said.iter().any(|said| said == name)) {
        to.query_pairs_mut().append_pair(&name, &value);
    }
    Ok(to)
}

/// https hosts on the allow-list; plain http only on this machine's loopback, for stand-ins.
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

/// The first `max` bytes of a body; what fails to come is left out.
pub async fn read_body(mut response: Response, max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(piece)) = response.chunk().await {
            body.extend_from_slice(&piece);
            if body.len() >= max {
                break;
            }
        }
    };
    // A refusal is worth a short wait, not more.
    let _ = tokio::time::timeout(Duration::from_secs(10), reading).await;
    body.truncate(max);
    body
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
}
