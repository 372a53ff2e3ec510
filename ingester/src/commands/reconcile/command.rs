//! `ingester reconcile`: asks both services of this machine or reads their databases, compares once, and prints a report.

use std::io::Write;
use std::sync::Mutex;

use futures_util::FutureExt;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::human::counted;
use shared::object_store::ObjectStore;

use crate::commands::connect::connect_as_owner;
use crate::commands::reconcile::compare::{reconcile, sides, start_of_day};
use crate::commands::reconcile::mend::{Loader, Mender};
use crate::commands::reconcile::report::Report;
use crate::commands::terminal::{moment, print};
use crate::facts::gather::{Databases, Seals, Sources, in_log};
use crate::failure::StepError;
use crate::redshift::Target;

/// `ingester reconcile`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Compare batches opened since then: a duration before now (7d), a date or a time. Older ones that are not at
    /// their end are compared too.
    #[arg(long, value_name = "WHEN", default_value = "7d")]
    pub since: String,
    /// Change nothing; say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// 65 when something is left for an operator to decide; 69 or 78 when S3 or Redshift cannot be asked.
pub(crate) async fn command(
    config: &Config,
    args: &Args,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let now = clock.wall();
    let since = start_of_day(moment(&args.since, now)?);
    let schema = config.schema.load()?;
    let target = Target::new(config, &schema, "ingester reconcile".to_owned());
    let store = ObjectStore::connect(&config.s3).await;

    let (known, log, loader) = read_databases(config, clock).await;
    let mender = Mender::new(config, loader);
    let session = connect_as_owner(config, clock, &store, &target).await?;
    let sources = Sources { store: &store, config, target: &target, session: &session, now };
    let mut report = Report::new(now, since, args.dry_run, sides(config, &known, &log));
    let read_again = || async { read_databases(config, clock).await.0 }.boxed();
    let done = reconcile(&sources, Seals::OpenAndUnlogged, &known, &read_again, &mender, &mut report).await;
    done.map_err(|error| match error {
        StepError::Fatal(failure) => failure,
        StepError::Load(failure) => failure.into(),
    })?;
    print(&report, Report::table, args.json, out)?;
    match report.decide.count {
        0 => Ok(()),
        count => {
            let batches = counted(count, "batch needs", "batches need");
            let error = anyhow::anyhow!("{batches} a decision of an operator: see the report");
            Err(Failure::new(Exit::Data, error))
        }
    }
}

/// What the databases of this machine know, where the log was read, and who loads what is found.
async fn read_databases(config: &Config, clock: &Clock) -> (Databases, String, Loader) {
    let (log, origin) = match state::inspect::dump::ask_producer(config, clock).await {
        Ok(part) => (part.snapshot.as_ref().map(in_log), part.origin()),
        Err(failure) => (None, failure.to_string()),
    };
    let (loads, loader) = match state::inspect::dump::ask_ingester(config, clock).await {
        Ok(part) => match (part.pid, part.snapshot) {
            // No ingester has this load store open.
            (None, Some(snapshot)) => (snapshot.loads, Loader::Later(Mutex::new(None), clock.clone())),
            (_, snapshot) => (snapshot.map(|snapshot| snapshot.loads).unwrap_or_default(), Loader::Others),
        },
        Err(_) => (Vec::new(), Loader::Others),
    };
    let loads = loads.into_iter().map(|load| (load.batch, load)).collect();
    (Databases { log, loads }, origin, loader)
}
