//! Logging: `tracing` to standard error, for people or as JSON, and to a file a day that rolls at 00:00 UTC.

mod start;

mod daily;

pub use start::{Telemetry, start};
