//! Reads the whole log and holds its records against each other. It may be written meanwhile: whatever looks wrong is
//! looked at again, and is a fault only if it is wrong every time.

mod batches;
mod files;
mod rest;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use shared::ids::BatchId;

use crate::log::record::{BatchRecord, FileRecord};
use crate::log::{LogReader, seq_of};
use crate::store::{Store, StoreError, Table};
use crate::verdict::{Checked, Fault, NO_SUCH_KEY};

/// Looks at whatever seems wrong.
const LOOKS: usize = 3;
/// Pause between two looks: longer than a commit takes.
const PAUSE: Duration = Duration::from_millis(50);

/// The tables, and what was found in those that others are held against.
struct Check<'l> {
    store: &'l Store,
    files: BTreeMap<u64, FileRecord>,
    batches: BTreeMap<u64, BatchRecord>,
    /// Highest file number in a key of chunks or hits.
    highest_file: Option<u64>,
    tables: BTreeMap<u8, Checked>,
}

impl LogReader {
    /// Reads and checks the whole log.
    ///
    /// # Errors
    /// When the disk fails. Damage is no error, but what is reported.
    pub fn verify(&self) -> Result<Vec<Checked>, StoreError> {
        let all = [
            Table::Meta,
            Table::Chunks,
            Table::Files,
            Table::Batches,
            Table::Hits,
            Table::Rejects,
            Table::Sessions,
        ];
        let mut check = Check {
            store: &self.store,
            files: BTreeMap::new(),
            batches: BTreeMap::new(),
            highest_file: None,
            tables: all.iter().map(|table| (*table as u8, Checked::new(*table))).collect(),
        };
        check.read_batches()?;
        check.check_files()?;
        check.check_batches()?;
        check.check_rest()?;
        Ok(all.iter().filter_map(|table| check.tables.remove(&(*table as u8))).collect())
    }
}

impl Check<'_> {
    fn table(&mut self, table: Table) -> &mut Checked {
        self.tables.entry(table as u8).or_insert_with(|| Checked::new(table))
    }

    /// Takes a fault to the line of its table, with the batch its file belongs to.
    fn add(&mut self, faults: impl IntoIterator<Item = (Table, Fault)>) {
        for (table, mut fault) in faults {
            let batch = || Some(self.batches.get(&self.files.get(&fault.file?)?.batch)?.id);
            fault.batch = fault.batch.or_else(batch);
            self.table(table).faults.push(fault);
        }
    }

    /// Looks at each suspect again, until nothing is wrong with it; what is wrong every time is a fault.
    fn settle<S>(
        &mut self,
        mut suspects: Vec<S>,
        look: impl Fn(&Store, &S) -> Result<Vec<(Table, Fault)>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut faults = Vec::new();
        for round in 0..LOOKS {
            if round > 0 && !suspects.is_empty() {
                std::thread::sleep(PAUSE);
            }
            faults.clear();
            let mut wrong = Vec::new();
            for suspect in suspects {
                let found = look(self.store, &suspect)?;
                if !found.is_empty() {
                    faults.extend(found);
                    wrong.push(suspect);
                }
            }
            suspects = wrong;
        }
        self.add(faults);
        Ok(())
    }
}

/// A record; None when there is none, or one that cannot be read, which is named where its table is read.
fn record<T: DeserializeOwned>(store: &Store, table: Table, seq: u64) -> Result<Option<T>, StoreError> {
    match store.get(table, &crate::log::seq_key(seq)) {
        Err(StoreError::Damaged { .. }) => Ok(None),
        record => record,
    }
}

/// The number a key consists of; a fault if it is longer or shorter.
fn only_seq(checked: &mut Checked, table: Table, key: &[u8]) -> Option<u64> {
    if key.len() == 8 {
        return Some(seq_of(key));
    }
    checked.faults.push(Fault::new(table, key, NO_SUCH_KEY));
    None
}

/// A fault of a batch.
fn of_batch(seq: u64, id: BatchId, what: impl Into<String>) -> (Table, Fault) {
    let fault = Fault::new(Table::Batches, &crate::log::seq_key(seq), what);
    (Table::Batches, Fault { batch: Some(id), ..fault })
}

/// A fault of a file.
fn of_file(seq: u64, what: impl Into<String>) -> (Table, Fault) {
    let fault = Fault::new(Table::Files, &crate::log::seq_key(seq), what);
    (Table::Files, Fault { file: Some(seq), ..fault })
}
