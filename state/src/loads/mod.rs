//! The ingester's bookkeeping: what it knows of each batch it has met. It is a memory for people and for back-off,
//! never the truth: whether a batch is loaded is said by the ledger in Redshift alone.

mod load;
mod pause;
mod status;

use std::path::Path;

use chrono::{DateTime, Utc};
use shared::ids::{BatchId, BatchPrefix};

use crate::snapshot::Matching;
use crate::store::{Change, Kind, Store, StoreError, Table};

pub use load::{FAILURES_KEPT, Failed, Load};
pub(crate) use pause::KEY as PAUSE;
pub use pause::{Pause, Paused, PausedBy, Pausing, REASON_MAX};
pub use status::{ErrorClass, IllegalLoadMove, LoadEvent, LoadState};

/// Archived batches remembered at most, so that the bookkeeping does not grow with history.
pub(crate) const ARCHIVED_KEPT: usize = 1000;

/// Why a load could not be noted.
#[derive(Debug, thiserror::Error)]
pub enum LoadsError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault in the program.
    #[error("batch {0}: {1}")]
    Move(BatchId, IllegalLoadMove),
    /// A fault in the program.
    #[error("batch {0} was never discovered")]
    Unknown(BatchId),
}

/// The bookkeeping. Clones share one database; every change is durable when the call returns.
#[derive(Debug, Clone)]
pub struct Loads {
    pub(crate) store: Store,
}

impl Loads {
    /// Opens the bookkeeping of the ingester in `dir`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Store::open(dir, Kind::Ingester, "ingester", 8 << 20).map(|store| Self { store })
    }

    /// Opens it to look at, when no ingester runs.
    ///
    /// # Errors
    /// As [`Store::look`].
    pub fn look(dir: &Path) -> Result<Self, StoreError> {
        Store::look(dir, Kind::Ingester).map(|store| Self { store })
    }

    /// Notes a batch whose seal was seen; one that is known already stays as it is, unless it was archived.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn discovered(&self, load: Load) -> Result<Load, LoadsError> {
        let known = self.get(load.batch)?;
        let load = match known {
            None => load,
            Some(Load { state: LoadState::Archived { .. }, .. }) => {
                return self.note(load.batch, LoadEvent::FoundAgain, load.discovered);
            }
            Some(known) => return Ok(known),
        };
        self.write(&load)?;
        Ok(load)
    }

    /// Moves a load by one event, durably.
    ///
    /// # Errors
    /// When the move is illegal or cannot be stored.
    pub fn note(&self, batch: BatchId, event: LoadEvent, now: DateTime<Utc>) -> Result<Load, LoadsError> {
        let known = self.get(batch)?.ok_or(LoadsError::Unknown(batch))?;
        let load = known.after(event, now).map_err(|illegal| LoadsError::Move(batch, illegal))?;
        self.write(&load)?;
        if matches!(load.state, LoadState::Archived { .. }) {
            self.forget_old()?;
        }
        Ok(load)
    }

    /// What is known of a batch.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, batch: BatchId) -> Result<Option<Load>, StoreError> {
        self.store.get(Table::Loads, batch.as_bytes())
    }

    /// Every load, oldest batch first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn all(&self) -> Result<Vec<Load>, StoreError> {
        self.store.scan_json(Table::Loads).map(|item| item.map(|(_, load)| load)).collect()
    }

    /// The one load whose batch id begins with `prefix`; or the ids, if they are several or none.
    ///
    /// # Errors
    /// When the loads cannot be read.
    pub fn matching(&self, prefix: &BatchPrefix) -> Result<Matching<Load>, StoreError> {
        let mut found = self.all()?;
        found.retain(|load| prefix.begins(load.batch));
        let ids: Vec<_> = found.iter().map(|load| load.batch).collect();
        let batch = if ids.len() == 1 { found.pop() } else { None };
        Ok(Matching { ids, batch })
    }

    fn write(&self, load: &Load) -> Result<(), StoreError> {
        let mut change = Change::new();
        change.put(Table::Loads, load.batch.as_bytes(), load);
        self.store.commit(change)
    }

    fn forget_old(&self) -> Result<(), StoreError> {
        let all = self.all()?;
        let archived = all.iter().filter(|load| matches!(load.state, LoadState::Archived { .. }));
        let mut change = Change::new();
        for load in archived.rev().skip(ARCHIVED_KEPT) {
            change.remove(Table::Loads, load.batch.as_bytes());
        }
        if change.is_empty() { Ok(()) } else { self.store.apply(change) }
    }
}

/// What can be known of a bookkeeping that may be damaged: whether everything in it can be read. What it has lost is
/// found again in S3 and in the ledger.
pub(crate) fn check(store: &Store) -> Result<(), StoreError> {
    crate::verify::sound(store, &Loads { store: store.clone() }.verify()?)
}

#[cfg(test)]
mod tests {
    use shared::ids::Instance;

    use super::*;

    fn load() -> Load {
        let instance = Instance::try_from("a".to_owned()).unwrap();
        Load::new(BatchId::new(), instance, 1, 10, 100, Utc::now())
    }

    #[test]
    fn a_load_is_remembered_with_its_attempts_and_reasons() {
        let dir = tempfile::tempdir().unwrap();
        let load = load();
        let now = Utc::now();
        {
            let loads = Loads::open(dir.path()).unwrap();
            loads.discovered(load.clone()).unwrap();
            loads.note(load.batch, LoadEvent::Attempt, now).unwrap();
            let failed = LoadEvent::Failed { next: now, class: ErrorClass::Passing, why: "1023".to_owned() };
            loads.note(load.batch, failed, now).unwrap();
        }
        let loads = Loads::open(dir.path()).unwrap();
        let back = loads.discovered(load.clone()).unwrap();
        assert_eq!(back.attempts, 1);
        assert!(matches!(back.state, LoadState::Retrying { ref why, .. } if why == "1023"), "{back:?}");
        loads.note(load.batch, LoadEvent::Attempt, now).unwrap();
        loads.note(load.batch, LoadEvent::Loaded, now).unwrap();
        loads.note(load.batch, LoadEvent::Archived, now).unwrap();
        assert_eq!(loads.discovered(load.clone()).unwrap().state, LoadState::Discovered, "published again");
    }

    #[test]
    fn an_illegal_move_is_refused_and_the_load_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let loads = Loads::open(dir.path()).unwrap();
        let load = loads.discovered(load()).unwrap();
        for event in [LoadEvent::Loaded, LoadEvent::Archived, LoadEvent::FoundAgain] {
            let error = loads.note(load.batch, event.clone(), Utc::now()).unwrap_err().to_string();
            assert!(error.contains(&format!("{event:?} while Discovered")), "{error}");
            assert_eq!(loads.get(load.batch).unwrap().as_ref(), Some(&load));
        }
    }
}
