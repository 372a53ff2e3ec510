//! Loads batches from S3 into Redshift, each exactly once.
//!
//! ```text
//! feed ──hint──► discover ──seal──► load store ──oldest due──► load ──loaded──► archive
//!                   ▲                                            │
//!      S3 listing ──┘                                            └─► verify in S3 → one transaction in Redshift
//! ```
//! `discover` enters the batches that S3 has into the `load_store`, `load` loads those that are due with one COPY, `archive`
//! clears loaded folders away, and `reconcile` compares all of it now and then. They share the load store; `load` tells
//! `discover` by hints which unknown folders to read. S3 decides which batches there are. The ledger in
//! Redshift decides which of them are loaded. The load store is a memory between the two. Rows that Redshift refuses go
//! into `quarantine`. `facts` compares what log, S3 and ledger say of a batch, for `commands`.
//!
//! A crash anywhere loses nothing: the next start asks the ledger what became of the load that was under way.

#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod cli;
mod run;
mod reload;
mod shown;
mod alerts;
mod loads_owner;
mod commands;
mod archive;
mod discover;
mod load;
mod facts;
mod quarantine;
mod services;
mod pauses;
mod reload_notifier;
mod load_store;
mod retry_queue;
mod producer_link;
mod identity;
mod redshift;
mod sought;
mod failure;

pub use cli::Cli;

// For tests, benchmarks and the simulation.
pub use alerts::figures;
pub use archive::{Archiver, Archiving, put_away};
pub use commands::check::check;
pub use discover::Discovery;
pub use facts::folder::{Folder, verify};
pub use facts::unknown_folders::{Hint, UnknownFolders};
pub use failure::Scope;
pub use load::{Loader, Progress, combine};
pub use load_store::{LoadStore, is_archived};
pub use loads_owner::LoadsOwner;
pub use redshift::{
    Api, Connector, Dial, How, LedgerRange, Loaded, Loading, RunInLedger, Target, ensure_mark, load,
    stage_reasons,
};
pub use services::Services;
