//! The producer: token → connect → inflate → frame → transform → deduplicate → append → seal → upload → publish.
//!
//! ```text
//! stream (async)        decode (two threads a session)  append (one thread)             ship (async)
//! token, connect,  ──►  inflate, frame, transform  ──►  deduplicate, group commit  ──►  upload files, publish
//! read bytes            into blocks of rows             into the log                    batches, ship rejects
//! ```
//! Every arrow is a bounded channel: when the log is full or slow the socket is not read.

mod cli;
mod commands;
mod run;
mod log_owner;
mod source;
mod decode;
mod counters;
mod transform;
mod upload;
mod append;

// What tests, benchmarks and stand-ins use.
pub use append::{Block, Decoded, FromStream, Shipped};
pub use cli::Cli;
pub use commands::check::check;
pub use commands::import::import;
pub use counters::Counters;
pub use decode::{PIECE_BYTES, Piece, Reading, Resume, body, start};
pub use run::transform;
pub use source::connect::{ConnectError, client, open};
pub use source::token::{NoToken, TokenError, Tokens};
pub use source::{Connection, Next, Shared, run_connections};
pub use transform::{Filter, FilterTest, HitId, Outcome, Reject, Transform, identity};
pub use upload::Uploader;
