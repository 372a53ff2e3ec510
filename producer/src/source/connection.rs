//! One connection to the stream, for ever: token, connect, read, and again.
//!
//! ```text
//!      ┌──────────────────────── back-off ◄───────────────────────┐
//!      ▼                                                          │
//! token ──► connect ──► reading (a session) ──ended: why──► at once, then with back-off (reconnect.rs)
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reqwest::{Client, Response};
use shared::causes::causes;
use shared::config::{Adobe, Reset};
use shared::exit::{Exit, Failure};
use shared::shutdown::Shutdown;
use state::log::KnownHits;
use tokio::sync::{mpsc, watch};

use crate::append::FromStream;
use crate::counters::Counters;
use crate::decode::damage::{Damages, Unreadable};
use crate::decode::seen::Met;
use crate::decode::{self, Ended, Finished, Piece, Reading};
use crate::source::catch_up_times::Rereads;
use crate::source::connect::{self, ConnectError};
use crate::source::reconnect::{Pace, Went};
use crate::source::refusal::{Reaction, to_refusal};
use crate::source::token::{NoToken, Token, TokenError, Tokens};
use crate::transform::Transform;

/// Compressed pieces that may wait for the decoding thread; each is some ten KiB.
const PIECES_WAITING: usize = 8;
/// Connections of one process that act at the same moment do so this much apart: Adobe refuses crowds.
const STAGGER: Duration = Duration::from_millis(200);

/// What the connections of a process share.
#[derive(Clone)]
pub struct Shared {
    /// `[adobe]`
    pub config: Adobe,
    /// The client for IMS and Livestream.
    pub http: Client,
    /// The token.
    pub tokens: Tokens,
    /// What is counted on the way.
    pub counters: Arc<Counters>,
    /// The way to the log.
    pub out: mpsc::Sender<FromStream>,
    /// The hits that the log has.
    pub known: KnownHits,
    /// How often a connection broke. What was under way on it is lost, and Adobe may have given the visitors of it to
    /// another by the time it is back: so all connections start again, each with `reset`, and nothing is missing.
    broken: watch::Sender<u64>,
    /// How long each connection took to catch up.
    rereads: Rereads,
    /// The unreadable records that ended sessions.
    unreadable: Met,
}

impl Shared {
    /// For the connections of a process, of which none was connected yet.
    #[must_use]
    pub fn new(
        config: &Adobe,
        http: Client,
        tokens: Tokens,
        counters: Arc<Counters>,
        out: mpsc::Sender<FromStream>,
        known: KnownHits,
    ) -> Self {
        let (broken, rereads, unreadable) = (watch::Sender::new(0), Rereads::default(), Met::default());
        Self { config: config.clone(), http, tokens, counters, out, known, broken, rereads, unreadable }
    }
}

/// One connection.
pub struct Connection {
    number: u8,
    shared: Shared,
    transform: Option<Transform>,
    /// Whether the stream was read into this log before: then Adobe is asked to send again what it still holds.
    again: bool,
    /// A stream that moves may want to be told where to read from.
    moving: bool,
    pace: Pace,
    damages: Damages,
}

/// What to do after a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again.
    AtOnce,
    /// Try again after this time.
    After(Duration),
    /// The end: a stop was asked for, or nobody takes what is read.
    Stop,
}

impl Connection {
    /// Connection `number`, from 0, of the stream; it is not connected. `again` says whether the stream was read into
    /// this log before.
    #[must_use]
    pub fn new(number: u8, shared: Shared, transform: Transform, again: bool) -> Self {
        let config = &shared.config;
        // With another `reset` none makes others start again.
        let alone = config.connections == 1 || config.reset != Reset::Smallest;
        let pace = Pace::new(config.retry_max.0, alone);
        let transform = Some(transform);
        let damages = Damages::new(shared.unreadable.clone());
        Self { number, shared, transform, again, moving: false, pace, damages }
    }

    /// Reads until shutdown, or until only a person can help.
    ///
    /// # Errors
    /// When the credential or the stream's address is wrong.
    pub async fn run(mut self, shutdown: &Shutdown) -> Result<(), Failure> {
        let apart = STAGGER * u32::from(self.number);
        shutdown.sleep(apart).await;
        while !shutdown.is_stopping() {
            match self.step(shutdown).await? {
                Next::AtOnce => {}
                Next::After(wait) => {
                    let wait = wait + apart;
                    tracing::info!(connection = self.number, wait = %shared::human::duration(wait), "trying again");
                    self.shared.rereads.wait(self.number, Instant::now() + wait);
                    shutdown.sleep(wait).await;
                }
                Next::Stop => break,
            }
        }
        Ok(())
    }

