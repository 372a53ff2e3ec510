//! Guards against pages that only the page cache has. When Linux cannot write pages to the disk, it reports that to
//! `fdatasync` once, keeps the pages and takes them for clean: the next process would read from memory what the disk never
//! got, and its own `fdatasync` would succeed. Two things prevent that:
//!
//! - Every opening calls `fdatasync` first. It gets the error of a failed write that nobody has been told of, such as one
//!   behind a process that was killed.
//! - A process that meets an error of the disk leaves the file `disk-error` in its directory. The next opening then makes
//!   the kernel drop its pages of every file of the database, so that all of it is read from the disk. What the disk does
//!   not have shows as damage or as a missing end. An opening that succeeds removes the file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use crate::store::error::StoreError;
use crate::store::paths;

/// Leaves the file for the next opening, if the error says that the disk has failed.
pub(super) fn note(dir: &Path, what: &Path, error: &io::Error) {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    // With these nothing was written at all.
    if let NotFound | PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory = error.kind() {
        return;
    }
    let path = dir.join(paths::DISK_ERROR);
    match leave(&path, what, error) {
        // The file system itself is full: it refused the write, and no page was lost. Where a disk behind it is full,
        // which loses pages, it still makes files.
        Err(failed) if is_full(error) && is_full(&failed) => {}
        Ok(()) => tracing::warn!(path = %path.display(), "the next start reads the database from the disk"),
        Err(failed) => tracing::error!(
            path = %path.display(),
            error = %failed,
            "cannot note that the disk has failed; unmount the file system or restart the machine before the next start: \
             the page cache may hold what the disk does not"
        ),
    }
}

/// The file is enough without its text, for which there may be no room.
fn leave(path: &Path, what: &Path, error: &io::Error) -> io::Result<()> {
    let mut file = File::create(path)?;
    let _best_effort = writeln!(file, "{}: {error}", what.display());
    // The next process sees the file without it too, unless the machine fails, which empties the page cache.
    let _best_effort = file.sync_all();
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(super) fn read_from_the_disk(dir: &Path) -> Result<(), StoreError> {
    let noted = dir.join(paths::DISK_ERROR).exists();
    let files = if noted { all_files(dir) } else { Ok(vec![dir.join(paths::DATABASE)]) };
    for path in files.map_err(StoreError::at(dir))? {
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // Another user read the database and left it: nothing of it is read, and the opening replaces it.
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && path == dir.join(paths::SPARE) =>
            {
                continue;
            }
            file => file.map_err(StoreError::at(&path))?,
        };
        file.sync_data().inspect_err(|error| note(dir, &path, error)).map_err(StoreError::at(&path))?;
        if noted {
            // The kernel drops no page that waits to be written: after the sync there is none.
            let dropped = fadvise(&file, 0, None, Advice::DontNeed);
            dropped.map_err(|error| StoreError::at(&path)(error.into()))?;
        }
    }
    if noted {
        tracing::info!(dir = %dir.display(), "the disk had failed: the database is read from the disk");
    }
    Ok(())
}

fn all_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = vec![dir.join(paths::ACCEPTED), dir.join(paths::SPARE)];
    for entry in fs::read_dir(dir.join(paths::SLED))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

pub(super) fn clear(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(paths::DISK_ERROR);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(StoreError::at(&path)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::io::{ReadWriteFlags, preadv2};

    use super::*;
    use crate::store::{Kind, Store, accepted};

    /// Whether the first page of a file is in the page cache; None where the file system cannot tell. Asking makes the
    /// kernel read the page, so on a fast disk it may be there when the answer is made, and is there when asked again.
    fn is_cached(path: &Path) -> Option<bool> {
        let file = File::open(path).unwrap();
        let mut byte = [0];
        match preadv2(file.as_fd(), &mut [io::IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::NOWAIT) {
            Ok(read) => Some(read == 1),
            Err(rustix::io::Errno::AGAIN) => Some(false),
            Err(_) => None,
        }
    }

    #[test]
    fn after_an_error_of_the_disk_every_file_of_the_database_is_read_from_the_disk() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        drop(Store::open(dir.path(), Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap());
        let files = all_files(dir.path()).unwrap();
        assert!(files.len() >= 4, "{files:?}");
        files.iter().for_each(|path| drop(fs::read(path).unwrap()));
        read_from_the_disk(dir.path()).unwrap();
        let cached = |path: &PathBuf| is_cached(path);
        assert!(files.iter().all(|path| cached(path) != Some(false)), "nothing had failed");
        note(dir.path(), &dir.path().join(paths::DATABASE), &io::Error::other("the disk is gone"));
        for path in &files {
            let is_dropped = |_| {
                read_from_the_disk(dir.path()).unwrap();
                cached(path) != Some(true)
            };
            // On a busy machine the disk nearly always answers first.
            assert!((0..5_000).any(is_dropped), "{} is still in the page cache", path.display());
        }
        assert!(dir.path().join(paths::DISK_ERROR).exists(), "nobody has opened the database yet");
        drop(Store::open(dir.path(), Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap());
        assert!(!dir.path().join(paths::DISK_ERROR).exists());
    }

    #[test]
    fn the_word_is_left_also_where_there_is_no_room_for_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(paths::DISK_ERROR);
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        assert!(writeln!(File::create(&path).unwrap(), "text").is_err());
        leave(&path, dir.path(), &io::Error::other("the disk is gone")).unwrap();
        assert!(leave(&dir.path().join("none/disk-error"), dir.path(), &io::Error::other("gone")).is_err());
    }

    #[test]
    fn an_error_of_the_file_accepted_leaves_word_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap();
        fs::remove_file(dir.path().join(paths::ACCEPTED)).unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join(paths::ACCEPTED)).unwrap();
        store.accepted = Some(std::sync::Arc::new(accepted::Accepted::open(dir.path()).unwrap()));
        store.commit(crate::store::Change::new()).unwrap_err();
        assert!(dir.path().join(paths::DISK_ERROR).exists());
    }

    #[test]
    fn a_database_that_cannot_be_opened_after_an_error_of_the_disk_is_read_from_the_disk_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path(), Kind::Producer, "a", 1 << 20, |_| Ok(())).unwrap());
        note(dir.path(), &dir.path().join(paths::DATABASE), &io::Error::other("the disk is gone"));
        Store::open(dir.path(), Kind::Producer, "b", 1 << 20, |_| Ok(())).unwrap_err();
        assert!(dir.path().join(paths::DISK_ERROR).exists());
    }
}
