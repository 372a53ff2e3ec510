//! Adobe: a token, a connection to Livestream, and the bytes that come of it.

pub(crate) mod connections;
pub(crate) mod connection;
pub(crate) mod pace;
pub(crate) mod reaction;
pub(crate) mod token;
pub(crate) mod connect;
