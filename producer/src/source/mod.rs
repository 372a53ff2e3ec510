//! Reads Adobe Livestream: a token, a connection, and the bytes that it brings.
//!
//! In: the configuration and the hits that the log has. Out: blocks of decoded records, and when each session started
//! and ended, to the append thread. Only the token survives a crash, in its file; Adobe sends again what was under way.

mod connection;
mod session;
mod shared_state;
mod reconnect;
pub(crate) mod refusal;
pub(crate) mod token;
pub(crate) mod connect;

pub use connection::{Connection, Next, run_connections};
pub use shared_state::Shared;
