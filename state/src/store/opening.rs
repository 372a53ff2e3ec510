//! What is opened and how, and the checks that an open database must pass.

use std::path::Path;

use crate::store::change::Table;
use crate::store::database::Store;
use crate::store::error::{StoreError, guarded};
use crate::store::label::{Form, Kind, LABEL, Label};
use crate::store::paths;

/// Reads everything in a database that may be damaged, and fails if something is missing or wrong.
pub type Check = fn(&Store) -> Result<(), StoreError>;

#[derive(Clone, Copy)]
pub(super) struct Opening<'o> {
    pub(super) dir: &'o Path,
    pub(super) kind: Kind,
    /// Whose it must be; None opens the database of any instance, to read it.
    pub(super) instance: Option<&'o str>,
    pub(super) cache: u64,
    pub(super) check: Check,
}

impl Opening<'_> {
    /// None when another process has it.
    pub(super) fn open_sled(&self) -> Result<Option<sled::Db>, StoreError> {
        let config = sled::Config::new()
            .path(self.dir.join(paths::SLED))
            .cache_capacity(self.cache)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        match guarded(self.dir, "opening it", || config.open()) {
            Err(StoreError::Io { error, .. }) if error.to_string().contains("acquire lock") => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Compares the last commit with `durable`, the one that was surely durable.
    pub(super) fn check_end(&self, store: &Store, durable: u64) -> Result<(), StoreError> {
        let commits = store.read_commits()?;
        if commits >= durable {
            return Ok(());
        }
        Err(self.damaged(format!(
            "the end of the database file is gone: commit {commits} is the last, {durable} was durable"
        )))
    }

    /// Refuses a database of another program, kind, instance or of a newer format.
    pub(super) fn check_label(&self, store: &Store) -> Result<Form, StoreError> {
        let label = match store.get::<Label>(Table::Meta, LABEL) {
            Err(StoreError::Damaged { what, .. }) => {
                Err(format!("its label is damaged or of a newer version: {what}"))
            }
            label => Ok(label?),
        };
        let form = label.and_then(|label| Label::check(label, store.db.is_empty(), self.kind, self.instance));
        form.map_err(|what| StoreError::Foreign { dir: self.dir.to_owned(), what })
    }

    pub(super) fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { dir: self.dir.to_owned(), what }
    }
}
