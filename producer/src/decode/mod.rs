//! One session's compressed bytes become blocks of decoded records.
//!
//! In: the body of a response, in pieces. Out: blocks, and how the session ended. Nothing survives a crash: Adobe sends
//! again what was not made durable.

pub(crate) mod threads;
pub(crate) mod inflate;
pub(crate) mod blocks;
pub(crate) mod resume;
pub(crate) mod damage;
pub(crate) mod seen;
pub(crate) mod frame;

#[cfg(test)]
mod tests;

pub use inflate::PIECE_BYTES;
pub(crate) use threads::{Ended, Finished};
pub use threads::{Piece, Reading, body, start};
