//! `ingester ddl`: the statements that create the table, the ledger and its lock, or bring them up to date; printed, or
//! carried out. Each statement stands by itself, so that a command that was cut short is repeated: it asks the catalog, and
//! does what is left.

mod command;
mod apply;
mod differences;

pub(crate) use command::{Args, command};
