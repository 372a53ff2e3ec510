//! Who has a database open. sled holds an exclusive flock on its file for as long as it is open, and the kernel drops
//! it with the process, however that ends.
//!
//! A process that only looks, for a moment, says so by a shared flock on the directory of the database. A service that
//! starts just then knows by it that waiting is worth while.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::process::{Pid, test_kill_process};

/// How long to wait for a process that has just ended: its lock can outlive it for a moment.
const ENDING: Duration = Duration::from_secs(1);
/// How long to wait for a process that only looks.
const LOOKING: Duration = Duration::from_secs(10);

/// Says, until it is dropped or the process ends, that this process only looks.
///
/// # Errors
/// When the directory cannot be opened or locked.
pub(crate) fn look(database_dir: &Path) -> io::Result<File> {
    let dir = File::open(database_dir)?;
    // Waits only for a process that is at `patience`, which takes microseconds.
    flock(&dir, FlockOperation::LockShared)?;
    Ok(dir)
}

/// Whether no process has the database open; a database that is not there is free.
pub(crate) fn is_free(database: &Path) -> io::Result<bool> {
    let file = match File::open(database) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    hold(&file)
}

/// Takes the lock of an open database, for as long as `database` is open; false when another process has it.
pub(crate) fn hold(database: &File) -> io::Result<bool> {
    match flock(database, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// How long to wait for the lock, by who holds it at this moment.
pub(crate) fn patience(database_dir: &Path) -> Duration {
    let alone = File::open(database_dir)
        .and_then(|dir| Ok(flock(&dir, FlockOperation::NonBlockingLockExclusive)?))
        .map_err(|error| error.kind());
    match alone {
        Err(io::ErrorKind::WouldBlock) => LOOKING,
        // Nobody looks; or it cannot be known, and then nobody is waited for that may never go.
        Ok(()) | Err(_) => ENDING,
    }
}

/// The process that holds the lock on `database`: as the kernel says, or else the one that left its number in
/// `owner_file`, if it lives. A file system may show its files under another number than `/proc/locks` does.
pub(crate) fn holder(database: &Path, owner_file: &Path) -> Option<u32> {
    let known = fs::metadata(database).ok().and_then(|meta| {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        holder_in(&locks, (major(meta.dev()), minor(meta.dev()), meta.ino()))
    });
    known.or_else(|| {
        let pid: i32 = fs::read_to_string(owner_file).ok()?.trim().parse().ok()?;
        let alive = match test_kill_process(Pid::from_raw(pid)?) {
            Ok(()) => true,
            Err(error) => error == rustix::io::Errno::PERM,
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
        let (database, owner) = (dir.path().join("db"), dir.path().join("owner.pid"));
        let file = File::create(&database).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        fs::write(&owner, child.id().to_string()).unwrap();
        assert_eq!(holder(&database, &owner), None, "that process has ended");
        fs::write(&owner, "1").unwrap();
        assert_eq!(holder(&database, &owner), Some(1));
        flock(&file, FlockOperation::LockExclusive).unwrap();
        assert_eq!(holder(&database, &owner), Some(std::process::id()), "process 1 does not hold it");
    }

    #[test]
    fn one_that_looks_is_waited_for_longer_until_it_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(patience(dir.path()), ENDING);
        let looking = [look(dir.path()).unwrap(), look(dir.path()).unwrap()];
        assert_eq!(patience(dir.path()), LOOKING);
        drop(looking);
        assert_eq!(patience(dir.path()), ENDING);
        assert_eq!(patience(&dir.path().join("nothing")), ENDING);
    }
}
