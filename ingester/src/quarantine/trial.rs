//! Tries rows without loading them.

use std::time::Duration;

use shared::clock::Clock;
use shared::layout::Compression;
use state::loads::ErrorClass;

use crate::failure::LoadFailure;
use crate::redshift::doing::Doing;
use crate::redshift::load_errors::{Before, Report};
use crate::redshift::{Session, SqlFailure, Target, errors};

use super::reports::attribute;

const LATE: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(1)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// With NOLOAD: cheap, but checks the form of values only.
    NoLoad,
    /// With a COPY that is rolled back: refuses what a load refuses.
    RolledBack,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Why {
    pub column: Option<String>,
    pub code: Option<u32>,
    pub reason: String,
}

impl From<&Report> for Why {
    fn from(report: &Report) -> Self {
        Self { column: report.column.clone(), code: report.code, reason: report.reason.clone() }
    }
}

pub(super) struct RefusedTrial {
    /// What the tables of load errors say, each with the number of the file it is about.
    pub reports: Vec<(usize, Report)>,
    message: String,
}

impl RefusedTrial {
    pub(super) fn why(&self) -> Why {
        let message = || Why { column: None, code: None, reason: self.message.clone() };
        self.reports.first().map_or_else(message, |(_, report)| report.into())
    }
}

/// Where rows are tried and loaded.
#[derive(Clone, Copy)]
pub(crate) struct Warehouse<'a> {
    pub(crate) session: &'a Session,
    pub(crate) target: &'a Target,
    pub(crate) clock: &'a Clock,
}

pub(super) struct Trials<'a> {
    pub warehouse: Warehouse<'a>,
    pub count: u32,
    /// Waits for the tables that brought nothing.
    in_vain: u32,
}

impl<'a> Trials<'a> {
    pub(super) fn new(warehouse: Warehouse<'a>) -> Self {
        Self { warehouse, count: 0, in_vain: 0 }
    }

    /// Tries the objects that `manifest` names; `placed` has their keys, each with its file. None if nothing is refused.
    pub(super) async fn run(
        &mut self,
        how: How,
        manifest: &str,
        compression: Compression,
        placed: &[(usize, String)],
    ) -> Result<Option<RefusedTrial>, LoadFailure> {
        self.count += 1;
        let Warehouse { session, target, .. } = self.warehouse;
        let url = |(file, key): &(usize, String)| (*file, format!("s3://{}/{key}", target.bucket));
        let urls: Vec<_> = placed.iter().map(url).collect();
        let before = Before::read(session).await;
        let refused = match how {
            How::NoLoad => {
                if before.tells() {
                    let all = session.run(&target.find_refused(manifest, compression)).await;
                    refusal(all, Doing::CopyNoLoad)?;
                    // What an earlier try met may come to the tables as late as this, and names other objects.
                    let reports = attribute(before.since(session).await, &urls);
                    if !reports.is_empty() {
                        return Ok(Some(RefusedTrial { reports, message: String::new() }));
                    }
                }
                refusal(session.run(&target.has_refused(manifest, compression)).await, Doing::CopyNoLoad)?
            }
            How::RolledBack => {
                refusal(session.run("BEGIN").await, Doing::Begin)?;
                let copied = session.run(&target.copy(manifest, compression)).await;
                session.roll_back().await;
                refusal(copied, Doing::CopyToRollBack)?
            }
        };
        let Some(message) = refused else { return Ok(None) };
        let reports = attribute(self.late_reports(&before).await, &urls);
        Ok(Some(RefusedTrial { reports, message }))
    }

    async fn late_reports(&mut self, before: &Before) -> Vec<Report> {
        for wait in LATE {
            self.warehouse.clock.sleep(wait).await;
            let reports = before.since(self.warehouse.session).await;
            if !reports.is_empty() || !before.tells() || self.in_vain >= 2 {
                return reports;
            }
        }
        self.in_vain += 1;
        Vec::new()
    }
}

/// The message, if rows were refused; any other failure is one.
fn refusal<T>(answer: Result<T, SqlFailure>, doing: Doing) -> Result<Option<String>, LoadFailure> {
    let Err(failure) = answer else { return Ok(None) };
    let failure = errors::load_failure(&failure, doing);
    if failure.class == ErrorClass::Data { Ok(Some(failure.why)) } else { Err(failure) }
}
