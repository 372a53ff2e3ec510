//! Reading the stream for ever: token, connect, read, and again.
//!
//! ```text
//!      ┌──────────────────────── back-off ◄───────────────────────┐
//!      ▼                                                          │
//! token ──► connect ──► reading (a session) ──ended: why──► at once, then with back-off
//! ```

use std::time::{Duration, Instant};

use reqwest::{Client, Response};
use shared::causes::causes;
use shared::config::{Adobe, Reset};
use shared::exit::{Exit, Failure};
use shared::retry::Backoff;
use shared::shutdown::Shutdown;
use tokio::sync::mpsc;

use crate::append::FromStream;
use crate::connect::{self, ConnectError};
use crate::decode::{self, Ended, Piece};
use crate::reaction::{Reaction, to_status};
use crate::token::{TokenError, Tokens};
use crate::transform::Transform;

/// Compressed pieces that may wait for the decoding thread; each is some ten KiB.
const PIECES_WAITING: usize = 8;
/// The one connection.
const CONNECTION: u8 = 0;
/// Longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// A session this long was a good one: the next connection is tried at once.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// Reads one stream.
pub struct Stream {
    config: Adobe,
    http: Client,
    tokens: Tokens,
    transform: Option<Transform>,
    out: mpsc::Sender<FromStream>,
    /// Whether the stream was read into this log before: then Adobe is asked to send again what it still holds.
    again: bool,
    backoff: Backoff,
}

/// What to do after a try.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    AtOnce,
    After(Duration),
    Stop,
}

