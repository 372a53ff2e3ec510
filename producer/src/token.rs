//! The OAuth server-to-server token of Adobe IMS.
//! <https://developer.adobe.com/developer-console/docs/guides/authentication/ServerToServerAuthentication/ims>

use std::time::{Duration, Instant};

use serde::Deserialize;
use shared::causes::causes;
use shared::config::Adobe;
use shared::secret::Secret;

/// A token is renewed when less of its life is left than this.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// An answer of IMS is some KiB; more is not an answer of IMS.
const MAX_BODY: usize = 64 * 1024;

/// Gets tokens and keeps the current one.
#[derive(Debug)]
pub struct Tokens {
    http: reqwest::Client,
    url: String,
    client_id: String,
    client_secret: Secret,
    scopes: String,
    timeout: Duration,
    current: Option<Token>,
}

#[derive(Debug)]
struct Token {
    value: Secret,
    expires: Instant,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// IMS says that something about the credential is wrong. Only a person mends that.
    #[error("Adobe IMS refused a token ({code}: {description}). {advice}")]
    Refused {
        /// IMS's `error`.
        code: String,
        /// IMS's `error_description`.
        description: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// IMS could not be reached, or was busy, or answered what is no answer. It may pass.
    #[error("no token from {url}: {reason}")]
    Unavailable {
        /// Where it was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
}

/// `expires_in` is in seconds in this flow.
#[derive(Deserialize)]
struct Granted {
    access_token: Secret,
    expires_in: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    error: String,
    error_description: String,
}

impl Tokens {
    /// Gets tokens as configured; nothing is sent yet.
    #[must_use]
    pub fn new(http: reqwest::Client, config: &Adobe) -> Self {
        Self {
            http,
            url: config.token_url.clone(),
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            scopes: config.scopes.join(","),
            timeout: config.connect_timeout.0,
            current: None,
        }
    }

    /// The current token, or a new one if it is about to expire.
    ///
    /// # Errors
    /// When IMS refuses or cannot be reached.
    pub async fn get(&mut self) -> Result<Secret, TokenError> {
        if let Some(token) =
            self.current.as_ref().filter(|token| token.expires > Instant::now() + RENEW_BEFORE)
        {
            return Ok(token.value.clone());
        }
        let Granted { access_token, expires_in } = self.ask().await?;
        // Adobe's live for a day; whatever an answer says, none is kept for longer than a week.
        let life = Duration::from_secs(expires_in.min(7 * 86_400));
        tracing::info!(expires_in, "new Adobe token");
        // A token that lives shorter than the margin is used for this one connection.
        self.current = Some(Token { value: access_token.clone(), expires: Instant::now() + life });
        Ok(access_token)
    }

    /// Forgets the current token: Livestream did not take it.
    pub fn refused(&mut self) {
        self.current = None;
    }

    async fn ask(&self) -> Result<Granted, TokenError> {
        let form = [
            ("client_id", self.client_id.as_str()),
            ("client_secret", self.client_secret.reveal()),
            ("grant_type", "client_credentials"),
            ("scope", &self.scopes),
        ];
        let unavailable = |reason: String| TokenError::Unavailable { url: self.url.clone(), reason };
        let sending = self.http.post(&self.url).form(&form).send();
        let sent = tokio::time::timeout(self.timeout, sending).await;
        let sent = sent.map_err(|_| {
            unavailable(format!("no answer within {}", shared::human::duration(self.timeout)))
        })?;
        let response = sent.map_err(|error| unavailable(causes(&error.without_url())))?;
        let status = response.status();
        let body = crate::connect::read_body(response, MAX_BODY).await;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| unavailable(format!("its answer is not a token: {error}")));
        }
        let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
        let passing = [reqwest::StatusCode::TOO_MANY_REQUESTS, reqwest::StatusCode::REQUEST_TIMEOUT];
        if status.is_client_error() && !passing.contains(&status) {
            let Refusal { error, error_description } = refusal;
            let code = if error.is_empty() { status.to_string() } else { error };
            return Err(TokenError::Refused { advice: advice(&code), code, description: error_description });
        }
        Err(unavailable(
            format!("{status} {} {}", refusal.error, refusal.error_description).trim().to_owned(),
        ))
    }
}

fn advice(code: &str) -> &'static str {
    match code {
        "invalid_client" => {
            "Check adobe.client_id and adobe.client_secret against the credential in the Adobe Developer Console"
        }
        "invalid_scope" => "Copy adobe.scopes from the credential's card in the Adobe Developer Console",
        "unauthorized_client" | "unsupported_grant_type" => {
            "The credential must be of type OAuth Server-to-Server: add one to the project in the Adobe Developer \
             Console (service account (JWT) credentials stopped working in 2026)"
        }
        "404 Not Found" => "Check adobe.token_url",
        _ => "Check the credential in the Adobe Developer Console and the [adobe] section",
    }
}
