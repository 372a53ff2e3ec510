//! `ingester audit`: counts again, in S3 and in the table, and names whatever does not agree with the ledger. It changes
//! nothing.

pub(crate) mod command;
mod report;
