//! `producer check`: each step against the real thing, and what to do about those that fail.
//!
//! Adobe counts as read what it has sent to a connection. So the check reads no byte of the stream and closes its
//! connection when the head of the answer is there. It loses at most what the kernel buffers for one socket, and a start
//! with `adobe.reset = "smallest"` asks for that again. A running producer asks only when it reconnects. So the check opens
//! no connection while a producer holds the lock of this log, also one that starts or whose socket has failed.

use std::io::Write;

use bytes::Bytes;
use reqwest::Client;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure, io_exit};
use shared::human::counted;
use shared::object_store::{ObjectStore, SMALL};
use shared::report::{Outcome, Report, Step, failed};
use shared::{admin, dirs, telemetry};
use state::status::feed;
use state::store::Kind;

use crate::source::connect::{self, ConnectError};
use crate::source::refusal::{Reaction, reaction_to_status};
use crate::source::token::{NOT_ACCEPTED, Token, TokenError, Tokens};

/// Tries every step and reports how it ended. Leaves nothing behind.
pub async fn check(config: &Config, clock: &Clock, out: &mut impl Write) -> Result<(), Failure> {
    let mut report = Report::new(out);
    if report.line("schema and filters", schema(config))? {
        protection::report(config, &mut report).await?;
    }
    let dir = state::store::try_dir(&config.log.dir, Kind::Producer);
    report.line("log directory", dir.map_err(failed))?;
    report.step("log files", telemetry::try_dir(&config.logging, "producer", clock))?;
    report.step("metrics", metrics_port(config).await)?;
    if let Some(dir) = config.ingester.feed.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        let tried = dirs::try_out("ingester.feed", dir);
        report.line("status socket", tried.map(|tried| tried.told(dir)).map_err(failed))?;
    }
    report.step("half-written batch", elsewhere::half_written(config))?;
    let urls = [("Adobe token", &config.adobe.token_url), ("Livestream", &config.adobe.stream_url)];
    let urls = urls.map(|(name, url)| (name, url.clone())).into_iter().chain(config.s3.addresses());
    report.line("network", Ok(config.s3.egress.report(urls)))?;
    adobe(config, clock, &mut report).await?;
    let store = ObjectStore::connect(&config.s3).await;
    if report.line("S3", bucket(config, &store, &config.s3.to_ingest).await)? {
        report.line("S3 rejects", bucket(config, &store, &config.s3.rejected).await)?;
    }
    report.end()
}

fn schema(config: &Config) -> Outcome {
    let schema = config.schema.load().map_err(failed)?;
    crate::configured::transform(config, &schema).map_err(failed)?;
    Ok(format!(
        "{}, {}",
        counted(schema.columns.len() as u64, "column", "columns"),
        counted(config.filters.len() as u64, "filter", "filters")
    ))
}

async fn metrics_port(config: &Config) -> Step {
    let running = feed::running(&config.producer_socket()).await.unwrap_or_default();
    let (key, prefix) = ("metrics.producer_listen", "livestream_producer");
    admin::try_listen((key, &config.metrics.producer_listen), prefix, running).await
}

/// Puts, gets and deletes an object below one of the producer's prefixes.
async fn bucket(config: &Config, store: &ObjectStore, prefix: &str) -> Outcome {
    // The key has not the form of a batch, so that no ingester loads it.
    let key = format!("{prefix}.check-{}", config.instance.name);
    let tried = async {
        store.put(&key, Bytes::from_static(b"written by `producer check`, which deletes it again")).await?;
        store.get_at_most(&key, SMALL).await?;
        store.delete(&key).await
    };
    match tried.await {
        Ok(()) => Ok(format!("put, got and deleted s3://{}/{key}", store.bucket())),
        Err(error) => Err((error.exit(), error.advised())),
    }
}

/// The steps at Adobe: the token, and a connection that is closed as soon as it is answered.
async fn adobe<W: Write>(config: &Config, clock: &Clock, report: &mut Report<'_, W>) -> Result<(), Failure> {
    let http = connect::client(&config.adobe).map_err(|error| Failure::new(Exit::Config, error))?;
    // Without the token cache of a running producer: the check tries the credential.
    let tokens = Tokens::new(http.clone(), &config.adobe, None, clock.clone());
    let token = match tokens {
        Ok(tokens) => tokens.get().await.map_err(|none| {
            let refused = matches!(none.error, TokenError::Refused { .. });
            (if refused { Exit::Config } else { Exit::Unavailable }, none.to_string())
        }),
        Err(error) => Err((Exit::Config, error.to_string())),
    };
    let granted = token.as_ref().map(|_| "granted".to_owned()).map_err(Clone::clone);
    report.line("Adobe token", granted)?;
    let Ok(token) = token else { return report.skipped("Livestream", "there is no token") };
    report.step("Livestream", stream(config, &http, &token, clock).await)
}

async fn stream(config: &Config, http: &Client, token: &Token, clock: &Clock) -> Step {
    match feed::running(&config.producer_socket()).await {
        Ok(None) => {}
        running => {
            let who = running.ok().flatten().map_or_else(String::new, |pid| format!(", process {pid},"));
            return Step::Skipped(format!(
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
            return Step::Skipped(format!(
                "not opened: {who} has {} open; a producer would miss what a second connection is sent",
                dir.display()
            ));
        }
        Err(error) => {
            let what =
                format!("not opened: {}: {error}; it is not known whether a producer runs", dir.display());
            return Step::Tried(Err((io_exit(&error), what)));
        }
    }
    // Without `reset`: a check must not move where another producer reads.
    let opened = connect::open(http, &config.adobe, token.value(), None, clock).await;
    // The response is dropped here, and its connection closed.
    let opened = opened.map(|response| format!("open at {}", response.url().host_str().unwrap_or_default()));
    Step::Tried(opened.map_err(|error| {
        let advice = match error {
            ConnectError::Refused { status, ref message, retry_after, .. } => {
                match reaction_to_status(status, message, retry_after) {
                    Reaction::NeedsOperator(advice) => advice,
                    Reaction::NewToken => NOT_ACCEPTED,
                    Reaction::After(_) => "a running producer may hold the connection: try again in a minute",
                    Reaction::BackOff => "try again",
                }
            }
            ConnectError::Forbidden(_) => connect::REDIRECT_ADVICE,
            ConnectError::BadRedirect(_) => connect::BAD_REDIRECT_ADVICE,
            ConnectError::Network { .. } => connect::NETWORK_ADVICE,
        };
        (Exit::Unavailable, format!("{error}; {advice}"))
    }))
}

mod elsewhere;
mod protection;
#[cfg(test)]
mod tests;
