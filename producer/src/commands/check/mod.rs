//! `producer check`: each step against the real thing, and what to do about those that fail.
//!
//! Adobe counts as read what it has sent to a connection, and a check has no log to put it into. So the check closes its
//! connection when the head of the answer is there, at the latest after `adobe.connect_timeout` for each of the answers
//! on the way, and reads no byte of the stream: what is lost is what Adobe had sent by then, at most what the kernel
//! takes in for one socket. A start with `adobe.reset = "smallest"` asks for that again. A producer that reads already
//! does not ask before it connects anew, so beside this log's own producer no connection is opened. That one has the lock
//! of its log also while it starts, and when its socket has failed.

mod command;
mod adobe;
#[cfg(test)]
mod tests;

pub use command::check;
