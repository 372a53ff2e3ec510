//! What a failed write leaves in the page cache. When Linux cannot write pages to the disk it tells `fdatasync` once,
//! keeps the pages and takes them for clean: the next process would read from memory what the disk never got, and its
//! own `fdatasync` would succeed. Two things keep that from being believed:
//!
//! - Every opening calls `fdatasync` first. It gets the error of a write that failed behind a process that was killed,
//!   as long as nobody has been told of it.
//! - A process that meets an error of the disk leaves the file `disk-error` in its directory. The next opening then makes
//!   the kernel drop its pages of every file of the database, so that all of it is read from the disk. What the
//!   disk does not have shows as damage or as an end that is gone, like any other. The file goes when that opening has
//!   ended well.
//!
//! Dropping the pages at every start after a kill would need no file, and would read gigabytes from the disk each time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use crate::store::{StoreError, database, mark, spare};

fn path(dir: &Path) -> PathBuf {
    dir.join("disk-error")
}

/// Leaves word for the next opening that the disk has failed, if that is what the error says.
pub(super) fn note(dir: &Path, what: &Path, error: &io::Error) {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    // With these nothing was written at all.
    if let NotFound | PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory = error.kind() {
        return;
    }
    let path = path(dir);
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

/// That the file is there says enough: there may be no room for the text.
fn leave(path: &Path, what: &Path, error: &io::Error) -> io::Result<()> {
    let mut file = File::create(path)?;
    let _best_effort = writeln!(file, "{}: {error}", what.display());
    // Without it the word is there for the next process all the same, but for a failure of the machine, which empties the
    // page cache too.
    let _best_effort = file.sync_all();
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes sure that what is read from now on is on the disk.
pub(super) fn read_from_the_disk(dir: &Path) -> Result<(), StoreError> {
    let noted = path(dir).exists();
    let files = if noted { all_files(dir) } else { Ok(vec![database(dir)]) };
    let files = files.map_err(|error| StoreError::Io { path: dir.to_owned(), error })?;
    for path in files {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // Of another user, who looked: nothing of it is read, and the opening replaces it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path == spare::path(dir) => {
                continue;
            }
            Err(error) => return Err(StoreError::Io { path, error }),
        };
        if let Err(error) = file.sync_data() {
            note(dir, &path, &error);
            return Err(StoreError::Io { path, error });
        }
        if noted {
            // Pages that wait to be written are not dropped: there are none after the sync.
            let dropped = fadvise(&file, 0, None, Advice::DontNeed);
            dropped.map_err(|error| StoreError::Io { path, error: error.into() })?;
        }
    }
    if noted {
        tracing::info!(dir = %dir.display(), "the disk had failed: the database is read from the disk");
    }
    Ok(())
}

fn all_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = vec![mark::path(dir), spare::path(dir)];
    for entry in fs::read_dir(dir.join("sled"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// The database was read from the disk and is whole.
pub(super) fn is_over(dir: &Path) -> Result<(), StoreError> {
    let path = path(dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { path, error }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::io::{ReadWriteFlags, preadv2};

    use super::*;
    use crate::store::{Kind, Store};

    /// Whether the first page of a file is in the page cache; None where the file system cannot tell.
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
        drop(Store::open(dir.path(), Kind::Producer, "a", 1 << 20).unwrap());
        let files = all_files(dir.path()).unwrap();
        assert!(files.len() >= 4, "{files:?}");
        files.iter().for_each(|path| drop(fs::read(path).unwrap()));
        read_from_the_disk(dir.path()).unwrap();
        let cached = |path: &PathBuf| is_cached(path);
        assert!(files.iter().all(|path| cached(path) != Some(false)), "nothing had failed");
        note(dir.path(), &database(dir.path()), &io::Error::other("the disk is gone"));
        read_from_the_disk(dir.path()).unwrap();
        for path in &files {
            assert_ne!(cached(path), Some(true), "{} is still in the page cache", path.display());
        }
        assert!(super::path(dir.path()).exists(), "nobody has opened the database yet");
        drop(Store::open(dir.path(), Kind::Producer, "a", 1 << 20).unwrap());
        assert!(!super::path(dir.path()).exists());
    }

    #[test]
    fn the_word_is_left_also_where_there_is_no_room_for_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = super::path(dir.path());
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        assert!(writeln!(File::create(&path).unwrap(), "text").is_err());
        leave(&path, dir.path(), &io::Error::other("the disk is gone")).unwrap();
        assert!(leave(&dir.path().join("none/disk-error"), dir.path(), &io::Error::other("gone")).is_err());
    }

    #[test]
    fn an_error_of_the_mark_leaves_word_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), Kind::Producer, "a", 1 << 20).unwrap();
        fs::remove_file(mark::path(dir.path())).unwrap();
        std::os::unix::fs::symlink("/dev/full", mark::path(dir.path())).unwrap();
        store.mark = Some(std::sync::Arc::new(mark::Mark::open(dir.path()).unwrap()));
        store.commit(crate::store::Change::new()).unwrap_err();
        assert!(super::path(dir.path()).exists());
    }

    #[test]
    fn a_database_that_cannot_be_opened_after_an_error_of_the_disk_is_read_from_the_disk_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path(), Kind::Producer, "a", 1 << 20).unwrap());
        note(dir.path(), &database(dir.path()), &io::Error::other("the disk is gone"));
        Store::open(dir.path(), Kind::Producer, "b", 1 << 20).unwrap_err();
        assert!(super::path(dir.path()).exists());
    }
}
