//! The load store: every change is one durable commit.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::exit::{Exit, Failure};
use shared::ids::BatchId;
use shared::lock::locked;

use crate::limits::KEPT;
use crate::loads::load::{Entered, FAILURES_KEPT, Load, Refused};
use crate::loads::pause::Pause;
use crate::loads::status::{IllegalLoadMove, LoadEvent, LoadState};
use crate::store::{COMMITS, Change, Kind, Store, StoreError, Table};
use crate::verdict::{Checked, Fault, NO_SUCH_KEY, sound};

/// Why a load could not be noted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LoadDatabaseError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("batch {0}: {1}")]
    Move(BatchId, IllegalLoadMove),
    #[error("batch {0} was never discovered")]
    Unknown(BatchId),
}

impl From<LoadDatabaseError> for Failure {
    fn from(error: LoadDatabaseError) -> Self {
        match error {
            LoadDatabaseError::Store(error) => error.into(),
            fault => Self::new(Exit::Software, fault),
        }
    }
}

/// The load store. Clones share one database; every change is durable when the call returns.
#[derive(Debug, Clone)]
pub struct LoadDatabase {
    store: Store,
    /// The archived ones, so that old ones are forgotten without reading all.
    archived: Arc<Mutex<Archived>>,
}

#[derive(Debug, Default)]
struct Archived {
    plain: BTreeSet<BatchId>,
    /// Those with rows in quarantine wait for an operator, however many are loaded meanwhile.
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
        let full = [&mut self.plain, &mut self.quarantined].into_iter().find(|set| set.len() > KEPT);
        full.and_then(BTreeSet::pop_first)
    }
}

