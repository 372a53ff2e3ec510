//! When to use, renew and doubt a token.
//!
//! ```text
//!              ┌────────── due: renewed while connections go on ──────┐
//!              ▼                                                      │
//!  none ──► file or IMS ──► current ──401 from Livestream──► refused ─┴─► at once, or after a wait when Livestream
//!              │  ▲                                                       refused the last new token too
//!        wait, back-off
//! ```
//! One request at a time: a caller waits for the lock of the state, then for that of the file.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::clock::{Clock, Steady};
use shared::config::Adobe;
use shared::human;
use shared::retry::{Backoff, NEIGHBOUR_MAX, drawn};
use shared::secret::Secret;
use shared::shutdown::Shutdown;
use tokio::sync::{Mutex, Notify, watch};

use super::cache::Cache;
use super::ims::Ims;
use super::sign::KeyError;
use super::value::{NoToken, Token, TokenError};

/// A token of a shorter life is renewed only when a caller needs one.
const SHORT_LIFE: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait when IMS refuses, or Livestream refuses what IMS issues: it needs an operator, and IMS counts requests.
const MAX_WAIT: Duration = Duration::from_secs(300);
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Gets tokens, keeps the current one, and shares it. Clones are the same.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    /// The next request takes the credential of the latest reload.
    ims: watch::Sender<Arc<Ims>>,
    /// Whether the credential was replaced since the last attempt to get a token.
    renewed: AtomicBool,
    cache: Option<Cache>,
    clock: Clock,
    state: Mutex<State>,
    changed: Notify,
}

/// A credential that no token was asked with yet.
pub(crate) struct NewCredential(Ims);

/// Follows the credential.
pub(crate) struct CredentialWatch(watch::Receiver<Arc<Ims>>);

