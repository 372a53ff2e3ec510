//! The session at Redshift that this ingester began and whose end it has not seen. Should it live on, it may hold the
//! lock that the next one waits for; the next one ends it.

use serde::{Deserialize, Serialize};

use crate::loads::Loads;
use crate::store::{Change, StoreError, Table};

/// Key in [`Table::Meta`].
pub(crate) const KEY: &[u8] = b"session";

/// A session that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// Its process, as `pg_backend_pid()` tells.
    pub pid: i64,
    /// When it began, as Redshift writes it: processes have their numbers again and again.
    pub began: String,
}

impl Loads {
    /// The session whose end was not seen.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn session(&self) -> Result<Option<Began>, StoreError> {
        self.store.get(Table::Meta, KEY)
    }

    /// Notes durably that a session began, before it locks anything; or, with None, that it ended.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn note_session(&self, session: Option<&Began>) -> Result<(), StoreError> {
        if self.session()?.as_ref() == session {
            return Ok(());
        }
        let mut change = Change::new();
        match session {
            Some(session) => change.put(Table::Meta, KEY, session),
            None => change.remove(Table::Meta, KEY),
        }
        self.store.commit(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_remembered_over_a_kill_until_its_end_was_seen() {
        let dir = tempfile::tempdir().unwrap();
        let session = Began { pid: 4711, began: "2026-01-02 03:04:05.678901".to_owned() };
        let loads = Loads::open(dir.path()).unwrap();
        assert_eq!(loads.session().unwrap(), None);
        loads.note_session(Some(&session)).unwrap();
        drop(loads);
        let loads = Loads::open(dir.path()).unwrap();
        assert_eq!(loads.session().unwrap(), Some(session));
        assert!(loads.verify().unwrap().iter().all(|table| table.faults.is_empty()));
        loads.note_session(None).unwrap();
        assert_eq!(loads.session().unwrap(), None);
    }
}