    /// Tries once: gets a token, connects, and reads until the connection ends.
    ///
    /// # Errors
    /// As [`Connection::run`].
    pub async fn step(&mut self, shutdown: &Shutdown) -> Result<Next, Failure> {
        let Some(token) = shutdown.until(self.shared.tokens.get()).await else { return Ok(Next::Stop) };
        let token = match token {
            Ok(token) => token,
            // Before the first session it is the configuration; later it may be a secret being replaced, and
            // what is in the log goes on being shipped.
            Err(NoToken { error: error @ TokenError::Refused { .. }, .. }) if !self.again => {
                return Err(Failure::new(Exit::Config, error));
            }
            // Whoever asked has told why.
            Err(NoToken { wait, .. }) => return Ok(Next::After(wait)),
        };
        // A log that never read the stream may follow one that is lost: what Adobe still holds is asked for too. What of it
        // is in the table is left out when it is loaded.
        let config = &self.shared.config;
        let asks = self.again || self.moving || config.reset == Reset::Smallest;
        let reset = asks.then_some(config.reset);
        // Before it is opened: what breaks from now on concerns it.
        let broken = self.shared.broken.subscribe();
        let opening = connect::open(&self.shared.http, &self.shared.config, token.value(), reset);
        let Some(opened) = shutdown.until(opening).await else { return Ok(Next::Stop) };
        match opened {
            Ok(response) => Ok(self.session(response, reset, &token, broken, shutdown).await),
            Err(error) => self.react(&error, &token).await,
        }
    }

    async fn react(&mut self, error: &ConnectError, token: &Token) -> Result<Next, Failure> {
        let reaction = match error {
            ConnectError::Refused { status, said, retry_after, .. } => {
                self.moving |= *status == 503;
                to_refusal(*status, said, *retry_after)
            }
            ConnectError::Forbidden(_) => Reaction::Stop("check adobe.redirect_hosts"),
            ConnectError::BadRedirect(_) | ConnectError::Network { .. } => Reaction::Backoff,
        };
        if let Reaction::Stop(advice) = reaction
            && !self.again
        {
            let error = anyhow::anyhow!("the stream cannot be read: {error}; {advice}");
            return Err(Failure::new(Exit::Unavailable, error));
        }
        let connection = self.number;
        let next = match reaction {
            Reaction::NewToken => {
                self.shared.tokens.refused(token).await;
                Next::AtOnce
            }
            Reaction::Wait(asked) => Next::After(asked.unwrap_or(self.shared.config.retry_max.0)),
            Reaction::Backoff => Next::After(self.pace.refused()),
            Reaction::Stop(advice) => {
                tracing::error!(connection, advice, "only a person can mend this");
                Next::After(self.shared.config.retry_max.0)
            }
        };
        tracing::warn!(connection, %error, failures = self.pace.failures(), "the stream is not connected");
        Ok(next)
    }

