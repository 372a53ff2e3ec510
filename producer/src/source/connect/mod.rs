//! Requests to Adobe.
//!
//! In: a token and where to read from. Out: the open stream, or why it is not. Nothing survives a crash.

mod open;
mod redirect;
mod answer;
mod error;

pub(crate) use answer::{BODY_TIMEOUT, one_line, read_body, retry_after};
pub use error::ConnectError;
pub use open::{client, open};
