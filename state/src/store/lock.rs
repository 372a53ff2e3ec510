//! Who has a database. A process takes an exclusive flock on the service's directory before it reads any file in it, and
//! keeps it until its database is closed: sled repairs as it opens, so nobody may read while another opens. sled holds an
//! exclusive flock on its own file besides, the only one that older programs know. The kernel drops both with the process.
//!
//! A process that opens the database only to read it, for a moment, also takes a shared flock on the directory of sled's
//! files. By that a service that starts meanwhile knows that waiting is worth while.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::store::paths;

/// How long to wait for a process that has just ended: its lock can outlive it for a moment.
const ENDING: Duration = Duration::from_secs(1);
/// How long to wait for a process that only reads.
const READING: Duration = Duration::from_secs(10);

/// The right to read a service's directory and to open its database, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _owned: File,
    /// Shows that this process only reads.
    _reading: Option<File>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Own,
    Read,
}

/// Takes the lock of the service's directory `dir`; None when another process has it, or has the database open.
pub(crate) fn acquire(dir: &Path, purpose: Purpose) -> io::Result<Option<Lock>> {
    let owned = File::open(dir)?;
    // An older program does not know the lock of the directory.
    if !hold(&owned)? || !is_free(&dir.join(paths::DATABASE))? {
        return Ok(None);
    }
    let reading = match purpose {
        Purpose::Own => None,
        // Not while waiting: nobody waits for a process that waits.
        Purpose::Read => Some(show_reading(&dir.join(paths::SLED))?),
    };
    Ok(Some(Lock { _owned: owned, _reading: reading }))
}

fn show_reading(database_dir: &Path) -> io::Result<File> {
    let dir = File::open(database_dir)?;
    // Waits only for a process that is at `patience`, which takes microseconds.
    flock(&dir, FlockOperation::LockShared).map_err(explained)?;
    Ok(dir)
}

/// Whether no process has the database open; a database that is not there is free.
fn is_free(database: &Path) -> io::Result<bool> {
    let Some(file) = open_to_lock(database)? else { return Ok(true) };
    hold(&file)
}

/// Opens a file whose lock is wanted; None without one. For writing where allowed: NFS locks nothing else exclusively.
pub(crate) fn open_to_lock(path: &Path) -> io::Result<Option<File>> {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    let opened = match File::options().read(true).write(true).open(path) {
        Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => File::open(path),
        opened => opened,
    };
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether another process works with the database in `dir`, or reads it. Blocks no opening.
pub fn in_use(dir: &Path) -> io::Result<bool> {
    for path in [dir.to_owned(), dir.join(paths::DATABASE)] {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(true),
            Err(error) => return Err(explained(error)),
        }
    }
    Ok(false)
}

/// Takes the lock of an open file, for as long as it is open; false when another process has it.
pub(crate) fn hold(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(explained(error)),
    }
}

/// Adds advice when the file system cannot lock: NFS locks no directory, others lock nothing.
fn explained(error: Errno) -> io::Error {
    match error {
        Errno::BADF | Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS => {
            let what = format!("{error}: its file system cannot lock it; a local file system is needed");
            io::Error::new(io::ErrorKind::Unsupported, what)
        }
        other => other.into(),
    }
}

pub(crate) fn patience(database_dir: &Path) -> Duration {
    let alone = File::open(database_dir)
        .and_then(|dir| Ok(flock(&dir, FlockOperation::NonBlockingLockExclusive)?))
        .map_err(|error| error.kind());
    match alone {
        Err(io::ErrorKind::WouldBlock) => READING,
        // Nobody reads; or that cannot be known, and the holder may never go.
        Ok(()) | Err(_) => ENDING,
    }
}

/// The process that has the database in `dir`: from the kernel, or the living one whose number is in `owner.pid`.
pub fn holder(dir: &Path) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let known = |path: &Path| {
        let meta = fs::metadata(path).ok()?;
        holder_in(&locks, (major(meta.dev()), minor(meta.dev()), meta.ino()))
    };
    known(&dir.join(paths::DATABASE)).or_else(|| known(dir)).or_else(|| {
        let pid: i32 = fs::read_to_string(dir.join(paths::OWNER)).ok()?.trim().parse().ok()?;
        let alive = match test_kill_process(Pid::from_raw(pid)?) {
            Ok(()) => true,
            Err(error) => error == Errno::PERM,
        };
        if alive { u32::try_from(pid).ok() } else { None }
    })
}

