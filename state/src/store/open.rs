//! Opening a database: who has it, whether it is whole, whose it is. sled repairs as it opens. So a database whose file
//! is in doubt is tried as a copy first; of any other the end is kept, where sled repairs after a crash, and put back
//! when something speaks against the database.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use shared::private;

use super::mark::{self, Mark};
use super::scan::Turns;
use super::survey::{Segment, broken, survey};
use super::undo::Undo;
use super::{COMMITS, Change, Kind, Store, StoreError, Table, database, guarded};
use crate::points::reached;
use crate::{leftovers, loads, lock, log};

/// Key of the label, in [`Table::Meta`].
const LABEL: &[u8] = b"label";

/// Whose database it is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Label {
    pub(super) format: u32,
    pub(super) kind: Kind,
    pub(super) instance: String,
}

/// How a database is opened.
#[derive(Clone, Copy)]
struct Opening<'o> {
    dir: &'o Path,
    kind: Kind,
    /// None: to look at it.
    instance: Option<&'o str>,
    cache: u64,
}

impl Store {
    /// Opens the database in `dir`, creating both if need be.
    ///
    /// # Errors
    /// When it is in use, damaged, of another version, kind or instance, or the file system refuses.
    pub fn open(dir: &Path, kind: Kind, instance: &str, cache: u64) -> Result<Self, StoreError> {
        let inner = dir.join("sled");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&inner);
        made.map_err(|error| StoreError::Io { path: inner, error })?;
        reached("open.made");
        let store = Opening { dir, kind, instance: Some(instance), cache }.open()?;
        let owner = dir.join("owner.pid");
        reached("open.labelled");
        let written = fs::write(&owner, std::process::id().to_string());
        written.map_err(|error| StoreError::Io { path: owner.clone(), error })?;
        // What stood there before may have been open to others.
        let closed = private::close(dir)
            .and_then(|()| private::close_all(&dir.join("sled")))
            .and_then(|()| private::close(&mark::path(dir)))
            .and_then(|()| private::close(&owner));
        closed.map_err(|error| StoreError::Io { path: dir.to_owned(), error })?;
        // A new file is only there after a power cut if its directories were synced too; and the process that made it
        // may have been killed before it came here.
        for path in [database(dir).parent(), Some(dir), dir.parent()].into_iter().flatten() {
            sync_dir(path).map_err(|error| StoreError::Io { path: path.to_owned(), error })?;
        }
        reached("open.synced");
        Ok(store)
    }

    /// Opens the database in `dir` to look at it, when no process owns it.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Missing`] when there is none.
    pub fn look(dir: &Path, kind: Kind) -> Result<Self, StoreError> {
        if !database(dir).try_exists().map_err(|error| StoreError::Io { path: dir.to_owned(), error })? {
            return Err(StoreError::Missing(dir.to_owned()));
        }
        Opening { dir, kind, instance: None, cache: 8 << 20 }.open()
    }

    /// False when the database has no label of this version's yet: it is new, or of an older format.
    fn check_label(&self, kind: Kind, instance: Option<&str>) -> Result<bool, StoreError> {
        let foreign = |what: String| Err(StoreError::Foreign { dir: self.dir.clone(), what });
        let label = match self.get::<Label>(Table::Meta, LABEL) {
            Err(StoreError::Damaged { what, .. }) => {
                return foreign(format!("its label is damaged or of a newer version: {what}"));
            }
            label => label?,
        };
        match label {
            None if self.db.is_empty() && instance.is_some() => Ok(false),
            None if self.db.is_empty() => foreign("it is empty: its first start was cut short".to_owned()),
            None => foreign("it is a sled database of some other program".to_owned()),
            Some(label) if label.kind != kind => {
                foreign(format!("it belongs to the {:?}, not to the {kind:?}", label.kind).to_lowercase())
            }
            Some(label) if label.format > kind.format() || label.format == 0 => {
                let (found, newest) = (label.format, kind.format());
                foreign(format!("it has format {found}, this version works with format {newest}"))
            }
            Some(label) => match instance {
                Some(instance) if label.instance != instance => {
                    let owner = label.instance;
                    foreign(format!("it belongs to instance {owner}, not to {instance} (instance.name)"))
                }
                _ => Ok(label.format == kind.format()),
            },
        }
    }

    /// Makes it writable, now that nothing speaks against it; a new one gets its label, and an older one the label of
    /// what it is from now on.
    fn own(&mut self, kind: Kind, instance: &str, labelled: bool) -> Result<(), StoreError> {
        self.mark = Some(Arc::new(Mark::open(&self.dir)?));
        if labelled {
            return Ok(());
        }
        let mut change = Change::new();
        change.put(Table::Meta, LABEL, &Label { format: kind.format(), kind, instance: instance.to_owned() });
        self.commit(change)
    }

    /// Compares the last commit with the one that was surely durable.
    fn check_end(&self, durable: u64) -> Result<(), StoreError> {
        let commits = self.get_bytes(Table::Meta, COMMITS)?;
        let commits = commits.and_then(|bytes| bytes.first_chunk().copied()).map_or(0, u64::from_be_bytes);
        self.commits.store(commits, Ordering::Relaxed);
        if commits >= durable {
            return Ok(());
        }
        let what = format!(
            "the end of the database file is gone: commit {commits} is the last, {durable} was durable"
        );
        Err(StoreError::Damaged { dir: self.dir.clone(), what })
    }
}

