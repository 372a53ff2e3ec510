//! `producer replay`: records from files go the way of those from the stream, into a log of its own and from there to
//! S3, so that rejects can become rows once the schema is mended.
//!
//! ```text
//! file, stdin, S3 (async)        read (a blocking thread)               append, upload: as for the stream
//! bytes as they stand      ──►   decompress, frame, unwrap rejects, ──► log in <log.dir>/replay ──► S3
//!                                transform
//! ```
//! The log counts every record it takes, durably and in order. So a journal that says at which count the reading of
//! each file began tells after a crash exactly what of it is taken in already.

mod command;
mod files;
mod input;
mod read;
mod journal;
mod summary;

pub(crate) use command::{Args, replay};
pub(crate) use read::lines;
