//! A value that never prints.

use std::fmt;

use serde::Deserialize;

/// A password, client secret or access key. `Debug` shows stars; there is no `Display` and no `Serialize`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the service that checks it and for no other.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The text without this secret, for what a stranger said: it may be our own words.
    pub fn hidden_in(&self, text: &str) -> String {
        if self.is_empty() { text.to_owned() } else { text.replace(&self.0, "***") }
    }

    /// Whether nothing was configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(unset)" } else { "Secret(***)" })
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_is_hidden_in_what_others_say() {
        let secret = Secret::new("hunter2");
        assert_eq!(secret.hidden_in("you sent hunter2, hunter2!"), "you sent ***, ***!");
        assert_eq!(Secret::default().hidden_in("as it was"), "as it was");
    }

    #[test]
    fn a_secret_never_shows_its_value() {
        let shown = format!("{:?} {:#?}", Secret::new("hunter2"), Some(Secret::new("hunter2")));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
