//! The ingester's bookkeeping: what it knows of each batch it has met. It is a memory for people and for back-off,
//! never the truth: whether a batch is loaded is said by the ledger in Redshift alone.

mod load;
mod mark;
mod pause;
mod session;
mod status;
mod sums;
mod verify;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::ids::BatchId;

use crate::store::{Change, Kind, Store, StoreError, Table};

pub(crate) use crate::limits::KEPT as ARCHIVED_KEPT;
pub use load::{Entered, FAILURES_KEPT, Failed, Form, Load};
pub use mark::LedgerMark;
pub use pause::{Pause, Paused, PausedBy, Pausing, REASON_MAX};
pub use session::Began;
pub use status::{ErrorClass, IllegalLoadMove, LoadEvent, LoadState};
pub use sums::Sums;

/// Key of what listings came to, in [`Table::Meta`].
pub(crate) const LISTED: &[u8] = b"listed";

/// How far listings of S3 have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// When everything was listed last.
    pub whole: DateTime<Utc>,
    /// Requests that took.
    pub pages: u64,
    /// Batches opened before this time are settled, as far as that listing and those after it tell.
    pub from: DateTime<Utc>,
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
    pub(crate) store: Store,
    /// The archived ones, so that old ones are forgotten without reading all.
    archived: Arc<Mutex<Archived>>,
}

#[derive(Debug, Default)]
struct Archived {
    plain: BTreeSet<BatchId>,
    /// Those with rows in quarantine wait for a person, however many are loaded meanwhile.
    quarantined: BTreeSet<BatchId>,
}

impl Archived {
    fn enter(&mut self, load: &Load) {
        self.plain.remove(&load.batch);
        self.quarantined.remove(&load.batch);
        match load.state {
            LoadState::Archived { .. } if load.quarantined > 0 => self.quarantined.insert(load.batch),
            LoadState::Archived { .. } => self.plain.insert(load.batch),
            _ => false,
        };
    }

    /// The oldest one, if there are more than are kept; it is forgotten.
    fn too_old(&mut self) -> Option<BatchId> {
        let full = [&mut self.plain, &mut self.quarantined].into_iter().find(|set| set.len() > ARCHIVED_KEPT);
        full.and_then(BTreeSet::pop_first)
    }
}

