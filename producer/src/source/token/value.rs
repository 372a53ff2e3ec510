//! A token and its life.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::left_of;
use shared::secret::Secret;
use tokio::time::Instant;

/// A token is renewed when less of its life is left than this, or than a tenth of a short life.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Whatever an answer or the file says, no token is kept for longer. Adobe's live for a day.
pub(super) const MAX_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// A token and its life. Within the process the life is measured from when the token came, whatever the clock of the
/// machine is set to; what the clock said then is for the file.
#[derive(Debug, Clone)]
pub struct Token {
    pub(super) value: Secret,
    pub(super) issued: DateTime<Utc>,
    pub(super) life: Duration,
    /// When it ends.
    pub(super) end: Instant,
}

impl Token {
    /// A token that has just been given out, for so long.
    pub(super) fn new(value: Secret, life: Duration) -> Self {
        let life = life.min(MAX_LIFE);
        Self { value, issued: Utc::now(), life, end: Instant::now() + life }
    }

    /// A token that was given out at `issued`, perhaps to another process. One from the future was given out before the
    /// clock was set back: it is taken for new, and Livestream says so if it is not.
    pub(super) fn kept(value: Secret, issued: DateTime<Utc>, life: Duration, now: DateTime<Utc>) -> Self {
        let life = life.min(MAX_LIFE);
        Self { value, issued, life, end: Instant::now() + left_of(life, issued, now) }
    }

    /// What Livestream is shown.
    #[must_use]
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// When it is to be renewed.
    pub(super) fn due(&self) -> Instant {
        self.end.checked_sub(RENEW_BEFORE.min(self.life / 10)).unwrap_or(self.end)
    }

    /// When it ends, for people.
    pub(super) fn expires(&self) -> DateTime<Utc> {
        let life = TimeDelta::from_std(self.life).unwrap_or_default();
        self.issued.checked_add_signed(life).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}
