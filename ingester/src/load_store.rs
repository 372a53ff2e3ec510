//! The bookkeeping as the tasks share it: every change is durable on disk when it returns, and the loads that are
//! not archived are held in memory as well, so that planning reads no disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use shared::clock::{Moment, Steady, age, left_of};
use shared::exit::{Exit, Failure};
use shared::ids::BatchId;
use shared::seal::Seal;
use state::loads::{Entered, Form, Listed, Load, LoadEvent, LoadState, Loads, LoadsError};
use tokio::sync::Notify;

use crate::load::plan::{self, Bounds, Isolated, Next};

/// The bookkeeping. Clones share it.
#[derive(Debug, Clone)]
pub struct LoadStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    loads: Loads,
    /// Held over a change on disk: reading a load and writing it back must not interleave with another change.
    changes: Mutex<()>,
    open: Mutex<Open>,
    /// Batches with rows in quarantine, archived or not.
    quarantined: Mutex<BTreeSet<BatchId>>,
    /// Changes since this process opened it.
    moved: AtomicU64,
    to_load: Notify,
    to_archive: Notify,
}

/// The loads that are not archived.
#[derive(Debug, Default)]
struct Open {
    loads: BTreeMap<BatchId, Load>,
    /// Of those that wait for their next try: what is noted of it, and when it is.
    waits: HashMap<BatchId, (DateTime<Utc>, Steady)>,
}

impl Open {
    fn put(&mut self, load: Load, now: Moment) {
        let batch = load.batch;
        match load.state {
            LoadState::Retrying { next, .. } => {
                if self.waits.get(&batch).is_none_or(|(noted, _)| *noted != next) {
                    self.waits.insert(batch, (next, due(&load, next, now)));
                }
            }
            _ => _ = self.waits.remove(&batch),
        }
        self.loads.insert(batch, load);
    }

    fn remove(&mut self, batch: BatchId) {
        self.loads.remove(&batch);
        self.waits.remove(&batch);
    }
}

