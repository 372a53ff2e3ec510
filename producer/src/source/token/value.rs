//! A token and its life, or why there is none.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::{Moment, Steady, left_of};
use shared::secret::Secret;

/// A token is renewed when less of its life is left than this, or than a tenth of a short life.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// No token is kept for longer, whatever IMS or the file says. Adobe's live for a day.
pub(super) const MAX_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// The process measures the life with the steady clock; the times of the wall clock are for the file.
#[derive(Debug, Clone)]
pub struct Token {
    pub(super) value: Secret,
    pub(super) issued: DateTime<Utc>,
    pub(super) life: Duration,
    pub(super) end: Steady,
}

impl Token {
    /// One from the future was issued before the clock was set back: it counts as new, and Livestream refuses it if it
    /// is not.
    pub(super) fn new(value: Secret, issued: DateTime<Utc>, life: Duration, now: Moment) -> Self {
        let life = life.min(MAX_LIFE);
        Self { value, issued, life, end: now.steady + left_of(life, issued, now.wall) }
    }

    pub fn value(&self) -> &Secret {
        &self.value
    }

    pub(super) fn due(&self) -> Steady {
        self.end - RENEW_BEFORE.min(self.life / 10)
    }

    /// When it expires by the wall clock.
    pub(super) fn expires(&self) -> DateTime<Utc> {
        let life = TimeDelta::from_std(self.life).unwrap_or_default();
        self.issued.checked_add_signed(life).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// IMS refuses the credential. This needs an operator.
    #[error("Adobe IMS refused a token ({code}: {description}). {advice}")]
    Refused {
        /// `error` of the answer.
        code: String,
        /// `error_description` of the answer.
        description: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// IMS cannot be reached, is busy, or answers with something else. This may pass.
    #[error(
        "no token from {url}: {reason}; if it lasts, check the network, its proxy (HTTPS_PROXY) and adobe.token_url"
    )]
    Unavailable {
        /// The address of IMS.
        url: String,
        /// What happened.
        reason: String,
        /// `Retry-After` of the answer.
        retry_after: Option<Duration>,
    },
    /// Livestream answers 401 to tokens that IMS has just issued.
    #[error("Livestream does not take the tokens Adobe IMS gives: {NOT_ACCEPTED}")]
    NotAccepted,
}

/// What an operator can do when Livestream refuses the tokens that IMS issues.
pub(crate) const NOT_ACCEPTED: &str = "the technical account lacks the product (assign the credential a product profile of Adobe \
    Analytics in the Adobe Developer Console), its e-mail address is not linked to the stream (ask Customer Care), or \
    this machine's clock is off";

/// There is no token, and there will be none before `wait` has passed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct NoToken {
    /// Why.
    pub error: TokenError,
    /// When to ask again.
    pub wait: Duration,
}
