//! Which empty segments of the database were never used since it was opened, in the file `spare` beside it. sled fills
//! every free segment with zeros as it opens a database. After a kill they are still there, and could be segments whose
//! content the disk has lost; this file tells the two apart.
//!
//! sled uses the free segment with the lowest offset first, and the end of the file only when there is none. So one number
//! is enough: of the segments that were empty after the opening, the lowest that is still empty. No accepted commit has
//! anything in it or in an empty segment behind it. Each sync checks the number before the commit is accepted, and writes
//! and syncs a changed one: once for each segment that is used for the first time.
//!
//! The file is valid for one opening, which it names by sled's snapshot: sled writes a snapshot as it opens.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use shared::lock::locked;
use xxhash_rust::xxh3::xxh3_64;

use crate::store::closing::Closing;
use crate::store::error::{StoreError, guarded};
use crate::store::survey::SEGMENT;
use crate::store::{disk_error, paths};

/// No segment may be empty.
const NONE: u64 = u64::MAX;
/// A segment that is used begins with a header, which is never all zeros.
const HEADER: usize = 20;

#[derive(Debug)]
pub(super) struct Spare {
    dir: PathBuf,
    file: File,
    database: Arc<File>,
    snapshot: u64,
    /// Offsets of the segments that are empty since the opening, highest first.
    empty: Mutex<Vec<u64>>,
    /// A database that was opened to be read, which nobody else syncs: sled may still have something of its own to write.
    to_sync: Option<(sled::Db, Closing)>,
}

impl Drop for Spare {
    fn drop(&mut self) {
        let Some((db, _)) = &self.to_sync else { return };
        let closed = guarded(&self.dir, "closing it", || db.flush()).and_then(|_| self.update());
        let Err(error) = closed else { return };
        if let StoreError::Io { path, error } = &error {
            disk_error::note(&self.dir, path, error);
        }
        tracing::warn!(%error, "cannot close the database in order; its next opening checks it");
    }
}

impl Spare {
    /// Finds the empty segments of a database that was just opened, and writes the file.
    pub(super) fn find(
        dir: &Path,
        database: Arc<File>,
        to_sync: Option<sled::Db>,
    ) -> Result<Self, StoreError> {
        let path = dir.join(paths::SPARE);
        let made = || {
            let mut empty = Vec::new();
            for offset in (0..database.metadata()?.len()).step_by(SEGMENT) {
                if is_empty(&database, offset)? {
                    empty.push(offset);
                }
            }
            empty.reverse();
            // A new file: the old one may belong to another user, who read the database.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
            let to_sync = to_sync.map(|db| (db.clone(), Closing::new(dir, db)));
            let (dir, snapshot, lowest) = (dir.to_owned(), snapshot(dir)?, empty.last().copied());
            let spare = Self { dir, file, database, snapshot, empty: Mutex::new(empty), to_sync };
            spare.write(lowest)?;
            Ok(spare)
        };
        made().map_err(StoreError::at(&path))
    }

    /// Removes the segments that are used by now. Everything written before must have been flushed.
    pub(super) fn update(&self) -> Result<(), StoreError> {
        let updated = || {
            let mut empty = locked(&self.empty);
            let before = empty.len();
            while let Some(&lowest) = empty.last() {
                if lowest >= self.database.metadata()?.len() {
                    // sled has cut off the end of the file, and may use that space again.
                    empty.clear();
                } else if is_empty(&self.database, lowest)? {
                    break;
                } else {
                    empty.pop();
                }
            }
            if empty.len() == before { Ok(()) } else { self.write(empty.last().copied()) }
        };
        updated().map_err(|error| StoreError::Io { path: self.dir.join(paths::SPARE), error })
    }

    fn write(&self, lowest: Option<u64>) -> io::Result<()> {
        let head = [self.snapshot.to_be_bytes(), lowest.unwrap_or(NONE).to_be_bytes()];
        let check = xxh3_64(head.as_flattened()).to_be_bytes();
        self.file.write_all_at(&[head.as_flattened(), &check].concat(), 0)?;
        self.file.sync_data()
    }
}

