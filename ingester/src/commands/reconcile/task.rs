//! Reconciling within `ingester run`, over a connection of its own that lasts for one comparison.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::FutureExt;
use shared::exit::Failure;
use shared::human::counted;
use shared::ids::BatchId;
use state::status::activity::{Component, Reporter};
use state::status::snapshot::ProducerSnapshot;
use tokio::sync::{oneshot, watch};

use crate::commands::reconcile::compare::{reconcile, sides, start_of_day};
use crate::commands::reconcile::mend::{Loader, Mender};
use crate::commands::reconcile::report::{Agree, Report, Undecided};
use crate::facts::batch::InLog;
use crate::facts::gather::{Databases, Seals, Sources, in_log};
use crate::facts::judge::Matter;
use crate::failure::StepError;
use crate::identity::Identity;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::{Connector, Target};
use crate::services::Services;

const PATIENCE: Duration = Duration::from_secs(10);
/// How soon the end of a pause by hand is noticed.
const RESUMED: Duration = Duration::from_secs(30);
/// How far back the first comparison goes, and each later one.
const BACK_AT_START: TimeDelta = TimeDelta::days(7);
const BACK: TimeDelta = TimeDelta::days(1);
/// Matters that are logged one by one; the report of `ingester reconcile` has all.
const LOGGED: usize = 20;

pub(crate) struct Reconciler {
    services: Services,
    targets: watch::Receiver<Target>,
    connector: Connector,
    mender: Mender,
    reporter: Reporter,
    back: TimeDelta,
    /// The log and the changes of the load store when nothing was left to do. While it stays so nobody is asked: an hourly
    /// query would keep a serverless workgroup of an idle site awake.
    quiet: Option<(Option<BTreeMap<BatchId, InLog>>, u64)>,
    /// Batches that a failure holds, and in how many comparisons in a row it did: the next try may mend it.
    stuck: BTreeMap<BatchId, u32>,
}

impl Reconciler {
    pub(crate) fn new(services: &Services, targets: watch::Receiver<Target>, connector: Connector) -> Self {
        let Services { config, load_store, activity, .. } = services;
        Self {
            targets,
            connector,
            mender: Mender::new(config, Loader::Here(load_store.clone())),
            reporter: activity.reporter(Component::Reconcile),
            services: services.clone(),
            back: BACK_AT_START,
            quiet: None,
            stuck: BTreeMap::new(),
        }
    }

    /// Compares and mends once, and logs the result. Returns when to do it again.
    pub(crate) async fn step(&mut self) -> Result<Duration, Failure> {
        let Services { config, load_store, pauses, clock, .. } = self.services.clone();
        let now = clock.wall();
        // A pause may be for Redshift's sake.
        if let Some(paused) = pauses.at(now) {
            // Nothing is tried, so nothing fails.
            self.reporter.succeeded();
            let left = paused.until.and_then(|until| (until - now).to_std().ok());
            return Ok(left.map_or(RESUMED, |left| left.min(RESUMED)));
        }
        let interval = config.ingester.reconcile_interval.0;
        let moved = load_store.changes();
        let (known, log) = self.read_databases().await;
        let quiet = (known.log.clone(), moved);
        if known.loads.is_empty() && self.quiet.as_ref() == Some(&quiet) {
            return Ok(interval);
        }
        let since = start_of_day(now - self.back);
        let mut report = Report::new(now, since, false, sides(&config, &known, &log));
        match self.compare(&known, &mut report).await {
            Ok(()) => {
                let alert_after = config.ingester.alert_after;
                self.stuck = stuck(&self.stuck, &report);
                let retried = self.stuck.values().filter(|failures| **failures < alert_after).count();
                match report.decide.count.saturating_sub(retried as u64) {
                    0 => self.reporter.succeeded(),
                    undecided => {
                        let batches = counted(undecided, "batch needs", "batches need");
                        let why = format!("{batches} a decision of an operator: run `ingester reconcile`");
                        self.reporter.held("decide", &why);
                    }
                }
                log_report(&report, &self.stuck, alert_after);
                self.back = BACK;
                // Rows in quarantine may be replayed from another machine.
                let Agree { in_the_making, under_way, .. } = report.agree;
                let undone = report.mended.count + report.decide.count + in_the_making + under_way > 0
                    || !known.loads.is_empty()
                    || !load_store.in_quarantine(1).is_empty();
                self.quiet = if undone { None } else { Some(quiet) };
                let in_doubt = self.stuck.values().any(|failures| *failures < alert_after);
                Ok(if in_doubt { config.ingester.retry_max.0.min(interval) } else { interval })
            }
            Err(StepError::Fatal(failure)) => Err(failure),
            Err(StepError::Load(failure)) => {
                // The loader or discovery meets the same failure, and logs it as an error.
                tracing::warn!("log, S3 and ledger cannot be compared now: {failure}");
                let wait = config.ingester.retry_max.0.min(interval);
                self.reporter.failed(failure.class.name(), &failure, Some(wait));
                Ok(wait)
            }
        }
    }

