//! The verdict of a check of a database: what each table holds, and its faults. Plain data for the socket and
//! `state verify`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::ids::BatchId;
use shared::json_fault::json_fault;

use crate::store::{MAX_VALUE, Store, StoreError, Table};

/// What was checked: a table, or the file or database around the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The table.
    pub table: String,
    /// What it holds, such as `rows`; `bytes` are bytes.
    pub counts: BTreeMap<String, u64>,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Fault {
    pub table: String,
    pub key: String,
    /// The batch it belongs to, if that is known.
    pub batch: Option<BatchId>,
    pub file: Option<u64>,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table)?;
        if !self.key.is_empty() {
            write!(f, " {}", self.key)?;
        }
        if let Some(batch) = self.batch {
            write!(f, ", batch {batch}")?;
        }
        if let Some(file) = self.file {
            write!(f, ", file {file}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl Fault {
    pub(crate) fn new(table: Table, key: &[u8], what: impl Into<String>) -> Self {
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { table: name(table), key, batch: None, file: None, what: what.into() }
    }
}

fn name(table: Table) -> String {
    format!("{table:?}").to_lowercase()
}

impl Checked {
    pub(crate) fn new(table: Table) -> Self {
        Self { table: name(table), counts: BTreeMap::new(), faults: Vec::new() }
    }

    pub(crate) fn count(&mut self, what: &str, more: u64) {
        *self.counts.entry(what.to_owned()).or_default() += more;
    }

    /// Shows every entry of `table` to `see`. What the database itself cannot read is a fault and ends the table.
    pub(crate) fn each(
        &mut self,
        store: &Store,
        table: Table,
        mut see: impl FnMut(&mut Self, &[u8], &[u8]),
    ) -> Result<(), StoreError> {
        for item in store.scan(table, &[]) {
            let (key, value) = match item {
                Ok(entry) => entry,
                Err(StoreError::Damaged { what, .. }) => {
                    self.faults.push(Fault::new(table, &[], what));
                    break;
                }
                Err(error) => return Err(error),
            };
            if value.len() > MAX_VALUE {
                let what = format!("{} bytes, more than a value may have", value.len());
                self.faults.push(Fault::new(table, &key, what));
            }
            see(self, &key, &value);
        }
        Ok(())
    }

    /// As [`Checked::each`] for a table of JSON; a value that cannot be read is a fault and not shown.
    pub(crate) fn each_json<T: DeserializeOwned>(
        &mut self,
        store: &Store,
        table: Table,
        mut see: impl FnMut(&mut Self, &[u8], T),
    ) -> Result<(), StoreError> {
        self.each(store, table, |checked, key, value| match serde_json::from_slice(value) {
            Ok(value) => see(checked, key, value),
            Err(error) => checked.faults.push(Fault::new(table, key, json_fault(&error))),
        })
    }
}

pub(crate) fn sound(store: &Store, checked: &[Checked]) -> Result<(), StoreError> {
    let Some(fault) = checked.iter().find_map(|checked| checked.faults.first()) else { return Ok(()) };
    Err(StoreError::Damaged { dir: store.dir().to_owned(), what: fault.to_string() })
}

pub(crate) const NO_SUCH_KEY: &str = "no such key is ever written";
