//! One request to Adobe IMS, in either flow.
//! <https://developer.adobe.com/developer-console/docs/guides/authentication/ServerToServerAuthentication/ims>

use std::time::Duration;

use chrono::Utc;
use reqwest::{Client, Response, StatusCode, header};
use ring::digest::{Context, SHA256};
use serde::Deserialize;
use shared::causes::causes;
use shared::config::{Adobe, Auth};
use shared::secret::Secret;

use super::advice::{Refusal, advice};
use super::error::TokenError;
use super::service_account::{KeyError, ServiceAccount};
use super::value::Token;
use crate::source::connect;

/// An answer of IMS is some KiB; more is not an answer of IMS.
const MAX_BODY: usize = 64 * 1024;
/// Characters shown of what IMS says.
const MAX_SHOWN: usize = 300;

/// Where tokens come from, and what is sent for one.
pub(super) struct Ims {
    http: Client,
    url: String,
    timeout: Duration,
    client_id: String,
    client_secret: Secret,
    flow: Flow,
    fingerprint: String,
}

enum Flow {
    Oauth { scopes: String },
    Jwt(Box<ServiceAccount>),
}

#[derive(Deserialize)]
struct Granted {
    access_token: Secret,
    /// Seconds with OAuth, milliseconds with a service account.
    expires_in: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Said {
    error: String,
    error_description: String,
}

impl Ims {
    pub(super) fn new(http: Client, config: &Adobe) -> Result<Self, KeyError> {
        let flow = match config.auth {
            Auth::Oauth => Flow::Oauth { scopes: config.scopes.join(",") },
            Auth::Jwt => Flow::Jwt(Box::new(ServiceAccount::new(config)?)),
        };
        Ok(Self {
            http,
            url: config.token_url.clone(),
            timeout: config.connect_timeout.0,
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            flow,
            fingerprint: fingerprint(config),
        })
    }

    /// Of everything that is sent for a token. Another credential has another, and it gives none of them away.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How long one request may take, the reading of its answer included.
    pub(super) fn longest(&self) -> Duration {
        self.timeout + connect::BODY_TIMEOUT
    }

    /// Asks for a token.
    pub(super) async fn ask(&self) -> Result<Token, TokenError> {
        let (auth, sent) = match &self.flow {
            Flow::Oauth { scopes } => {
                let form = [("grant_type", "client_credentials"), ("scope", scopes)];
                (Auth::Oauth, self.send(form.to_vec()).await?)
            }
            Flow::Jwt(account) => {
                let jwt = account.sign(Utc::now()).map_err(|reason| {
                    self.unavailable(format!("the claims cannot be signed: {reason}"), None)
                })?;
                (Auth::Jwt, self.send(vec![("jwt_token", jwt.reveal())]).await?)
            }
        };
        let status = sent.status();
        let retry_after = connect::retry_after(sent.headers(), Utc::now());
        let page = is_page(&sent);
        let body = connect::read_body(sent, MAX_BODY).await;
        let page = page || body.trim_ascii_start().starts_with(b"<");
        if status.is_success() {
            return self.granted(auth, &body, page);
        }
        let Said { error, error_description } = serde_json::from_slice(&body).unwrap_or_default();
        let (code, description) = (self.shown(&error), self.shown(&error_description));
        let passing = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
        if !status.is_client_error() || passing.contains(&status) {
            let said = if page { " with a web page".to_owned() } else { format!(" {code} {description}") };
            return Err(self.unavailable(format!("{status}{}", said.trim_end()), retry_after));
        }
        let advice = advice(auth, &Refusal { status, code: &code, description: &description, page });
        let code = if code.is_empty() { status.to_string() } else { code };
        Err(TokenError::Refused { code, description, advice })
    }

    async fn send(&self, flow: Vec<(&str, &str)>) -> Result<Response, TokenError> {
        let mut form =
            vec![("client_id", self.client_id.as_str()), ("client_secret", self.client_secret.reveal())];
        form.extend(flow);
        let sending = self.http.post(&self.url).form(&form).send();
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.unavailable(causes(&error.without_url()), None)),
            Err(_) => {
                let timeout = shared::human::duration(self.timeout);
                Err(self.unavailable(format!("no answer within {timeout}"), None))
            }
        }
    }

    fn granted(&self, auth: Auth, body: &[u8], page: bool) -> Result<Token, TokenError> {
        if page {
            let reason = "its answer is a web page, not a token: check adobe.token_url".to_owned();
            return Err(self.unavailable(reason, None));
        }
        // The error of the parser would name what it met, which may be the token.
        let granted: Granted = serde_json::from_slice(body).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            self.unavailable(format!("its answer is not a token ({at})"), None)
        })?;
        let life = match auth {
            Auth::Oauth => Duration::from_secs(granted.expires_in),
            Auth::Jwt => Duration::from_millis(granted.expires_in),
        };
        Ok(Token::new(granted.access_token, life))
    }

    fn unavailable(&self, reason: String, retry_after: Option<Duration>) -> TokenError {
        TokenError::Unavailable { url: self.url.clone(), reason, retry_after }
    }

    /// What IMS says, without our secret should it repeat what we sent, on one line, and not too much of it.
    fn shown(&self, text: &str) -> String {
        connect::one_line(&self.client_secret.hidden_in(text), MAX_SHOWN)
    }
}

fn is_page(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.contains("html"))
}

fn fingerprint(config: &Adobe) -> String {
    let mut hash = Context::new(&SHA256);
    let mut add = |part: &str| {
        // With its length, so that no two lists of parts run together into the same text.
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    };
    [&config.token_url, &config.client_id].into_iter().for_each(|part| add(part));
    add(config.client_secret.reveal());
    match config.auth {
        Auth::Oauth => config.scopes.iter().for_each(|scope| add(scope)),
        Auth::Jwt => {
            [&config.jwt_organization, &config.jwt_technical_account].into_iter().for_each(|part| add(part));
            add(config.jwt_key.reveal());
            config.jwt_metascopes.iter().for_each(|scope| add(scope));
        }
    }
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