    /// Reads one connection to its end.
    async fn session(
        &mut self,
        response: Response,
        reset: Option<Reset>,
        token: &Token,
        mut broken: watch::Receiver<u64>,
        shutdown: &Shutdown,
    ) -> Next {
        let connection = self.number;
        let host = response.url().host_str().unwrap_or_default().to_owned();
        tracing::info!(connection, host, ?reset, "reading the stream");
        let started = Instant::now();
        self.again = true;
        let Some(transform) = self.transform.take() else { return Next::Stop };
        if self.shared.out.send(FromStream::Started(connection)).await.is_err() {
            return Next::Stop;
        }
        let (pieces, input) = mpsc::channel(PIECES_WAITING);
        let (counters, out) = (self.shared.counters.clone(), self.shared.out.clone());
        let thread = match decode::start(connection, transform.clone(), self.reading(), counters, input, out)
        {
            Ok(thread) => thread,
            Err(error) => {
                self.transform = Some(transform);
                tracing::error!(connection, %error, "cannot start a thread");
                let why = "no thread could be started for it".to_owned();
                if self.shared.out.send(FromStream::Ended(connection, why)).await.is_err() {
                    return Next::Stop;
                }
                return Next::After(self.pace.refused());
            }
        };
        let pumping = pump(response, pieces, self.shared.config.idle_timeout.0, shutdown);
        let (why, end) = tokio::select! {
            ended = pumping => ended,
            // None is left to break when this one is alone.
            Ok(()) = broken.changed() => ("another connection broke".to_owned(), End::Told),
        };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        let lasted = started.elapsed();
        let mut went = Went { lasted, ..Went::default() };
        let (ended, unreadable) = match joined {
            Ok(Ok(Finished { transform: back, ended, reread, unreadable })) => {
                self.transform = Some(back);
                (went.rereading, went.unfinished) = (reread.took().min(lasted), reread.is_unfinished());
                (ended, unreadable)
            }
            _ => {
                self.transform = Some(transform);
                (Ended::Damaged("the decoding thread failed".to_owned()), Unreadable::default())
            }
        };
        let refused = ended == Ended::NotAuthorized;
        went.damaged = matches!(ended, Ended::Damaged(_) | Ended::Unreadable(_));
        went.useless = unreadable.is_spent();
        let (why, end) = match ended {
            Ended::Input => (why, end),
            Ended::Within(what) => (format!("{why}, within {what}"), end),
            Ended::Damaged(how) | Ended::Unreadable(how) => (how, End::Broke),
            Ended::NotAuthorized => {
                self.shared.tokens.refused(token).await;
                ("Adobe says the token is not authorized any more".to_owned(), End::Broke)
            }
            Ended::Closed => return Next::Stop,
        };
        if !refused {
            // Not earlier: a token that is not good any more may be told so in the body.
            self.shared.tokens.taken(token).await;
        }
        // A session that another one ended says nothing of what Adobe sends.
        if end != End::Told {
            self.note_damage(&went, &unreadable, &why);
        }
        let (now, rereads) = (Instant::now(), self.shared.rereads.clone());
        rereads.note(connection, went.rereading, went.unfinished, now);
        // With another `reset` the others would lose what is under way on them, and bring nothing back.
        if end == End::Broke && self.shared.config.reset == Reset::Smallest {
            drop(broken);
            self.shared.broken.send_modify(|times| *times += 1);
        }
        tracing::info!(connection, why, seconds = lasted.as_secs(), "the session ended");
        if self.shared.out.send(FromStream::Ended(connection, why)).await.is_err() {
            return Next::Stop;
        }
        if end == End::Told {
            return Next::After(Duration::ZERO);
        }
        went.whole = end == End::Whole;
        went.last = rereads.is_last(connection, self.shared.config.connections, now);
        self.pace.ended(&went, rereads.longest(now)).map_or(Next::AtOnce, Next::After)
    }

    /// How the records of the next session are read.
    fn reading(&self) -> Reading {
        let config = &self.shared.config;
        let max_record_bytes = usize::try_from(config.max_record_bytes.0).unwrap_or(usize::MAX);
        let known = Some(self.shared.known.clone());
        let unreadable = self.damages.next(config.damaged_after, max_record_bytes);
        Reading { max_record_bytes, known, unreadable }
    }

    /// Counts a session that could not be read, and says so.
    fn note_damage(&mut self, went: &Went, unreadable: &Unreadable, why: &str) {
        self.damages.ended(unreadable, went.lived(Duration::ZERO));
        if went.damaged {
            self.shared.counters.damaged.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(connection = self.number, why, "the stream is damaged: connecting anew");
        }
    }
}

/// How a session ended, for those beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In order: all that was sent was read.
    Whole,
    /// What was under way is lost.
    Broke,
    /// It was to end: another one broke, or the process stops.
    Told,
}

/// Passes the body on until it ends, and says why it did. Waits while the decoding thread is behind: then the
/// socket is not read.
async fn pump(
    mut response: Response,
    pieces: mpsc::Sender<Piece>,
    idle: Duration,
    shutdown: &Shutdown,
) -> (String, End) {
    loop {
        let Some(read) = shutdown.until(tokio::time::timeout(idle, response.chunk())).await else {
            return ("the producer was stopped".to_owned(), End::Told);
        };
        let piece = match read {
            Ok(Ok(Some(bytes))) => Piece::Bytes(bytes),
            Ok(Ok(None)) => {
                let _ = pieces.send(Piece::End).await;
                return ("Adobe ended it".to_owned(), End::Whole);
            }
            Ok(Err(error)) => return (causes(&error.without_url()), End::Broke),
            Err(_) => return (format!("no byte for {}", shared::human::duration(idle)), End::Broke),
        };
        let Some(sent) = shutdown.until(pieces.send(piece)).await else {
            return ("the producer was stopped".to_owned(), End::Told);
        };
        if sent.is_err() {
            // The decoding thread has ended, and knows better why.
            return (String::new(), End::Broke);
        }
    }
}
