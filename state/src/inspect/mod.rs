//! What `state` shows: `dump`, `verify` and the metrics of what is pending. Reads [`crate::status`].

pub mod dump;
pub mod verify;
pub mod metrics;
pub mod columns;
