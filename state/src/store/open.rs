//! Opens a database: who has it, whether it is whole, whose it is. sled repairs as it opens. So a database whose file is
//! in doubt is tried as a copy first. Of any other the end is kept, where sled repairs after a crash, and put back if the
//! database is refused. All of that happens under the lock of the directory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shared::dirs;
use shared::private;

use crate::failpoints::reached;
use crate::store::accepted::{self, Accepted};
use crate::store::change::{Change, Table};
use crate::store::database::Store;
use crate::store::error::StoreError;
use crate::store::label::{Form, Kind, LABEL, Label};
use crate::store::lock::{self, Lock, Purpose};
use crate::store::opening::{Check, Opening};
use crate::store::spare::{self, Spare};
use crate::store::survey::{broken, survey};
use crate::store::trial::{remove_copy, try_a_copy};
use crate::store::undo::Undo;
use crate::store::{disk_error, leftovers, paths};

/// Pause between two tries to lock a database, or to put it back.
const PAUSE: Duration = Duration::from_millis(50);
/// Tries to put a database back.
const TRIES: usize = 40;

impl Store {
    /// Opens the database of `instance` in `dir`, creating both if need be. `check` decides about a doubtful file.
    pub fn open(
        dir: &Path,
        kind: Kind,
        instance: &str,
        cache: u64,
        check: Check,
    ) -> Result<Self, StoreError> {
        dirs::make(kind.dir_key(), dir).map_err(StoreError::Directory)?;
        let inner = dir.join(paths::SLED);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&inner);
        made.map_err(StoreError::at(&inner))?;
        reached("open.made");
        let store = open(&Opening { dir, kind, instance: Some(instance), cache, check })?;
        let owner = dir.join(paths::OWNER);
        reached("open.labelled");
        fs::write(&owner, std::process::id().to_string()).map_err(StoreError::at(&owner))?;
        close_to_others(dir).map_err(StoreError::at(dir))?;
        // A new file survives a power cut only if its directories were synced too. The process that made the files may
        // have been killed before it synced them.
        for path in [inner.as_path(), dir].into_iter().chain(dir.parent()) {
            sync_dir(path).map_err(StoreError::at(path))?;
        }
        reached("open.synced");
        Ok(store)
    }

    /// Opens the database in `dir` to read it, when no process owns it.
    pub fn open_to_read(dir: &Path, kind: Kind, check: Check) -> Result<Self, StoreError> {
        if !dir.join(paths::DATABASE).try_exists().map_err(StoreError::at(dir))? {
            return Err(StoreError::Missing(dir.to_owned()));
        }
        open(&Opening { dir, kind, instance: None, cache: 8 << 20, check })
    }

    /// Makes it writable. A new one gets its label, an older one that of its new format.
    fn own(&mut self, kind: Kind, instance: &str, form: Form) -> Result<(), StoreError> {
        self.accepted = Some(Arc::new(Accepted::open(&self.dir)?));
        if form == Form::Current {
            return Ok(());
        }
        let mut change = Change::new();
        change.put(Table::Meta, LABEL, &Label { format: kind.format(), kind, instance: instance.to_owned() });
        self.commit(change)
    }
}

