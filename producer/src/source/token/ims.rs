//! One token request to Adobe IMS, in either flow.
//! <https://developer.adobe.com/developer-console/docs/guides/authentication/ServerToServerAuthentication/ims>

use std::time::Duration;

use reqwest::{Client, Response, StatusCode, header};
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use shared::causes::causes;
use shared::clock::Clock;
use shared::config::{Adobe, Auth};
use shared::human;
use shared::secret::Secret;

use super::advice::advice;
use super::sign::{KeyError, ServiceAccount};
use super::value::{Token, TokenError};
use crate::source::connect;

/// An answer of IMS is some KiB. Not more is read.
const MAX_BODY: usize = 64 * 1024;
const MAX_SHOWN: usize = 300;

pub(super) struct Ims {
    http: Client,
    config: Adobe,
    account: Option<ServiceAccount>,
    fingerprint: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: Secret,
    /// Seconds with OAuth, milliseconds with a service account.
    expires_in: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    error: String,
    error_description: String,
}

impl Ims {
    pub(super) fn new(http: Client, config: &Adobe) -> Result<Self, KeyError> {
        let account = match config.auth {
            Auth::Oauth => None,
            Auth::Jwt => Some(ServiceAccount::new(config)?),
        };
        Ok(Self { http, config: config.clone(), account, fingerprint: fingerprint(config) })
    }

    /// A digest of everything that is sent for a token. Each credential has its own, and it discloses none of them.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How long one request may take, with its answer.
    pub(super) fn longest(&self) -> Duration {
        self.config.connect_timeout.0 + connect::BODY_TIMEOUT
    }

    pub(super) async fn request(&self, clock: &Clock) -> Result<Token, TokenError> {
        let response = match &self.account {
            None => {
                let scopes = self.config.scopes.join(",");
                self.send([("grant_type", "client_credentials"), ("scope", &scopes)]).await?
            }
            Some(account) => {
                let jwt = account.sign(clock.wall()).map_err(|reason| {
                    self.unavailable(format!("the claims cannot be signed: {reason}"), None)
                })?;
                self.send([("jwt_token", jwt.reveal())]).await?
            }
        };
        let status = response.status();
        let retry_after = connect::retry_after(response.headers(), clock.wall());
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let html = kind.is_some_and(|kind| kind.contains("html"));
        let body = connect::read_body(response, MAX_BODY).await;
        let html = html || body.trim_ascii_start().starts_with(b"<");
        if status.is_success() {
            return self.granted(&body, html, clock);
        }
        let Refusal { error, error_description } = serde_json::from_slice(&body).unwrap_or_default();
        let (code, description) = (self.shown(&error), self.shown(&error_description));
        let passing = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
        if !status.is_client_error() || passing.contains(&status) {
            let answer = if html { " with a web page".to_owned() } else { format!(" {code} {description}") };
            return Err(self.unavailable(format!("{status}{}", answer.trim_end()), retry_after));
        }
        let advice = advice(self.config.auth, status, &code, &description, html);
        let code = if code.is_empty() { status.to_string() } else { code };
        Err(TokenError::Refused { code, description, advice })
    }

    async fn send<const N: usize>(&self, flow: [(&str, &str); N]) -> Result<Response, TokenError> {
        let (id, secret) = (self.config.client_id.as_str(), self.config.client_secret.reveal());
        let mut form = vec![("client_id", id), ("client_secret", secret)];
        form.extend(flow);
        let timeout = self.config.connect_timeout.0;
        let sending = self.http.post(&self.config.token_url).form(&form).send();
        match tokio::time::timeout(timeout, sending).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.unavailable(causes(&error.without_url()), None)),
            Err(_) => Err(self.unavailable(format!("no answer within {}", human::duration(timeout)), None)),
        }
    }

    fn granted(&self, body: &[u8], html: bool, clock: &Clock) -> Result<Token, TokenError> {
        if html {
            let reason = "its answer is a web page, not a token: check adobe.token_url".to_owned();
            return Err(self.unavailable(reason, None));
        }
        // Not the parser's error: it could show the token.
        let granted: Granted = serde_json::from_slice(body).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            self.unavailable(format!("its answer is not a token ({at})"), None)
        })?;
        let life = match self.config.auth {
            Auth::Oauth => Duration::from_secs(granted.expires_in),
            Auth::Jwt => Duration::from_millis(granted.expires_in),
        };
        let now = clock.now();
        Ok(Token::new(granted.access_token, now.wall, life, now))
    }

    fn unavailable(&self, reason: String, retry_after: Option<Duration>) -> TokenError {
        TokenError::Unavailable { url: self.config.token_url.clone(), reason, retry_after }
    }

    /// The beginning of a text of IMS on one line, without our secret, which IMS may repeat.
    fn shown(&self, text: &str) -> String {
        connect::one_line(&self.config.client_secret.hidden_in(text), MAX_SHOWN)
    }
}

fn fingerprint(config: &Adobe) -> String {
    let mut parts = vec![config.token_url.as_str(), &config.client_id, config.client_secret.reveal()];
    match config.auth {
        Auth::Oauth => parts.extend(config.scopes.iter().map(String::as_str)),
        Auth::Jwt => {
            parts.extend([config.jwt_organization.as_str(), &config.jwt_technical_account]);
            parts.push(config.jwt_key.reveal());
            parts.extend(config.jwt_metascopes.iter().map(String::as_str));
        }
    }
    let mut hash = Context::new(&SHA256);
    for part in parts {
        // The length keeps two lists of parts from running together into the same bytes.
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
