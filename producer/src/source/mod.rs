//! Reads Adobe Livestream: a token, a connection, and the bytes that it brings.
//!
//! In: the configuration and the hits that the log has. Out: blocks of decoded records, and when each session started
//! and ended, to the append thread. Only the token survives a crash, in its file; Adobe sends again what was under way.

pub(crate) mod connections;
pub(crate) mod connection;
pub(crate) mod reconnect;
pub(crate) mod catch_up_times;
pub(crate) mod refusal;
pub(crate) mod token;
pub(crate) mod connect;
