//! Why there is no token.

use std::time::Duration;

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// IMS says that something about the credential is wrong. Only a person mends that.
    #[error("Adobe IMS refused a token ({code}: {description}). {advice}")]
    Refused {
        /// IMS's `error`.
        code: String,
        /// IMS's `error_description`.
        description: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// IMS could not be reached, or was busy, or answered what is no answer. It may pass.
    #[error("no token from {url}: {reason}")]
    Unavailable {
        /// Where it was asked for.
        url: String,
        /// What happened.
        reason: String,
        /// How long IMS asks to wait.
        retry_after: Option<Duration>,
    },
    /// Livestream answered 401 to tokens IMS had just given.
    #[error("Livestream does not take the tokens Adobe IMS gives: {NOT_TAKEN}")]
    NotTaken,
}

/// What a person can do when tokens are given, but not taken.
pub(crate) const NOT_TAKEN: &str = "the technical account lacks the product (assign the credential a product profile of Adobe \
    Analytics in the Adobe Developer Console), its e-mail address is not linked to the stream (ask Customer Care), or \
    this machine's clock is off";

/// There is no token, and there will be none before this time has passed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct NoToken {
    /// Why.
    pub error: TokenError,
    /// When it is worth asking again.
    pub wait: Duration,
}