/// Files that stood there before may have been open to others.
fn close_to_others(dir: &Path) -> io::Result<()> {
    private::restrict_to_owner(dir)?;
    private::close_all(&dir.join(paths::SLED))?;
    [dir.join(paths::ACCEPTED), dir.join(paths::SPARE), dir.join(paths::OWNER)]
        .iter()
        .try_for_each(|path| private::restrict_to_owner(path))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

fn open(opening: &Opening<'_>) -> Result<Store, StoreError> {
    let dir = opening.dir;
    let purpose = if opening.instance.is_some() { Purpose::Own } else { Purpose::Read };
    #[expect(clippy::disallowed_methods, reason = "bounds one opening, which blocks its thread")]
    let begun = std::time::Instant::now();
    loop {
        if let Some(lock) = lock::acquire(dir, purpose).map_err(StoreError::at(&dir.join(paths::DATABASE)))?
            && let Some(store) = open_locked(opening, lock)?
        {
            return Ok(store);
        }
        if begun.elapsed() >= lock::patience(&dir.join(paths::SLED)) {
            return Err(StoreError::InUse { dir: dir.to_owned(), owner: lock::holder(dir) });
        }
        std::thread::sleep(PAUSE);
    }
}

/// None when an older program, which does not know the lock of the directory, has opened the database first.
fn open_locked(opening: &Opening<'_>, lock: Lock) -> Result<Option<Store>, StoreError> {
    let dir = opening.dir;
    let durable = accepted::read(dir)?;
    if durable > 0 && !dir.join(paths::DATABASE).exists() {
        return Err(opening.damaged(format!("the database file is gone, and with it {durable} commits")));
    }
    disk_error::read_from_the_disk(dir)?;
    leftovers::remove(&dir.join(paths::SLED)).map_err(|(path, error)| StoreError::Io { path, error })?;
    let undo = check_file(opening, durable)?;
    let db = match opening.open_sled() {
        Ok(Some(db)) => db,
        Ok(None) => return Ok(None),
        Err(error) => {
            if let StoreError::Io { path, error } = &error {
                disk_error::note(dir, path, error);
            } else {
                put_back(dir, undo.as_ref())?;
            }
            return Err(error);
        }
    };
    let mut store = Store::new(dir, db, Some(lock))?;
    reached("open.opened");
    let checked = opening.check_end(&store, durable).and_then(|()| opening.check_label(&store));
    let form = match checked {
        Ok(form) => form,
        Err(error) => {
            // sled closes its file; the lock of the directory stays until everything is put back.
            let _lock = store.close();
            put_back(dir, undo.as_ref())?;
            return Err(error);
        }
    };
    let spare = Spare::find(dir, store.file.clone(), opening.instance.is_none().then(|| store.db.clone()));
    store.spare = Some(Arc::new(store.noted(spare)?));
    if let Some(instance) = opening.instance {
        // sled does not sync it, and cannot open the database without it.
        let conf = dir.join(paths::SLED).join("conf");
        let synced = File::open(&conf).and_then(|file| file.sync_all());
        store.noted(synced.map_err(StoreError::at(&conf)))?;
        store.own(opening.kind, instance, form)?;
    }
    disk_error::clear(dir)?;
    Ok(Some(store))
}

/// Reads the file before sled opens and repairs it. Returns what puts it back; None when there is no database yet.
fn check_file(opening: &Opening<'_>, durable: u64) -> Result<Option<Undo>, StoreError> {
    let (dir, path) = (opening.dir, opening.dir.join(paths::DATABASE));
    let (mut segments, mut undo) = (Vec::new(), None);
    if path.exists() {
        let file = File::open(&path).map_err(StoreError::at(&path))?;
        segments = survey(&file).map_err(StoreError::at(&path))?;
        let kept = Undo::keep(&dir.join(paths::SLED), &file, &segments);
        undo = Some(kept.map_err(|(path, error)| StoreError::Io { path, error })?);
    }
    let spare = spare::read(dir).map_err(StoreError::at(&dir.join(paths::SPARE)))?;
    let removed = remove_copy(dir);
    match (broken(&segments, spare).next(), removed) {
        (Some(segment), removed) => {
            removed?;
            try_a_copy(opening, segment, durable)?;
        }
        // A leftover copy takes room and does no other harm.
        (None, Err(error)) => tracing::warn!(%error, "cannot remove a copy that is not needed"),
        (None, Ok(())) => {}
    }
    Ok(undo)
}

/// Puts back what sled has repaired, unless another process has opened it. sled may close it late: tries again.
fn put_back(dir: &Path, undo: Option<&Undo>) -> Result<(), StoreError> {
    let Some(undo) = undo else { return Ok(()) };
    for _ in 0..TRIES {
        if undo.put_back().map_err(|(path, error)| StoreError::Io { path, error })? {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    tracing::warn!(dir = %dir.display(), "another process has opened the database meanwhile");
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segments {
    pub(crate) whole: u64,
    pub(crate) torn: u64,
}

/// Reads the file of the database in `dir`; None when there is none, or another process has it.
pub(crate) fn survey_file(dir: &Path) -> Result<Option<Segments>, StoreError> {
    let path = dir.join(paths::DATABASE);
    let read = || {
        if !path.try_exists()? {
            return Ok(None);
        }
        let Some(_lock) = lock::acquire(dir, Purpose::Read)? else { return Ok(None) };
        let segments = survey(&File::open(&path)?)?;
        let torn = broken(&segments, spare::read(dir)?).count();
        Ok(Some(Segments { whole: (segments.len() - torn) as u64, torn: torn as u64 }))
    };
    read().map_err(StoreError::at(&path))
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
            drop(Store::open(&dir, Kind::Producer, "web-1", 8 << 20, |_| Ok(())).unwrap());
            fs::set_permissions(dir.join("owner.pid"), fs::Permissions::from_mode(0o644)).unwrap();
        }
        let store = Store::open(&dir, Kind::Producer, "web-1", 8 << 20, |_| Ok(())).unwrap();
        let mut found = Vec::new();
        open_to_all(&dir, &mut found);
        assert!(found.is_empty(), "{found:?}");
        drop(store);
    }
}
