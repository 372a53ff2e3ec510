//! Scenarios: the real binaries with a real configuration file against the stand-ins, disturbed on purpose, and
//! judged from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod alerts;
mod audit;
mod backlog;
mod bridge;
mod browser;
mod bucket;
mod chaos;
mod checks;
mod columns;
mod compared;
mod connections;
mod copy_options;
mod cuts;
mod demo;
mod discreet;
mod disk;
mod drift;
mod faults;
mod flapping;
mod forget;
mod held_back;
mod hostile;
mod independent;
mod init;
mod kills;
mod ledger;
mod many;
mod mending;
mod messages;
mod network;
mod night;
mod notify;
mod operation;
mod page;
mod pause;
mod protection;
mod quarantine;
mod reload;
mod schema;
mod schema_change;
#[path = "../../../../state/tests/faults/shim.rs"]
#[allow(dead_code, reason = "the tests of the log run children of their own")]
mod shim;
mod silence;
mod soak;
mod status_ingester;
mod status_producer;
mod tap;
mod terminal;
mod transactions;
mod upgrade;
mod watch;
mod watched;
mod world;
