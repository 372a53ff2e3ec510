//! The load store as the tasks share it. Every change is durable when it returns. The open loads, which are not
//! archived, are held in memory as well, so that planning reads no disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::blocking::blocking;
use shared::clock::{Clock, Moment, Steady, age, left_of};
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::lock::locked;
use shared::seal::Seal;
use state::loads::{ErrorClass, Form, Load, LoadDatabase, LoadDatabaseError, LoadEvent, LoadState, Refused};
use state::status::snapshot::HeldBack;
use state::store::StoreError;
use tokio::sync::Notify;

/// Clones share it.
#[derive(Debug, Clone)]
pub struct LoadStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    loads: LoadDatabase,
    load_interval: Duration,
    /// Held over a change on disk: reading a load and writing it back must not interleave with another change.
    changes: Mutex<()>,
    known: Mutex<InMemory>,
    /// Changes since this process opened it.
    moved: AtomicU64,
    to_load: Notify,
    to_archive: Notify,
    clock: Clock,
}

/// What is held in memory.
#[derive(Debug, Default)]
struct InMemory {
    /// The loads that are not archived.
    open: BTreeMap<BatchId, Load>,
    /// Of those that wait for their retry or are held back: the time on disk that decides, and when they are due.
    waits: HashMap<BatchId, (DateTime<Utc>, Steady)>,
    /// Batches with rows in quarantine, archived or not.
    quarantined: BTreeSet<BatchId>,
}

impl InMemory {
    fn put(&mut self, load: Load, load_interval: Duration, now: Moment) {
        let batch = load.batch;
        let decides = match load.state {
            LoadState::Retrying { next, .. } => Some(next),
            LoadState::Discovered => Some(load.discovered),
            _ => None,
        };
        match decides {
            Some(at) if self.waits.get(&batch).is_some_and(|(noted, _)| *noted == at) => {}
            Some(at) => _ = self.waits.insert(batch, (at, due(&load, load_interval, now))),
            None => _ = self.waits.remove(&batch),
        }
        if load.quarantined > 0 {
            self.quarantined.insert(batch);
        } else {
            self.quarantined.remove(&batch);
        }
        if is_archived(&load) {
            self.open.remove(&batch);
        } else {
            self.open.insert(batch, load);
        }
    }
}

/// When to load or retry a load. It waits no longer than it was to wait in all, even if somebody has set the wall clock
/// meanwhile.
fn due(load: &Load, load_interval: Duration, now: Moment) -> Steady {
    let (wait, since) = match load.state {
        LoadState::Retrying { next, .. } => {
            let failed = load.failures.last().map_or(now.wall, |failure| failure.failed);
            (age(failed, next), failed)
        }
        _ => (load_interval, load.discovered),
    };
    now.steady + left_of(wait, since, now.wall)
}

