//! The one thread that writes the log. It takes blocks of decoded records, drops the hits that are known, and makes
//! the rest durable in group commits. When the log is full it takes no more blocks, and the pressure reaches the
//! socket; what the shipping side has to say is always heard, since that is what makes room.

mod writer;
mod event;
#[cfg(test)]
mod tests;

pub use event::{Block, Decoded, FromStream, Shipped};
pub(crate) use writer::{Appender, start};