impl CredentialWatch {
    /// Returns when the credential was replaced since this returned last.
    pub(crate) async fn replaced(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct State {
    current: Option<Token>,
    /// The last token that Livestream refused. The file may still hold it.
    refused: Option<Secret>,
    /// Livestream refused a token since it last accepted one.
    doubted: bool,
    backoff: Backoff,
    pause: Option<(TokenError, Steady)>,
}

impl State {
    fn pause(&mut self, error: TokenError, wait: Duration, now: Steady) {
        tracing::error!(%error, wait = %human::duration(wait), "no token");
        self.pause = Some((error, now + wait));
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Gets tokens as configured, and keeps them in the file `cache` if there is one. Sends nothing yet.
    pub fn new(
        http: reqwest::Client,
        config: &Adobe,
        cache: Option<PathBuf>,
        clock: Clock,
    ) -> Result<Self, KeyError> {
        let backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        Ok(Self(Arc::new(Inner {
            ims: watch::Sender::new(Arc::new(Ims::new(http.clone(), config)?)),
            http,
            renewed: AtomicBool::new(false),
            cache: cache.map(|path| Cache { path }),
            clock,
            state: Mutex::new(State { current: None, refused: None, doubted: false, backoff, pause: None }),
            changed: Notify::new(),
        })))
    }

    /// Prepares requests with another credential. Sends nothing.
    pub(crate) fn prepare(&self, config: &Adobe) -> Result<NewCredential, KeyError> {
        Ok(NewCredential(Ims::new(self.0.http.clone(), config)?))
    }

    /// Takes another credential for the next token. What IMS or Livestream refused before says nothing of it. The current
    /// token stays while Livestream takes it.
    pub(crate) fn replace(&self, new: NewCredential) {
        self.0.ims.send_replace(Arc::new(new.0));
        self.0.renewed.store(true, Ordering::Release);
        self.0.changed.notify_one();
    }

    /// Tells when the credential is replaced from now on.
    pub(crate) fn credential(&self) -> CredentialWatch {
        CredentialWatch(self.0.ims.subscribe())
    }

    /// The current token, or a new one if it is due.
    pub async fn get(&self) -> Result<Token, NoToken> {
        let mut state = self.0.state.lock().await;
        if let Some(token) = &state.current
            && self.0.clock.steady() < token.due()
        {
            return Ok(token.clone());
        }
        match self.renew(&mut state).await {
            Ok(token) => Ok(token),
            // A token that is only due is still valid.
            Err(error) => {
                let now = self.0.clock.steady();
                state.current.clone().filter(|token| now < token.end).ok_or(error)
            }
        }
    }

    /// Livestream accepted this token.
    pub async fn accepted(&self, token: &Token) {
        let mut state = self.0.state.lock().await;
        if state.current.as_ref().is_some_and(|current| current.value == token.value) {
            state.doubted = false;
            state.backoff.succeeded();
        }
    }

    /// Livestream refused this token. If it refused the one before too, IMS is asked only after a wait.
    pub async fn refused(&self, token: &Token) {
        let mut state = self.0.state.lock().await;
        if state.current.as_ref().is_none_or(|current| current.value != token.value) {
            return;
        }
        state.current = None;
        state.refused = Some(token.value.clone());
        if std::mem::replace(&mut state.doubted, true) {
            let wait = state.backoff.failed();
            state.pause(TokenError::NotAccepted, wait, self.0.clock.steady());
        }
    }

    /// Renews the token before it expires, so that no connection has to wait for it, until shutdown.
    pub async fn keep_fresh(&self, shutdown: &Shutdown) {
        let mut credential = self.credential();
        let renewing = async {
            loop {
                match self.next_renewal().await {
                    None => self.0.changed.notified().await,
                    Some(due) if due > self.0.clock.steady() => tokio::select! {
                        () = self.0.clock.sleep_until(due) => {}
                        () = credential.replaced() => {}
                    },
                    Some(_) => drop(self.get().await),
                }
            }
        };
        let _ = shutdown.until::<()>(renewing).await;
    }

    /// When to renew unasked. A connection itself asks for the first token, after a 401, and when tokens are
    /// short-lived.
    async fn next_renewal(&self) -> Option<Steady> {
        let state = self.0.state.lock().await;
        let token = state.current.as_ref().filter(|token| token.life >= SHORT_LIFE)?;
        let pause = state.pause.as_ref().filter(|_| !self.0.renewed.load(Ordering::Acquire));
        Some(pause.map_or(token.due(), |(_, until)| token.due().max(*until)))
    }

    /// A token from the file, if another producer has put one there, or else from IMS.
    async fn renew(&self, state: &mut State) -> Result<Token, NoToken> {
        let Inner { cache, clock, changed, renewed, .. } = &*self.0;
        if renewed.swap(false, Ordering::AcqRel) {
            state.pause = None;
            state.backoff.succeeded();
            state.doubted = false;
        }
        let ims = self.0.ims.borrow().clone();
        if let Some((error, until)) = &state.pause {
            let wait = clock.steady().until(*until);
            if !wait.is_zero() {
                return Err(NoToken { error: error.clone(), wait });
            }
        }
        let _locked = match cache {
            Some(cache) => cache.lock(ims.longest() * 2, clock).await,
            None => None,
        };
        let now = clock.now();
        let cached = cache.as_ref().and_then(|cache| cache.load(ims.fingerprint(), now));
        let cached =
            cached.filter(|token| now.steady < token.due() && state.refused.as_ref() != Some(&token.value));
        let token = match cached {
            Some(token) => {
                tracing::info!(expires = %token.expires(), "Adobe token from its file");
                token
            }
            None => match ims.request(clock).await {
                Ok(token) => {
                    tracing::info!(expires = %token.expires(), "new Adobe token");
                    if let Some(cache) = cache {
                        cache.store(ims.fingerprint(), &token);
                    }
                    token
                }
                Err(error) => {
                    let wait = wait_after(&error, state.backoff.failed());
                    state.pause(error.clone(), wait, clock.steady());
                    return Err(NoToken { error, wait });
                }
            },
        };
        if !state.doubted {
            state.backoff.succeeded();
        }
        state.pause = None;
        state.current = Some(token.clone());
        changed.notify_one();
        Ok(token)
    }
}

/// How long IMS is not asked after an error, when the back-off alone says `wait`.
fn wait_after(error: &TokenError, wait: Duration) -> Duration {
    match error {
        TokenError::Unavailable { retry_after, .. } => {
            let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
            // It may be back any moment.
            wait.min(drawn(NEIGHBOUR_MAX)).max(asked)
        }
        TokenError::Refused { .. } | TokenError::NotAccepted => wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ims_that_is_away_is_asked_as_often_as_any_neighbour_and_one_that_refuses_seldom() {
        let away = |asked: Option<u64>| TokenError::Unavailable {
            url: "https://ims.example/token".to_owned(),
            reason: "connection refused".to_owned(),
            retry_after: asked.map(Duration::from_secs),
        };
        let long = MAX_WAIT;
        assert!(wait_after(&away(None), long) <= NEIGHBOUR_MAX);
        assert_eq!(wait_after(&away(None), FIRST_WAIT), FIRST_WAIT);
        assert_eq!(wait_after(&away(Some(90)), FIRST_WAIT), Duration::from_secs(90));
        assert_eq!(wait_after(&away(Some(86_400)), long), MAX_RETRY_AFTER);
        assert_eq!(wait_after(&TokenError::NotAccepted, long), long);
    }
}
