//! The ingester's load store at one moment.

use serde::{Deserialize, Serialize};

use crate::loads::{LedgerMark, Load, Paused, Sums};

/// The ingester's load store at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IngesterSnapshot {
    /// Every load it remembers, oldest batch first.
    pub loads: Vec<Load>,
    /// The pause of loading; None while it loads.
    #[serde(default)]
    pub paused: Option<Paused>,
    /// Sums over all staged loads.
    #[serde(default)]
    pub sums: Sums,
    /// The mark of the ledger as the ingester saw it last; None if it never saw it.
    #[serde(default)]
    pub ledger: Option<LedgerMark>,
}
