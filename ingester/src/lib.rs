//! Loads batches from S3 into Redshift, each exactly once.
//!
//! ```text
//! feed ──hint──► discover ──seal──► load store ──oldest due──► loader ──loaded──► archive
//!                   ▲                                      │
//!      S3 listing ──┘                                      └─► verify in S3 → one transaction in Redshift
//! ```
//! Three tasks share the [`load_store`] and nothing else: [`discover`] enters what stands in S3, [`loader`] loads it, what
//! waits together with one COPY ([`plan`], [`combine`]), and [`archive`] clears loaded folders away. What S3 says
//! decides which batches there are, the ledger in Redshift decides which of them are loaded, and the load store is a memory
//! between the two. Rows that Redshift refuses go into [`quarantine`].

mod cli;
mod run;
mod commands;
mod archive;
mod discover;
mod load;
mod facts;
mod quarantine;
mod load_store;
mod producer_link;
mod identity;
mod redshift;
mod failure;

// What tests and benchmarks use.
pub use archive::{Archiver, put_away};
pub use cli::Cli;
pub use commands::check::check;
pub use discover::Discovery;
pub use facts::folder::{Folder, verify};
pub use facts::unknown_folders::{Hint, UnknownFolders};
pub use failure::Scope;
pub use load::combine;
pub use load_store::{LoadStore, is_archived};
pub use redshift::{
    Api, ApiError, Connector, Ground, How, Loaded, Loading, Reply, Seen, Target, ensure_mark, load, ways,
};
