//! The connections of the process to one stream. Each has a number, an HTTP connection, decoding threads and a back-off
//! of its own. They share the token, and write into one log. One connection, for ever:
//!
//! ```text
//!      ┌──────────────────────── back-off ◄───────────────────────┐
//!      ▼                                                          │
//! token ──► connect ──► reading (session.rs) ──ended: why──► at once, then with back-off (reconnect.rs)
//! ```
//!
//! In memory a connection costs eight pieces of the body (some ten KiB each), the inflater's window and output, a line
//! of at most `adobe.max_record_bytes`, one block of at most 1 MiB of rows, and the buffers of its transform. The blocks
//! that wait for the log are as many as with one connection.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Response;
use shared::config::Reset;
use shared::exit::{Exit, Failure};
use shared::human;
use shared::retry::NEIGHBOUR_MAX;
use shared::shutdown::Shutdown;
use state::status::activity::{Component, Reporter};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::append::ConnectionEvent;
use crate::decode::damage::DamageHistory;
use crate::decode::resume::Resume;
use crate::decode::{self, Reading};
use crate::source::connect::{self, BAD_REDIRECT_ADVICE, ConnectError, NETWORK_ADVICE, REDIRECT_ADVICE};
use crate::source::reconnect::{End, GOOD_SESSION, ReconnectPolicy};
use crate::source::refusal::{Reaction, reaction_to_status};
use crate::source::session::{self, SessionEnd};
use crate::source::shared_state::Shared;
use crate::source::token::{NoToken, Token, TokenError};
use crate::transform::CurrentTransform;

/// Reads as many connections as configured until shutdown. When one needs an operator, it stops all.
pub async fn run_connections(
    shared: Shared,
    transform: impl Into<CurrentTransform>,
    resuming: bool,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let transform = transform.into();
    let mut connections = JoinSet::new();
    for number in 0..shared.config.connections {
        let connection = Connection::new(number, shared.clone(), transform.clone(), resuming);
        let shutdown = shutdown.clone();
        connections.spawn(async move { connection.run(&shutdown).await });
    }
    let tokens = shared.tokens.clone();
    // Only the connections send to the log from here on.
    drop(shared);
    let reading = async {
        let mut first = Ok(());
        while let Some(ended) = connections.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(Failure::new(Exit::Software, error)));
            // It was stopped, it failed, or the log takes no more.
            shutdown.stop();
            first = first.and(ended);
        }
        first
    };
    let renewing = async {
        tokens.keep_fresh(shutdown).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        first = reading => first,
        () = renewing => Ok(()),
    }
}

/// Compressed pieces that may wait for the decoding threads; each is some ten KiB.
const PIECES_WAITING: usize = 8;
/// Connections of one process that act at the same moment do so this much apart: Adobe refuses crowds.
const STAGGER: Duration = Duration::from_millis(200);

/// One connection.
pub struct Connection {
    number: u8,
    shared: Shared,
    transform: CurrentTransform,
    /// Whether this log has read the stream before. Then Adobe is asked to send again what it still holds.
    resuming: bool,
    /// Whether Livestream answered 503. A stream that moves may have to be told where to read from.
    moved: bool,
    policy: ReconnectPolicy,
    damage: DamageHistory,
    reporter: Reporter,
}

/// What to do after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again.
    AtOnce,
    /// Try again after this time.
    After(Duration),
    /// End: a stop was asked for, or the log takes no more.
    Stop,
}

impl Connection {
    /// Connection `number`, from 0, not connected yet. `resuming`: this log has read the stream before.
    pub fn new(number: u8, shared: Shared, transform: impl Into<CurrentTransform>, resuming: bool) -> Self {
        let transform = transform.into();
        let config = &shared.config;
        // With another `reset` no connection makes others start again.
        let alone = config.connections == 1 || config.reset != Reset::Smallest;
        let policy = ReconnectPolicy::new(config.retry_max.0, alone);
        let damage = DamageHistory::new(shared.seen.clone());
        let reporter = match config.connections {
            1 => shared.activity.reporter(Component::Stream),
            _ => shared.activity.reporter_of(Component::Stream, number),
        };
        Self { number, shared, transform, resuming, moved: false, policy, damage, reporter }
    }

