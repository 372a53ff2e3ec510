//! Finds batches in S3, and enters them into the load store: those that the feed names at once, all others by listing at
//! start, at an interval, and when the feed goes away. A folder is a batch when it holds the seal. How far listings have
//! come is kept durably once every batch before that is in the load store, so a crash only lists again.

pub(crate) mod feed;
mod discovery;
mod lister;
mod progress;
mod seals;
mod held;

pub use discovery::Discovery;
