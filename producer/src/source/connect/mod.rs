//! Requests to Adobe.
//!
//! In: a token and where to read from. Out: the open stream, or why it is not. Nothing survives a crash.

mod open;
mod answer;

pub(crate) use answer::{BODY_TIMEOUT, one_line, read_body, retry_after};
pub(crate) use open::{BAD_REDIRECT_ADVICE, NETWORK_ADVICE, REDIRECT_ADVICE};
pub use open::{ConnectError, client, open};
