//! A database on the local disk: tables of short values in sled, changed by atomic, durable commits. Comes in: changes
//! and reads. Survives a crash: every commit that returned.
//!
//! Four properties of sled 0.34.7 shape this folder. One process at a time may open a database. `flush()` alone does not
//! survive power loss on Linux, so every commit also calls `fdatasync` on the database file. Values above some KiB can
//! leave files behind at a crash, so none is larger than `MAX_VALUE`. A timer that flushes is switched off, so nothing
//! becomes durable by itself.
//!
//! All tables are in sled's one default tree, told apart by the first byte of the key: a [`sled::Batch`] is atomic within
//! a tree and needs no read of the old values, which a transaction over several trees does for every key.

mod try_dir;
mod open;
mod trial;
mod opening;
pub(crate) mod chunked;
mod database;
mod label;
mod spare;
mod closing;
mod scan;
mod accepted;
mod failed_read;
mod disk_error;
mod leftovers;
mod undo;
pub(crate) mod lock;
mod survey;
mod change;
mod error;
mod paths;
mod range;

pub(crate) use accepted::last_written;
pub(crate) use change::MAX_VALUE;
pub use change::{Change, Table};
pub(crate) use database::COMMITS;
pub use database::Store;
pub use error::StoreError;
pub use label::Kind;
pub(crate) use open::survey_file;
pub use opening::Check;
pub use try_dir::try_dir;
