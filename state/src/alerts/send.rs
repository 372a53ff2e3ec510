//! One request to a target or to a dead man's switch: bounded in time and size, by the way out of every other request.

use std::fmt;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use shared::causes::causes;
use shared::config::AlertTarget;
use shared::egress::Egress;
use shared::exit::{Exit, Failure};
use shared::secret::Secret;
use url::Url;

const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Longest time of a request, to the last byte of the answer that is read.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// Bytes read of an answer, and characters shown of it.
const MAX_ANSWER: usize = 4 * 1024;
const MAX_SHOWN: usize = 200;
/// Parts of an address that are shorter keep no secret, and may be words of any answer.
const SHORTEST: usize = 6;

const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// Why a target did not take a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotTaken {
    /// The status of the answer, or `network`.
    pub(super) class: String,
    /// The code a trial ends with.
    pub(super) exit: Exit,
    why: String,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Sends. Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Sender(Client);

impl Sender {
    pub(super) fn new(egress: &Egress) -> Result<Self, Failure> {
        let agent = concat!("livestream/", env!("CARGO_PKG_VERSION"));
        let client = egress.http_client().and_then(|builder| {
            builder.connect_timeout(CONNECT_TIME).timeout(REQUEST_TIME).user_agent(agent).build()
        });
        client.map(Self).map_err(|error| Failure::new(Exit::Config, error.without_url()))
    }

    /// Sends a message. Returns what the target answered.
    pub(super) async fn post(&self, target: &AlertTarget, body: &Value) -> Result<String, NotTaken> {
        let address = if target.url.is_empty() { PAGERDUTY } else { target.url.reveal() };
        let request = self.0.post(address).header("content-type", "application/json").body(body.to_string());
        ask(request, &[&target.url, &target.routing_key]).await
    }

    /// Calls an address.
    pub(super) async fn call(&self, address: &Secret) -> Result<String, NotTaken> {
        ask(self.0.get(address.reveal()), &[address]).await
    }
}

async fn ask(request: RequestBuilder, secrets: &[&Secret]) -> Result<String, NotTaken> {
    let network = |error: reqwest::Error| {
        let why = hidden(&causes(&error.without_url()), secrets);
        let advice = "check the address and the way there (HTTPS_PROXY)";
        NotTaken {
            class: "network".to_owned(),
            exit: Exit::Unavailable,
            why: format!("cannot be reached: {why}; {advice}"),
        }
    };
    let mut response = request.send().await.map_err(network)?;
    let (status, mut body) = (response.status(), Vec::new());
    while body.len() < MAX_ANSWER
        && let Some(bytes) = response.chunk().await.map_err(network)?
    {
        body.extend_from_slice(&bytes[..bytes.len().min(MAX_ANSWER - body.len())]);
    }
    let said = one_line(&hidden(&String::from_utf8_lossy(&body), secrets));
    let said = if said.is_empty() { status.to_string() } else { format!("{status} {said}") };
    if status.is_success() {
        return Ok(said);
    }
    let (exit, advice) = advice(status);
    Err(NotTaken { class: status.as_u16().to_string(), exit, why: format!("answered {said}; {advice}") })
}

fn advice(status: StatusCode) -> (Exit, &'static str) {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            (Exit::Unavailable, "it is busy: wait, or give it fewer alerts (severity)")
        }
        status if status.is_redirection() => {
            (Exit::Config, "redirects are not followed: configure the address it leads to")
        }
        status if status.is_client_error() => {
            (Exit::Config, "correct the address, the key or the kind of the target")
        }
        _ => (Exit::Unavailable, "it fails: look at the target"),
    }
}

/// A text without the secrets, and without the parts of those that are addresses: paths, what stands in them, and values of
/// the query. The longest go first.
fn hidden(text: &str, secrets: &[&Secret]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| {
        let text = secret.hidden_in(&text);
        let Ok(url) = Url::parse(secret.reveal()) else { return text };
        let segments = url.path_segments().into_iter().flatten().map(str::to_owned);
        let values = url.query_pairs().map(|(_, value)| value.into_owned());
        let user = [url.username().to_owned(), url.password().unwrap_or_default().to_owned()];
        let mut parts: Vec<_> =
            segments.chain(values).chain(user).filter(|part| part.len() >= SHORTEST).collect();
        parts.extend(
            [url.path(), url.query().unwrap_or_default()]
                .map(str::to_owned)
                .into_iter()
                .filter(|part| part.len() > 1),
        );
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        parts.into_iter().fold(text, |text, part| Secret::new(part).hidden_in(&text))
    })
}

fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_address_of_a_target_nor_its_path_shows_in_what_it_says() {
        let (url, key) = (Secret::new("https://hooks.example/services/T0/B0/xyz"), Secret::new("k-1"));
        let said = hidden(
            "no route /services/T0/B0/xyz at https://hooks.example/services/T0/B0/xyz: k-1",
            &[&url, &key],
        );
        assert_eq!(said, "no route *** at ***: ***");
        let long = Secret::new("https://me:password@chat.example/hooks/abcdef123/x?key=SECRET-1&b=1");
        let said = hidden("hook abcdef123 of password: key SECRET-1", &[&long]);
        assert_eq!(said, "hook *** of ***: key ***");
        let bare = Secret::new("https://hooks.example/");
        assert_eq!(hidden("a / b", &[&bare, &Secret::default()]), "a / b");
    }
}
