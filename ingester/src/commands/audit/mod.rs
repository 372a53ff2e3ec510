//! `ingester audit`: counts again, in S3 and in the table, and names whatever does not agree with the ledger. It changes
//! nothing: cut short, it is run again.

mod command;
mod report;

pub(crate) use command::{Args, command};
