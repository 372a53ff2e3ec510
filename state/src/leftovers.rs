//! What a process leaves behind that is killed while it opens a database, and what sled 0.34.7 then takes for damage.
//!
//! Each opening ends with a snapshot: `snap.<number>.generating` is written, synced and renamed. sled looks for the
//! highest `snap.*`, also for one whose writing never ended, and refuses the database for ever. In the same way `conf`
//! may be without its end when the process was killed before it had made `db`. Neither holds anything that
//! was accepted: the older snapshot stands until the new one has its name, and where there is no `db` there is nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::lock;

/// Removes what must not be there when sled opens the database in `inner`. A database that is in use stays as it is.
///
/// # Errors
/// When the file system refuses, with the path.
pub(crate) fn remove(inner: &Path) -> Result<(), (PathBuf, io::Error)> {
    let db = inner.join("db");
    match File::open(&db) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // With anything else beside it, a `db` was there and is missed: that is not for us to tidy up.
            let others = |item: &fs::DirEntry| item.file_name() != "conf" && item.file_name() != "blobs";
            match read_dir(inner)?.iter().any(others) {
                true => Ok(()),
                false => gone(&inner.join("conf")),
            }
        }
        Err(error) => Err((db, error)),
        // The lock sled takes: who holds it may be writing a snapshot at this moment.
        Ok(file) if lock::hold(&file).is_ok_and(|held| held) => {
            for item in read_dir(inner)? {
                let path = item.path();
                if path.extension().is_some_and(|ending| ending == "generating") {
                    gone(&path)?;
                }
            }
            Ok(())
        }
        Ok(_in_use) => Ok(()),
    }
}

fn read_dir(dir: &Path) -> Result<Vec<fs::DirEntry>, (PathBuf, io::Error)> {
    fs::read_dir(dir).and_then(Iterator::collect).map_err(|error| (dir.to_owned(), error))
}

fn gone(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err((path.to_owned(), error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Kind, Store};

    #[test]
    fn a_snapshot_or_configuration_half_written_by_a_killed_process_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("sled");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("conf"), [7; 40]).unwrap();
        drop(Store::open(dir.path(), Kind::Producer, "a", 1 << 20).unwrap());
        let half = inner.join("snap.7FFFFFFFFFFFFFFF.generating");
        fs::write(&half, [7; 40]).unwrap();
        let store = Store::open(dir.path(), Kind::Producer, "a", 1 << 20).unwrap();
        assert_eq!(store.instance().unwrap().to_string(), "a");
        // Now it is in use: what its owner is writing stays.
        fs::write(&half, b"").unwrap();
        remove(&inner).unwrap();
        assert!(half.exists());
    }
}
