//! Scenarios: the real binaries with a real configuration file against the stand-ins, disturbed on purpose, and
//! judged from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod audit;
mod backlog;
mod faults;
mod kills;
mod mending;
mod operation;
mod schema;
mod silence;
mod world;
