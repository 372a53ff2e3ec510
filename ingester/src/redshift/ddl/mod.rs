//! The tables in Redshift: how they are created, how those that are there differ from the schema, and what alters them.
//! Makes text and verdicts of what it is given, and keeps nothing: a crash loses nothing.

mod alter;
mod alter_text;
mod compare;
mod fit;
mod create;

pub(crate) use alter::{alter_ledger, alter_table};
pub(crate) use compare::{Difference, Effect, Layout, LiveColumn, compare};
#[cfg(test)]
pub(crate) use compare::{Misfit, What};
pub(crate) use create::{LEDGER_COLUMNS, TableOptions, create_ledger, create_lock, create_table, script};