/// When a load is tried again that is to be at `next` by the wall clock. From now on it waits no longer than it was to
/// wait in all, whatever was done to the wall clock since its failure.
fn due(load: &Load, next: DateTime<Utc>, now: Moment) -> Steady {
    let failed = load.failures.last().map_or(now.wall, |failure| failure.failed);
    now.steady + left_of(age(failed, next), failed, now.wall)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked left whole values behind: each change is one insert or remove.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LoadStore {
    /// Opens the bookkeeping in `dir`.
    ///
    /// # Errors
    /// As [`Loads::open`].
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let loads = Loads::open(dir)?;
        let all = loads.all()?;
        let quarantined = all.iter().filter(|load| load.quarantined > 0).map(|load| load.batch).collect();
        let (mut open, now) = (Open::default(), Moment::now());
        all.into_iter().filter(|load| !is_archived(load)).for_each(|load| open.put(load, now));
        let inner = Inner {
            loads,
            changes: Mutex::new(()),
            open: Mutex::new(open),
            quarantined: Mutex::new(quarantined),
            moved: AtomicU64::new(0),
            to_load: Notify::new(),
            to_archive: Notify::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Enters a batch whose seal was seen, or one the ledger knows. One that is known stays as it is, unless it was
    /// archived: then it is gone through once more.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn discovered(&self, load: Load) -> Result<Load, Failure> {
        let discovered = self.change(move |loads| loads.discovered(load).map(|load| vec![load])).await?;
        one(discovered)
    }

    /// Moves a load by one event.
    ///
    /// # Errors
    /// When it cannot be stored, or the move is illegal.
    pub async fn note(&self, batch: BatchId, event: LoadEvent) -> Result<Load, Failure> {
        one(self.note_all(vec![(batch, event)]).await?)
    }

    /// Moves several loads by one event each, with one change on disk.
    ///
    /// # Errors
    /// As [`LoadStore::note`]; then nothing has changed.
    pub async fn note_all(&self, moves: Vec<(BatchId, LoadEvent)>) -> Result<Vec<Load>, Failure> {
        self.change(move |loads| loads.note_all(moves, Utc::now())).await
    }

    /// How far listings of S3 have come.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn listed(&self) -> Result<Option<Listed>, Failure> {
        Ok(self.inner.loads.listed()?)
    }

    /// Notes how far listings of S3 have come.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn note_listed(&self, listed: Listed) -> Result<(), Failure> {
        self.change(move |loads| Ok(loads.note_listed(&listed).map(|()| Vec::new())?)).await.map(drop)
    }

    /// Notes that refused rows of a batch are searched, before anything of it is written to S3.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn sifting(&self, batch: BatchId) -> Result<Load, Failure> {
        one(self.change(move |loads| loads.sifting(batch).map(|load| vec![load])).await?)
    }

    /// Notes how many rows of a batch are in quarantine, and that nothing else of the search is left in S3.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn quarantined(&self, batch: BatchId, rows: u64) -> Result<Load, Failure> {
        one(self.change(move |loads| loads.quarantined(batch, rows).map(|load| vec![load])).await?)
    }

    /// Notes how the ledger has a batch, before it is noted as loaded.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn entered(&self, batch: BatchId, entered: Entered) -> Result<Load, Failure> {
        one(self.change(move |loads| loads.entered(batch, entered).map(|load| vec![load])).await?)
    }

    /// The latest batches with rows in quarantine, up to `many`.
    #[must_use]
    pub fn in_quarantine(&self, many: usize) -> Vec<BatchId> {
        locked(&self.inner.quarantined).iter().rev().take(many).copied().collect()
    }

    /// What is known of a batch.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, batch: BatchId) -> Result<Option<Load>, Failure> {
        let open = locked(&self.inner.open).loads.get(&batch).cloned();
        // Archived loads are read from disk, where sled's cache has the recent ones.
        if open.is_some() { Ok(open) } else { Ok(self.inner.loads.get(batch)?) }
    }

    /// Every load that is not archived, oldest batch first.
    #[must_use]
    pub fn open_loads(&self) -> Vec<Load> {
        locked(&self.inner.open).loads.values().cloned().collect()
    }

    /// The bookkeeping on disk, which answers those who ask.
    #[must_use]
    pub fn loads(&self) -> Loads {
        self.inner.loads.clone()
    }

    /// Which batches to load now.
    #[must_use]
    pub fn next_load(&self, now: Steady, bounds: &Bounds, isolated: &Isolated) -> Next {
        let open = locked(&self.inner.open);
        let waits = |batch: &BatchId| open.waits.get(batch).map(|(_, due)| *due);
        plan::next(open.loads.iter().map(|(batch, load)| (load, waits(batch))), now, bounds, isolated)
    }

    /// The oldest loaded batch whose folder still waits to be archived, out of those that `may` be tried.
    pub fn next_loaded(&self, mut may: impl FnMut(BatchId) -> bool) -> Option<BatchId> {
        let open = locked(&self.inner.open);
        let mut waiting = open.loads.values().filter(|load| matches!(load.state, LoadState::Loaded { .. }));
        waiting.find(|load| may(load.batch)).map(|load| load.batch)
    }

    /// Batches that are known and not loaded yet, and their rows.
    #[must_use]
    pub fn pending(&self) -> (usize, u64) {
        let open = locked(&self.inner.open);
        let waiting = open.loads.values().filter(|load| !matches!(load.state, LoadState::Loaded { .. }));
        waiting.fold((0, 0), |(batches, rows), load| (batches + 1, rows + load.rows))
    }

    /// Changes since this process opened the load store: the same number twice, and nothing happened between.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.inner.moved.load(Ordering::Acquire)
    }

    /// Something came to S3 that is no load yet: things are not as they were.
    pub fn stirred(&self) {
        self.inner.moved.fetch_add(1, Ordering::Release);
    }

    /// Returns when something may have come to be loaded since the last call.
    pub async fn to_load(&self) {
        self.inner.to_load.notified().await;
    }

    /// Wakes the loader for something that is not in the load store.
    pub fn wake_loader(&self) {
        self.inner.to_load.notify_one();
    }

    /// Returns when something may have come to be archived since the last call.
    pub async fn to_archive(&self) {
        self.inner.to_archive.notified().await;
    }

    async fn change<F>(&self, work: F) -> Result<Vec<Load>, Failure>
    where
        F: FnOnce(&Loads) -> Result<Vec<Load>, LoadsError> + Send + 'static,
    {
        let inner = self.inner.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let _alone = locked(&inner.changes);
            let loads = work(&inner.loads)?;
            inner.moved.fetch_add(loads.len() as u64, Ordering::Release);
            let mut quarantined = locked(&inner.quarantined);
            for load in &loads {
                if load.quarantined > 0 {
                    quarantined.insert(load.batch);
                } else {
                    quarantined.remove(&load.batch);
                }
            }
            drop(quarantined);
            let (mut open, now) = (locked(&inner.open), Moment::now());
            for load in &loads {
                if is_archived(load) {
                    open.remove(load.batch);
                } else {
                    open.put(load.clone(), now);
                }
                match load.state {
                    LoadState::Discovered => inner.to_load.notify_one(),
                    LoadState::Loaded { .. } => inner.to_archive.notify_one(),
                    _ => {}
                }
            }
            Ok(loads)
        });
        changed.await.map_err(|error| Failure::new(Exit::Software, error))?.map_err(failure)
    }
}

