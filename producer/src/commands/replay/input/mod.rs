//! Where records come from: a file, standard input, or an object in S3, as the bytes that stand there.

mod find;
mod opened;
#[cfg(test)]
mod tests;

pub(super) use find::{Input, find};
