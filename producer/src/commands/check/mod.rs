//! `producer check`: each step against the real thing, and what to do about those that fail.
//!
//! Adobe counts as read what it has sent to a connection, and a check has no log to put it into. So the check reads no
//! byte of the stream and closes its connection when the head of the answer is there, at the latest after
//! `adobe.connect_timeout` for each answer on the way. It loses what Adobe had sent by then: at most what the kernel
//! buffers for one socket. A start with `adobe.reset = "smallest"` asks for that again. A running producer asks only when
//! it reconnects, so the check opens no connection while this log's producer runs. That producer holds the lock of its log
//! also while it starts, and when its socket has failed.

mod command;
mod adobe;
#[cfg(test)]
mod tests;

pub use command::check;
