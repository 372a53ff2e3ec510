//! From the log to S3: the files of sealed batches, several at once, then a batch's manifest and seal, and rejects.
//! Every step may be repeated after a crash with the same result.
//!
//! Nothing is uploaded before its batch is sealed: until then its id is not final (`state::log::Log::open`), and a copy
//! of the log could put other rows under the same name.

mod uploader;
mod rejects;
mod jobs;
mod retry;
mod context;
pub(crate) mod copies;
#[cfg(test)]
mod tests;

pub use uploader::Uploader;