/// The entry of a batch that was just found.
#[must_use]
pub(crate) fn found(seal: &Seal) -> Load {
    let files = u32::try_from(seal.files.len()).unwrap_or(u32::MAX);
    let form = Form::new(seal.compression, &seal.schema);
    let content = seal.content;
    Load {
        form,
        content,
        ..Load::new(seal.batch, seal.instance.clone(), files, seal.rows, seal.bytes, Utc::now())
    }
}

/// The one load a change of one load came to.
fn one(loads: Vec<Load>) -> Result<Load, Failure> {
    loads
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new(Exit::Software, anyhow::anyhow!("a change of one load changed none")))
}

/// Whether nothing is left to be done for a load.
#[must_use]
pub fn is_archived(load: &Load) -> bool {
    matches!(load.state, LoadState::Archived { .. })
}

fn failure(error: LoadsError) -> Failure {
    match error {
        LoadsError::Store(error) => error.into(),
        fault => Failure::new(Exit::Software, fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::folder::tests::seal;

    #[tokio::test]
    async fn a_batch_goes_through_the_book_and_is_planned_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let batch = {
            let load_store = LoadStore::open(dir.path()).unwrap();
            let batch = load_store.discovered(found(&seal())).await.unwrap().batch;
            assert_eq!(load_store.pending(), (1, 20));
            load_store.note(batch, LoadEvent::Attempt).await.unwrap();
            batch
        };
        let load_store = LoadStore::open(dir.path()).unwrap();
        let next = |load_store: &LoadStore| {
            let bounds = Bounds { batches: 9, rows: 999, bytes: 9999 };
            load_store.next_load(Steady::now(), &bounds, &Isolated::default())
        };
        assert_eq!(next(&load_store), Next::Load(vec![batch]));
        load_store.note(batch, LoadEvent::Attempt).await.unwrap();
        load_store.note(batch, LoadEvent::Loaded).await.unwrap();
        assert_eq!(next(&load_store), Next::Wait(None));
        assert_eq!(load_store.next_loaded(|_| true), Some(batch));
        load_store.note(batch, LoadEvent::Archived).await.unwrap();
        assert_eq!(load_store.next_loaded(|_| true), None);
        assert!(load_store.get(batch).unwrap().is_some_and(|load| is_archived(&load) && load.attempts == 2));
    }

    #[test]
    fn a_next_try_is_waited_for_as_long_as_it_was_to_be_and_no_longer_whatever_the_clock_says() {
        let now = Moment::now();
        let minute = chrono::TimeDelta::minutes(1);
        let wait = |failed: DateTime<Utc>| {
            let (class, why) = (state::loads::ErrorClass::Passing, "1023".to_owned());
            let next = failed + minute;
            let failure =
                state::loads::Failed { attempt: Some(1), started: None, failed, class, why: why.clone() };
            let state = LoadState::Retrying { next, class, why };
            let mut open = Open::default();
            open.put(Load { state, failures: vec![failure], ..found(&seal()) }, now);
            let (_, (_, due)) = open.waits.into_iter().next().unwrap();
            now.steady.until(due).as_secs()
        };
        assert_eq!(wait(now.wall), 60);
        assert_eq!(wait(now.wall - minute / 3), 40, "some of it passed before a restart");
        assert_eq!(wait(now.wall - minute * 9), 0);
        assert_eq!(wait(now.wall + minute * 60), 60, "the clock was set back by an hour");
    }

    #[tokio::test]
    async fn a_change_wakes_the_task_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let load_store = LoadStore::open(dir.path()).unwrap();
        let batch = load_store.discovered(found(&seal())).await.unwrap().batch;
        load_store.to_load().await;
        load_store.note(batch, LoadEvent::Attempt).await.unwrap();
        load_store.note(batch, LoadEvent::Loaded).await.unwrap();
        load_store.to_archive().await;
    }
}
