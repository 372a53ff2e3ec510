//! Bytes as they stand in a file become records, and those blocks.

mod reader;
mod form;
#[cfg(test)]
mod tests;

pub(crate) use form::lines;
pub(super) use form::not_lines;
pub(super) use reader::{Reader, Stop};
