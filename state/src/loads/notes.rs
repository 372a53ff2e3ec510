//! Single values of the load store, and their keys in the table `Meta`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub(super) const LISTED: &[u8] = b"listed";
pub(super) const PAUSE: &[u8] = b"pause";
pub(super) const LEDGER_MARK: &[u8] = b"mark";
pub(super) const SESSION: &[u8] = b"session";
pub(super) const SUMS: &[u8] = b"sums";

/// How far listings of S3 have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// When everything was listed last.
    pub whole: DateTime<Utc>,
    /// Requests that took.
    pub pages: u64,
    /// Batches opened before this time are settled, as far as that listing and those after it show.
    pub from: DateTime<Utc>,
}

/// The mark of the ledger as this ingester last read it, for readers without a connection to Redshift.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerMark {
    /// The id of the pipeline, made with the ledger.
    pub pipeline: String,
    /// The table the ledger speaks of.
    pub table: String,
    /// It speaks for every row of the table that was received then or later; None: for none. What is older is loaded the
    /// staged way.
    pub knows_from: Option<DateTime<Utc>>,
}

/// A session at Redshift that this ingester began and whose end it has not seen. If it lives on, it may hold the lock that
/// the next one waits for; the next one ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedshiftSession {
    /// Its process, from `pg_backend_pid()`.
    pub pid: i64,
    /// When it began, as Redshift writes it: numbers of processes are used again.
    pub began: String,
}

/// What this ingester has loaded the staged way since its load store was made. Loads are forgotten; these counters stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sums {
    /// Batches loaded the staged way.
    pub staged_loads: u64,
    /// Rows of those that the table had already.
    pub known_rows: u64,
}

impl Sums {
    /// With one more load, of which the table had `known` rows.
    pub(super) fn with(self, known: u64) -> Self {
        Self {
            staged_loads: self.staged_loads.saturating_add(1),
            known_rows: self.known_rows.saturating_add(known),
        }
    }
}
