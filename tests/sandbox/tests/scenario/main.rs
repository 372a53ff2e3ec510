//! Scenarios: the real binaries with a real configuration file against the stand-ins, disturbed on purpose, and
//! judged from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod backlog;
mod connections;
mod copy_options;
mod faults;
mod kills;
mod operation;
mod pause;
mod schema;
mod silence;
mod world;
