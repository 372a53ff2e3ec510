//! `producer import-config`: from the files of the Python daemon to a configuration of ours. Nothing is overwritten, and
//! no secret is shown: each goes to a file of its own.

mod command;
mod pipeline;

pub use command::import;
