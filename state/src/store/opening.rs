//! The steps of an opening, under the lock of the directory: nobody else looks at the files meanwhile.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::failpoints::reached;
use crate::store::leftovers;
use crate::store::lock::{self, Lock, Purpose};
use crate::store::scan::Turns;
use crate::store::spare::{self, Spare};
use crate::store::survey::{Segment, broken, survey};
use crate::store::undo::Undo;
use crate::store::{Kind, Store, StoreError, copy, database, disk_error, guarded, mark};

/// How a database is opened.
#[derive(Clone, Copy)]
pub(super) struct Opening<'o> {
    pub(super) dir: &'o Path,
    pub(super) kind: Kind,
    /// None: to look at it.
    pub(super) instance: Option<&'o str>,
    pub(super) cache: u64,
}

impl Opening<'_> {
    pub(super) fn open(&self) -> Result<Store, StoreError> {
        let purpose = if self.instance.is_some() { Purpose::Own } else { Purpose::Look };
        let begun = Instant::now();
        loop {
            if let Some(lock) = lock::take(self.dir, purpose).map_err(|error| self.io(error))?
                && let Some(store) = self.open_whole(lock)?
            {
                return Ok(store);
            }
            if begun.elapsed() >= lock::patience(&self.sled()) {
                let owner = lock::holder(self.dir);
                return Err(StoreError::InUse { dir: self.dir.to_owned(), owner });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// None when a program of before, which does not know the lock of the directory, has opened the database first.
    fn open_whole(&self, lock: Lock) -> Result<Option<Store>, StoreError> {
        let durable = mark::read(self.dir)?;
        if durable > 0 && !database(self.dir).exists() {
            return Err(self.damaged(format!("the database file is gone, and with it {durable} commits")));
        }
        disk_error::read_from_the_disk(self.dir)?;
        leftovers::remove(&self.sled()).map_err(|(path, error)| StoreError::Io { path, error })?;
        let (segments, undo) = self.survey()?;
        let spare =
            spare::read(self.dir).map_err(|error| StoreError::Io { path: spare::path(self.dir), error })?;
        let removed = copy::remove(self.dir);
        match (broken(&segments, spare).next(), removed) {
            (Some(segment), removed) => {
                removed?;
                self.try_a_copy(segment, durable)?;
            }
            // It takes room and stands in nobody's way.
            (None, Err(error)) => tracing::warn!(%error, "cannot remove a copy that is not needed"),
            (None, Ok(())) => {}
        }
        let refused = |error: StoreError| {
            if let Some(undo) = &undo {
                self.put_back(undo)?;
            }
            Err(error)
        };
        let db = match self.open_sled() {
            Ok(Some(db)) => db,
            Ok(None) => return Ok(None),
            Err(StoreError::Io { path, error }) => {
                disk_error::note(self.dir, &path, &error);
                return Err(StoreError::Io { path, error });
            }
            Err(error) => return refused(error),
        };
        let mut store = self.store(db, Some(lock))?;
        reached("open.opened");
        let checked = store.check_end(durable).and_then(|()| store.check_label(self.kind, self.instance));
        let form = match checked {
            Ok(form) => form,
            Err(error) => {
                // sled closes its file; the lock of the directory stays until everything is put back.
                let lock = store.close();
                let refused = refused(error);
                drop(lock);
                return refused;
            }
        };
        store.spare = Some(Arc::new(store.noted(Spare::of(&store, self.instance.is_none()))?));
        if let Some(instance) = self.instance {
            // sled does not, and cannot open the database without it.
            let conf = self.sled().join("conf");
            let synced = File::open(&conf).and_then(|file| file.sync_all());
            store.noted(synced.map_err(|error| StoreError::Io { path: conf, error }))?;
            store.own(self.kind, instance, form)?;
        }
        disk_error::is_over(self.dir)?;
        Ok(Some(store))
    }

    pub(super) fn store(&self, db: sled::Db, lock: Option<Lock>) -> Result<Store, StoreError> {
        let path = database(self.dir);
        let file = File::options().read(true).write(true).open(&path).map_err(|error| self.io(error))?;
        Ok(Store {
            db,
            file: Arc::new(file),
            dir: self.dir.to_owned(),
            mark: None,
            spare: None,
            commits: Arc::default(),
            turns: Turns::default(),
            lock: lock.map(Arc::new),
        })
    }

    /// None of it when there is no database yet.
    fn survey(&self) -> Result<(Vec<Segment>, Option<Undo>), StoreError> {
        let path = database(self.dir);
        if !path.exists() {
            return Ok((Vec::new(), None));
        }
        let file = File::open(path).map_err(|error| self.io(error))?;
        let segments = survey(&file).map_err(|error| self.io(error))?;
        let undo = Undo::keep(&self.sled(), &file, &segments);
        Ok((segments, Some(undo.map_err(|(path, error)| StoreError::Io { path, error })?)))
    }

    /// None when another process has it.
    pub(super) fn open_sled(&self) -> Result<Option<sled::Db>, StoreError> {
        let config = sled::Config::new()
            .path(self.sled())
            .cache_capacity(self.cache)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        match guarded(self.dir, "opening it", || config.open()) {
            Ok(db) => Ok(Some(db)),
            Err(StoreError::Io { error, .. }) if error.to_string().contains("acquire lock") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Once sled has closed the database, which its threads may do a moment later; unless another process has it then.
    fn put_back(&self, undo: &Undo) -> Result<(), StoreError> {
        for _ in 0..40 {
            if undo.put_back().map_err(|(path, error)| StoreError::Io { path, error })? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        tracing::warn!(dir = %self.dir.display(), "another process has opened the database meanwhile");
        Ok(())
    }

    pub(super) fn sled(&self) -> PathBuf {
        self.dir.join("sled")
    }

    fn io(&self, error: io::Error) -> StoreError {
        StoreError::Io { path: database(self.dir), error }
    }

    pub(super) fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { dir: self.dir.to_owned(), what }
    }
}
