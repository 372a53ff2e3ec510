//! `ingester audit`: counts again, in S3 and in the table, and names whatever does not agree with the ledger. It changes
//! nothing.

mod command;
mod report;

pub(crate) use command::{Args, command};
