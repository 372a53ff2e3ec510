//! The end of a database. With its last handle sled syncs its file once more, and panics when that fails. Everything accepted is
//! durable by then: the process goes on, and the next opening reads the database from the disk.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::error::guarded;
use crate::store::{disk_error, paths};

/// Holds a handle until all handles that are dropped before it have gone.
#[derive(Debug, Clone)]
pub(super) struct Closing {
    dir: PathBuf,
    /// None while it is dropped.
    db: Option<sled::Db>,
}

impl Closing {
    pub(super) fn new(dir: &Path, db: sled::Db) -> Self {
        Self { dir: dir.to_owned(), db: Some(db) }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let closed = guarded(&self.dir, "closing it", || {
            drop(self.db.take());
            Ok(())
        });
        if closed.is_err() {
            let path = self.dir.join(paths::DATABASE);
            // sled does not say which error it met.
            disk_error::note(&self.dir, &path, &io::Error::other("it could not be synced as it was closed"));
        }
    }
}
