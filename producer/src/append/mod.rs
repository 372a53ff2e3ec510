//! The one thread that writes the log. It takes blocks of decoded records, drops the hits that are known, and makes
//! the rest durable in group commits. When the log is full it takes no more blocks, and the pressure reaches the
//! socket. It always takes the reports of uploads, since these make room. What is not committed is lost in a crash, and
//! Adobe sends it again.

mod writer;
mod event;
pub(crate) mod tapped;
mod decoded;
#[cfg(test)]
mod tests;

pub use decoded::Decoded;
pub use event::{Block, ConnectionEvent, UploadReport};
pub(crate) use writer::{Appender, start};
