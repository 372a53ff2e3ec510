//! `state verify`: reads everything both services keep and names whatever is not as it was written. What a table may
//! hold beside what is told by the other tables is checked where the table is kept.

mod report;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::BatchId;
use shared::json_fault::json_fault;

use crate::loads::{FAILURES_KEPT, LISTED, Load, Loads, MARK, PAUSE, SESSION, SUMS};
use crate::log::LogReader;
use crate::status::as_owner::as_owner;
use crate::status::ask::{Part, Service};
use crate::status::feed::Question;
use crate::status::snapshot::SNAPSHOT_FORMAT;
use crate::store::{self, COMMITS, MAX_VALUE, Store, StoreError, Table};

/// Longest wait for a service that verifies: it reads everything it has, gigabytes perhaps, while it goes on.
const PATIENCE: Duration = Duration::from_hours(24);

/// What was checked: a table, or what lies around them.
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
pub struct Fault {
    /// The table.
    pub table: String,
    /// The key in it, in hexadecimal digits.
    pub key: String,
    /// The batch it belongs to, if that is known.
    pub batch: Option<BatchId>,
    /// The number, within the log, of the file it belongs to.
    pub file: Option<u64>,
    /// What is wrong.
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
    ///
    /// # Errors
    /// When the disk fails.
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
    ///
    /// # Errors
    /// When the disk fails.
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

impl Loads {
    /// Reads the whole bookkeeping.
    ///
    /// # Errors
    /// When the disk fails. Damage is no error, but what is reported.
    pub fn verify(&self) -> Result<Vec<Checked>, StoreError> {
        let (mut meta, mut loads) = (Checked::new(Table::Meta), Checked::new(Table::Loads));
        meta.each(&self.store, Table::Meta, |meta, key, _| {
            meta.count("records", 1);
            // The label was read when the database was opened.
            let known = [&b"label"[..], COMMITS, PAUSE, LISTED, MARK, SESSION, SUMS];
            if !known.contains(&key) {
                meta.faults.push(Fault::new(Table::Meta, key, NO_SUCH_KEY));
            }
        })?;
        loads.each_json::<Load>(&self.store, Table::Loads, |loads, key, load| {
            loads.count("loads", 1);
            loads.count("failures", load.failures.len() as u64);
            if key != load.batch.as_bytes() {
                let what = format!("it is of batch {}", load.batch);
                loads.faults.push(Fault::new(Table::Loads, key, what));
            }
            if load.failures.len() > FAILURES_KEPT {
                let fault = Fault::new(Table::Loads, key, "more failures than are kept");
                loads.faults.push(Fault { batch: Some(load.batch), ..fault });
            }
        })?;
        Ok(vec![meta, loads])
    }
}

/// The first fault as an error.
///
/// # Errors
/// When there is a fault.
pub(crate) fn sound(store: &Store, checked: &[Checked]) -> Result<(), StoreError> {
    let Some(fault) = checked.iter().find_map(|checked| checked.faults.first()) else { return Ok(()) };
    Err(StoreError::Damaged { dir: store.dir().to_owned(), what: fault.to_string() })
}

/// What is wrong with a key that is not spelt like any of its table.
pub(crate) const NO_SUCH_KEY: &str = "no such key is ever written";

/// What `state verify` found.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// [`SNAPSHOT_FORMAT`]
    pub format: u32,
    /// When.
    pub at: DateTime<Utc>,
    /// How much is wrong.
    pub faults: u64,
    /// The producer's log.
    pub producer: Part<Vec<Checked>>,
    /// The ingester's bookkeeping.
    pub ingester: Part<Vec<Checked>>,
}

/// Checks both databases: by their services where they run, and here where they do not.
///
/// # Errors
/// When one can neither be asked for nor opened, or the disk fails. Damage is no error, but what is reported.
pub async fn verify(config: &Config) -> Result<Verification, Failure> {
    let producer = Service::producer(config);
    let file = database_file(&config.log.dir)?;
    let asked = producer.ask(&Question::Verify, PATIENCE, LogReader::look, |log| Ok(log.verify()?));
    let producer = with_file(file, asked.await, &config.log.dir)?;
    let ingester = Service::ingester(config);
    let file = database_file(&config.ingester.dir)?;
    let asked = ingester.ask(&Question::Verify, PATIENCE, Loads::look, |loads| Ok(loads.verify()?));
    let ingester = with_file(file, asked.await, &config.ingester.dir)?;
    let all = [&producer, &ingester];
    let checked = all.iter().flat_map(|part| part.snapshot.iter().flatten());
    let faults = checked.map(|checked| checked.faults.len() as u64).sum();
    Ok(Verification { format: SNAPSHOT_FORMAT, at: Utc::now(), faults, producer, ingester })
}

/// Reads the file of the database as it lies on the disk, before it is opened; None where there is none, and where a
/// service is writing it. A segment that is torn is no fault by itself: a crash may leave one, as free space.
fn database_file(dir: &Path) -> Result<Option<Checked>, Failure> {
    let owner = as_owner(dir).map_err(|error| StoreError::Io { path: dir.to_owned(), error })?;
    let surveyed = store::survey_file(dir);
    drop(owner);
    let Some(segments) = surveyed? else { return Ok(None) };
    let counts = [("segments", segments.whole + segments.torn), ("torn segments", segments.torn)];
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    let counts = counts.map(|(what, count)| (what.to_owned(), count)).collect();
    Ok(Some(Checked { table: "database file".to_owned(), counts, faults: Vec::new() }))
}

/// The line of the file before those of the tables. A database that cannot be opened for what it holds is a fault too.
fn with_file(
    file: Option<Checked>,
    tables: Result<Part<Vec<Checked>>, Failure>,
    dir: &Path,
) -> Result<Part<Vec<Checked>>, Failure> {
    match tables {
        Ok(part) => Ok(part.map(|tables| file.into_iter().chain(tables).collect())),
        Err(failure) if failure.exit() == Exit::Data => {
            let what = failure.to_string();
            let fault =
                Fault { table: "database".to_owned(), key: String::new(), batch: None, file: None, what };
            let unusable =
                Checked { table: "database".to_owned(), counts: BTreeMap::new(), faults: vec![fault] };
            let snapshot = Some(file.into_iter().chain([unusable]).collect());
            Ok(Part { pid: None, dir: dir.display().to_string(), snapshot })
        }
        Err(failure) => Err(failure),
    }
}