impl Opening<'_> {
    fn open(&self) -> Result<Store, StoreError> {
        let durable = mark::read(self.dir)?;
        if durable > 0 && !database(self.dir).exists() {
            return Err(self.damaged(format!("the database file is gone, and with it {durable} commits")));
        }
        let begun = Instant::now();
        loop {
            if lock::is_free(&database(self.dir)).map_err(|error| self.io(error))? {
                // Not held while waiting: one that waits is not waited for.
                let looking = self.instance.is_none().then(|| lock::look(&self.sled())).transpose();
                let looking = looking.map_err(|error| self.io(error))?;
                if let Some(store) = self.open_whole(looking, durable)? {
                    return Ok(store);
                }
            }
            if begun.elapsed() >= lock::patience(&self.sled()) {
                let owner = lock::holder(&database(self.dir), &self.dir.join("owner.pid"));
                return Err(StoreError::InUse { dir: self.dir.to_owned(), owner });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// None when another process has come first.
    fn open_whole(&self, looking: Option<File>, durable: u64) -> Result<Option<Store>, StoreError> {
        leftovers::remove(&self.sled()).map_err(|(path, error)| StoreError::Io { path, error })?;
        let (segments, undo) = self.survey().map_err(|error| self.io(error))?;
        if let Some(segment) = broken(&segments).next() {
            self.try_a_copy(segment, durable)?;
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
            Err(error @ StoreError::Io { .. }) => return Err(error),
            Err(error) => return refused(error),
        };
        let mut store = self.store(db, looking)?;
        reached("open.opened");
        let checked = store.check_end(durable).and_then(|()| store.check_label(self.kind, self.instance));
        match (checked, self.instance) {
            (Ok(labelled), Some(instance)) => {
                // sled does not, and cannot open the database without it.
                let conf = self.sled().join("conf");
                let synced = File::open(&conf).and_then(|file| file.sync_all());
                synced.map_err(|error| StoreError::Io { path: conf, error })?;
                store.own(self.kind, instance, labelled)?;
            }
            (Ok(_), None) => {}
            (Err(error), _) => {
                drop(store);
                return refused(error);
            }
        }
        Ok(Some(store))
    }

    fn store(&self, db: sled::Db, looking: Option<File>) -> Result<Store, StoreError> {
        let path = database(self.dir);
        let file = File::options().read(true).write(true).open(&path).map_err(|error| self.io(error))?;
        Ok(Store {
            db,
            file: Arc::new(file),
            _looking: looking.map(Arc::new),
            dir: self.dir.to_owned(),
            mark: None,
            commits: Arc::default(),
            turns: Turns::default(),
        })
    }

    /// A torn segment where a crash does not usually reach: it may be free space, or sled may be about to pass over
    /// what was accepted. A copy beside the database tells, while the database stays as it is.
    fn try_a_copy(&self, torn: &Segment, durable: u64) -> Result<(), StoreError> {
        let at = torn.broken_at.unwrap_or(torn.offset);
        let what = format!("sled/db is not what was written at byte {at}");
        // A crash leaves this now and then, and nothing is wrong then.
        tracing::info!(dir = %self.dir.display(), byte = at, "sled/db breaks off: reading a copy of everything first");
        let copy = self.dir.join("copy-to-check");
        let copied = copy_files(&self.sled(), &copy.join("sled"));
        let checked = copied.map_err(|error| StoreError::Io { path: copy.clone(), error }).and_then(|()| {
            let trial = Opening { dir: &copy, ..*self };
            let db = trial.open_sled()?.ok_or_else(|| self.damaged("its copy is in use".to_owned()))?;
            let store = trial.store(db, None)?;
            store.check_end(durable)?;
            if !store.check_label(self.kind, self.instance)? {
                return Err(self.damaged("nothing else is in it".to_owned()));
            }
            self.read_everything(&store)
        });
        let removed = fs::remove_dir_all(&copy);
        match checked {
            Ok(()) => removed.map_err(|error| StoreError::Io { path: copy, error }),
            Err(error @ StoreError::Io { .. }) => Err(error),
            Err(error) => Err(self.damaged(format!("{what}; {}", reason(error)))),
        }
    }

    /// Says what is missing or wrong in a database of which sled's file gives reason to doubt that it is whole.
    fn read_everything(&self, store: &Store) -> Result<(), StoreError> {
        match self.kind {
            Kind::Producer => log::check(store),
            Kind::Ingester => loads::check(store),
        }
    }

    /// None of it when there is no database yet.
    fn survey(&self) -> io::Result<(Vec<Segment>, Option<Undo>)> {
        let path = database(self.dir);
        if !path.exists() {
            return Ok((Vec::new(), None));
        }
        let file = File::open(path)?;
        let segments = survey(&file)?;
        let undo = Undo::keep(&self.sled(), &file, &segments)?;
        Ok((segments, Some(undo)))
    }

    /// None when another process has it.
    fn open_sled(&self) -> Result<Option<sled::Db>, StoreError> {
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
            if undo.put_back().map_err(|error| self.io(error))? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        tracing::warn!(dir = %self.dir.display(), "another process has opened the database meanwhile");
        Ok(())
    }

    fn sled(&self) -> std::path::PathBuf {
        self.dir.join("sled")
    }

    fn io(&self, error: io::Error) -> StoreError {
        StoreError::Io { path: database(self.dir), error }
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { dir: self.dir.to_owned(), what }
    }
}

fn reason(error: StoreError) -> String {
    match error {
        StoreError::Damaged { what, .. } => what,
        other => other.to_string(),
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    // A copy that a killed process left.
    let _ = fs::remove_dir_all(to);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

/// Segments of a database's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segments {
    /// Those that are full, and the last, where the log ends.
    pub(crate) whole: u64,
    /// Those that break off.
    pub(crate) torn: u64,
}

/// Reads the file of the database in `dir`; None when there is none, or a process has it open.
///
/// # Errors
/// When the disk fails.
pub(crate) fn survey_file(dir: &Path) -> Result<Option<Segments>, StoreError> {
    let path = database(dir);
    let look = || {
        if !path.try_exists()? || !lock::is_free(&path)? {
            return Ok(None);
        }
        let segments = survey(&File::open(&path)?)?;
        let torn = broken(&segments).count();
        Ok(Some(Segments { whole: (segments.len() - torn) as u64, torn: torn as u64 }))
    };
    look().map_err(|error| StoreError::Io { path: path.clone(), error })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open_to_all(path: &Path, found: &mut Vec<String>) {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        if mode & 0o077 != 0 {
            found.push(format!("{} {mode:o}", path.display()));
        }
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                open_to_all(&entry.unwrap().path(), found);
            }
        }
    }

    #[test]
    fn nothing_in_the_directory_is_open_to_others_also_when_it_was_there_before() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("log");
        fs::create_dir_all(dir.join("sled")).unwrap();
        for (path, mode) in [(&dir, 0o755), (&dir.join("sled"), 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        for _ in 0..2 {
            drop(Store::open(&dir, Kind::Producer, "web-1", 8 << 20).unwrap());
            fs::set_permissions(dir.join("owner.pid"), fs::Permissions::from_mode(0o644)).unwrap();
        }
        let store = Store::open(&dir, Kind::Producer, "web-1", 8 << 20).unwrap();
        let mut found = Vec::new();
        open_to_all(&dir, &mut found);
        assert!(found.is_empty(), "{found:?}");
        drop(store);
    }
}
