//! `ingester replay`: loads rows out of the quarantine, once the table or the schema is mended. In: the sets that the
//! ledger names. Out: rows in the table, and the set of those still refused. Each row is loaded exactly once, beside running
//! ingesters and over a crash: see [`crate::redshift::quarantine_release`].

mod command;
mod report;
mod batch;

pub(crate) use command::{Args, replay};
