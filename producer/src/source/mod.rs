//! Adobe: a token, a connection to Livestream, and the bytes that come of it.

pub mod connections;
pub mod connection;
pub mod pace;
pub mod reaction;
pub mod token;
pub mod connect;
