//! `state verify`: reads everything both services keep and names whatever is not as it was written. What a table may
//! hold beside what is told by the other tables is checked where the table is kept.

mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::config::Config;
use shared::exit::{Exit, Failure};

use crate::loads::Loads;
use crate::log::LogReader;
use crate::status::as_owner::as_owner;
use crate::status::ask::{Part, Service};
use crate::status::feed::Question;
use crate::status::snapshot::SNAPSHOT_FORMAT;
use crate::store::{self, StoreError};
use crate::verdict::{Checked, Fault};

/// Longest wait for a service that verifies: it reads everything it has, gigabytes perhaps, while it goes on.
const PATIENCE: Duration = Duration::from_hours(24);

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
