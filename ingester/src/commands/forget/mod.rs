//! `ingester forget`: takes the rows of a person out of the table, the archive, the quarantine, the rejects and the copies.
//!
//! ```text
//! table, ledger and prefixes ours? ─► does a batch that waits below ToIngest/ hold such rows? ──yes──► nothing is changed
//!    │ no
//!    └─► copies of loaded batches are dropped · quarantine: a set without the rows, the ledger names it · table: DELETE
//!          and ledger row, a day at a time · archive: files without the rows, the seal names them · rejects: lines go
//! ```
//! What may move goes first: a replay brings rows from quarantine to the table, and a producer's copies go to S3 again.
//!
//! The counts hold at any moment, since each place counts for itself what it lost: the ledger row of a batch in
//! `rows_forgotten`, its seal in `forgotten`. Both still add up to the rows that were sealed. A crash leaves a place done or
//! not, or an object that nothing names any more; the next run finds both. Only objects that this product names so are
//! written or deleted.

mod command;
mod values;
mod pending;
mod copies;
mod sets;
mod table;
mod archived;
mod rejects;
mod replace;
mod folder;
mod task;
mod rows;
mod reject_line;
mod report;

pub(crate) use command::{Args, command};
