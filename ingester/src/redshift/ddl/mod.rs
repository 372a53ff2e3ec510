//! The tables in Redshift: how they are created, how those that are there differ from the schema, and what alters them.
//! Makes text and verdicts of what it is given, and keeps nothing: a crash loses nothing.

mod alter;
mod alter_text;
mod add;
mod compare;
mod fit;
mod create;

pub(crate) use add::{Addition, additions, lacking};
pub(crate) use alter::{alter_ledger, alter_table};
#[cfg(test)]
pub(crate) use compare::Misfit;
pub(crate) use compare::{Difference, Effect, Layout, LiveColumn, What, compare};
pub(crate) use create::{LEDGER_COLUMNS, TableOptions, create_ledger, create_lock, create_table, script};
