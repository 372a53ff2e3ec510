//! One session's compressed bytes become blocks of decoded records.
//!
//! In: the body of a response, in pieces. Out: blocks, and how the session ended. Nothing survives a crash: Adobe sends
//! again what was not made durable.

mod threads;
mod decoder;
mod inflate;
pub(crate) mod blocks;
pub(crate) mod resume;
pub(crate) mod damage;
pub(crate) mod frame;

#[cfg(test)]
mod tests;
pub use decoder::Reading;
pub(crate) use decoder::{Ended, Finished};
pub use inflate::PIECE_BYTES;
pub use resume::Resume;
pub use threads::{Piece, body, start};
