//! The ingester's load store: what it knows of each batch it has met. Comes in: what happens to a batch. Goes out: loads with
//! their attempts, for back-off and for people. Survives a crash: every change that returned.
//!
//! It is a memory, never the truth: only the ledger in Redshift says whether a batch is loaded.

mod load_database;
mod pause;
mod load;
mod status;

pub use load::{Entered, FAILURES_KEPT, Failed, Form, Load, Quarantined, Refused};
pub use load_database::{LedgerMark, Listed, LoadDatabase, LoadDatabaseError, RedshiftSession, Sums};
pub use pause::{Pause, Paused, PausedBy, Pausing, REASON_MAX};
pub use status::{ErrorClass, IllegalLoadMove, LoadEvent, LoadState};
