//! The order of the places, and the exit code.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use shared::clock::Clock;
use shared::config::{Archive, Config, Protect};
use shared::exit::{Exit, Failure};
use shared::object_store::ObjectStore;
use shared::schema::{Column, Schema};
use shared::secret::Secret;

use crate::commands::connect::{connect, sql_failed};
use crate::commands::terminal::print;
use crate::failure::LoadFailure;
use crate::identity::Identity;
use crate::redshift::doing::Doing;
use crate::redshift::{Target, ledger_mark};
use crate::sought::Sought;

use super::report::Report;
use super::task::Task;
use super::values;

const PSEUDONYMS: &str = "[protect] puts pseudonyms in this column: give the pseudonym of a value, as the table has it, for each \
     key that was in use, and the value itself for rows from before. docs/PROTECTION.md has the command that makes them";

/// `ingester forget`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look in this column: one of [schema] with a text or a whole number, such as a visitor's or a customer's id.
    #[arg(long, value_name = "NAME")]
    column: String,
    /// Forget rows with this value, as the column has it, line ends included; may be given several times. Other users of this machine see it
    /// in the list of processes: a file is better.
    #[arg(long = "value", value_name = "VALUE", value_parser = |text: &str| Ok::<_, String>(Secret::new(text)))]
    values: Vec<Secret>,
    /// Read the values from a file, one a line; `-` is standard input.
    #[arg(long, value_name = "PATH", conflicts_with = "values", required_unless_present = "values")]
    file: Option<PathBuf>,
    /// Remove what is found. Without it nothing is changed.
    #[arg(long)]
    yes: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// 64 when column or values cannot be, 65 when something is left, 75 when a batch is in the way; 69 or 78 when S3 or
/// Redshift cannot be asked: what was done until then is reported.
pub(crate) async fn command(
    config: &Config,
    args: &Args,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let column = column(&schema, &args.column)?;
    let given = values::read(&args.values, args.file.as_deref())?;
    let sought = Sought::new(column, given).map_err(|why| Failure::new(Exit::Usage, anyhow::anyhow!(why)))?;
    let target = Target::new(config, &schema, "ingester forget".to_owned());
    let store = ObjectStore::connect(&config.s3).await;
    refuse_overlap(config)?;
    let session = connect(config, clock).await?;
    let identity = Identity::with_archive(config, store.clone());
    identity.refuse_foreign(&session, &target).await?;
    session.run(&target.check_table()).await.map_err(sql_failed(Doing::CheckTable))?;
    session.run(&target.check_ledger()).await.map_err(sql_failed(Doing::CheckLedger))?;
    if args.yes {
        // Rows that count to no batch are counted in it.
        let mark = ledger_mark::ensure(&session, &target).await?;
        // What is written to must be ours; what waits is claimed by whoever loads it.
        let keeps = config.ingester.archive == Archive::Keep;
        let written = |prefix: &str| keeps || prefix != config.s3.to_ingest;
        identity.claim_these(&mark, written).await.map_err(LoadFailure::from)?;
    }
    let mut report = Report::new(clock.wall(), &sought, args.yes);
    let task = Task {
        config,
        store: &store,
        session: &session,
        target: &target,
        sought: Arc::new(sought),
        clock,
        apply: args.yes,
    };
    let ended = run(&task, clock, &mut report).await;
    report.end();
    report.stopped = ended.as_ref().err().map(Failure::to_string);
    print(&report, Report::text, args.json, out)?;
    if is_pseudonym(config, column) {
        writeln!(shared::out::stderr(), "note: {PSEUDONYMS}")?;
    }
    ended?;
    verdict(&report)
}

/// What lies below the other would be taken for a batch there.
fn refuse_overlap(config: &Config) -> Result<(), Failure> {
    let (waiting, archive) = (&config.s3.to_ingest, &config.s3.ingested);
    if waiting.starts_with(archive.as_str()) || archive.starts_with(waiting.as_str()) {
        let why = "s3.ingested and s3.to_ingest lie one in the other, so nobody can tell what is loaded: give s3.ingested a prefix \
                   of its own";
        return Err(Failure::new(Exit::Config, anyhow::anyhow!(why)));
    }
    Ok(())
}

fn column<'s>(schema: &'s Schema, name: &str) -> Result<&'s Column, Failure> {
    let found = schema.in_row().find(|column| column.name == name);
    let none = || {
        let error = anyhow::anyhow!("[schema] has no column {name:?}: `producer schema` prints them");
        Failure::new(Exit::Usage, error)
    };
    found.ok_or_else(none)
}

/// What may move goes first.
async fn run(task: &Task<'_>, clock: &Clock, report: &mut Report) -> Result<(), Failure> {
    // Before S3: what waits there now is in S3 later.
    report.log = task.log(clock).await;
    let (in_the_way, kept) = task.waiting().await?;
    report.in_the_way = in_the_way;
    if task.apply && !report.in_the_way.is_empty() {
        report.applied = false;
        return Ok(());
    }
    task.copies(report).await?;
    task.quarantine(clock, &mut report.quarantine).await?;
    task.table(&mut report.table).await?;
    task.archive(&kept, &mut report.archive).await?;
    task.rejects(&mut report.rejects).await?;
    if task.apply { task.arrived(report).await } else { Ok(()) }
}

fn verdict(report: &Report) -> Result<(), Failure> {
    let fail = |exit, why: &str| Err(Failure::new(exit, anyhow::anyhow!("{why}: see the report")));
    if !report.in_the_way.is_empty() {
        return fail(Exit::Unfinished, "batches are in the way, nothing was changed");
    }
    if report.left.is_empty() {
        Ok(())
    } else {
        fail(Exit::Data, "not everything could be searched or removed")
    }
}

/// Whether the column has pseudonyms, by its own name or by that of a path that it reads.
fn is_pseudonym(config: &Config, column: &Column) -> bool {
    config.protect.pseudonym.iter().any(|field| {
        let by_name = Protect::column(field).is_some_and(|name| name == column.name);
        by_name || Protect::path(field).is_ok_and(|path| column.paths.contains(&path))
    })
}
