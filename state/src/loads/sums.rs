//! What this ingester has loaded the staged way, summed up since its bookkeeping was made. Loads are forgotten; these
//! figures stay, so that they can be shown as counters.

use serde::{Deserialize, Serialize};
use shared::ids::BatchId;

use crate::loads::{Entered, Load, Loads, LoadsError};
use crate::store::{Change, StoreError, Table};

/// Key in [`Table::Meta`].
pub(crate) const KEY: &[u8] = b"sums";

/// Sums since the bookkeeping was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sums {
    /// Batches loaded the staged way.
    pub staged_loads: u64,
    /// Rows of those that the table had already.
    pub known_rows: u64,
}

impl Loads {
    /// Notes how the ledger has a batch, durably, and counts it if this ingester loaded it the staged way. A load is
    /// counted once.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn entered(&self, batch: BatchId, entered: Entered) -> Result<Load, LoadsError> {
        let known = self.get(batch)?.ok_or(LoadsError::Unknown(batch))?;
        let load = known.entered(entered);
        if load == known {
            return Ok(known);
        }
        let mut change = Change::new();
        if load.staged && !known.staged {
            let Sums { staged_loads, known_rows } = self.sums()?;
            let sums = Sums {
                staged_loads: staged_loads.saturating_add(1),
                known_rows: known_rows.saturating_add(load.known),
            };
            change.put(Table::Meta, KEY, &sums);
        }
        self.write_with(change, std::slice::from_ref(&load))?;
        Ok(load)
    }

    /// The sums.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn sums(&self) -> Result<Sums, StoreError> {
        Ok(self.store.get(Table::Meta, KEY)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use shared::ids::Instance;

    use super::*;
    use crate::loads::LoadEvent;

    #[test]
    fn a_staged_load_is_counted_once_also_over_a_restart_and_one_by_others_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let loads = Loads::open(dir.path()).unwrap();
        let found = |loads: &Loads| {
            let instance = Instance::try_from("a".to_owned()).unwrap();
            loads.discovered(Load::new(BatchId::new(), instance, 1, 10, 100, Utc::now())).unwrap().batch
        };
        let staged = Entered { known: 3, staged: true, entered_as: None };
        let (ours, theirs) = (found(&loads), found(&loads));
        assert_eq!(loads.entered(ours, staged).unwrap().known, 3);
        loads.entered(ours, Entered { staged: false, ..staged }).unwrap();
        loads.entered(theirs, Entered { known: 4, ..Entered::default() }).unwrap();
        let counted = Sums { staged_loads: 1, known_rows: 3 };
        assert_eq!(loads.sums().unwrap(), counted);
        drop(loads);
        let loads = Loads::open(dir.path()).unwrap();
        loads.entered(ours, staged).unwrap();
        assert_eq!(loads.sums().unwrap(), counted);
        assert!(loads.verify().unwrap().iter().all(|table| table.faults.is_empty()));
        assert!(loads.entered(BatchId::new(), staged).is_err(), "a batch nobody discovered");
    }

    #[test]
    fn a_batch_that_is_found_again_is_another_as_far_as_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let loads = Loads::open(dir.path()).unwrap();
        let instance = Instance::try_from("a".to_owned()).unwrap();
        let load = Load::new(BatchId::new(), instance, 1, 10, 100, Utc::now());
        let (batch, other) = (load.batch, BatchId::new());
        loads.discovered(load.clone()).unwrap();
        loads.note(batch, LoadEvent::Attempt, Utc::now()).unwrap();
        let entered = Entered { known: 3, staged: true, entered_as: Some(other) };
        assert_eq!(loads.entered(batch, entered).unwrap().ledger_id(), other);
        loads.note(batch, LoadEvent::Loaded, Utc::now()).unwrap();
        loads.note(batch, LoadEvent::Archived, Utc::now()).unwrap();
        let again = loads.discovered(load).unwrap();
        assert_eq!((again.known, again.staged, again.ledger_id()), (0, false, batch));
    }
}