    /// Reads until shutdown, or until it needs an operator.
    pub async fn run(mut self, shutdown: &Shutdown) -> Result<(), Failure> {
        let (clock, mut credential) = (self.shared.clock.clone(), self.shared.tokens.credential());
        let stagger = STAGGER * u32::from(self.number);
        shutdown.until(clock.sleep(stagger)).await;
        while !shutdown.is_stopping() {
            match self.step(shutdown).await? {
                Next::AtOnce => {}
                Next::After(wait) => {
                    let wait = wait + stagger;
                    tracing::info!(connection = self.number, wait = %human::duration(wait), "trying again");
                    self.shared.catch_up_times.set_waiting(self.number, clock.steady() + wait);
                    let waiting = async {
                        tokio::select! {
                            () = clock.sleep(wait) => {}
                            // It may wait for what was wrong with the credential.
                            () = credential.replaced() => {}
                        }
                    };
                    shutdown.until(waiting).await;
                }
                Next::Stop => break,
            }
        }
        Ok(())
    }

    /// Tries once: gets a token, connects, and reads until the session ends.
    pub async fn step(&mut self, shutdown: &Shutdown) -> Result<Next, Failure> {
        self.reporter.begins("connecting");
        let Some(token) = shutdown.until(self.shared.tokens.get()).await else { return Ok(Next::Stop) };
        let token = match token {
            Ok(token) => token,
            // Before the first session the configuration is wrong. Later an operator may be replacing a secret, and what
            // is in the log goes on being uploaded.
            Err(NoToken { error: error @ TokenError::Refused { .. }, .. }) if !self.resuming => {
                return Err(Failure::new(Exit::Config, error));
            }
            // The request has logged why.
            Err(NoToken { error, wait }) => {
                match error {
                    // The refusals that led to it were counted.
                    TokenError::NotAccepted => self.reporter.postpones(&error, wait),
                    _ => self.reporter.failed("token", &error, Some(wait)),
                }
                return Ok(Next::After(wait));
            }
        };
        let Shared { config, http, clock, .. } = &self.shared;
        // A log that never read the stream may follow one that is lost. So with "smallest" it asks too for what Adobe
        // still holds; a load leaves out what the table has of it.
        let with_reset = self.resuming || self.moved || config.reset == Reset::Smallest;
        let reset = with_reset.then_some(config.reset);
        // Before the stream is opened: it concerns this connection too if another breaks from now on.
        let broken = self.shared.broken.subscribe();
        let opening = connect::open(http, config, token.value(), reset, clock);
        match shutdown.until(opening).await {
            None => Ok(Next::Stop),
            Some(Ok(response)) => {
                let host = response.url().host_str().unwrap_or_default();
                let reset = reset.map(Reset::name);
                tracing::info!(connection = self.number, host, reset, "reading the stream");
                // An earlier failure stays shown until this session has lasted: Adobe may end each one at once.
                self.reporter.waits();
                self.resuming = true;
                Ok(self.session(response, &token, broken, shutdown).await.unwrap_or(Next::Stop))
            }
            Some(Err(error)) => self.not_open(&error, &token).await,
        }
    }

    async fn not_open(&mut self, error: &ConnectError, token: &Token) -> Result<Next, Failure> {
        if let ConnectError::Refused { status: 503, .. } = error {
            self.moved = true;
        }
        let NotOpen { reaction, class, advice } = reaction(error);
        let (connection, longest) = (self.number, self.shared.config.retry_max.0);
        let next = match reaction {
            Reaction::NewToken => {
                self.shared.tokens.refused(token).await;
                Next::AtOnce
            }
            Reaction::After(asked) => Next::After(asked.unwrap_or(longest)),
            Reaction::BackOff => Next::After(self.policy.backoff.failed_within(NEIGHBOUR_MAX)),
            Reaction::NeedsOperator(_) if !self.resuming => {
                let error = anyhow::anyhow!("the stream cannot be read: {error}; {advice}");
                return Err(Failure::new(Exit::Unavailable, error));
            }
            Reaction::NeedsOperator(_) => {
                tracing::error!(connection, advice, "needs an operator");
                Next::After(longest)
            }
        };
        let wait = match next {
            Next::After(wait) => wait,
            Next::AtOnce | Next::Stop => Duration::ZERO,
        };
        let why = format!("{error}; {advice}");
        self.reporter.failed(&class, &why, Some(wait));
        // Every refusal counts, also one that the back-off does not count.
        let failures = self.reporter.failing().map_or(1, |failing| failing.failures);
        tracing::warn!(connection, %error, failures, "the stream is not connected");
        Ok(next)
    }

