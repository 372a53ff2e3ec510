//! Checks a log: reads all of it and compares its records with each other. The log may be written meanwhile: whatever looks
//! wrong is read again, and is a fault only if it is wrong every time.

mod whole;
mod meta;
mod pieces;
mod batches;
mod files;
mod groups;
mod context;

pub(crate) use whole::{check, verify};
