//! Why the stream is not open.

use std::time::Duration;

/// Why the stream is not open.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Livestream answered something else.
    #[error("{host} answered {status} {said}")]
    Refused {
        /// Who answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// Its `error_description`, or the beginning of what it said instead.
        said: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// A redirect leads where the token must not go.
    #[error(
        "refused to follow a redirect to {0}: the token would go with it. If it is right, add the host to adobe.redirect_hosts"
    )]
    Forbidden(String),
    /// A redirect that cannot be followed.
    #[error("{0}")]
    BadRedirect(String),
    /// The network failed.
    #[error("cannot reach {host}: {reason}")]
    Network {
        /// Who was called.
        host: String,
        /// What happened.
        reason: String,
    },
}
