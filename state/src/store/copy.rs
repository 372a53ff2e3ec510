//! The copy of a doubtful database, which is read in its place.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{fstatvfs, ioctl_ficlone};

use crate::store::error::StoreError;
use crate::store::paths;

/// Bytes that must stay free beside the copy: what sled writes into it as it opens it, and room for other writers.
const MARGIN: u64 = 16 << 20;

/// Removes the copy in `dir`. A process that is killed while it reads one leaves it.
pub(super) fn remove(dir: &Path) -> Result<(), StoreError> {
    let path = paths::copy(dir);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let what = format!("{error}; this copy of the database is left over: remove it");
            Err(StoreError::Io { path, error: io::Error::new(error.kind(), what) })
        }
        _ => Ok(()),
    }
}

/// Copies sled's files from `from` to the new directory `to`. Copies nothing when the disk has no room for all of it: a
/// full disk would stop every process that writes to it.
pub(super) fn make(from: &Path, to: &Path) -> io::Result<()> {
    make_within(from, to, || {
        let disk = fstatvfs(File::open(to)?)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    })
}

fn make_within(from: &Path, to: &Path, free: impl Fn() -> io::Result<u64>) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    let (mut rest, mut bytes) = (Vec::new(), 0);
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let source = File::open(entry.path())?;
            let target = to.join(entry.file_name());
            let target = File::options().create_new(true).write(true).mode(0o600).open(target)?;
            // Shares the blocks where the file system can, and takes no room.
            if ioctl_ficlone(&target, &source).is_err() {
                // All of the length: sled fills holes with zeros as it opens the copy.
                bytes += source.metadata()?.len();
                rest.push((source, target));
            }
        }
    }
    check_room(bytes, free()?)?;
    for (mut source, mut target) in rest {
        io::copy(&mut source, &mut target)?;
    }
    Ok(())
}

fn check_room(bytes: u64, free: u64) -> io::Result<()> {
    let needed = bytes.saturating_add(MARGIN);
    if bytes == 0 || free >= needed {
        return Ok(());
    }
    let what = format!(
        "a copy of the database must be read first; it needs {needed} bytes here, and {free} bytes are free"
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, what))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::store::{Kind, Store};

    #[test]
    fn a_copy_that_a_killed_process_left_is_removed_and_a_new_one_holds_what_the_database_holds() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("sled"), paths::copy(dir.path()).join("sled"));
        fs::create_dir_all(&to).unwrap();
        fs::create_dir(&from).unwrap();
        fs::write(to.join("db"), "old").unwrap();
        remove(dir.path()).unwrap();
        remove(dir.path()).unwrap();
        fs::write(from.join("db"), vec![7; 100_000]).unwrap();
        fs::write(from.join("conf"), "").unwrap();
        make(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("db")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::read(to.join("conf")).unwrap(), b"");
    }

    #[test]
    fn an_opening_removes_a_copy_that_was_left_and_one_that_cannot_be_removed_stops_only_who_needs_the_place()
    {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), Kind::Producer, "a", 8 << 20, crate::log::check);
        drop(open().unwrap());
        fs::create_dir_all(paths::copy(dir.path()).join("sled")).unwrap();
        drop(open().unwrap());
        assert!(!paths::copy(dir.path()).exists());
        // Not a directory, which is refused to everybody, also to root.
        fs::write(paths::copy(dir.path()), "").unwrap();
        drop(open().unwrap());
        let database = File::options().write(true).open(paths::database(dir.path())).unwrap();
        database.write_all_at(&[0x5a; 100], 8 << 20).unwrap();
        let said = open().unwrap_err().to_string();
        assert!(said.contains("copy-to-check") && said.contains("remove it"), "{said}");
        fs::remove_file(paths::copy(dir.path())).unwrap();
        drop(open().unwrap());
    }

    #[test]
    fn nothing_is_copied_to_a_disk_without_room_for_all_of_it_and_the_error_says_how_much_is_needed() {
        check_room(1_000, MARGIN + 1_000).unwrap();
        check_room(0, 0).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("sled"), paths::copy(dir.path()).join("sled"));
        fs::create_dir(&from).unwrap();
        let database = File::create(from.join("db")).unwrap();
        database.write_all_at(&[7; 100_000], 0).unwrap();
        if ioctl_ficlone(File::create(from.join("probe")).unwrap(), &database).is_ok() {
            // It would take no room here.
            return;
        }
        let needed = 100_000 + MARGIN;
        let error = make_within(&from, &to, || Ok(needed - 1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let path = to.clone();
        let said = StoreError::Io { path, error }.to_string();
        assert!(
            said.contains(&format!("it needs {needed} bytes here, and {} bytes are free", needed - 1)),
            "{said}"
        );
        assert!(said.contains("the disk is full") && said.contains(to.to_str().unwrap()), "{said}");
        assert_eq!(fs::metadata(to.join("db")).unwrap().len(), 0);
        remove(dir.path()).unwrap();
        make_within(&from, &to, || Ok(needed)).unwrap();
        assert_eq!(fs::metadata(to.join("db")).unwrap().len(), 100_000);
    }
}