impl Loads {
    /// Opens the bookkeeping of the ingester in `dir`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let loads = Self::of(Store::open(dir, Kind::Ingester, "ingester", 8 << 20, check)?);
        let mut index = loads.index();
        loads.all()?.iter().for_each(|load| index.enter(load));
        drop(index);
        Ok(loads)
    }

    /// Opens it to look at, when no ingester runs.
    ///
    /// # Errors
    /// As [`Store::open_to_read`].
    pub fn look(dir: &Path) -> Result<Self, StoreError> {
        Store::open_to_read(dir, Kind::Ingester, check).map(Self::of)
    }

    fn of(store: Store) -> Self {
        Self { store, archived: Arc::default() }
    }

    fn index(&self) -> MutexGuard<'_, Archived> {
        self.archived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a batch whose seal was seen. One that is known stays as it is, unless it was archived; but until it is
    /// loaded it has what its seal says now, which the ledger is compared with.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn discovered(&self, load: Load) -> Result<Load, LoadsError> {
        let Some(known) = self.get(load.batch)? else {
            self.write(std::slice::from_ref(&load))?;
            return Ok(load);
        };
        let mut now = known.clone();
        if matches!(known.state, LoadState::Archived { .. }) {
            let found = known.after(LoadEvent::FoundAgain, load.discovered);
            now = found.map_err(|illegal| LoadsError::Move(load.batch, illegal))?;
        }
        if load.form.is_some() && !now.is_settled() {
            let Load { instance, files, rows, bytes, form, content, .. } = load;
            now = Load { instance, files, rows, bytes, form, content, ..now };
        }
        if now != known {
            self.write(std::slice::from_ref(&now))?;
        }
        Ok(now)
    }

    /// Moves a load by one event, durably.
    ///
    /// # Errors
    /// When the move is illegal or cannot be stored.
    pub fn note(&self, batch: BatchId, event: LoadEvent, now: DateTime<Utc>) -> Result<Load, LoadsError> {
        let noted = self.note_all(vec![(batch, event)], now)?;
        noted.into_iter().next().ok_or(LoadsError::Unknown(batch))
    }

    /// Moves several loads, each by its event, in one durable change: all of them or none.
    ///
    /// # Errors
    /// When a move is illegal or the change cannot be stored.
    pub fn note_all(
        &self,
        moves: Vec<(BatchId, LoadEvent)>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Load>, LoadsError> {
        let mut noted = Vec::with_capacity(moves.len());
        for (batch, event) in moves {
            let known = self.get(batch)?.ok_or(LoadsError::Unknown(batch))?;
            let load = known.after(event, now).map_err(|illegal| LoadsError::Move(batch, illegal))?;
            noted.push(load);
        }
        self.write(&noted)?;
        Ok(noted)
    }

    /// Writes these loads, and forgets old ones. Should that fail the process ends: the index needs no way back.
    fn write(&self, loads: &[Load]) -> Result<(), StoreError> {
        self.write_with(Change::new(), loads)
    }

    /// The same with what else is to change.
    fn write_with(&self, mut change: Change, loads: &[Load]) -> Result<(), StoreError> {
        let mut index = self.index();
        for load in loads {
            change.put(Table::Loads, load.batch.as_bytes(), load);
            index.enter(load);
        }
        while let Some(oldest) = index.too_old() {
            change.remove(Table::Loads, oldest.as_bytes());
        }
        self.store.commit(change)
    }

    /// Notes that a search for refused rows begins, durably, before anything is written to S3.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn sifting(&self, batch: BatchId) -> Result<Load, LoadsError> {
        self.update(batch, |load| Load { sifting: true, ..load })
    }

    /// Notes how many rows of a batch are in quarantine, and that nothing else of the search is left.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn quarantined(&self, batch: BatchId, rows: u64) -> Result<Load, LoadsError> {
        self.update(batch, |load| Load { sifting: false, quarantined: rows, ..load })
    }

    fn update(&self, batch: BatchId, change: impl FnOnce(Load) -> Load) -> Result<Load, LoadsError> {
        let known = self.get(batch)?.ok_or(LoadsError::Unknown(batch))?;
        let load = change(known.clone());
        if load != known {
            self.write(std::slice::from_ref(&load))?;
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

    /// How far listings of S3 have come; None if none has been through yet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn listed(&self) -> Result<Option<Listed>, StoreError> {
        self.store.get(Table::Meta, LISTED)
    }

    /// Notes durably how far listings of S3 have come.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn note_listed(&self, listed: &Listed) -> Result<(), StoreError> {
        let mut change = Change::new();
        change.put(Table::Meta, LISTED, listed);
        self.store.commit(change)
    }
}

/// What can be known of a bookkeeping that may be damaged: whether everything in it can be read. What it has lost is
/// found again in S3 and in the ledger.
pub(crate) fn check(store: &Store) -> Result<(), StoreError> {
    crate::verdict::sound(store, &Loads::of(store.clone()).verify()?)
}

#[cfg(test)]
mod tests {
    use shared::ids::Instance;
    use shared::layout::Compression;

    use super::*;

    fn load() -> Load {
        let instance = Instance::try_from("a".to_owned()).unwrap();
        Load::new(BatchId::new(), instance, 1, 10, 100, Utc::now())
    }

