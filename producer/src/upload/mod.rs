//! The way from the log to S3: the files of sealed batches, several at once, a batch's manifest and seal once all its
//! files are up, and rejects. Every step may be repeated after a crash with the same result.
//!
//! Nothing goes up before its batch is sealed: until then its id is not final (`state::log::Log::open`), and a copy of
//! the log could put other rows under the same name.

mod uploader;
mod rejects;
mod republish;
mod publish;
mod files;
mod context;
mod retry;
pub(crate) mod copies;
mod objects;
#[cfg(test)]
mod tests;

pub use uploader::Uploader;
