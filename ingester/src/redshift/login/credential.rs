//! A user and a password, and how long they are good.

use chrono::{DateTime, TimeDelta, Utc};
use shared::secret::Secret;

/// A password is not used when less than this is left of it: opening a connection takes a moment, and clocks differ.
const MARGIN: TimeDelta = TimeDelta::seconds(60);

/// A user and a password to connect with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    /// The user, as it is sent: AWS puts `IAM:` or `IAMA:` before the name.
    pub(crate) user: String,
    pub(crate) password: Secret,
    /// How long a password of AWS is good; None for a configured one.
    pub(crate) life: Option<Life>,
}

/// How long a password of AWS is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// After this it opens no connection.
    pub(crate) expires: DateTime<Utc>,
    /// When AWS begins to give out a new one, if AWS says so.
    pub(crate) refresh: Option<DateTime<Utc>>,
}

impl Life {
    /// Whether to ask for a new password: when AWS has one, and a minute before the end. For a password that lives for
    /// less than four minutes from `given`, its last quarter takes the place of the minute.
    pub(super) fn due(self, given: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        let margin = MARGIN.min((self.expires - given) / 4);
        now >= self.expires - margin || self.refresh.is_some_and(|refresh| now >= refresh)
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
    fn a_credential_never_shows_its_password() {
        let credential =
            Credential { user: "IAM:u".to_owned(), password: Secret::new("hunter2"), life: None };
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