    async fn compare(&self, known: &Databases, report: &mut Report) -> Result<(), StepError> {
        // One comparison goes by one target.
        let (Services { config, store, .. }, target) = (&self.services, &self.targets.borrow().clone());
        let opened = self.connector.open().await;
        let session = &opened.doing(Doing::Connect)?;
        Identity::new(config, store.clone()).refuse_foreign(session, target).await?;
        let sources = Sources { store, config, target, session, now: report.at };
        let read_again = || async { self.read_databases().await.0 }.boxed();
        reconcile(&sources, Seals::Open, known, &read_again, &self.mender, report).await
    }

    async fn read_databases(&self) -> (Databases, String) {
        let socket = self.services.config.producer_socket();
        let asked =
            tokio::time::timeout(PATIENCE, state::status::feed::snapshot::<ProducerSnapshot>(&socket)).await;
        let (log, origin) = match asked {
            Ok(Ok(answer)) => (Some(in_log(&answer.snapshot)), format!("running, process {}", answer.pid)),
            Ok(Err(error)) => (None, error.to_string()),
            Err(_) => (None, format!("{} does not answer", socket.display())),
        };
        let loads =
            self.services.load_store.open_loads().into_iter().map(|load| (load.batch, load)).collect();
        (Databases { log, loads }, origin)
    }

    /// Compares until shutdown, first after the first listing of discovery: what that finds needs no mending.
    pub(crate) async fn run(mut self, listed: oneshot::Receiver<()>) -> Result<(), Failure> {
        let Services { clock, shutdown, .. } = self.services.clone();
        if shutdown.until(listed).await.is_none_or(|listed| listed.is_err()) {
            return Ok(());
        }
        while let Some(next) = shutdown.until(self.step()).await {
            if shutdown.until(clock.sleep(next?)).await.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// The batches that a failure holds now, and in how many comparisons in a row.
fn stuck(before: &BTreeMap<BatchId, u32>, report: &Report) -> BTreeMap<BatchId, u32> {
    let now = report.decide.list.iter().filter(|undecided| matches!(undecided.matter, Matter::Stuck { .. }));
    now.map(|Undecided { batch, .. }| (*batch, before.get(batch).map_or(1, |failures| failures + 1)))
        .collect()
}

/// Logs the result. What a failure holds concerns an operator when it has failed `alert_after` times.
fn log_report(report: &Report, stuck: &BTreeMap<BatchId, u32>, alert_after: u32) {
    let (compared, mended, decide) = (report.compared, report.mended.count, report.decide.count);
    for mended in &report.mended.list {
        tracing::info!(batch = %mended.batch, "reconciled: {}: {}", mended.act, mended.outcome);
    }
    for Undecided { batch, what, advice, .. } in report.decide.list.iter().take(LOGGED) {
        let advice = advice.replace('\n', "; ");
        match stuck.get(batch) {
            Some(failures) if *failures < alert_after => {
                tracing::warn!(%batch, failures, "not mended, trying again: {what}; {advice}");
            }
            _ => tracing::error!(%batch, "an operator must decide: {what}; {advice}"),
        }
    }
    let log_asked = report.sides.log_asked;
    tracing::info!(compared, mended, decide, log_asked, "log, S3 and ledger compared");
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use state::loads::ErrorClass;

    use super::*;
    use crate::commands::reconcile::report::Sides;

    #[test]
    fn a_failure_counts_while_it_holds_its_batch_and_another_matter_does_not() {
        let now = DateTime::UNIX_EPOCH;
        let (held, lost) = (BatchId::new(), BatchId::new());
        let mut report = Report::new(now, now, false, Sides::default());
        let why = "COPY: the role cannot be assumed".to_owned();
        report.decide(held, Matter::Stuck { class: ErrorClass::Configuration, why }, None);
        report.decide(lost, Matter::Lost { rows: 10 }, None);
        let once = stuck(&BTreeMap::new(), &report);
        assert_eq!(once, BTreeMap::from([(held, 1)]));
        assert_eq!(stuck(&once, &report), BTreeMap::from([(held, 2)]));
        let mended = Report::new(now, now, false, Sides::default());
        assert_eq!(stuck(&once, &mended), BTreeMap::new());
    }
}
