//! The password in use: the configured one, or one that AWS gave out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::{Clock, Moment, Steady};
use shared::config::{self, Config};
use shared::human;
use tokio::sync::Mutex;

use super::api::{Credential, PasswordApi};
use crate::redshift::answer::SqlFailure;

/// How the ingester logs in. Clones share what AWS gave out.
#[derive(Clone)]
pub(crate) enum Login {
    Fixed(Credential),
    Temporary(Arc<Temporary>),
}

pub(crate) struct Temporary {
    api: PasswordApi,
    clock: Clock,
    given: Mutex<Option<Given>>,
}

struct Given {
    credential: Credential,
    at: Moment,
}

impl Given {
    /// The present by the wall clock that was right when the password came, however that clock was set since.
    fn present(&self, now: Steady) -> DateTime<Utc> {
        let since = TimeDelta::from_std(self.at.steady.until(now)).unwrap_or(TimeDelta::MAX);
        self.at.wall.checked_add_signed(since).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    fn is_usable(&self, now: Steady) -> bool {
        self.credential.life.is_none_or(|life| life.expires > self.present(now))
    }

    fn is_due(&self, now: Steady) -> bool {
        self.credential.life.is_some_and(|life| life.due(self.at.wall, self.present(now)))
    }
}

impl Login {
    /// As the configuration says. Nothing is sent yet.
    pub(crate) fn new(config: &Config, clock: Clock) -> Self {
        let redshift = &config.redshift;
        if redshift.auth == config::Login::Password {
            let (user, password) = (redshift.user.clone(), redshift.password.clone());
            Self::Fixed(Credential { user, password, life: None })
        } else {
            let (api, given) = (PasswordApi::new(config), Mutex::default());
            Self::Temporary(Arc::new(Temporary { api, clock, given }))
        }
    }

    /// What to connect with now, and whether AWS gave it out for this call.
    pub(crate) async fn credential(&self, limit: Duration) -> Result<(Credential, bool), SqlFailure> {
        match self {
            Self::Fixed(credential) => Ok((credential.clone(), false)),
            Self::Temporary(temporary) => temporary.credential(limit).await,
        }
    }

    /// Drops a password that Redshift refused, so that AWS is asked for another one.
    pub(crate) async fn refused(&self, refused: &Credential) {
        let Self::Temporary(temporary) = self else { return };
        let mut given = temporary.given.lock().await;
        if given.as_ref().is_some_and(|given| given.credential == *refused) {
            *given = None;
        }
    }
}

impl Temporary {
    async fn credential(&self, limit: Duration) -> Result<(Credential, bool), SqlFailure> {
        // Held while AWS is asked, so that others who connect wait for the same answer.
        let mut given = self.given.lock().await;
        let now = self.clock.now();
        let usable = given.as_ref().filter(|given| given.is_usable(now.steady));
        if let Some(usable) = usable
            && !usable.is_due(now.steady)
        {
            return Ok((usable.credential.clone(), false));
        }
        match (self.api.fetch(limit).await, usable) {
            (Ok(credential), _) => {
                let until = credential.life.map(|life| human::time(life.expires));
                tracing::info!(user = credential.user, until, "AWS gave out a password for Redshift");
                *given = Some(Given { credential: credential.clone(), at: now });
                Ok((credential, true))
            }
            (Err(error), Some(usable)) => {
                tracing::warn!(%error, "no new password yet; the old one is still good");
                Ok((usable.credential.clone(), false))
            }
            (Err(error), None) => Err(error),
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(credential) => write!(f, "user {}, with redshift.password", credential.user),
            Self::Temporary(temporary) => temporary.api.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::secret::Secret;

    use super::*;
    use crate::redshift::login::api::Life;

    #[test]
    fn a_password_ends_in_its_time_although_the_clock_is_set_back_meanwhile() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let at = clock.now();
        let life = Life { expires: at.wall + TimeDelta::seconds(900), refresh: None };
        let credential =
            Credential { user: "IAM:u".to_owned(), password: Secret::new("hunter2"), life: Some(life) };
        let given = Given { credential, at };
        clock.set_wall(at.wall - TimeDelta::hours(1));
        let after = |seconds| {
            clock.advance(Duration::from_secs(seconds) - at.steady.until(clock.steady()));
            clock.steady()
        };
        assert!(!given.is_due(after(830)) && given.is_due(after(841)));
        assert!(given.is_usable(after(899)) && !given.is_usable(after(901)));
    }
}
