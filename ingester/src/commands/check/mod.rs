//! `ingester check`: tries each step against the real thing, and says what to do about those that fail.
//!
//! In: the configuration. Out: a line a step. Whatever a step makes, in S3, in Redshift or on the disk, it removes; a check
//! that was killed leaves at most objects called `.check-…`, which no ingester loads.

mod command;
mod warehouse;
mod new_columns;
mod copy_trial;
mod objects;

pub use command::check;