/// Finds the holder of an exclusive flock in the text of `/proc/locks`. Its lines:
/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:10043469 0 EOF`; with `->` after the number, a process that waits.
fn holder_in(locks: &str, (major, minor, inode): (u32, u32, u64)) -> Option<u32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let lock = (words.next()?, words.next()?, words.next()?);
        let (pid, locked) = (words.next()?, words.next()?);
        (lock == ("FLOCK", "ADVISORY", "WRITE") && locked == file).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_the_one_that_has_the_lock_and_not_one_that_waits_or_has_another() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 fe:00:7 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  READ  14 fe:00:77 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 15 fe:00:77 0 EOF\n";
        assert_eq!(holder_in(locks, (0xfe, 0, 77)), Some(15));
        assert_eq!(holder_in(locks, (0xfe, 1, 77)), None);
    }

    #[test]
    fn a_lock_is_traced_to_its_process_and_an_old_number_is_believed_only_of_a_process_that_lives() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, owner) = (dir.path().join("sled"), dir.path().join("owner.pid"));
        fs::create_dir(&inner).unwrap();
        let file = File::create(inner.join("db")).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        fs::write(&owner, child.id().to_string()).unwrap();
        assert_eq!(holder(dir.path()), None, "that process has ended");
        fs::write(&owner, "1").unwrap();
        assert_eq!(holder(dir.path()), Some(1));
        let lock = acquire(dir.path(), Purpose::Own).unwrap();
        assert_eq!(holder(dir.path()), Some(std::process::id()), "process 1 does not hold the directory");
        drop(lock);
        flock(&file, FlockOperation::LockExclusive).unwrap();
        assert_eq!(holder(dir.path()), Some(std::process::id()), "process 1 does not hold the database");
    }

    #[test]
    fn one_process_at_a_time_may_read_the_files_and_none_while_sled_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("sled");
        fs::create_dir(&inner).unwrap();
        for first in [Purpose::Own, Purpose::Read] {
            let lock = acquire(dir.path(), first).unwrap();
            assert!(lock.is_some());
            for second in [Purpose::Own, Purpose::Read] {
                assert!(acquire(dir.path(), second).unwrap().is_none());
            }
            assert_eq!(patience(&inner), if first == Purpose::Read { READING } else { ENDING });
        }
        let database = File::create(inner.join("db")).unwrap();
        flock(&database, FlockOperation::LockExclusive).unwrap();
        assert!(acquire(dir.path(), Purpose::Read).unwrap().is_none());
        assert_eq!(patience(&inner), ENDING, "it does not read while it waits");
    }

    #[test]
    fn a_database_is_in_use_while_its_directory_or_its_file_is_locked_and_the_question_locks_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (log, inner) = (dir.path().join("log"), dir.path().join("log/sled"));
        assert!(!in_use(&log).unwrap(), "it is not there");
        fs::create_dir_all(&inner).unwrap();
        for purpose in [Purpose::Own, Purpose::Read] {
            assert!(!in_use(&log).unwrap());
            let lock = acquire(&log, purpose).unwrap().unwrap();
            assert!(in_use(&log).unwrap());
            drop(lock);
        }
        // A program of before locks only the file.
        let database = File::create(inner.join("db")).unwrap();
        flock(&database, FlockOperation::LockExclusive).unwrap();
        assert!(in_use(&log).unwrap());
        drop(database);
        assert!(!in_use(&log).unwrap());
    }

    #[test]
    fn a_file_system_that_cannot_lock_is_named_as_the_reason() {
        use std::os::unix::fs::OpenOptionsExt;

        // Of such a descriptor Linux says what it says of a directory on NFS.
        let dir = tempfile::tempdir().unwrap();
        let unlockable = File::options().read(true).custom_flags(libc::O_PATH).open(dir.path()).unwrap();
        let error = hold(&unlockable).unwrap_err();
        assert!(error.to_string().contains("a local file system is needed"), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_file_is_opened_for_its_lock_as_far_as_this_user_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        assert!(open_to_lock(&path).unwrap().is_none());
        fs::write(&path, "").unwrap();
        let file = open_to_lock(&path).unwrap().unwrap();
        assert!(file.set_len(1).is_ok(), "for writing");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        assert!(hold(&open_to_lock(&path).unwrap().unwrap()).unwrap());
    }

    #[test]
    fn a_reader_is_waited_for_longer_until_it_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(patience(dir.path()), ENDING);
        let reading = [show_reading(dir.path()).unwrap(), show_reading(dir.path()).unwrap()];
        assert_eq!(patience(dir.path()), READING);
        drop(reading);
        assert_eq!(patience(dir.path()), ENDING);
        assert_eq!(patience(&dir.path().join("nothing")), ENDING);
    }
}
