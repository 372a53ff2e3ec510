//! The tables in Redshift: how they are created, how those that are there differ from the schema, and what alters them.

mod alter;
mod alter_text;
mod compare;
mod fit;
mod create;
mod options;
mod column;

pub(crate) use alter::{alter_ledger, alter_table};
pub(crate) use column::{Layout, LiveColumn};
pub(crate) use compare::{Difference, Effect, compare};
#[cfg(test)]
pub(crate) use compare::{Misfit, What};
pub(crate) use create::{LEDGER_COLUMNS, create_ledger, create_lock, create_table, script};
pub(crate) use options::TableOptions;
