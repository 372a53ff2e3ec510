//! `ingester adopt`: makes a batch of a folder that nobody will seal any more.
//!
//! The seal is made of what is in S3, and written as the producer would: manifest first, seal last, and the seal only if
//! there is none. Cut short anywhere the command is simply repeated. The result is loaded by the ordinary load, which
//! loads every batch once. The seal does not say what its rows were compared with, so the load compares them with the
//! table.

mod command;
mod seal;

pub(crate) use command::{Args, command};
