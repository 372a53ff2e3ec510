//! Loads batches of the load store into Redshift, one COPY at a time.
//!
//! ```text
//! loader ──due batches──► attempt: verify in S3 ─► one transaction in Redshift ──► load store
//!   └─► pauses · circuit breaker · connection · unknown folders
//! ```
//! In: what the load store has due. Out: rows and ledger rows in Redshift, and loads noted as *loaded* or *retrying*. A
//! crash leaves loads *loading*: the next process attempts them again, and the ledger tells which are loaded.

mod loader;
mod unknown;
mod batch_loader;
mod due_folders;
mod quarantine_check;
mod planner;
pub(crate) mod plan;
mod circuit_breaker;
mod connection;
pub mod combine;

pub use loader::{Loader, Progress};
