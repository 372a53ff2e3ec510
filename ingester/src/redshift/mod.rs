//! What the ingester sends to Redshift, and what the answers mean.
//!
//! In: a [`Target`], a [`Session`] that a [`Connector`] opened, and the batches to load. Out: committed transactions,
//! each of which also writes the ledger, or a [`crate::failure::LoadFailure`]. A crash of either side leaves a
//! transaction applied or not; the next one takes the lock first and reads the ledger.

pub(crate) mod ledger_trim;
pub(crate) mod forget;
pub(crate) mod quarantine_forget;
pub(crate) mod quarantine_release;
pub(crate) mod transaction;
pub(crate) mod table_counts;
pub(crate) mod ledger;
pub(crate) mod ledger_mark;
pub(crate) mod orphan_session;
pub(crate) mod ledger_lookup;
pub(crate) mod stage;
pub(crate) mod load_errors;
pub(crate) mod add_columns;
pub(crate) mod catalog;
mod loading;
pub(crate) mod stage_reason;
pub(crate) mod lock;
pub(crate) mod errors;
pub(crate) mod target;
pub(crate) mod ddl;
pub(crate) mod connect;
mod login;
mod session;
pub(crate) mod server;
pub(crate) mod doing;
pub(crate) mod sql;
mod answer;
pub(crate) mod redact;

pub(crate) use answer::{Rows, SqlFailure, read_moment};
pub use connect::{Connector, Dial};
pub use ledger_mark::ensure as ensure_mark;
pub use loading::{How, Loaded, Loading};
pub use login::Api;
pub(crate) use login::login_address;
pub(crate) use session::Session;
pub use stage_reason::{LedgerRange, RunInLedger, stage_reasons};
pub use target::Target;
pub use transaction::load;

#[cfg(test)]
mod sql_guard;
