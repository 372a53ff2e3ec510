//! What the mark of the ledger said when this ingester looked last, for those who ask without a connection to Redshift.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::loads::Loads;
use crate::store::{Change, StoreError, Table};

/// Key in [`Table::Meta`].
pub(crate) const KEY: &[u8] = b"mark";

/// The mark of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerMark {
    /// The id of the pipeline, made with the ledger.
    pub pipeline: String,
    /// The table the ledger speaks of.
    pub table: String,
    /// It speaks for every row of the table that was received then or later; None: for none. What is older is loaded the
    /// staged way.
    pub knows_from: Option<DateTime<Utc>>,
}

impl Loads {
    /// The mark as it was seen last; None if it never was.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn ledger_mark(&self) -> Result<Option<LedgerMark>, StoreError> {
        self.store.get(Table::Meta, KEY)
    }

    /// Notes what the mark says.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn note_ledger_mark(&self, mark: &LedgerMark) -> Result<(), StoreError> {
        if self.ledger_mark()?.as_ref() == Some(mark) {
            return Ok(());
        }
        let mut change = Change::new();
        change.put(Table::Meta, KEY, mark);
        self.store.commit(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_mark_said_last_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let loads = Loads::open(dir.path()).unwrap();
        assert_eq!(loads.ledger_mark().unwrap(), None);
        let none = LedgerMark { pipeline: "p".to_owned(), table: "t".to_owned(), knows_from: None };
        loads.note_ledger_mark(&none).unwrap();
        let some = LedgerMark { knows_from: Some(DateTime::UNIX_EPOCH), ..none };
        loads.note_ledger_mark(&some).unwrap();
        assert_eq!(loads.ledger_mark().unwrap(), Some(some));
        assert!(loads.verify().unwrap().iter().all(|table| table.faults.is_empty()));
    }
}