impl LoadStore {
    /// Opens the load store in `dir`. A batch is due `load_interval` after it was found.
    pub fn open(dir: &Path, load_interval: Duration, clock: &Clock) -> Result<Self, Failure> {
        let loads = LoadDatabase::open(dir)?;
        let (mut known, now) = (InMemory::default(), clock.now());
        loads.all()?.into_iter().for_each(|load| known.put(load, load_interval, now));
        let inner = Inner {
            loads,
            load_interval,
            changes: Mutex::new(()),
            known: Mutex::new(known),
            moved: AtomicU64::new(0),
            to_load: Notify::new(),
            to_archive: Notify::new(),
            clock: clock.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn found(&self, seal: &Seal) -> Load {
        let files = u32::try_from(seal.files.len()).unwrap_or(u32::MAX);
        let now = self.inner.clock.wall();
        let form = Form::new(seal.compression, &seal.schema);
        let (rows, bytes) = (seal.sealed_rows(), seal.sealed_bytes());
        let load = Load::new(seal.batch, seal.instance.clone(), files, rows, bytes, now);
        Load { form, content: seal.content, last_received: seal.last_received, ..load }
    }

    /// Enters a batch. One that is known stays as it is, unless it was archived: then it goes through once more.
    pub async fn discovered(&self, load: Load) -> Result<Load, Failure> {
        self.change_one(move |loads| loads.discovered(load)).await
    }

    /// Moves a load by one event. Fails when the move is illegal.
    pub async fn note(&self, batch: BatchId, event: LoadEvent) -> Result<Load, Failure> {
        let now = self.inner.clock.wall();
        self.change_one(move |loads| loads.note(batch, event, now)).await
    }

    /// Moves several loads by one event each: all of them or none.
    pub(crate) async fn note_all(&self, moves: Vec<(BatchId, LoadEvent)>) -> Result<Vec<Load>, Failure> {
        let now = self.inner.clock.wall();
        self.change(move |loads| loads.note_all(moves, now)).await
    }

    /// Notes how many rows of a batch are in quarantine, and that nothing else of the search is left in S3.
    pub(crate) async fn quarantined(
        &self,
        batch: BatchId,
        rows: u64,
        first: Option<Refused>,
    ) -> Result<Load, Failure> {
        let now = self.inner.clock.wall();
        self.change_one(move |loads| loads.quarantined(batch, rows, first, now)).await
    }

    /// Notes what a replay has left in quarantine of the batch that the ledger has under this id. Blocks. False when
    /// nothing of it is known to be there.
    pub(crate) fn replayed(&self, ledger_id: BatchId, left: u64) -> Result<bool, Failure> {
        let _alone = locked(&self.inner.changes);
        let noted = self.inner.loads.replayed(ledger_id, left, self.inner.clock.wall())?;
        self.inner.show(noted.as_slice());
        Ok(noted.is_some())
    }

    /// The latest first, up to `many`.
    pub(crate) fn in_quarantine(&self, many: usize) -> Vec<BatchId> {
        locked(&self.inner.known).quarantined.iter().rev().take(many).copied().collect()
    }

    /// What is known of a batch.
    pub fn get(&self, batch: BatchId) -> Result<Option<Load>, Failure> {
        let open = locked(&self.inner.known).open.get(&batch).cloned();
        // Archived loads are read from disk, where sled's cache has the recent ones.
        if open.is_some() { Ok(open) } else { Ok(self.inner.loads.get(batch)?) }
    }

    pub(crate) fn open_loads(&self) -> Vec<Load> {
        locked(&self.inner.known).open.values().cloned().collect()
    }

    /// Reads every load that is not archived, oldest first, with the moment before which it is not retried.
    pub(crate) fn with_open<T>(
        &self,
        read: impl FnOnce(&mut dyn Iterator<Item = (&Load, Option<Steady>)>) -> T,
    ) -> T {
        let known = locked(&self.inner.known);
        let due = |batch: &BatchId| known.waits.get(batch).map(|(_, due)| *due);
        read(&mut known.open.iter().map(|(batch, load)| (load, due(batch))))
    }

    /// The load store on disk, which answers `state dump`.
    pub(crate) fn loads(&self) -> LoadDatabase {
        self.inner.loads.clone()
    }

    /// The oldest loaded batch whose folder still waits to be archived, out of those that `may` be tried.
    pub fn next_loaded(&self, mut may: impl FnMut(BatchId) -> bool) -> Option<BatchId> {
        let known = locked(&self.inner.known);
        let mut waiting = known.open.values().filter(|load| matches!(load.state, LoadState::Loaded { .. }));
        waiting.find(|load| may(load.batch)).map(|load| load.batch)
    }

    /// Batches that are known and not loaded yet, and their rows.
    pub(crate) fn pending(&self) -> (usize, u64) {
        let known = locked(&self.inner.known);
        let waiting = known.open.values().filter(|load| !matches!(load.state, LoadState::Loaded { .. }));
        waiting.fold((0, 0), |(batches, rows), load| (batches + 1, rows + load.rows))
    }

    /// Batches that are held back because fewer rows than `load_rows` wait.
    pub(crate) fn held_back(&self, load_rows: u64) -> Option<HeldBack> {
        let (known, now) = (locked(&self.inner.known), self.inner.clock.now());
        let held = |load: &&Load| load.state == LoadState::Discovered;
        let mut due = Vec::new();
        let (mut batches, mut rows) = (0, 0_u64);
        for load in known.open.values().filter(held) {
            due.extend(known.waits.get(&load.batch).map(|(_, due)| *due));
            (batches, rows) = (batches + 1, rows.saturating_add(load.rows));
        }
        let first = due.into_iter().min().filter(|first| *first > now.steady && rows < load_rows)?;
        Some(HeldBack { batches, rows, until: now.wall + now.steady.until(first), load_rows })
    }

    /// Changes since this process opened the load store: the same number twice means that nothing happened between.
    pub(crate) fn changes(&self) -> u64 {
        self.inner.moved.load(Ordering::Acquire)
    }

    pub(crate) fn count_change(&self) {
        self.inner.moved.fetch_add(1, Ordering::Release);
    }

    /// Returns when something may have come to be loaded since the last call.
    pub(crate) async fn to_load(&self) {
        self.inner.to_load.notified().await;
    }

    /// Wakes the loader for something that is not in the load store.
    pub(crate) fn wake_loader(&self) {
        self.inner.to_load.notify_one();
    }

    /// Makes batches due whose last attempt failed so: what they waited for has been mended. In memory only, so a process
    /// that ends meanwhile retries them when their time has come.
    pub(crate) fn retry_now(&self, class: ErrorClass) {
        let (mut known, now) = (locked(&self.inner.known), self.inner.clock.steady());
        let InMemory { open, waits, .. } = &mut *known;
        for load in open.values() {
            if matches!(load.state, LoadState::Retrying { class: met, .. } if met == class)
                && let Some((_, due)) = waits.get_mut(&load.batch)
            {
                *due = (*due).min(now);
            }
        }
        self.inner.to_load.notify_one();
    }

    /// Returns when something may have come to be archived since the last call.
    pub(crate) async fn to_archive(&self) {
        self.inner.to_archive.notified().await;
    }

    /// Reads or writes what is not a load, where blocking is allowed.
    pub(crate) async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LoadDatabase) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Failure> {
        let loads = self.loads();
        Ok(blocking(move || work(&loads)).await??)
    }

    pub(crate) async fn change_one(
        &self,
        work: impl FnOnce(&LoadDatabase) -> Result<Load, LoadDatabaseError> + Send + 'static,
    ) -> Result<Load, Failure> {
        let [load] = self.change(move |loads| work(loads).map(|load| [load])).await?;
        Ok(load)
    }

    async fn change<T: AsRef<[Load]> + Send + 'static>(
        &self,
        work: impl FnOnce(&LoadDatabase) -> Result<T, LoadDatabaseError> + Send + 'static,
    ) -> Result<T, Failure> {
        let inner = self.inner.clone();
        let changed = blocking(move || {
            let _alone = locked(&inner.changes);
            let loads = work(&inner.loads)?;
            inner.show(loads.as_ref());
            Ok::<_, LoadDatabaseError>(loads)
        });
        Ok(changed.await??)
    }
}

