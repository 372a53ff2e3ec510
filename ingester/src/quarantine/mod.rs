//! Rows that Redshift refuses: found, kept with the reason, and loaded once the table is altered. The good rows of their
//! batch do not wait for them.
//!
//! ```text
//! COPY of the batch: a load error ─► bad-row search (COPY … NOLOAD, tables of load errors, halving)
//!                                      ├─ too many ─► the batch waits whole: a fault of the table or the schema
//!                                      ▼
//!                 S3: cleaned files and their manifest, below Quarantine/<date>/<batch>/sift/
//!                 S3: the set of refused rows, below Quarantine/<date>/<batch>/<set>/         (set.rs)
//!                                      ▼
//!                 the transaction of every load: LOCK · read the ledger · COPY of the rest · count · ledger row · COMMIT
//!                                      ▼            rows_loaded + rows_known + rows_quarantined = rows sealed
//!                 S3: what the search wrote is deleted      (tidy.rs)
//!
//! ingester replay ─► LOCK · ledger row names this set? · COPY of the set into a staging table · count · what is new into the
//!                    table · ledger row · COMMIT ─► its objects are deleted
//! ```
//! `<batch>` is the id that the ledger has, or will have: not that of the seal when another batch stands there under it.
//!
//! The objects stand before the COMMIT that counts their rows, so an attempt that is cut short anywhere is simply
//! repeated: it finds the same rows, in a set that stands there or in a new one, and commits once. If the table was
//! altered in between, it finds other rows. Each set has a name of its own (set.rs), and the ledger says which counts.
//! Names within `sift/` are made of contents: a DELETE that hits one which is written again meanwhile fails a COPY, which
//! names each file as mandatory, and the search is repeated. Sealed objects are only read.

mod good_rows;
pub(crate) mod search;
pub(crate) mod trial;
mod reports;
mod tidy;
pub(crate) mod row_files;
pub(crate) mod set;
pub(crate) mod csv;

pub(crate) use good_rows::load_good_rows;
pub(crate) use row_files::is_of_search;
pub(crate) use set::{Quarantine, SCRATCH};
pub(crate) use tidy::{LEFT_OVER, tidy};
pub(crate) use trial::Warehouse;
