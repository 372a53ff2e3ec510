//! Opens the stream. HTTP libraries drop `Authorization` on a redirect to another host, and Livestream answers with
//! just such a redirect. So this follows redirects by hand, and only to hosts on the allow-list, because the token goes
//! with them.

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Client, NoProxy, Proxy, Response, StatusCode};
use shared::causes::causes;
use shared::clock::Clock;
use shared::config::{Adobe, Reset};
use shared::secret::Secret;

use super::answer::{one_line, read_body, retry_after};
use super::error::ConnectError;
use super::redirect;

const MAX_REDIRECTS: usize = 5;
/// Bytes read of a refusal, and characters shown of it.
const MAX_REFUSAL: usize = 4 * 1024;
const MAX_SHOWN: usize = 300;
/// How often a connection without traffic is probed, so that a dead one is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The client for IMS and Livestream: HTTP/1.1 (Livestream answers 505 to any other), without redirects and
/// decompression of its own.
pub fn client(config: &Adobe) -> reqwest::Result<Client> {
    let egress = &config.egress;
    // reqwest must not search for proxies itself: every client of the product takes the same way out.
    let mut builder = Client::builder().no_proxy();
    if let Some((address, direct)) = egress.proxy() {
        builder = builder.proxy(Proxy::https(address.reveal())?.no_proxy(NoProxy::from_string(direct)));
    }
    if let Some(certificates) = egress.certificates() {
        let certificates = certificates.iter().map(|der| Certificate::from_der(der));
        builder = builder.tls_certs_only(certificates.collect::<reqwest::Result<Vec<_>>>()?);
    }
    builder
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
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
    let mut url = redirect::stream_url(config, reset)?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
        .map_err(|_| ConnectError::BadRedirect("the token cannot stand in a header".to_owned()))?;
    bearer.set_sensitive(true);
    for _ in 0..=MAX_REDIRECTS {
        let host = url.host_str().unwrap_or_default().to_owned();
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
                url = redirect::target(response.headers(), &url, &config.redirect_hosts)?;
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

/// The `error_description` of a refusal, or the whole body in another form. Takes out the token, which Livestream may
/// repeat, before the text is cut: a cut could leave half of it.
fn message(body: &[u8], token: &Secret) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error_description: String,
    }
    let message = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.error_description,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    one_line(&token.hidden_in(&message), MAX_SHOWN)
}
