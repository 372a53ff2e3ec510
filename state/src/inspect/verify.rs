//! `state verify`: reads everything both services keep, and names whatever is not as it was written. The log and the
//! loads check their own tables.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::human::{bytes, count};
use shared::report::{Outcome, Report, failed};

use crate::inspect::columns;
use crate::status::feed::{Owner, Question};
use crate::status::service::{Part, Service, as_owner, both};
use crate::status::snapshot::SNAPSHOT_FORMAT;
use crate::store;
use crate::verdict::{Checked, Fault};

/// What `state verify` found.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Verification {
    /// [`SNAPSHOT_FORMAT`]
    pub format: u32,
    pub at: DateTime<Utc>,
    pub faults: u64,
    pub producer: Part<Vec<Checked>>,
    pub ingester: Part<Vec<Checked>>,
}

/// Checks both databases, by their services where they run. Damage is no error; the result names it.
pub async fn verify(config: &Config, clock: &Clock) -> Result<Verification, Failure> {
    let producer = Service::producer(config, clock);
    let producer = checked(&config.log.dir, producer.ask(&Question::Verify, Owner::verify)).await;
    let ingester = Service::ingester(config, clock);
    let ingester = checked(&config.ingester.dir, ingester.ask(&Question::Verify, Owner::verify)).await;
    let (producer, ingester) = both(config, producer, ingester)?;
    let found = [&producer, &ingester].into_iter().flat_map(|part| part.snapshot.iter().flatten());
    let faults = found.map(|checked| checked.faults.len() as u64).sum();
    Ok(Verification { format: SNAPSHOT_FORMAT, at: clock.wall(), faults, producer, ingester })
}

/// The database file and the tables in it. A database that cannot be opened for what it holds is a fault too.
async fn checked(
    dir: &Path,
    tables: impl Future<Output = Result<Part<Vec<Checked>>, Failure>>,
) -> Result<Part<Vec<Checked>>, Failure> {
    let file = database_file(dir)?;
    match tables.await {
        Ok(part) => Ok(part.map(|tables| file.into_iter().chain(tables).collect())),
        Err(failure) if failure.exit() == Exit::Data => {
            let (table, what) = ("database".to_owned(), failure.to_string());
            let fault = Fault { table: table.clone(), key: String::new(), batch: None, file: None, what };
            let unusable = Checked { table, counts: BTreeMap::new(), faults: vec![fault] };
            let snapshot = Some(file.into_iter().chain([unusable]).collect());
            Ok(Part::read(dir, snapshot))
        }
        Err(failure) => Err(failure),
    }
}

/// The database file as it lies on the disk; None without one or while a service writes it. A crash may leave a torn
/// segment as free space, so that is no fault.
fn database_file(dir: &Path) -> Result<Option<Checked>, Failure> {
    let owner = as_owner(dir)?;
    let surveyed = store::survey_file(dir);
    drop(owner);
    let Some(segments) = surveyed? else { return Ok(None) };
    let counts = [("segments", segments.whole + segments.torn), ("torn segments", segments.torn)];
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    let counts = counts.map(|(what, count)| (what.to_owned(), count)).collect();
    Ok(Some(Checked { table: "database file".to_owned(), counts, faults: Vec::new() }))
}

impl Verification {
    /// Prints a line for each table, and below it its faults. Fails with 65 if there are any.
    pub fn print(&self, out: &mut impl Write) -> Result<(), Failure> {
        let mut report = Report::new(out);
        for (service, part) in [("producer", &self.producer), ("ingester", &self.ingester)] {
            let origin = columns::wrap(&part.origin(), 4).trim_start().to_owned();
            match (part.answered(), &part.snapshot) {
                (Err(failure), _) => drop(report.line(service, Err(failed(failure)))?),
                (Ok(()), None) => report.skipped(service, &origin)?,
                (Ok(()), Some(_)) => drop(report.line(service, Ok(origin))?),
            }
            for checked in part.snapshot.iter().flatten() {
                report.line(&format!("{service}, {}", checked.table), outcome(checked))?;
            }
        }
        report.end()
    }
}

/// The noun for one, such as `batch` of `batches`.
fn one(many: &str) -> &str {
    many.strip_suffix("es")
        .filter(|one| one.ends_with("tch"))
        .or_else(|| many.strip_suffix('s'))
        .unwrap_or(many)
}

fn outcome(checked: &Checked) -> Outcome {
    let counts = checked.counts.iter().map(|(what, number)| match &what[..] {
        "bytes" => bytes(*number),
        // Beside them all is well: a crash leaves them, and their space is free.
        "torn segments" => format!("{} of them free space since a crash", count(*number)),
        _ if *number == 1 => format!("1 {}", one(what)),
        _ => format!("{} {what}", count(*number)),
    });
    let mut said: Vec<_> = counts.collect();
    match checked.faults.len() {
        0 if said.is_empty() => return Ok("empty".to_owned()),
        0 => return Ok(said.join(", ")),
        1 => said.push("1 fault".to_owned()),
        many => said.push(format!("{many} faults")),
    }
    let faults = checked.faults.iter().map(|fault| columns::wrap(&fault.to_string(), 4));
    Err((Exit::Data, [said.join(", ")].into_iter().chain(faults).collect::<Vec<_>>().join("\n")))
}
