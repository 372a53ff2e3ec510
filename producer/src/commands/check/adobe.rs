//! The steps at Adobe: the token, and a connection that is closed as soon as it is answered.

use std::io::Write;

use reqwest::Client;
use serde_json::Value;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure, io_exit};
use shared::report::{Outcome, Report};
use state::status::feed::{self, AskError};

use crate::source::connect::{self, ConnectError};
use crate::source::refusal::{Retry, retry};
use crate::source::token::{NOT_ACCEPTED, Token, TokenError, Tokens};

pub(super) async fn adobe<W: Write>(
    config: &Config,
    clock: &Clock,
    report: &mut Report<'_, W>,
) -> Result<(), Failure> {
    let http = connect::client(&config.adobe).map_err(|error| Failure::new(Exit::Config, error))?;
    // Without the token cache of a running producer: the check tries the credential.
    let tokens = Tokens::new(http.clone(), &config.adobe, None, clock.clone());
    let token = match tokens {
        Ok(tokens) => tokens.get().await.map_err(|none| match none.error {
            error @ TokenError::Refused { .. } => (Exit::Config, error.to_string()),
            error @ (TokenError::Unavailable { .. } | TokenError::NotAccepted) => {
                (Exit::Unavailable, error.to_string())
            }
        }),
        Err(error) => Err((Exit::Config, error.to_string())),
    };
    let granted = token.as_ref().map(|_| "granted".to_owned()).map_err(Clone::clone);
    report.line("Adobe token", granted)?;
    let Ok(token) = token else { return Ok(()) };
    report.line("Livestream", stream(config, &http, &token, clock).await)?;
    Ok(())
}

async fn stream(config: &Config, http: &Client, token: &Token, clock: &Clock) -> Outcome {
    match feed::snapshot::<Value>(&config.producer_socket()).await {
        Err(AskError::Nobody(_)) => {}
        running => {
            let who = running.map_or_else(|_| String::new(), |answer| format!(", process {},", answer.pid));
            return Ok(format!(
                "not opened: the producer{who} reads it, and would miss what a second connection is sent; \
                 `state dump` shows its sessions"
            ));
        }
    }
    // Nobody answers, who may have the log all the same: a producer that starts, or whose socket failed.
    let dir = &config.log.dir;
    match state::in_use(dir) {
        Ok(false) => {}
        Ok(true) => {
            let who =
                state::holder(dir).map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            return Ok(format!(
                "not opened: {who} has {} open; a producer would miss what a second connection is sent",
                dir.display()
            ));
        }
        Err(error) => {
            let what =
                format!("not opened: {}: {error}; it is not known whether a producer runs", dir.display());
            return Err((io_exit(&error), what));
        }
    }
    // Without `reset`: a check must not move where another producer reads.
    let opened = connect::open(http, &config.adobe, token.value(), None, clock).await;
    // The response is dropped here, and its connection closed.
    let opened = opened.map(|response| format!("open at {}", response.url().host_str().unwrap_or_default()));
    opened.map_err(|error| {
        let advice = match error {
            ConnectError::Refused { status, ref message, retry_after, .. } => {
                match retry(status, message, retry_after) {
                    Retry::NeedsOperator(advice) => advice,
                    Retry::NewToken => NOT_ACCEPTED,
                    Retry::After(_) => "a running producer may hold the connection: try again in a minute",
                    Retry::BackOff => "try again",
                }
            }
            ConnectError::Forbidden(_) | ConnectError::BadRedirect(_) | ConnectError::Network { .. } => {
                "check adobe.stream_url and adobe.redirect_hosts"
            }
        };
        (Exit::Unavailable, format!("{error}; {advice}"))
    })
}
