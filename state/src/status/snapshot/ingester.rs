//! The ingester's bookkeeping at one moment.

use serde::{Deserialize, Serialize};
use shared::ids::BatchPrefix;

use super::batch::Matching;
use crate::loads::{LedgerMark, Load, Loads, Paused, Sums};
use crate::store::StoreError;

/// The ingester's bookkeeping at one moment.
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

impl Loads {
    /// The bookkeeping at this moment. Only the caller knows whether loading is paused.
    pub(crate) fn snapshot_with(&self, paused: Option<Paused>) -> Result<IngesterSnapshot, StoreError> {
        Ok(IngesterSnapshot { loads: self.all()?, paused, sums: self.sums()?, ledger: self.ledger_mark()? })
    }

    /// The one load whose batch id begins with `prefix`; or the ids, if several do or none.
    pub(crate) fn matching(&self, prefix: &BatchPrefix) -> Result<Matching<Load>, StoreError> {
        let found = self.all()?.into_iter().map(|load| (load.batch, load));
        Matching::find(found, prefix, Ok)
    }
}
