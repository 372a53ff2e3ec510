//! The bookkeeping as the tasks share it: every change is durable on disk when it returns, and the loads that are
//! not archived are held in memory as well, so that planning reads no disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use shared::exit::{Exit, Failure};
use shared::ids::BatchId;
use shared::seal::Seal;
use state::loads::{Load, LoadEvent, LoadState, Loads, LoadsError};
use tokio::sync::Notify;

use crate::plan::{self, Next};

/// The bookkeeping. Clones share it.
#[derive(Debug, Clone)]
pub struct Book {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    loads: Loads,
    /// Held over a change on disk: reading a load and writing it back must not interleave with another change.
    changes: Mutex<()>,
    open: Mutex<BTreeMap<BatchId, Load>>,
    to_load: Notify,
    to_archive: Notify,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked left whole values behind: each change is one insert or remove.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    /// Opens the bookkeeping in `dir`.
    ///
    /// # Errors
    /// As [`Loads::open`].
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let loads = Loads::open(dir)?;
        let open = loads
            .all()?
            .into_iter()
            .filter(|load| !is_archived(load))
            .map(|load| (load.batch, load))
            .collect();
        let inner = Inner {
            loads,
            changes: Mutex::new(()),
            open: Mutex::new(open),
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
        self.change(move |loads| loads.discovered(load)).await
    }

    /// Moves a load by one event.
    ///
    /// # Errors
    /// When it cannot be stored, or the move is illegal.
    pub async fn note(&self, batch: BatchId, event: LoadEvent) -> Result<Load, Failure> {
        self.change(move |loads| loads.note(batch, event, Utc::now())).await
    }

    /// What is known of a batch.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, batch: BatchId) -> Result<Option<Load>, Failure> {
        let open = locked(&self.inner.open).get(&batch).cloned();
        // Archived loads are read from disk, where sled's cache has the recent ones.
        if open.is_some() { Ok(open) } else { Ok(self.inner.loads.get(batch)?) }
    }

    /// Every load that is not archived, oldest batch first.
    #[must_use]
    pub fn open_loads(&self) -> Vec<Load> {
        locked(&self.inner.open).values().cloned().collect()
    }

    /// The bookkeeping on disk, which answers those who ask.
    #[must_use]
    pub fn loads(&self) -> Loads {
        self.inner.loads.clone()
    }

    /// Which batch to load now.
    #[must_use]
    pub fn next_load(&self, now: DateTime<Utc>) -> Next {
        plan::next(locked(&self.inner.open).values(), now)
    }

    /// The oldest loaded batch whose folder still waits to be archived, out of those that `may` be tried.
    pub fn next_loaded(&self, mut may: impl FnMut(BatchId) -> bool) -> Option<BatchId> {
        let open = locked(&self.inner.open);
        let mut waiting = open.values().filter(|load| matches!(load.state, LoadState::Loaded { .. }));
        waiting.find(|load| may(load.batch)).map(|load| load.batch)
    }

    /// Batches that are known and not loaded yet, and their rows.
    #[must_use]
    pub fn pending(&self) -> (usize, u64) {
        let open = locked(&self.inner.open);
        let waiting = open.values().filter(|load| !matches!(load.state, LoadState::Loaded { .. }));
        waiting.fold((0, 0), |(batches, rows), load| (batches + 1, rows + load.rows))
    }

    /// Returns when something may have come to be loaded since the last call.
    pub async fn to_load(&self) {
        self.inner.to_load.notified().await;
    }

    /// Wakes the loader for something that is not in the book.
    pub fn wake_loader(&self) {
        self.inner.to_load.notify_one();
    }

    /// Returns when something may have come to be archived since the last call.
    pub async fn to_archive(&self) {
        self.inner.to_archive.notified().await;
    }

    async fn change<F>(&self, work: F) -> Result<Load, Failure>
    where
        F: FnOnce(&Loads) -> Result<Load, LoadsError> + Send + 'static,
    {
        let inner = self.inner.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let _alone = locked(&inner.changes);
            let load = work(&inner.loads)?;
            let mut open = locked(&inner.open);
            if is_archived(&load) {
                open.remove(&load.batch);
            } else {
                open.insert(load.batch, load.clone());
            }
            match load.state {
                LoadState::Discovered => inner.to_load.notify_one(),
                LoadState::Loaded { .. } => inner.to_archive.notify_one(),
                _ => {}
            }
            Ok(load)
        });
        changed.await.map_err(|error| Failure::new(Exit::Software, error))?.map_err(failure)
    }
}

/// The entry of a batch that was just found.
#[must_use]
pub fn found(seal: &Seal) -> Load {
    let files = u32::try_from(seal.files.len()).unwrap_or(u32::MAX);
    Load::new(seal.batch, seal.instance.clone(), files, seal.rows, seal.bytes, Utc::now())
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
    use crate::verify::tests::seal;

    #[tokio::test]
    async fn a_batch_goes_through_the_book_and_is_planned_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let batch = {
            let book = Book::open(dir.path()).unwrap();
            let batch = book.discovered(found(&seal())).await.unwrap().batch;
            assert_eq!(book.pending(), (1, 20));
            book.note(batch, LoadEvent::Attempt).await.unwrap();
            batch
        };
        let book = Book::open(dir.path()).unwrap();
        assert_eq!(book.next_load(Utc::now()), Next::Load(batch));
        book.note(batch, LoadEvent::Attempt).await.unwrap();
        book.note(batch, LoadEvent::Loaded).await.unwrap();
        assert_eq!(book.next_load(Utc::now()), Next::Wait(None));
        assert_eq!(book.next_loaded(|_| true), Some(batch));
        book.note(batch, LoadEvent::Archived).await.unwrap();
        assert_eq!(book.next_loaded(|_| true), None);
        assert!(book.get(batch).unwrap().is_some_and(|load| is_archived(&load) && load.attempts == 2));
    }

    #[tokio::test]
    async fn a_change_wakes_the_task_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::open(dir.path()).unwrap();
        let batch = book.discovered(found(&seal())).await.unwrap().batch;
        book.to_load().await;
        book.note(batch, LoadEvent::Attempt).await.unwrap();
        book.note(batch, LoadEvent::Loaded).await.unwrap();
        book.to_archive().await;
    }
}
