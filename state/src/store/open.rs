//! Opening a database: who has it, whether it is whole, whose it is. sled repairs as it opens. So a database whose file
//! is in doubt is tried as a copy first; of any other the end is kept, where sled repairs after a crash, and put back
//! when something speaks against the database. All of that is done under the lock of the directory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::private;

use crate::failpoints::reached;
use crate::store::label::{Form, LABEL, Label};
use crate::store::lock::{self, Purpose};
use crate::store::mark::{self, Mark};
use crate::store::opening::Opening;
use crate::store::survey::{broken, survey};
use crate::store::{COMMITS, Change, Kind, Store, StoreError, Table, database, spare};

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
            .and_then(|()| private::close(&spare::path(dir)))
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

    /// Makes it writable, now that nothing speaks against it; a new one gets its label, and an older one the label of
    /// what it is from now on.
    pub(super) fn own(&mut self, kind: Kind, instance: &str, form: Form) -> Result<(), StoreError> {
        self.mark = Some(Arc::new(Mark::open(&self.dir)?));
        if form == Form::Current {
            return Ok(());
        }
        let mut change = Change::new();
        change.put(Table::Meta, LABEL, &Label { format: kind.format(), kind, instance: instance.to_owned() });
        self.commit(change)
    }

    /// Compares the last commit with the one that was surely durable.
    pub(super) fn check_end(&self, durable: u64) -> Result<(), StoreError> {
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

/// Reads the file of the database in `dir`; None when there is none, or another process has it.
///
/// # Errors
/// When the disk fails.
pub(crate) fn survey_file(dir: &Path) -> Result<Option<Segments>, StoreError> {
    let path = database(dir);
    let look = || {
        if !path.try_exists()? {
            return Ok(None);
        }
        let Some(_lock) = lock::take(dir, Purpose::Look)? else { return Ok(None) };
        let segments = survey(&File::open(&path)?)?;
        let torn = broken(&segments, spare::read(dir)?).count();
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
