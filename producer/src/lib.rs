//! The producer: token → connect → inflate → frame → transform → deduplicate → append → seal → upload → publish.
//!
//! ```text
//! stream (async)        decode (two threads a session)  append (one thread)             ship (async)
//! token, connect,  ──►  inflate, frame, transform  ──►  deduplicate, group commit  ──►  upload files, publish
//! read bytes            into blocks of rows             into the log                    batches, ship rejects
//! ```
//! Every arrow is a bounded channel: when the log is full or slow the socket is not read.

pub mod append;
pub mod check;
pub mod cli;
pub mod connect;
pub mod counters;
pub mod decode;
pub mod frame;
pub mod import;
pub mod inflate;
pub mod kept;
pub mod pace;
pub mod reaction;
pub mod records;
pub mod replay;
pub mod reread;
pub mod run;
pub mod schema;
pub mod ship;
pub mod stream;
pub mod streams;
pub mod token;
pub mod transform;
pub mod unreadable;
pub mod upload;
