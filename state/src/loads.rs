//! The ingester's bookkeeping: what it knows of each batch it has met. It is a memory for people and for back-off,
//! never the truth: whether a batch is loaded is said by the ledger in Redshift alone.
//!
//! ```text
//!              ┌────────────────────────── found again in S3 ◄───────────────────────┐
//!              ▼                                                                     │
//! discovered ──attempt──► loading ──loaded──► loaded ──archived──► archived ─────────┘
//!      │                   │   ▲
//!      └──────failed───────┤   │ attempt
//!                          ▼   │
//!                        retrying
//! ```
//! *discovered*: its seal was seen in S3. *loading*: an attempt is under way, or was when the process ended: it is
//! simply tried again, because the ledger settles what became of it. *retrying*: the last attempt failed and the
//! next has its time. *loaded*: the ledger has it. *archived*: its folder is moved, kept or deleted as configured.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::ids::{BatchId, Instance};

use crate::store::{Change, Kind, Store, StoreError, Table};

/// Archived batches remembered at most, so that the bookkeeping does not grow with history.
pub(crate) const ARCHIVED_KEPT: usize = 1000;

/// Where a load stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum LoadState {
    /// Its seal was seen.
    Discovered,
    /// An attempt is under way.
    Loading,
    /// The last attempt failed.
    Retrying {
        /// When the next attempt may start.
        next: DateTime<Utc>,
        /// What kind of trouble it is.
        class: ErrorClass,
        /// What happened.
        why: String,
    },
    /// The ledger has it.
    Loaded {
        /// Since when, as far as this ingester knows.
        at: DateTime<Utc>,
    },
    /// Its folder is where the configuration wants it.
    Archived {
        /// Since when.
        at: DateTime<Utc>,
    },
}

/// What kind of trouble an attempt met; it decides who has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorClass {
    /// It passes by itself.
    Passing,
    /// A file the seal names is not there, or not as it was.
    Incomplete,
    /// A person has to mend a role, a permission, a table or the configuration.
    Configuration,
    /// Redshift refuses rows of the batch.
    Data,
}

/// What happens to a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadEvent {
    /// An attempt starts.
    Attempt,
    /// It failed, or could not start.
    Failed {
        /// When to try again.
        next: DateTime<Utc>,
        /// What kind of trouble it is.
        class: ErrorClass,
        /// What happened.
        why: String,
    },
    /// The ledger has the batch.
    Loaded,
    /// Its folder is where it should be.
    Archived,
    /// Its seal was seen in S3 although it was archived: a producer published it again after a crash.
    FoundAgain,
}

/// A move the state machine does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal move of a load: {event:?} while {state:?}")]
pub struct IllegalLoadMove {
    state: LoadState,
    event: LoadEvent,
}

impl LoadState {
    /// The legal moves of a load.
    ///
    /// # Errors
    /// For every other.
    pub fn next(&self, event: LoadEvent, now: DateTime<Utc>) -> Result<Self, IllegalLoadMove> {
        use LoadEvent as E;
        match (self, event) {
            (Self::Discovered | Self::Loading | Self::Retrying { .. }, E::Attempt) => Ok(Self::Loading),
            (Self::Discovered | Self::Loading | Self::Retrying { .. }, E::Failed { next, class, why }) => {
                Ok(Self::Retrying { next, class, why })
            }
            (Self::Loading, E::Loaded) => Ok(Self::Loaded { at: now }),
            (Self::Loaded { .. }, E::Archived) => Ok(Self::Archived { at: now }),
            (Self::Archived { .. }, E::FoundAgain) => Ok(Self::Discovered),
            (state, event) => Err(IllegalLoadMove { state: state.clone(), event }),
        }
    }
}

/// What the ingester knows of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The batch.
    pub batch: BatchId,
    /// The producer that made it.
    pub instance: Instance,
    /// Files in it.
    pub files: u32,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of its files in S3.
    pub bytes: u64,
    /// When its seal was first seen.
    pub discovered: DateTime<Utc>,
    /// Attempts so far.
    pub attempts: u32,
    /// Where it stands.
    #[serde(flatten)]
    pub state: LoadState,
}

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
    store: Store,
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
        let mut load = self.get(batch)?.ok_or(LoadsError::Unknown(batch))?;
        load.attempts += u32::from(event == LoadEvent::Attempt);
        load.state = load.state.next(event, now).map_err(|illegal| LoadsError::Move(batch, illegal))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        Load {
            batch: BatchId::new(),
            instance: Instance::try_from("a".to_owned()).unwrap(),
            files: 1,
            rows: 10,
            bytes: 100,
            discovered: Utc::now(),
            attempts: 0,
            state: LoadState::Discovered,
        }
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
    fn illegal_moves_are_refused() {
        let now = Utc::now();
        for (state, event) in [
            (LoadState::Discovered, LoadEvent::Loaded),
            (LoadState::Discovered, LoadEvent::Archived),
            (LoadState::Loading, LoadEvent::Archived),
            (LoadState::Loaded { at: now }, LoadEvent::Attempt),
            (LoadState::Archived { at: now }, LoadEvent::Loaded),
        ] {
            assert!(state.next(event.clone(), now).is_err(), "{state:?} {event:?}");
        }
    }
}
