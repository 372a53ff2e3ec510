//! Rows that Redshift refuses: found, kept with the reason, and loaded once the table is mended. The good ones of their
//! batch do not wait for them.
//!
//! ```text
//! COPY of the batch: a load error ─► sift: which rows? (COPY … NOLOAD, tables of load errors, halving)
//!                                      ├─ too many ─► the batch waits whole: a fault of the table or the schema
//!                                      ▼
//!                 S3: cleaned files and their manifest, below Quarantine/<date>/<batch>/sift/
//!                 S3: the set of refused rows, below Quarantine/<date>/<batch>/<set>/         (set.rs)
//!                                      ▼
//!                 the transaction of every load: LOCK · look · COPY of the rest · count · ledger row · COMMIT
//!                                      ▼            rows_loaded + rows_known + rows_quarantined = rows sealed
//!                 S3: what was written for the search goes      (tidy.rs)
//!
//! ingester replay ─► LOCK · ledger row names this set? · COPY of the set beside the table · count · what is new into the
//!                    table · ledger row · COMMIT ─► its objects go
//! ```
//! `<batch>` is the id that the ledger has, or shall have: not that of the seal when another batch stands there under it.
//!
//! The objects stand before the COMMIT that counts their rows, so an attempt that is cut short anywhere is simply
//! repeated: it finds the same rows, in a set that stands there or in a new one, and commits once. Should the table have
//! been altered in between, other rows are found. Each set has a name of its own (set.rs), and the ledger says which
//! counts. Names within `sift/` are made of contents: a DELETE that hits one which is written again meanwhile fails a
//! COPY, which names each file as mandatory, and the search is repeated. Sealed objects are only read.

pub(crate) mod pieces;
pub(crate) mod rest;
pub(crate) mod set;
pub(crate) mod search;
pub(crate) mod split;
mod tidy;

pub(crate) use pieces::is_of_search;
pub(crate) use rest::{LEFT_OVER, load_good_rows};
pub(crate) use tidy::tidy;

use shared::config::Config;
use shared::ids::BatchId;

/// Bytes of rows in one quarantine, and of one file that is searched, at most: they are held in memory.
pub(crate) const MAX_BYTES: u64 = 1 << 30;

/// The folder of what is written while rows of a batch are searched, beside those of its sets.
pub(crate) const SCRATCH: &str = "sift/";

/// Where quarantined rows go, and how many may.
#[derive(Debug, Clone)]
pub(crate) struct Quarantine {
    /// `s3.quarantine`
    pub prefix: String,
    /// `quarantine.max_share`
    pub max_share: f64,
}

impl Quarantine {
    /// That of a configuration.
    #[must_use]
    pub(crate) fn new(config: &Config) -> Self {
        Self { prefix: config.s3.quarantine.clone(), max_share: config.quarantine.max_share }
    }

    /// The folder of what is written while rows of a batch are searched.
    pub(crate) fn scratch(&self, batch: BatchId) -> String {
        format!("{}{SCRATCH}", set::batch_folder(&self.prefix, batch))
    }
}
