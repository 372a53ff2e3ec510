//! Why there is no token.

use std::time::Duration;

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
    #[error("no token from {url}: {reason}")]
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
