//! A copy of a database of which its file gives reason to doubt that it is whole. sled opens the copy and everything is
//! read; the database itself stays as it is.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::opening::Opening;
use super::survey::Segment;
use super::{Kind, Store, StoreError};
use crate::{loads, log};

impl Opening<'_> {
    /// A torn segment where a crash does not usually reach: it may be free space, or sled may be about to pass over
    /// what was accepted. A copy beside the database tells, while the database stays as it is.
    pub(super) fn try_a_copy(&self, torn: &Segment, durable: u64) -> Result<(), StoreError> {
        let at = torn.broken_at.unwrap_or(torn.offset);
        let what = format!("sled/db is not what was written at byte {at}");
        // A crash leaves this now and then, and nothing is wrong then.
        tracing::info!(dir = %self.dir.display(), byte = at, "sled/db breaks off: reading a copy of everything first");
        let copy = self.dir.join("copy-to-check");
        let copied = copy_files(&self.sled(), &copy.join("sled"));
        let checked = copied.map_err(|error| StoreError::Io { path: copy.clone(), error }).and_then(|()| {
            let trial = Opening { dir: &copy, ..*self };
            let db = trial.open_sled()?.ok_or_else(|| self.damaged("its copy is in use".to_owned()))?;
            let store = trial.store(db, None)?;
            store.check_end(durable)?;
            if !store.check_label(self.kind, self.instance)? {
                return Err(self.damaged("nothing else is in it".to_owned()));
            }
            self.read_everything(&store)
        });
        let removed = fs::remove_dir_all(&copy);
        match checked {
            Ok(()) => removed.map_err(|error| StoreError::Io { path: copy, error }),
            Err(error @ StoreError::Io { .. }) => Err(error),
            Err(error) => Err(self.damaged(format!("{what}; {}", reason(error)))),
        }
    }

    /// Says what is missing or wrong in a database of which sled's file gives reason to doubt that it is whole.
    fn read_everything(&self, store: &Store) -> Result<(), StoreError> {
        match self.kind {
            Kind::Producer => log::check(store),
            Kind::Ingester => loads::check(store),
        }
    }
}

fn reason(error: StoreError) -> String {
    match error {
        StoreError::Damaged { what, .. } => what,
        other => other.to_string(),
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    // A copy that a killed process left.
    let _ = fs::remove_dir_all(to);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
