//! Why the stream is not open.

use std::time::Duration;

/// Why the stream is not open.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Livestream refuses the request.
    #[error("{host} answered {status} {message}")]
    Refused {
        /// The host that answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// `error_description` of the body, or the beginning of a body in another form.
        message: String,
        /// `Retry-After` of the answer.
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
        /// The host that was called.
        host: String,
        /// What happened.
        reason: String,
    },
}