impl Inner {
    /// Takes over into memory what changed on disk, and wakes the tasks it is for.
    fn show(&self, loads: &[Load]) {
        self.moved.fetch_add(loads.len() as u64, Ordering::Release);
        let (mut known, now) = (locked(&self.known), self.clock.now());
        for load in loads {
            known.put(load.clone(), self.load_interval, now);
            match load.state {
                LoadState::Discovered => self.to_load.notify_one(),
                LoadState::Loaded { .. } => self.to_archive.notify_one(),
                _ => {}
            }
        }
    }
}

/// Whether nothing is left to be done for a load.
pub fn is_archived(load: &Load) -> bool {
    matches!(load.state, LoadState::Archived { .. })
}

#[cfg(test)]
mod tests {
    use state::loads::Failed;

    use super::*;
    use crate::facts::folder::tests::seal;
    use crate::load::plan::{self, Bounds, Isolated, Next};

    fn clock() -> Clock {
        Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap())
    }

    fn due(load_store: &LoadStore) -> Next {
        let bounds = Bounds { batches: 9, rows: 999, bytes: 9999, worth: 999 };
        let now = load_store.inner.clock.steady();
        load_store.with_open(|loads| plan::next(loads, now, &bounds, &Isolated::default(), false))
    }

    #[tokio::test]
    async fn a_batch_goes_through_the_load_store_and_is_planned_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let batch = {
            let load_store = LoadStore::open(dir.path(), Duration::ZERO, &clock()).unwrap();
            let batch = load_store.discovered(load_store.found(&seal())).await.unwrap().batch;
            assert_eq!(load_store.pending(), (1, 20));
            load_store.note(batch, LoadEvent::Attempt).await.unwrap();
            batch
        };
        let load_store = LoadStore::open(dir.path(), Duration::ZERO, &clock()).unwrap();
        assert_eq!(due(&load_store), Next::Load(vec![batch]));
        load_store.note(batch, LoadEvent::Attempt).await.unwrap();
        load_store.note(batch, LoadEvent::Loaded).await.unwrap();
        assert_eq!(due(&load_store), Next::Wait(None));
        assert_eq!(load_store.next_loaded(|_| true), Some(batch));
        load_store.note(batch, LoadEvent::Archived).await.unwrap();
        assert_eq!(load_store.next_loaded(|_| true), None);
        assert!(load_store.get(batch).unwrap().is_some_and(|load| is_archived(&load) && load.attempts == 2));
    }

    #[tokio::test]
    async fn a_batch_that_waits_for_its_retry_is_planned_when_the_steady_clock_says_so() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
        let load_store = LoadStore::open(dir.path(), Duration::ZERO, &clock).unwrap();
        let batch = load_store.discovered(load_store.found(&seal())).await.unwrap().batch;
        load_store.note(batch, LoadEvent::Attempt).await.unwrap();
        let minute = Duration::from_secs(60);
        let (class, why, next) = (ErrorClass::Passing, "1023".to_owned(), clock.wall() + minute);
        load_store.note(batch, LoadEvent::Failed { next, class, why }).await.unwrap();
        let retry = clock.steady() + minute;
        clock.set_wall(clock.wall() - minute * 60);
        assert_eq!(due(&load_store), Next::Wait(Some(retry)), "whatever the wall clock says");
        clock.advance(minute);
        assert_eq!(due(&load_store), Next::Load(vec![batch]));
    }

    #[test]
    fn a_next_try_is_waited_for_as_long_as_it_was_to_be_and_no_longer_whatever_the_clock_says() {
        let (dir, now) = (tempfile::tempdir().unwrap(), clock().now());
        let load_store = LoadStore::open(dir.path(), Duration::ZERO, &clock()).unwrap();
        let minute = Duration::from_secs(60);
        let wait = |failed: DateTime<Utc>| {
            let (class, why, next) = (ErrorClass::Passing, "1023".to_owned(), failed + minute);
            let failure = Failed { attempt: Some(1), started: None, failed, class, why: why.clone() };
            let state = LoadState::Retrying { next, class, why };
            let mut known = InMemory::default();
            known.put(
                Load { state, failures: vec![failure], ..load_store.found(&seal()) },
                Duration::ZERO,
                now,
            );
            let (_, (_, due)) = known.waits.into_iter().next().unwrap();
            now.steady.until(due).as_secs()
        };
        assert_eq!(wait(now.wall), 60);
        assert_eq!(wait(now.wall - minute / 3), 40, "some of it passed before a restart");
        assert_eq!(wait(now.wall - minute * 9), 0);
        assert_eq!(wait(now.wall + minute * 60), 60, "the clock was set back by an hour");
    }

    #[tokio::test]
    async fn batches_that_waited_for_what_is_mended_are_due_at_once() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
        let load_store = LoadStore::open(dir.path(), Duration::ZERO, &clock).unwrap();
        let retrying = async |class| {
            let batch = load_store.discovered(load_store.found(&seal())).await.unwrap().batch;
            load_store.note(batch, LoadEvent::Attempt).await.unwrap();
            let next = clock.wall() + Duration::from_secs(60);
            load_store.note(batch, LoadEvent::Failed { next, class, why: "w".to_owned() }).await.unwrap();
            batch
        };
        let mended = retrying(ErrorClass::Configuration).await;
        retrying(ErrorClass::Data).await;
        assert!(matches!(due(&load_store), Next::Wait(Some(_))));
        load_store.retry_now(ErrorClass::Configuration);
        assert_eq!(due(&load_store), Next::Load(vec![mended]));
    }

    #[tokio::test]
    async fn a_change_wakes_the_task_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let load_store = LoadStore::open(dir.path(), Duration::ZERO, &clock()).unwrap();
        let batch = load_store.discovered(load_store.found(&seal())).await.unwrap().batch;
        load_store.to_load().await;
        load_store.note(batch, LoadEvent::Attempt).await.unwrap();
        load_store.note(batch, LoadEvent::Loaded).await.unwrap();
        load_store.to_archive().await;
    }
}