    #[test]
    fn a_batch_with_rows_in_quarantine_is_not_forgotten_for_younger_ones() {
        let dir = tempfile::tempdir().unwrap();
        let loads = Loads::open(dir.path()).unwrap();
        let archived = |load: Load| {
            let load = Load { state: LoadState::Archived { at: Utc::now() }, ..load };
            loads.write(std::slice::from_ref(&load)).unwrap();
            load.batch
        };
        let (kept, forgotten) = (archived(load()), archived(load()));
        loads.sifting(kept).unwrap();
        let noted = loads.quarantined(kept, 3).unwrap();
        assert_eq!((noted.quarantined, noted.sifting), (3, false));
        for _ in 0..ARCHIVED_KEPT {
            archived(load());
        }
        assert!(loads.get(forgotten).unwrap().is_none());
        assert_eq!(loads.get(kept).unwrap().map(|load| load.quarantined), Some(3));
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
    fn what_is_compared_with_the_ledger_is_the_seal_of_now() {
        let dir = tempfile::tempdir().unwrap();
        let loads = Loads::open(dir.path()).unwrap();
        let sealed = |load: &Load, rows| Load {
            rows,
            form: Form::new(Compression::Zstd, "00"),
            discovered: Utc::now(),
            ..load.clone()
        };
        let load = load();
        loads.discovered(sealed(&load, 100)).unwrap();
        assert_eq!(loads.discovered(sealed(&load, 150)).unwrap().rows, 150, "not loaded yet");
        loads.note(load.batch, LoadEvent::Attempt, Utc::now()).unwrap();
        loads.note(load.batch, LoadEvent::Loaded, Utc::now()).unwrap();
        assert_eq!(loads.discovered(sealed(&load, 200)).unwrap().rows, 150, "it was compared");
        loads.note(load.batch, LoadEvent::Archived, Utc::now()).unwrap();
        let again = loads.discovered(sealed(&load, 200)).unwrap();
        assert_eq!((again.rows, again.state, again.attempts), (200, LoadState::Discovered, 1));
        assert_eq!(loads.get(load.batch).unwrap().map(|load| load.rows), Some(200));
    }

    #[test]
    fn of_the_archived_ones_the_latest_are_kept_also_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let archive = |loads: &Loads, many: usize| {
            let new: Vec<_> = (0..many).map(|_| loads.discovered(load()).unwrap().batch).collect();
            for event in [LoadEvent::Attempt, LoadEvent::Loaded, LoadEvent::Archived] {
                loads
                    .note_all(new.iter().map(|batch| (*batch, event.clone())).collect(), Utc::now())
                    .unwrap();
            }
            new
        };
        let first = archive(&Loads::open(dir.path()).unwrap(), 5)[0];
        let loads = Loads::open(dir.path()).unwrap();
        let waiting = loads.discovered(load()).unwrap().batch;
        archive(&loads, ARCHIVED_KEPT - 4);
        assert_eq!(loads.get(first).unwrap(), None);
        assert!(loads.get(waiting).unwrap().is_some(), "what waits is never forgotten");
        assert_eq!(loads.all().unwrap().len(), ARCHIVED_KEPT + 1);
    }

    #[test]
    fn several_moves_are_made_together_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let loads = Loads::open(dir.path()).unwrap();
        let (a, b) = (loads.discovered(load()).unwrap(), loads.discovered(load()).unwrap());
        let moves = vec![(a.batch, LoadEvent::Attempt), (b.batch, LoadEvent::Archived)];
        assert!(loads.note_all(moves, Utc::now()).is_err());
        assert_eq!(loads.get(a.batch).unwrap(), Some(a));
    }

    #[test]
    fn how_far_listings_have_come_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let at = Utc::now();
        let listed = Listed { whole: at, pages: 100, from: at };
        {
            let loads = Loads::open(dir.path()).unwrap();
            assert_eq!(loads.listed().unwrap(), None);
            loads.note_listed(&listed).unwrap();
        }
        assert_eq!(Loads::open(dir.path()).unwrap().listed().unwrap(), Some(listed));
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
