//! The producer: token → connect → inflate → frame → transform → deduplicate → append → seal → upload → publish.
//!
//! ```text
//! stream (async)        decode (two threads a session)  append (one thread)             ship (async)
//! token, connect,  ──►  inflate, frame, transform  ──►  deduplicate, group commit  ──►  upload files, publish
//! read bytes            into blocks of rows             into the log                    batches, ship rejects
//! ```
//! Every arrow is a bounded channel: when the log is full or slow the socket is not read.

pub mod cli;
pub mod commands;
pub mod run;
pub mod source;
pub mod decode;
pub mod counters;
pub mod transform;
pub mod upload;
pub mod append;
