//! Who the ingester is to Redshift: a user with a password of its own, or with one that AWS gives out for a while.
//!
//! A password of AWS's only opens connections: one that is open goes on when it expires.

mod api;
mod signed;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::{Moment, Steady};
use shared::config::{self, Config};
use shared::secret::Secret;
use tokio::sync::Mutex;

use crate::redshift::session::SqlFailure;
use api::PasswordApi;

pub(crate) use api::login_address;
pub use signed::{Api, ApiError, Reply};

/// A password is not used when less than this is left of it: opening a connection takes a moment, and clocks differ.
const MARGIN: TimeDelta = TimeDelta::seconds(60);

/// A user and a password to connect with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// The user, as it is sent: AWS puts `IAM:` or `IAMA:` before the name.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// When it ends and when a new one is due, if it is one of AWS's.
    pub life: Option<Life>,
}

/// How long a password of AWS's is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// After this it opens no connection.
    pub expires: DateTime<Utc>,
    /// From then on AWS gives out a new one; it says so of some.
    pub refresh: Option<DateTime<Utc>>,
}

impl Life {
    /// Whether a new password is to be asked for: when AWS has one, and a minute before the end. Of one that lives
    /// for less than four minutes, given out at `given`, the last quarter takes the place of the minute.
    fn due(&self, given: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let margin = MARGIN.min((self.expires - given) / 4);
        now >= self.expires - margin || self.refresh.is_some_and(|refresh| now >= refresh)
    }
}

/// How the ingester logs in. Clones share what AWS gave out.
#[derive(Clone)]
pub struct Login {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Fixed(Credential),
    Temporary(Arc<Temporary>),
}

struct Temporary {
    api: PasswordApi,
    /// The password in use.
    given: Mutex<Option<Given>>,
}

/// A password, and when it came.
struct Given {
    credential: Credential,
    at: Moment,
}

impl Given {
    /// The present as the clock would show it that was right when the password came, for all that was done to it since.
    fn present(&self, now: Steady) -> DateTime<Utc> {
        let since = TimeDelta::from_std(self.at.steady.until(now)).unwrap_or(TimeDelta::MAX);
        self.at.wall.checked_add_signed(since).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    fn is_usable(&self, now: Steady) -> bool {
        self.credential.life.as_ref().is_none_or(|life| life.expires > self.present(now))
    }

    fn is_due(&self, now: Steady) -> bool {
        self.credential.life.is_some_and(|life| life.due(self.at.wall, self.present(now)))
    }
}

impl Login {
    /// As the configuration says. Nothing is sent yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let redshift = &config.redshift;
        let kind = if redshift.auth == config::Login::Password {
            let (user, password) = (redshift.user.clone(), redshift.password.clone());
            Kind::Fixed(Credential { user, password, life: None })
        } else {
            Kind::Temporary(Arc::new(Temporary { api: PasswordApi::new(config), given: Mutex::default() }))
        };
        Self { kind }
    }

    /// What to connect with now, and whether AWS gave it out for this call.
    ///
    /// # Errors
    /// When AWS gives out none.
    pub async fn credential(&self, limit: Duration) -> Result<(Credential, bool), SqlFailure> {
        match &self.kind {
            Kind::Fixed(credential) => Ok((credential.clone(), false)),
            Kind::Temporary(temporary) => temporary.credential(limit).await,
        }
    }

    /// Drops a password that Redshift did not take, so that the next one is asked for.
    pub async fn refused(&self, refused: &Credential) {
        let Kind::Temporary(temporary) = &self.kind else { return };
        let mut given = temporary.given.lock().await;
        if given.as_ref().is_some_and(|given| given.credential == *refused) {
            *given = None;
        }
    }
}

impl Temporary {
    async fn credential(&self, limit: Duration) -> Result<(Credential, bool), SqlFailure> {
        // Held while AWS is asked: who else wants to connect waits for the same answer.
        let mut given = self.given.lock().await;
        let now = Moment::now();
        let usable = given.as_ref().filter(|given| given.is_usable(now.steady));
        if let Some(usable) = usable
            && !usable.is_due(now.steady)
        {
            return Ok((usable.credential.clone(), false));
        }
        match self.api.fetch(limit).await {
            Ok(credential) => {
                let until = credential.life.map(|life| life.expires.to_rfc3339());
                tracing::info!(user = credential.user, until, "AWS gave out a password for Redshift");
                *given = Some(Given { credential: credential.clone(), at: now });
                Ok((credential, true))
            }
            Err(error) => match usable {
                // It is good for a little longer.
                Some(usable) => {
                    tracing::warn!(%error, "no new password yet; the old one is still good");
                    Ok((usable.credential.clone(), false))
                }
                None => Err(error),
            },
        }
    }
}

/// For people: how, and as whom.
impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Fixed(credential) => write!(f, "the password of {}", credential.user),
            Kind::Temporary(temporary) => temporary.api.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_password_is_due_before_the_old_one_ends_and_when_aws_has_one() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let long = Life { expires: at(900), refresh: None };
        assert!(!long.due(at(0), at(839)) && long.due(at(0), at(840)) && long.due(at(0), at(2000)));
        let short = Life { expires: at(8), refresh: None };
        assert!(!short.due(at(0), at(5)) && short.due(at(0), at(6)));
        let refreshed = Life { expires: at(3600), refresh: Some(at(1800)) };
        assert!(!refreshed.due(at(0), at(1799)) && refreshed.due(at(0), at(1800)));
        let refresh_too_late = Life { expires: at(900), refresh: Some(at(1800)) };
        assert!(refresh_too_late.due(at(0), at(840)));
    }

    #[test]
    fn a_password_ends_in_its_time_although_the_clock_is_set_back_meanwhile() {
        let at = Moment::now();
        let life = Life { expires: at.wall + TimeDelta::seconds(900), refresh: None };
        let credential =
            Credential { user: "IAM:u".to_owned(), password: Secret::new("hunter2"), life: Some(life) };
        let given = Given { credential, at };
        let after = |seconds| at.steady + Duration::from_secs(seconds);
        // Whatever the clock of the machine shows by then: nobody asks it.
        assert!(!given.is_due(after(830)) && given.is_due(after(841)));
        assert!(given.is_usable(after(899)) && !given.is_usable(after(901)));
    }

    #[test]
    fn a_credential_never_shows_its_password() {
        let credential =
            Credential { user: "IAM:u".to_owned(), password: Secret::new("hunter2"), life: None };
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
