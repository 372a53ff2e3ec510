//! Log × S3 × ledger: compares every batch that any of the three knows, mends what needs no decision, and reports the
//! rest.
//!
//! ```text
//! gather (a day at a time) ──Facts──► judge (pure) ──Verdict──► mend ──► report
//! ```
//! `ingester run` does it at start and at an interval, `ingester reconcile` when asked. All it does may be repeated, and
//! done by several at once.

mod mend;
pub(crate) mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::BatchId;
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use state::loads::ErrorClass;
use state::status::snapshot::ProducerSnapshot;
use tokio::sync::oneshot;

use crate::commands::reconcile::mend::Hands;
use crate::commands::reconcile::report::{Agree, Report, Sides};
use crate::commands::since;
use crate::facts::gather::{Known, Places, in_log};
use crate::facts::judge::{Agreed, InLog, Mend, Rules, Verdict, judge};
use crate::failure::LoadFailure;
use crate::identity::Identity;
use crate::load::pause::Pauses;
use crate::load_store::LoadStore;
use crate::producer_link::outlook;
use crate::redshift::sql::Table;
use crate::redshift::{Connector, Session, Target, errors};

/// Longest wait for the log.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon the end of a pause by hand is noticed.
const RESUMED: Duration = Duration::from_secs(30);
/// How far `ingester run` looks back at start, and each time after that.
const BACK_AT_START: TimeDelta = TimeDelta::days(7);
const BACK: TimeDelta = TimeDelta::days(1);
/// Matters that are said one by one; all stand in the report of `ingester reconcile`.
const SAID: usize = 20;

/// `ingester reconcile`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Compare batches opened since then: a duration before now (7d), a date or a time. Older ones that are not at
    /// their end are compared too.
    #[arg(long, value_name = "WHEN", default_value = "7d")]
    pub since: String,
    /// Mend nothing; say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Compares, mends and prints the report.
///
/// # Errors
/// 65 when something is left for a person to decide; 69 or 78 when S3 or Redshift cannot be asked.
pub(crate) async fn command(config: &Config, args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let now = Utc::now();
    let since = start_of_day(since::moment(&args.since, now)?);
    let schema = config.schema.load()?;
    let target = Target::new(config, &schema, "ingester reconcile".to_owned());
    let store = ObjectStore::connect(&config.s3).await;

    let (known, said, closed) = look(config).await;
    let hands = if closed { Hands::closed_book(config) } else { Hands::of_others(config) };
    let session = connect(config).await?;
    let foreign = Identity::new(config, store.clone()).refuse_foreign(&session, &target).await;
    foreign.map_err(|trouble| failed(&trouble))?;
    let places = Places { store: &store, config, target: &target, seals: true };
    let sides = sides(config, &known, &said);
    let mut report = Report::new(now, since, args.dry_run, sides);
    let once_more = || async { look(config).await.0 }.boxed();
    let done = reconcile(&places, &known, &once_more, &session, &hands, &mut report).await?;
    done.map_err(|trouble| failed(&trouble))?;
    if args.json {
        let json = serde_json::to_string_pretty(&report);
        writeln!(out, "{}", json.map_err(|error| Failure::new(Exit::Software, error))?)?;
    } else {
        write!(out, "{}", report.table())?;
    }
    match report.decide.count {
        0 => Ok(()),
        count => {
            let error = anyhow::anyhow!("{count} batches are for a person to decide: see the report");
            Err(Failure::new(Exit::Data, error))
        }
    }
}

/// What the databases of this machine know, what is to be said of the log, and whether there is a bookkeeping that nobody
/// has open.
async fn look(config: &Config) -> (Known, String, bool) {
    let (log, said) = match state::inspect::dump::ask_producer(config, &Clock::system()).await {
        Ok(part) => (part.snapshot.as_ref().map(in_log), part.origin()),
        Err(failure) => (None, failure.to_string()),
    };
    let (loads, closed) = match state::inspect::dump::ask_ingester(config, &Clock::system()).await {
        Ok(part) => {
            let closed = part.pid.is_none() && part.snapshot.is_some();
            (part.snapshot.map(|snapshot| snapshot.loads).unwrap_or_default(), closed)
        }
        Err(_) => (Vec::new(), false),
    };
    let loads = loads.into_iter().map(|load| (load.batch, load)).collect();
    (Known { log, loads }, said, closed)
}

/// A connection for a command that ends.
///
/// # Errors
/// 69 or 78.
pub(crate) async fn connect(config: &Config) -> Result<Session, Failure> {
    let connector = Connector::new(config, "livestream ingester", shared::clock::Clock::system())?;
    let opened = connector.open().await;
    opened.map_err(|error| failed(&errors::trouble(&error, "connecting to Redshift")))
}

/// The code a command ends with that met trouble.
pub(crate) fn failed(trouble: &LoadFailure) -> Failure {
    let exit = match trouble.class {
        ErrorClass::Configuration => Exit::Config,
        _ => Exit::Unavailable,
    };
    Failure::new(exit, anyhow::anyhow!("{trouble}"))
}