fn is_empty(database: &File, offset: u64) -> io::Result<bool> {
    let mut header = [0; HEADER];
    match database.read_exact_at(&mut header, offset) {
        Ok(()) => Ok(header == [0; HEADER]),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The offset from which on an empty segment is free space; [`NONE`] when the file is not of the last opening.
pub(super) fn read(dir: &Path) -> io::Result<u64> {
    let bytes = match fs::read(dir.join(paths::SPARE)) {
        Ok(bytes) => bytes,
        // Another user read the database and left it: then a copy of the database decides.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(NONE);
        }
        Err(error) => return Err(error),
    };
    let Some((head, check)) = bytes.split_at_checked(16) else { return Ok(NONE) };
    if check != xxh3_64(head).to_be_bytes() {
        return Ok(NONE);
    }
    let (of, lowest) = head.split_at(8);
    let lowest = lowest.try_into().map_or(NONE, u64::from_be_bytes);
    Ok(if of == snapshot(dir)?.to_be_bytes() { lowest } else { NONE })
}

/// The number in the name of sled's latest snapshot; 0 when there is none.
fn snapshot(dir: &Path) -> io::Result<u64> {
    let mut latest = 0;
    let entries = match fs::read_dir(dir.join(paths::SLED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("snap."));
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        latest = latest.max(number.unwrap_or(0));
    }
    Ok(latest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, Kind, Store, Table};

    fn open(dir: &Path) -> Store {
        Store::open(dir, Kind::Producer, "a", 8 << 20, |_| Ok(())).unwrap()
    }

    fn fill(store: &Store, keys: std::ops::Range<u32>) {
        for first in keys.step_by(50) {
            let mut change = Change::new();
            for key in first..first + 50 {
                change.put_bytes(Table::Chunks, &key.to_be_bytes(), &[key as u8 | 1; 5_000]);
            }
            store.commit(change).unwrap();
        }
    }

    /// A database in which free segments lie between others, as its next opening finds it.
    fn with_free_segments(dir: &Path) {
        let store = open(dir);
        fill(&store, 0..3_000);
        for key in 200..2_400_u32 {
            let mut change = Change::new();
            change.remove(Table::Chunks, &key.to_be_bytes());
            store.apply(change).unwrap();
        }
        fill(&store, 3_000..3_050);
    }

    fn zeros(dir: &Path, offset: u64) {
        let file = File::options().write(true).open(dir.join(paths::DATABASE)).unwrap();
        file.write_all_at(&vec![0; SEGMENT], offset).unwrap();
    }

    #[test]
    fn a_segment_that_was_used_is_no_free_space_when_it_is_empty_again() {
        let dir = tempfile::tempdir().unwrap();
        with_free_segments(dir.path());
        let store = open(dir.path());
        let before = read(dir.path()).unwrap();
        assert_ne!(before, NONE, "no free segment between others");
        fill(&store, 10_000..10_400);
        let after = read(dir.path()).unwrap();
        assert!(after > before, "{after} after {before}");
        let used = store.file.try_clone().unwrap();
        assert!(!is_empty(&used, before).unwrap());
        drop(store);
        zeros(dir.path(), before);
        let segments = crate::store::survey::survey(&used).unwrap();
        let spare = read(dir.path()).unwrap();
        let broken: Vec<_> =
            crate::store::survey::broken(&segments, spare).map(|broken| broken.offset).collect();
        assert_eq!(broken, [before]);
    }

    #[test]
    fn an_error_as_a_database_is_closed_that_was_looked_at_leaves_word_for_the_next_opening() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let mut store = Store::open_to_read(dir.path(), Kind::Producer, |_| Ok(())).unwrap();
        let mut spare = Arc::into_inner(store.spare.take().unwrap()).unwrap();
        spare.file = File::options().write(true).open("/dev/full").unwrap();
        // The first segment is used, which has to be written then.
        spare.empty.lock().unwrap().push(0);
        drop(spare);
        assert!(dir.path().join("disk-error").exists());
    }

    #[test]
    fn what_another_opening_has_left_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        with_free_segments(dir.path());
        drop(Store::open_to_read(dir.path(), Kind::Producer, |_| Ok(())).unwrap());
        assert_ne!(read(dir.path()).unwrap(), NONE);
        let old = fs::read(dir.path().join(paths::SPARE)).unwrap();
        fill(&open(dir.path()), 20_000..20_100);
        drop(open(dir.path()));
        fs::write(dir.path().join(paths::SPARE), &old).unwrap();
        assert_eq!(read(dir.path()).unwrap(), NONE);
        fs::write(dir.path().join(paths::SPARE), &old[..23]).unwrap();
        assert_eq!(read(dir.path()).unwrap(), NONE);
    }
}