impl LoadDatabase {
    /// Opens the load store of the ingester in `dir`.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let loads = Self::of(Store::open(dir, Kind::Ingester, "ingester", 8 << 20, check)?);
        let mut index = loads.index();
        loads.all()?.iter().for_each(|load| index.enter(load));
        drop(index);
        Ok(loads)
    }

    /// Opens it to be read, when no ingester runs.
    pub fn open_to_read(dir: &Path) -> Result<Self, StoreError> {
        Store::open_to_read(dir, Kind::Ingester, check).map(Self::of)
    }

    fn of(store: Store) -> Self {
        Self { store, archived: Arc::default() }
    }

    /// Reads and checks the whole load store. Damage is no error, but what is reported.
    pub fn verify(&self) -> Result<Vec<Checked>, StoreError> {
        verify(&self.store)
    }

    fn index(&self) -> MutexGuard<'_, Archived> {
        locked(&self.archived)
    }

    /// Notes a batch whose seal was seen. Until it is loaded it takes the content of the current seal.
    pub fn discovered(&self, load: Load) -> Result<Load, LoadDatabaseError> {
        let Some(known) = self.get(load.batch)? else {
            self.write(Change::new(), std::slice::from_ref(&load))?;
            return Ok(load);
        };
        let mut now = known.clone();
        if matches!(known.state, LoadState::Archived { .. }) {
            let found = known.after(LoadEvent::FoundAgain, load.discovered);
            now = found.map_err(|illegal| LoadDatabaseError::Move(load.batch, illegal))?;
        }
        if load.form.is_some() && !now.is_loaded() {
            let Load { instance, files, rows, bytes, form, content, .. } = load;
            now = Load { instance, files, rows, bytes, form, content, ..now };
        }
        if now != known {
            self.write(Change::new(), std::slice::from_ref(&now))?;
        }
        Ok(now)
    }

    /// Moves a load by one event, durably.
    pub fn note(
        &self,
        batch: BatchId,
        event: LoadEvent,
        now: DateTime<Utc>,
    ) -> Result<Load, LoadDatabaseError> {
        let noted = self.note_all(vec![(batch, event)], now)?;
        noted.into_iter().next().ok_or(LoadDatabaseError::Unknown(batch))
    }

    /// Moves several loads, each by its event, in one durable change: all of them or none.
    pub fn note_all(
        &self,
        moves: Vec<(BatchId, LoadEvent)>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Load>, LoadDatabaseError> {
        let mut noted = Vec::with_capacity(moves.len());
        for (batch, event) in moves {
            let known = self.get(batch)?.ok_or(LoadDatabaseError::Unknown(batch))?;
            let load = known.after(event, now).map_err(|illegal| LoadDatabaseError::Move(batch, illegal))?;
            noted.push(load);
        }
        self.write(Change::new(), &noted)?;
        Ok(noted)
    }

    /// Writes these loads and forgets old ones. After a failure the process ends: the index needs no way back.
    fn write(&self, mut change: Change, loads: &[Load]) -> Result<(), StoreError> {
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
    pub fn search_began(&self, batch: BatchId) -> Result<Load, LoadDatabaseError> {
        self.update(batch, |load| Load { search_objects: true, ..load })
    }

    /// Notes how many rows of a batch are in quarantine, with what Redshift said of the `first` if that is known, and
    /// that nothing else of the search is left.
    pub fn quarantined(
        &self,
        batch: BatchId,
        rows: u64,
        first: Option<Refused>,
        now: DateTime<Utc>,
    ) -> Result<Load, LoadDatabaseError> {
        self.update(batch, |load| Load { search_objects: false, ..load.in_quarantine(rows, first, now) })
    }

    /// Notes that a replay has left so many rows in quarantine of the batch that the ledger has under this id; None when
    /// it is not known here, or nothing of it is in quarantine.
    pub fn replayed(
        &self,
        ledger_id: BatchId,
        left: u64,
        now: DateTime<Utc>,
    ) -> Result<Option<Load>, LoadDatabaseError> {
        let mut all = self.all()?.into_iter();
        let of_it = all.find(|load| load.ledger_id() == ledger_id && load.quarantined > left);
        of_it.map(|load| self.update(load.batch, |load| load.in_quarantine(left, None, now))).transpose()
    }

    fn update(&self, batch: BatchId, change: impl FnOnce(Load) -> Load) -> Result<Load, LoadDatabaseError> {
        let known = self.get(batch)?.ok_or(LoadDatabaseError::Unknown(batch))?;
        let load = change(known.clone());
        if load != known {
            self.write(Change::new(), std::slice::from_ref(&load))?;
        }
        Ok(load)
    }

    /// Notes how the ledger has a batch, durably, and counts it once if this ingester loaded it the staged way.
    pub fn entered(&self, batch: BatchId, entered: Entered) -> Result<Load, LoadDatabaseError> {
        let known = self.get(batch)?.ok_or(LoadDatabaseError::Unknown(batch))?;
        let load = known.entered(entered);
        if load == known {
            return Ok(known);
        }
        let mut change = Change::new();
        if load.staged && !known.staged {
            change.put(Table::Meta, SUMS, &self.sums()?.with(load.known));
        }
        self.write(change, std::slice::from_ref(&load))?;
        Ok(load)
    }

    /// What is known of a batch.
    pub fn get(&self, batch: BatchId) -> Result<Option<Load>, StoreError> {
        self.store.get(Table::Loads, batch.as_bytes())
    }

    /// Every load, oldest batch first.
    pub fn all(&self) -> Result<Vec<Load>, StoreError> {
        self.store.scan_json(Table::Loads).map(|item| item.map(|(_, load)| load)).collect()
    }

    fn set<T: Serialize>(&self, key: &[u8], value: Option<&T>) -> Result<(), StoreError> {
        let mut change = Change::new();
        match value {
            Some(value) => change.put(Table::Meta, key, value),
            None => change.remove(Table::Meta, key),
        }
        self.store.commit(change)
    }

    /// How far listings of S3 have come; None if none has been through yet.
    pub fn listed(&self) -> Result<Option<Listed>, StoreError> {
        self.store.get(Table::Meta, LISTED)
    }

    /// Notes durably how far listings of S3 have come.
    pub fn note_listed(&self, listed: &Listed) -> Result<(), StoreError> {
        self.set(LISTED, Some(listed))
    }

    /// The pause that was last asked for by hand, if none has ended it; it may be over by itself.
    pub fn pause(&self) -> Result<Option<Pause>, StoreError> {
        self.store.get(Table::Meta, PAUSE)
    }

    /// Notes a pause durably, or with None its end.
    pub fn set_pause(&self, pause: Option<&Pause>) -> Result<(), StoreError> {
        self.set(PAUSE, pause)
    }

    /// The mark as it was last read; None if it never was.
    pub fn ledger_mark(&self) -> Result<Option<LedgerMark>, StoreError> {
        self.store.get(Table::Meta, LEDGER_MARK)
    }

    /// Notes the mark as it was read.
    pub fn note_ledger_mark(&self, mark: &LedgerMark) -> Result<(), StoreError> {
        if self.ledger_mark()?.as_ref() == Some(mark) { Ok(()) } else { self.set(LEDGER_MARK, Some(mark)) }
    }

    /// The session whose end was not seen.
    pub fn session(&self) -> Result<Option<RedshiftSession>, StoreError> {
        self.store.get(Table::Meta, SESSION)
    }

    /// Notes durably that a session began, before it locks anything; or, with None, that it ended.
    pub fn note_session(&self, session: Option<&RedshiftSession>) -> Result<(), StoreError> {
        if self.session()?.as_ref() == session { Ok(()) } else { self.set(SESSION, session) }
    }

    /// What was loaded the staged way.
    pub fn sums(&self) -> Result<Sums, StoreError> {
        Ok(self.store.get(Table::Meta, SUMS)?.unwrap_or_default())
    }
}

pub(super) fn check(store: &Store) -> Result<(), StoreError> {
    sound(store, &verify(store)?)
}

pub(super) fn verify(store: &Store) -> Result<Vec<Checked>, StoreError> {
    let (mut meta, mut loads) = (Checked::new(Table::Meta), Checked::new(Table::Loads));
    meta.each(store, Table::Meta, |meta, key, _| {
        meta.count("records", 1);
        // The label was read when the database was opened.
        let known = [&b"label"[..], COMMITS, PAUSE, LISTED, LEDGER_MARK, SESSION, SUMS];
        if !known.contains(&key) {
            meta.faults.push(Fault::new(Table::Meta, key, NO_SUCH_KEY));
        }
    })?;
    loads.each_json::<Load>(store, Table::Loads, |loads, key, load| {
        loads.count("loads", 1);
        loads.count("failures", load.failures.len() as u64);
        if key != load.batch.as_bytes() {
            let what = format!("it is of batch {}", load.batch);
            loads.faults.push(Fault::new(Table::Loads, key, what));
        }
        if load.failures.len() > FAILURES_KEPT {
            let fault = Fault::new(Table::Loads, key, "more failures than are kept");
            loads.faults.push(Fault { batch: Some(load.batch), ..fault });
        }
    })?;
    Ok(vec![meta, loads])
}

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
    /// It speaks for every row received then or later; None: for none. Older rows are loaded the staged way.
    pub knows_from: Option<DateTime<Utc>>,
}