/// The age until which a batch may still be in the making: files go up and seals are written within moments of the
/// limit, unless S3 is away.
#[must_use]
pub(crate) fn young(config: &Config) -> TimeDelta {
    let age = TimeDelta::from_std(config.batch.max_batch_age.0.saturating_mul(2)).unwrap_or(TimeDelta::MAX);
    age.checked_add(&TimeDelta::minutes(10)).unwrap_or(TimeDelta::MAX)
}

fn start_of_day(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment.date_naive().and_time(NaiveTime::MIN).and_utc()
}

fn sides(config: &Config, known: &Known, log: &str) -> Sides {
    let s3 = &config.s3;
    let log = match &known.log {
        Some(batches) => format!("{}, {} batches; {log}", config.instance.name, batches.len()),
        None => format!("not asked, so lost batches are not noticed: {log}"),
    };
    Sides {
        log,
        log_asked: known.log.is_some(),
        s3: format!("s3://{}, {}, {} and {}", s3.bucket, s3.to_ingest, s3.ingested, s3.quarantine),
        ledger: format!("{} at {}", Table::from(config.redshift.ledger.clone()), config.redshift.host),
    }
}

/// Reads the databases once more.
type OnceMore<'k> = &'k (dyn Fn() -> BoxFuture<'k, Known> + Sync);

/// Compares and mends. What moves while it is read can look like damage: before anybody is told, a day is read once
/// more, after the databases, and told is what looked so both times. The outer error is the bookkeeping's.
async fn reconcile(
    places: &Places<'_>,
    known: &Known,
    once_more: OnceMore<'_>,
    session: &Session,
    hands: &Hands,
    report: &mut Report,
) -> Result<Result<(), LoadFailure>, Failure> {
    let config = places.config;
    let rules = Rules {
        archive: config.ingester.archive,
        fingerprint: places.target.fingerprint.clone(),
        now: report.at,
        young: young(config),
    };
    let days = match places.days(known, report.since, report.at).await {
        Ok(days) => days,
        Err(error) => return Ok(Err(error.into())),
    };
    for day in days {
        let mut facts = match places.day(day, known, session).await {
            Ok(facts) => facts,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let (mut doubtful, mut decided) = (false, BTreeSet::new());
        for facts in &facts {
            doubtful |= match judge(facts, &rules) {
                Verdict::Agrees(_) => false,
                Verdict::Mend(Mend::Load | Mend::Archive | Mend::ArchiveAs(_)) => {
                    hands.have_archived(facts.batch)?
                }
                Verdict::Mend(_) => true,
                Verdict::Decide(_) => decided.insert(facts.batch),
            };
        }
        if doubtful {
            facts = match places.day(day, &once_more().await, session).await {
                Ok(facts) => facts,
                Err(trouble) => return Ok(Err(trouble)),
            };
        }
        hands.note_quarantined(facts.iter().filter_map(|facts| Some((facts.batch, facts.ledger?)))).await?;
        for facts in facts {
            report.compared += 1;
            match both_times(judge(&facts, &rules), decided.contains(&facts.batch)) {
                Verdict::Agrees(agreed) => report.agrees(agreed),
                Verdict::Decide(matter) => report.decide(facts.batch, matter, None),
                Verdict::Mend(Mend::Load | Mend::Archive | Mend::ArchiveAs(_))
                    if hands.are_at(facts.batch)? =>
                {
                    report.agrees(Agreed::UnderWay);
                }
                Verdict::Mend(mend) => {
                    if let Err(trouble) = hands.mend(places, session, facts.batch, mend, report).await? {
                        return Ok(Err(trouble));
                    }
                }
            }
        }
    }
    Ok(Ok(()))
}

/// What is told of a batch after the second reading. What was not for a person by the first one may have moved during
/// the second: it is left to the next comparison.
fn both_times(again: Verdict, decided: bool) -> Verdict {
    match again {
        Verdict::Decide(_) if !decided => Verdict::Agrees(Agreed::UnderWay),
        verdict => verdict,
    }
}

/// The same within `ingester run`, over a connection of its own that lasts for one comparison.
pub(crate) struct Watch {
    config: Config,
    store: ObjectStore,
    target: Target,
    connector: Connector,
    identity: Identity,
    load_store: LoadStore,
    pauses: Pauses,
    hands: Hands,
    back: TimeDelta,
    quiet: Option<Quiet>,
}

/// What was known when nothing was left to do. While it stays so nobody is asked: an hourly query would keep a
/// serverless workgroup of an idle site awake.
#[derive(Debug, PartialEq, Eq)]
struct Quiet {
    log: Option<BTreeMap<BatchId, InLog>>,
    moved: u64,
}

impl Watch {
    /// Nothing compared yet.
    #[must_use]
    pub(crate) fn new(
        config: &Config,
        target: Target,
        connector: Connector,
        store: ObjectStore,
        load_store: LoadStore,
        pauses: Pauses,
    ) -> Self {
        let hands = Hands::open_book(config, load_store.clone());
        let identity = Identity::new(config, store.clone());
        Self {
            config: config.clone(),
            store,
            target,
            connector,
            identity,
            load_store,
            pauses,
            hands,
            back: BACK_AT_START,
            quiet: None,
        }
    }

    /// Compares and mends once, and says what came of it; when to do it again.
    ///
    /// # Errors
    /// When the bookkeeping fails. S3 or Redshift being away is waited for.
    pub(crate) async fn step(&mut self) -> Result<Duration, Failure> {
        let now = Utc::now();
        // A pause may be for Redshift's sake.
        if let Some(paused) = self.pauses.at(now) {
            let left = paused.until.and_then(|until| (until - now).to_std().ok());
            return Ok(left.map_or(RESUMED, |left| left.min(RESUMED)));
        }
        let moved = self.load_store.moved();
        let (known, said) = self.look().await;
        let quiet = Quiet { log: known.log.clone(), moved };
        if known.loads.is_empty() && self.quiet.as_ref() == Some(&quiet) {
            return Ok(self.config.ingester.reconcile_interval.0);
        }
        let (config, target) = (&self.config, &self.target);
        let places = Places { store: &self.store, config, target, seals: false };
        let mut report = Report::new(now, start_of_day(now - self.back), false, sides(config, &known, &said));
        let done = match self.connector.open().await {
            Ok(session) => match self.identity.refuse_foreign(&session, target).await {
                Ok(()) => {
                    let once_more = || async { self.look().await.0 }.boxed();
                    reconcile(&places, &known, &once_more, &session, &self.hands, &mut report).await?
                }
                Err(trouble) => Err(trouble),
            },
            Err(error) => Err(errors::trouble(&error, "connecting to Redshift")),
        };
        match done {
            Ok(()) => {
                say(&report);
                self.back = BACK;
                // Rows in quarantine may be replayed by a command, which does not tell.
                let Agree { in_the_making, under_way, .. } = report.agree;
                let undone = report.mended.count + report.decide.count + in_the_making + under_way > 0
                    || !known.loads.is_empty()
                    || !self.load_store.in_quarantine(1).is_empty();
                self.quiet = if undone { None } else { Some(quiet) };
                Ok(self.config.ingester.reconcile_interval.0)
            }
            Err(trouble) => {
                // Who loads or lists meets the same trouble, and says it loudly.
                tracing::warn!("log, S3 and ledger cannot be compared now: {trouble}");
                Ok(self.config.ingester.retry_max.0.min(self.config.ingester.reconcile_interval.0))
            }
        }
    }

    /// What the log and the bookkeeping know, and what is to be said of the log.
    async fn look(&self) -> (Known, String) {
        let socket = self.config.producer_socket();
        let asked =
            tokio::time::timeout(PATIENCE, state::status::feed::snapshot::<ProducerSnapshot>(&socket)).await;
        let (log, said) = match asked {
            Ok(Ok(answer)) => (Some(in_log(&answer.snapshot)), format!("running, process {}", answer.pid)),
            Ok(Err(error)) => (None, error.to_string()),
            Err(_) => (None, format!("{} does not answer", socket.display())),
        };
        let loads = self.load_store.open_loads().into_iter().map(|load| (load.batch, load)).collect();
        (Known { log, loads }, said)
    }

    /// Compares until shutdown, for the first time when `listed` tells that discovery has been through: what it finds
    /// needs no mending.
    ///
    /// # Errors
    /// As [`Watch::step`].
    pub(crate) async fn run(
        mut self,
        listed: oneshot::Receiver<()>,
        shutdown: Shutdown,
    ) -> Result<(), Failure> {
        if shutdown.until(listed).await.is_none_or(|listed| listed.is_err()) {
            return Ok(());
        }
        while let Some(next) = shutdown.until(self.step()).await {
            if !shutdown.sleep(next?).await {
                break;
            }
        }
        Ok(())
    }
}

fn say(report: &Report) {
    let (compared, mended, decide) = (report.compared, report.mended.count, report.decide.count);
    for mended in &report.mended.list {
        tracing::info!(batch = %mended.batch, "reconciled: {}: {}", mended.act, mended.outcome);
    }
    for undecided in report.decide.list.iter().take(SAID) {
        let report::Undecided { batch, what, advice, .. } = undecided;
        tracing::error!(%batch, "a person must decide: {what}; {}", advice.replace('\n', "; "));
    }
    let log_asked = report.sides.log_asked;
    tracing::info!(compared, mended, decide, log_asked, "log, S3 and ledger compared");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::judge::Matter;

    #[test]
    fn a_person_is_told_only_of_what_looked_damaged_by_both_readings() {
        let damaged = Verdict::Decide(Matter::ArchivedNotLoaded);
        assert_eq!(both_times(damaged.clone(), true), damaged);
        assert_eq!(both_times(damaged, false), Verdict::Agrees(Agreed::UnderWay));
        for decided in [false, true] {
            let archive = Verdict::Mend(Mend::Archive);
            assert_eq!(both_times(archive.clone(), decided), archive);
        }
    }
}