    /// Reads one response to its end. None when the log takes no more.
    async fn session(
        &mut self,
        response: Response,
        token: &Token,
        broken: watch::Receiver<u64>,
        shutdown: &Shutdown,
    ) -> Option<Next> {
        let Shared { config, counters, out, known, clock, tap, .. } = &self.shared;
        // With the wait for a log that is full: the session lasts as long as Adobe's connection.
        let begun = clock.steady();
        out.send(ConnectionEvent::Started(self.number)).await.ok()?;
        let (pieces, input) = mpsc::channel(PIECES_WAITING);
        let max_record_bytes = usize::try_from(config.max_record_bytes.0).unwrap_or(usize::MAX);
        let damage = self.damage.next_session(config.damaged_after, max_record_bytes);
        let resume = Some(Resume::new(known.clone(), clock.clone()));
        let (transform, reading) =
            (self.transform.clone(), Reading { max_record_bytes, resume, damage, tap: tap.clone() });
        let started = decode::start(self.number, transform, reading, counters.clone(), input, out.clone());
        let threads = match started {
            Ok(threads) => threads,
            Err(error) => {
                tracing::error!(connection = self.number, %error, "cannot start a thread");
                let why = "no thread could be started for it".to_owned();
                let wait = self.policy.backoff.failed();
                self.reporter.failed(
                    "other",
                    &format!("{why}: {error}; check TasksMax and MemoryMax"),
                    Some(wait),
                );
                out.send(ConnectionEvent::Ended(self.number, why)).await.ok()?;
                return Some(Next::After(wait));
            }
        };
        let reading = session::read(&self.shared, response, pieces, threads, broken, begun, shutdown);
        let lasts = async {
            clock.sleep(GOOD_SESSION).await;
            self.reporter.succeeded();
            std::future::pending().await
        };
        let ended = tokio::select! {
            ended = reading => ended?,
            ended = lasts => ended,
        };
        let now = self.shared.clock.steady();
        self.record(&ended, token).await;
        self.shared.out.send(ConnectionEvent::Ended(self.number, ended.why.clone())).await.ok()?;
        let mut session = ended.session;
        if session.end == End::Interrupted {
            return Some(Next::After(Duration::ZERO));
        }
        let times = &self.shared.catch_up_times;
        session.others_wait = times.all_others_wait(self.number, self.shared.config.connections, now);
        let wait = self.policy.session_ended(&session, times.longest(now));
        match wait {
            Some(wait) => {
                let class = if session.end.is_damage() { "damaged" } else { "ended" };
                self.reporter.failed(class, &ended.why, Some(wait));
            }
            // One that is followed at once is no failure: Adobe ends connections now and then.
            None => self.reporter.waits(),
        }
        Some(wait.map_or(Next::AtOnce, Next::After))
    }

    /// Records how a session ended: for the token, for the next session, for the other connections and for the log file.
    async fn record(&mut self, ended: &SessionEnd, token: &Token) {
        let SessionEnd { session, why, authorized, damage } = ended;
        let Shared { tokens, counters, clock, catch_up_times, broken, config, .. } = &self.shared;
        // Livestream may report an expired token in the body, so trust the token only after the session.
        match authorized {
            true => tokens.accepted(token).await,
            false => tokens.refused(token).await,
        }
        // A session that another one ended says nothing of what Adobe sends.
        if session.end != End::Interrupted {
            self.damage.session_ended(damage, session.was_stable(Duration::ZERO));
        }
        if session.end.is_damage() {
            counters.damaged.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(connection = self.number, why, "the stream is damaged: connecting anew");
        }
        catch_up_times.record(self.number, session.catching_up, session.behind, clock.steady());
        // With any other `reset`, restarting the other connections would lose their hits in flight.
        let restarts_others = !matches!(session.end, End::Complete | End::Interrupted);
        if restarts_others && config.reset == Reset::Smallest {
            broken.send_modify(|times| *times += 1);
        }
        let (connection, seconds) = (self.number, session.lasted.as_secs());
        tracing::info!(connection, why, seconds, "the session ended");
    }
}

/// What a failure to open the stream leads to.
struct NotOpen {
    reaction: Reaction,
    /// The failure in one word, for metrics.
    class: String,
    advice: &'static str,
}

fn reaction(error: &ConnectError) -> NotOpen {
    let (reaction, class, advice) = match error {
        ConnectError::Refused { status, message, retry_after, .. } => {
            let reaction = reaction_to_status(*status, message, *retry_after);
            (reaction, status.to_string(), reaction.advice())
        }
        ConnectError::Forbidden(_) => {
            (Reaction::NeedsOperator(REDIRECT_ADVICE), "redirect".to_owned(), REDIRECT_ADVICE)
        }
        ConnectError::BadRedirect(_) => (Reaction::BackOff, "redirect".to_owned(), BAD_REDIRECT_ADVICE),
        ConnectError::Network { .. } => (Reaction::BackOff, "network".to_owned(), NETWORK_ADVICE),
    };
    NotOpen { reaction, class, advice }
}