/// A session at Redshift whose end was not seen. It may hold the lock; the next session ends it.
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
    pub(super) fn with(self, known: u64) -> Self {
        Self {
            staged_loads: self.staged_loads.saturating_add(1),
            known_rows: self.known_rows.saturating_add(known),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::Instance;
    use shared::layout::Compression;

    use super::*;
    use crate::loads::load::Form;
    use crate::loads::status::{ErrorClass, LoadEvent, LoadState};

    fn now() -> DateTime<Utc> {
        "2026-03-02T12:00:00Z".parse().unwrap()
    }

    fn load() -> Load {
        let instance = Instance::try_from("a".to_owned()).unwrap();
        Load::new(BatchId::new(), instance, 1, 10, 100, now())
    }

    #[test]
    fn a_batch_with_rows_in_quarantine_is_not_forgotten_for_younger_ones() {
        let dir = tempfile::tempdir().unwrap();
        let loads = LoadDatabase::open(dir.path()).unwrap();
        let archived = |load: Load| {
            let load = Load { state: LoadState::Archived { at: now() }, ..load };
            loads.write(Change::new(), std::slice::from_ref(&load)).unwrap();
            load.batch
        };
        let (kept, forgotten) = (archived(load()), archived(load()));
        loads.search_began(kept).unwrap();
        let noted = loads.quarantined(kept, 3, None, now()).unwrap();
        assert_eq!((noted.quarantined, noted.search_objects), (3, false));
        for _ in 0..KEPT {
            archived(load());
        }
        assert!(loads.get(forgotten).unwrap().is_none());
        assert_eq!(loads.get(kept).unwrap().map(|load| load.quarantined), Some(3));
        assert_eq!(loads.replayed(kept, 0, now()).unwrap().map(|load| load.quarantined), Some(0));
        assert_eq!(loads.replayed(kept, 0, now()).unwrap(), None, "nothing of it is in quarantine any more");
    }

    #[test]
    fn a_load_is_remembered_with_its_attempts_and_reasons() {
        let dir = tempfile::tempdir().unwrap();
        let load = load();
        let now = now();
        {
            let loads = LoadDatabase::open(dir.path()).unwrap();
            loads.discovered(load.clone()).unwrap();
            loads.note(load.batch, LoadEvent::Attempt, now).unwrap();
            let failed = LoadEvent::Failed { next: now, class: ErrorClass::Passing, why: "1023".to_owned() };
            loads.note(load.batch, failed, now).unwrap();
        }
        let loads = LoadDatabase::open(dir.path()).unwrap();
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
        let loads = LoadDatabase::open(dir.path()).unwrap();
        let sealed = |load: &Load, rows| Load {
            rows,
            form: Form::new(Compression::Zstd, "00"),
            discovered: now(),
            ..load.clone()
        };
        let load = load();
        loads.discovered(sealed(&load, 100)).unwrap();
        assert_eq!(loads.discovered(sealed(&load, 150)).unwrap().rows, 150, "not loaded yet");
        loads.note(load.batch, LoadEvent::Attempt, now()).unwrap();
        loads.note(load.batch, LoadEvent::Loaded, now()).unwrap();
        assert_eq!(loads.discovered(sealed(&load, 200)).unwrap().rows, 150, "it was compared");
        loads.note(load.batch, LoadEvent::Archived, now()).unwrap();
        let again = loads.discovered(sealed(&load, 200)).unwrap();
        assert_eq!((again.rows, again.state, again.attempts), (200, LoadState::Discovered, 1));
        assert_eq!(loads.get(load.batch).unwrap().map(|load| load.rows), Some(200));
    }

    #[test]
    fn of_the_archived_ones_the_latest_are_kept_also_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let archive = |loads: &LoadDatabase, many: usize| {
            let new: Vec<_> = (0..many).map(|_| loads.discovered(load()).unwrap().batch).collect();
            for event in [LoadEvent::Attempt, LoadEvent::Loaded, LoadEvent::Archived] {
                loads.note_all(new.iter().map(|batch| (*batch, event.clone())).collect(), now()).unwrap();
            }
            new
        };
        let first = archive(&LoadDatabase::open(dir.path()).unwrap(), 5)[0];
        let loads = LoadDatabase::open(dir.path()).unwrap();
        let waiting = loads.discovered(load()).unwrap().batch;
        archive(&loads, KEPT - 4);
        assert_eq!(loads.get(first).unwrap(), None);
        assert!(loads.get(waiting).unwrap().is_some(), "what waits is never forgotten");
        assert_eq!(loads.all().unwrap().len(), KEPT + 1);
    }

    #[test]
    fn several_moves_are_made_together_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let loads = LoadDatabase::open(dir.path()).unwrap();
        let (a, b) = (loads.discovered(load()).unwrap(), loads.discovered(load()).unwrap());
        let moves = vec![(a.batch, LoadEvent::Attempt), (b.batch, LoadEvent::Archived)];
        assert!(loads.note_all(moves, now()).is_err());
        assert_eq!(loads.get(a.batch).unwrap(), Some(a));
    }

    #[test]
    fn how_far_listings_have_come_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let at = now();
        let listed = Listed { whole: at, pages: 100, from: at };
        {
            let loads = LoadDatabase::open(dir.path()).unwrap();
            assert_eq!(loads.listed().unwrap(), None);
            loads.note_listed(&listed).unwrap();
        }
        assert_eq!(LoadDatabase::open(dir.path()).unwrap().listed().unwrap(), Some(listed));
    }

    #[test]
    fn an_illegal_move_is_refused_and_the_load_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let loads = LoadDatabase::open(dir.path()).unwrap();
        let load = loads.discovered(load()).unwrap();
        for event in [LoadEvent::Loaded, LoadEvent::Archived, LoadEvent::FoundAgain] {
            let error = loads.note(load.batch, event.clone(), now()).unwrap_err().to_string();
            assert!(error.contains(&format!("{event:?} while Discovered")), "{error}");
            assert_eq!(loads.get(load.batch).unwrap().as_ref(), Some(&load));
        }
    }

    #[test]
    fn what_the_mark_said_last_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let loads = LoadDatabase::open(dir.path()).unwrap();
        assert_eq!(loads.ledger_mark().unwrap(), None);
        let none = LedgerMark { pipeline: "p".to_owned(), table: "t".to_owned(), knows_from: None };
        loads.note_ledger_mark(&none).unwrap();
        let some = LedgerMark { knows_from: Some(DateTime::UNIX_EPOCH), ..none };
        loads.note_ledger_mark(&some).unwrap();
        assert_eq!(loads.ledger_mark().unwrap(), Some(some));
        assert!(loads.verify().unwrap().iter().all(|table| table.faults.is_empty()));
    }

    #[test]
    fn a_session_is_remembered_over_a_kill_until_its_end_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        let session = RedshiftSession { pid: 4711, began: "2026-01-02 03:04:05.678901".to_owned() };
        let loads = LoadDatabase::open(dir.path()).unwrap();
        assert_eq!(loads.session().unwrap(), None);
        loads.note_session(Some(&session)).unwrap();
        drop(loads);
        let loads = LoadDatabase::open(dir.path()).unwrap();
        assert_eq!(loads.session().unwrap(), Some(session));
        assert!(loads.verify().unwrap().iter().all(|table| table.faults.is_empty()));
        loads.note_session(None).unwrap();
        assert_eq!(loads.session().unwrap(), None);
    }

    #[test]
    fn a_staged_load_is_counted_once_also_over_a_restart_and_one_by_others_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let loads = LoadDatabase::open(dir.path()).unwrap();
        let found = |loads: &LoadDatabase| {
            let instance = Instance::try_from("a".to_owned()).unwrap();
            loads.discovered(Load::new(BatchId::new(), instance, 1, 10, 100, now())).unwrap().batch
        };
        let staged = Entered { known: 3, staged: true, entered_as: None };
        let (ours, theirs) = (found(&loads), found(&loads));
        assert_eq!(loads.entered(ours, staged).unwrap().known, 3);
        loads.entered(ours, Entered { staged: false, ..staged }).unwrap();
        loads.entered(theirs, Entered { known: 4, ..Entered::default() }).unwrap();
        let counted = Sums { staged_loads: 1, known_rows: 3 };
        assert_eq!(loads.sums().unwrap(), counted);
        drop(loads);
        let loads = LoadDatabase::open(dir.path()).unwrap();
        loads.entered(ours, staged).unwrap();
        assert_eq!(loads.sums().unwrap(), counted);
        assert!(loads.verify().unwrap().iter().all(|table| table.faults.is_empty()));
        assert!(loads.entered(BatchId::new(), staged).is_err(), "a batch nobody discovered");
    }

    #[test]
    fn a_batch_that_is_found_again_is_another_as_far_as_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let loads = LoadDatabase::open(dir.path()).unwrap();
        let instance = Instance::try_from("a".to_owned()).unwrap();
        let load = Load::new(BatchId::new(), instance, 1, 10, 100, now());
        let (batch, other) = (load.batch, BatchId::new());
        loads.discovered(load.clone()).unwrap();
        loads.note(batch, LoadEvent::Attempt, now()).unwrap();
        let entered = Entered { known: 3, staged: true, entered_as: Some(other) };
        assert_eq!(loads.entered(batch, entered).unwrap().ledger_id(), other);
        loads.note(batch, LoadEvent::Loaded, now()).unwrap();
        loads.note(batch, LoadEvent::Archived, now()).unwrap();
        let again = loads.discovered(load).unwrap();
        assert_eq!((again.known, again.staged, again.ledger_id()), (0, false, batch));
    }
}
