//! A token and its life.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::{Moment, Steady, left_of};
use shared::secret::Secret;

/// A token is renewed when less of its life is left than this, or than a tenth of a short life.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// No token is kept for longer, whatever IMS or the file says. Adobe's live for a day.
pub(super) const MAX_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// A token and its life. The process measures the life with the steady clock; the times of the wall clock are for the
/// file.
#[derive(Debug, Clone)]
pub struct Token {
    pub(super) value: Secret,
    pub(super) issued: DateTime<Utc>,
    pub(super) life: Duration,
    pub(super) end: Steady,
}

impl Token {
    /// A token issued at `issued`, perhaps to another process. One from the future was issued before the clock was set
    /// back: it counts as new, and Livestream refuses it if it is not.
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
