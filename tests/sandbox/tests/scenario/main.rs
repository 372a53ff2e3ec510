//! Scenarios: the real binaries with a real configuration file against the stand-ins, disturbed on purpose, and
//! judged from outside.

mod faults;
mod kills;
mod operation;
mod world;
