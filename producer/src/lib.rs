//! The producer: token → connect → inflate → frame → transform → deduplicate → append → seal → upload → publish.
//!
//! ```text
//! source (async)        decode (two threads a session)  append (one thread)             upload (async)
//! token, connect,  ──►  inflate, frame, transform  ──►  deduplicate, group commit  ──►  upload files, publish
//! read bytes            into blocks of rows             into the log                    batches, upload rejects
//! ```
//! Every arrow is a bounded channel: when the log is full or slow, nothing reads the socket.
//!
//! The modules stand in the order of the flow; each uses only those declared after it. `upload` stands before `append`,
//! since it reports to the thread that writes the log.

mod cli;
mod commands;
mod run;
mod reload;
mod alerts;
mod drain;
mod log_owner;
mod shown;
mod configured;
mod source;
mod decode;
mod counters;
mod drift;
mod transform;
mod upload;
mod append;

// What tests, benchmarks and stand-ins use.
pub use append::{Block, ConnectionEvent, Decoded, UploadReport};
pub use cli::Cli;
pub use commands::check::check;
pub use commands::import::import;
pub use configured::transform;
pub use counters::Counters;
pub use decode::{PIECE_BYTES, Piece, Reading, Resume, body, start};

pub use source::connect::{ConnectError, client, open};
pub use source::token::{NoToken, TokenError, Tokens};
pub use source::{Connection, Next, Shared, run_connections};
pub use transform::{CurrentTransform, Filter, FilterTest, HitId, Outcome, Reject, Transform, identity};
pub use upload::Uploader;
