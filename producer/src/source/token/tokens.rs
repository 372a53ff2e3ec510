//! The token of Adobe IMS: one for all connections of the process, and by its file for all producers of the machine.
//!
//! ```text
//!              ┌────────── due: renewed while streams go on ──────────┐
//!              ▼                                                      │
//!  none ──► file or IMS ──► current ──401 from Livestream──► refused ─┴─► at once, or after a wait when the last
//!              │  ▲                                                       new token was refused as well
//!        wait, back-off
//! ```
//! One request at a time: who wants a token waits for the lock of the state, then for that of the file.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use shared::config::Adobe;
use shared::retry::Backoff;
use shared::secret::Secret;
use shared::shutdown::Shutdown;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::cache::Cache;
use super::error::{NoToken, TokenError};
use super::ims::Ims;
use super::service_account::KeyError;
use super::value::Token;

/// A token of a shorter life is not renewed before somebody needs one.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// Waits between requests that failed.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait when IMS refuses, or Livestream refuses what IMS gives: a person is needed, and requests are counted.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// Longest wait when IMS cannot be reached or is busy: it may be back any moment.
const MAX_WAIT_PASSING: Duration = Duration::from_secs(60);
/// Longest wait IMS may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Gets tokens, keeps the current one, and shares it. Clones are the same.
#[derive(Clone)]
pub struct Tokens(Arc<Shared>);

struct Shared {
    ims: Ims,
    cache: Option<Cache>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    current: Option<Token>,
    /// The last one that Livestream did not take: the file may still hold it.
    refused: Option<Secret>,
    /// Livestream refused a token since it last took one.
    doubted: bool,
    backoff: Backoff,
    /// Why and until when IMS is left alone.
    waiting: Option<(TokenError, Instant)>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Gets tokens as configured, and keeps them in the file `cache` if there is one; nothing is sent yet.
    ///
    /// # Errors
    /// When the key of a service account cannot be used.
    pub fn new(http: reqwest::Client, config: &Adobe, cache: Option<PathBuf>) -> Result<Self, KeyError> {
        let state = State {
            current: None,
            refused: None,
            doubted: false,
            backoff: Backoff::new(FIRST_WAIT, MAX_WAIT),
            waiting: None,
        };
        Ok(Self(Arc::new(Shared {
            ims: Ims::new(http, config)?,
            cache: cache.map(Cache::new),
            state: Mutex::new(state),
            changed: Notify::new(),
        })))
    }

    /// The current token, or a new one if it is due.
    ///
    /// # Errors
    /// When there is none to be had now.
    pub async fn get(&self) -> Result<Token, NoToken> {
        let mut state = self.0.state.lock().await;
        match &state.current {
            Some(token) if Instant::now() < token.due() => return Ok(token.clone()),
            _ => {}
        }
        match self.renew(&mut state).await {
            Ok(token) => Ok(token),
            // One that is only due is still good.
            Err(error) => state.current.clone().filter(|token| Instant::now() < token.end).ok_or(error),
        }
    }

    /// Livestream took this token.
    pub async fn taken(&self, token: &Token) {
        let mut state = self.0.state.lock().await;
        if state.current.as_ref().is_some_and(|current| current.value == token.value) {
            state.doubted = false;
            state.backoff.succeeded();
        }
    }

    /// Livestream did not take this token: another is needed, unless there is one already. When this one was to replace
    /// another that was not taken, not at once.
    pub async fn refused(&self, token: &Token) {
        let mut state = self.0.state.lock().await;
        if state.current.as_ref().is_none_or(|current| current.value != token.value) {
            return;
        }
        state.current = None;
        state.refused = Some(token.value.clone());
        if std::mem::replace(&mut state.doubted, true) {
            let wait = state.backoff.failed();
            tracing::error!(wait = %shared::human::duration(wait), "{}", TokenError::NotTaken);
            state.waiting = Some((TokenError::NotTaken, Instant::now() + wait));
        }
    }

    /// Renews the token before it expires, so that no connection has to wait for it, until shutdown.
    pub async fn keep_fresh(&self, shutdown: &Shutdown) {
        while !shutdown.is_stopping() {
            let due = {
                let state = self.0.state.lock().await;
                let waiting = state.waiting.as_ref().map(|(_, until)| *until);
                // The first token, and one after a 401, is asked for by who needs it; so is one that hardly lives.
                let current = state.current.as_ref().filter(|token| token.life >= SHORT_LIFE);
                current.map(|token| waiting.map_or(token.due(), |until| until.max(token.due())))
            };
            let Some(due) = due else {
                if shutdown.until(self.0.changed.notified()).await.is_none() {
                    return;
                }
                continue;
            };
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                shutdown.sleep(wait).await;
            } else if shutdown.until(self.get()).await.is_none() {
                return;
            }
        }
    }

    /// From the file, if another producer has put one there, or else from IMS.
    async fn renew(&self, state: &mut State) -> Result<Token, NoToken> {
        if let Some((error, until)) = &state.waiting {
            let wait = until.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                return Err(NoToken { error: error.clone(), wait });
            }
        }
        let Shared { ims, cache, changed, .. } = &*self.0;
        let _alone = match cache {
            Some(cache) => cache.lock(ims.longest() * 2).await,
            None => None,
        };
        let kept = cache.as_ref().and_then(|cache| cache.load(ims.fingerprint(), Utc::now()));
        let kept =
            kept.filter(|token| Instant::now() < token.due() && state.refused.as_ref() != Some(&token.value));
        let token = match kept {
            Some(token) => {
                tracing::info!(expires = %token.expires(), "Adobe token from its file");
                token
            }
            None => match ims.ask().await {
                Ok(token) => {
                    tracing::info!(expires = %token.expires(), "new Adobe token");
                    if let Some(cache) = cache {
                        cache.store(ims.fingerprint(), &token);
                    }
                    token
                }
                Err(error) => {
                    let wait = wait_after(&error, state.backoff.failed());
                    tracing::error!(%error, wait = %shared::human::duration(wait), "no token");
                    state.waiting = Some((error.clone(), Instant::now() + wait));
                    return Err(NoToken { error, wait });
                }
            },
        };
        if !state.doubted {
            state.backoff.succeeded();
        }
        state.waiting = None;
        state.current = Some(token.clone());
        changed.notify_one();
        Ok(token)
    }
}

/// How long IMS is left alone after an error, when the back-off alone would say `wait`.
fn wait_after(error: &TokenError, wait: Duration) -> Duration {
    match error {
        TokenError::Unavailable { retry_after, .. } => {
            let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
            wait.min(MAX_WAIT_PASSING).max(asked)
        }
        TokenError::Refused { .. } | TokenError::NotTaken => wait,
    }
}