impl Stream {
    /// A stream that is not connected. `again` says whether it was read into this log before.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(
        config: Adobe,
        transform: Transform,
        out: mpsc::Sender<FromStream>,
        again: bool,
    ) -> Result<Self, Failure> {
        let http = connect::client(&config).map_err(|error| {
            Failure::new(Exit::Config, anyhow::anyhow!("cannot set up HTTPS: {}", causes(&error)))
        })?;
        Ok(Self {
            tokens: Tokens::new(http.clone(), &config),
            http,
            config,
            transform: Some(transform),
            out,
            again,
            backoff: Backoff::new(Duration::from_millis(250), MAX_WAIT),
        })
    }

    /// Reads until shutdown, or until only a person can help.
    ///
    /// # Errors
    /// When the credential or the stream's address is wrong.
    pub async fn run(mut self, shutdown: &Shutdown) -> Result<(), Failure> {
        while !shutdown.is_stopping() {
            match self.step(shutdown).await? {
                Next::AtOnce => {}
                Next::After(wait) => {
                    tracing::info!(wait = %shared::human::duration(wait), "trying again");
                    shutdown.sleep(wait).await;
                }
                Next::Stop => break,
            }
        }
        Ok(())
    }

    async fn step(&mut self, shutdown: &Shutdown) -> Result<Next, Failure> {
        let Some(token) = shutdown.until(self.tokens.get()).await else { return Ok(Next::Stop) };
        let token = match token {
            Ok(token) => token,
            // Before the first session it is the configuration; later it may be a secret being replaced, and
            // what is in the log goes on being shipped.
            Err(error @ TokenError::Refused { .. }) if !self.again => {
                return Err(Failure::new(Exit::Config, error));
            }
            Err(error) => {
                tracing::error!(%error, "no token");
                return Ok(Next::After(self.backoff.failed()));
            }
        };
        let reset = self.again.then_some(self.config.reset);
        let opening = connect::open(&self.http, &self.config, &token, reset);
        let Some(opened) = shutdown.until(opening).await else { return Ok(Next::Stop) };
        match opened {
            Ok(response) => Ok(self.session(response, reset, shutdown).await),
            Err(error) => self.react(&error),
        }
    }

    fn react(&mut self, error: &ConnectError) -> Result<Next, Failure> {
        let reaction = match error {
            ConnectError::Refused { status, .. } => to_status(*status),
            ConnectError::Forbidden(_) => Reaction::Stop("check adobe.redirect_hosts"),
            ConnectError::BadRedirect(_) | ConnectError::Network { .. } => Reaction::Backoff,
        };
        if let Reaction::Stop(advice) = reaction
            && !self.again
        {
            let error = anyhow::anyhow!("the stream cannot be read: {error}; {advice}");
            return Err(Failure::new(Exit::Unavailable, error));
        }
        let wait = match reaction {
            Reaction::NewToken => {
                self.tokens.refused();
                self.backoff.failed()
            }
            Reaction::Wait(wait) => wait,
            Reaction::Backoff => self.backoff.failed(),
            Reaction::Stop(advice) => {
                tracing::error!(advice, "only a person can mend this");
                MAX_WAIT
            }
        };
        tracing::warn!(%error, failures = self.backoff.failures(), "the stream is not connected");
        Ok(Next::After(wait))
    }

    /// Reads one connection to its end.
    async fn session(&mut self, response: Response, reset: Option<Reset>, shutdown: &Shutdown) -> Next {
        let host = response.url().host_str().unwrap_or_default().to_owned();
        tracing::info!(host, ?reset, "reading the stream");
        let started = Instant::now();
        self.again = true;
        let Some(transform) = self.transform.take() else { return Next::Stop };
        if self.out.send(FromStream::Started(CONNECTION)).await.is_err() {
            return Next::Stop;
        }
        let (pieces, input) = mpsc::channel(PIECES_WAITING);
        let max = usize::try_from(self.config.max_record_bytes.0).unwrap_or(usize::MAX);
        let thread = match decode::start(CONNECTION, transform.clone(), max, input, self.out.clone()) {
            Ok(thread) => thread,
            Err(error) => {
                self.transform = Some(transform);
                tracing::error!(%error, "cannot start a thread");
                return Next::After(self.backoff.failed());
            }
        };
        let why = pump(response, pieces, self.config.idle_timeout.0, shutdown).await;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        let (transform, ended) = match joined {
            Ok(Ok(back)) => back,
            _ => (transform, Ended::Damaged("the decoding thread failed".to_owned())),
        };
        self.transform = Some(transform);
        let why = match ended {
            Ended::Input => why,
            Ended::Damaged(how) => how,
            Ended::NotAuthorized => {
                self.tokens.refused();
                "Adobe says the token is not authorized any more".to_owned()
            }
            Ended::Closed => return Next::Stop,
        };
        tracing::info!(why, seconds = started.elapsed().as_secs(), "the session ended");
        if self.out.send(FromStream::Ended(CONNECTION, why)).await.is_err() {
            return Next::Stop;
        }
        if started.elapsed() >= GOOD_SESSION {
            self.backoff.succeeded();
        }
        match self.backoff.failures() {
            0 => {
                // At once, but a second short session in a row waits.
                let _ = self.backoff.failed();
                Next::AtOnce
            }
            _ => Next::After(self.backoff.failed()),
        }
    }
}

/// Passes the body on until it ends, and says why it did. Waits while the decoding thread is behind: then the
/// socket is not read.
async fn pump(
    mut response: Response,
    pieces: mpsc::Sender<Piece>,
    idle: Duration,
    shutdown: &Shutdown,
) -> String {
    loop {
        let Some(read) = shutdown.until(tokio::time::timeout(idle, response.chunk())).await else {
            return "the producer was stopped".to_owned();
        };
        let piece = match read {
            Ok(Ok(Some(bytes))) => Piece::Bytes(bytes),
            Ok(Ok(None)) => {
                let _ = pieces.send(Piece::End).await;
                return "Adobe ended it".to_owned();
            }
            Ok(Err(error)) => return causes(&error.without_url()),
            Err(_) => return format!("no byte for {}", shared::human::duration(idle)),
        };
        let Some(sent) = shutdown.until(pieces.send(piece)).await else {
            return "the producer was stopped".to_owned();
        };
        if sent.is_err() {
            // The decoding thread has ended, and knows better why.
            return String::new();
        }
    }
}
