//! The Unix socket on which a running service answers questions about its database, which no other process can open.
//! A client sends one line of JSON and gets one line back. `follow` gets a line for each batch published: the recent
//! ones at once, the others as they come, until either side hangs up. `tap` gets a line for each record that passes.
//! Nothing here survives a restart.

mod server;
mod tapping;
mod snapshot_cache;
mod protocol;

pub use protocol::{
    Answer, AskError, Followed, Published, Question, Republish, ask, follow, running, snapshot,
};
pub use server::{CLIENTS, Owner, serve};
pub use tapping::{TapStream, Tapped, tap};
