//! `producer init`: from a few answers to a configuration that `check` accepts, a schema file to add to, and what to run
//! next: the grants and policies of `deploy/` with the names filled in. Connects to nothing, overwrites nothing without
//! `--force`, and shows no secret.

mod command;

mod next;
mod setup;
mod answers;
mod configuration;
mod terminal;
mod questions;

pub(crate) use command::init;
pub(crate) use questions::Flags;
