//! The command line of `ingester`: parses it and starts the command.

use std::time::Duration;

use clap::{Parser, Subcommand};
use shared::clock::Clock;
use shared::config::{Config, ConfigFile, Secrets};
use shared::exit::Failure;
use shared::human::Span;
use shared::out;
use shared::shutdown::{ReloadRequests, Shutdown};
use shared::telemetry;
use state::loads::Pause;
use state::reload::Asked;

use crate::commands::{self, adopt, audit, ddl, forget, ledger, reconcile, replay};

const EXAMPLES: &str = "Examples:
  ingester ddl | psql -h CLUSTER -p 5439 -d analytics
  ingester check --config pipeline.toml
  ingester run --config pipeline.toml
  ingester pause --for 30m --reason \"resize\"
  ingester replay --all

The environment overrides any key of the configuration, for instance a secret:
  LIVESTREAM__REDSHIFT__PASSWORD=… ingester run";

const DDL_EXAMPLES: &str = "Examples:
  ingester ddl | psql -h CLUSTER -p 5439 -d analytics
  ingester ddl --diff                    what the tables lack
  ingester ddl --apply                   the same, and alter them so
  LIVESTREAM__REDSHIFT__USER=admin LIVESTREAM__REDSHIFT__PASSWORD=… ingester ddl --apply";

const RECONCILE_EXAMPLES: &str = "Examples:
  ingester reconcile                     the last 7 days
  ingester reconcile --dry-run           only say what would be done
  ingester reconcile --since 2026-03-01 --json | jq '.decide.list[]'";

const ADOPT_EXAMPLES: &str = "Examples:
  ingester adopt 019caeda-ca6f-73aa-8f0b-91c6d2e85f03
  ingester adopt 019caeda-ca6f-73aa-8f0b-91c6d2e85f03 --instance web-1 --yes";

const AUDIT_EXAMPLES: &str = "Examples:
  ingester audit --since 7d
  ingester audit --since 2026-03-01 --until 2026-03-02 --deep --hits
  ingester audit --since 24h --json | jq '.batches[].batch'";

const LEDGER_EXAMPLES: &str = "Examples:
  ingester ledger show
  ingester ledger knows-from 2026-03-02T14:00:00Z
  ingester ledger trim --older-than 400d";

const REPLAY_EXAMPLES: &str = "Examples:
  ingester replay 019caeda-ca6f        the batch whose id begins so
  ingester replay --all                every batch with rows in quarantine

What Redshift refused, and how often:
  aws s3 cp s3://BUCKET/Quarantine/DAY/BATCH/SET/reasons.ndjson - |
    jq -r '.column + \": \" + .reason' | sort | uniq -c
A correction:
  ALTER TABLE public.livestream ALTER COLUMN evar1 TYPE varchar(255);";

const FORGET_EXAMPLES: &str = "Examples:
  ingester forget --column mcvisid --file ids.txt          what there is, and what stands in the way
  ingester forget --column mcvisid --file ids.txt --yes    remove it
  vault read … | ingester forget --column customer --file - --yes --json";

/// A longer pause is meant to have no end.
const LONGEST_PAUSE: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Load batches of Livestream rows from S3 into Redshift, each exactly once.
#[derive(Debug, Parser)]
#[command(name = "ingester", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load batches until SIGTERM or Ctrl-C.
    ///
    /// Finds batches through the producer's socket and by listing S3, loads each in one transaction that also writes
    /// its ledger row, and archives its folder. May be killed at any moment and started again; several may run. SIGHUP has
    /// it read its configuration again; docs/CONFIGURATION.md says which keys it takes then.
    #[command(after_help = "Example:\n  ingester run --config pipeline.toml")]
    Run,
    /// Try each step against the real S3 and Redshift, and say what to do about those that fail.
    ///
    /// Puts, copies and deletes a small object; opens a transaction that is rolled back. Loads nothing.
    #[command(after_help = "Example:\n  ingester check --config pipeline.toml")]
    Check,
    /// Load nothing for a while.
    ///
    /// Pauses the ingester of this configuration, whether it runs or not, and no other. The pause outlives restarts, and
    /// replaces an earlier one. A load under way ends normally; discovery and archiving go on.
    #[command(after_help = "Examples:\n  ingester pause --for 30m --reason \"resize\"\n  ingester pause")]
    Pause {
        /// Pause for this time, such as 30m; without it until `ingester resume`.
        #[arg(long = "for", value_name = "TIME", value_parser = pause_length)]
        length: Option<Span>,
        /// Tell why; `state dump` shows it.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: Option<String>,
    },
    /// End the pause that `ingester pause` began. Those of ingester.pause go on.
    #[command(after_help = "Example:\n  ingester resume")]
    Resume,
    /// Compare log, S3 and ledger, correct what needs no decision, and report the rest.
    ///
    /// Compares every batch that any of the three knows. Enters sealed batches for loading, archives the folders of loaded
    /// ones, and has the producer upload again what S3 has lost, if it still has copies. `ingester run` does the same at
    /// start and at an interval; this may run beside it. Exits with 0 if all agrees or was corrected, with 65 if something
    /// needs an operator.
    #[command(after_help = RECONCILE_EXAMPLES)]
    Reconcile(reconcile::Args),
    /// Seal a folder that has no seal and whose producer is gone, so that it is loaded.
    ///
    /// Reads every file, refuses what is not whole, asks, and writes manifest.json and batch.json. Refuses while the
    /// producer's log has the batch: then its producer finishes it. A batch that is archived and not in the ledger is
    /// copied back to be loaded.
    #[command(after_help = ADOPT_EXAMPLES)]
    Adopt(adopt::Args),
    /// Count again, in S3 and in the table, and name every batch that does not agree with the ledger.
    ///
    /// Per batch: received = rows + duplicates + filtered + rejected, and rows = loaded + quarantined + already in the
    /// table, by its seal, its files, the ledger and the table. Changes nothing. Exits with 0 if all agrees, with 65 if not.
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(audit::Args),
    /// Load rows that Redshift refused, once the table or the schema is corrected.
    ///
    /// When Redshift refuses rows of a batch, the ingester loads the others and keeps the refused ones below
    /// `s3.quarantine`, each with its reason; `state dump` shows how many. Read reasons.ndjson there, alter the table so that
    /// the rows fit, then run this. Each row is loaded once, however often this runs and whatever runs beside it. Rows that
    /// are still refused stay in quarantine: then it exits with 65. With 66 if there are no rows in quarantine.
    ///
    /// Rows that were made for another [schema] than the configured one are loaded into the columns of theirs. If the table
    /// has lost one of these, add it, replay, and drop it again.
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(replay::Args),
    /// Find all rows of a person, and with --yes remove them: from the table, the archive, quarantine and rejects.
    ///
    /// Deletes the rows of the table a day at a time; writes files of loaded batches, sets in quarantine and objects of
    /// rejects anew without them; has the producer of this machine drop its copies of loaded batches. The ledger counts them
    /// in `rows_forgotten`, so that `ingester audit` agrees at any moment. Services may run; run one of these at a time.
    ///
    /// Values are compared with what is stored: under [protect] with the pseudonym. Changes nothing while a batch that is not
    /// loaded and archived has such rows; rows that wait in the log cannot be searched, and the report says how many there
    /// are. The report ends with what this command cannot reach. Cut short anywhere, it is run again; a run that finds
    /// nothing exits with 0.
    #[command(after_help = FORGET_EXAMPLES)]
    Forget(forget::Args),
    /// Show what the ledger speaks for, say it, or make the ledger shorter.
    ///
    /// The ledger says which batches are loaded. Rows of times for which it speaks, and which their producer compared, are
    /// loaded by a plain COPY; all others are compared with the table first.
    #[command(subcommand, after_help = LEDGER_EXAMPLES)]
    Ledger(ledger::Command),
    /// Print CREATE TABLE for the table, the ledger, and the table that loads lock.
    ///
    /// Connects to nothing and needs no secret; with --diff and --apply, to Redshift.
    #[command(after_help = DDL_EXAMPLES)]
    Ddl(ddl::Args),
}

impl Cli {
    /// Runs the command. A failure has the code the program ends with.
    pub fn execute(self) -> Result<(), Failure> {
        shared::tls::install();
        let (Self { config: ConfigFile { path }, command }, clock) = (self, Clock::system());
        // Before anything that takes time: a signal that comes early must stop the service in order.
        let (shutdown, requests) = match command {
            Command::Run => Shutdown::of_service()?,
            _ => (Shutdown::new(), ReloadRequests::none()),
        };
        let secrets = match command {
            Command::Pause { .. } | Command::Resume => Secrets::Unused,
            Command::Ddl(ref args) if !args.connects() => Secrets::Unused,
            _ => Secrets::Ingester,
        };
        let (config, out) = (Config::load(&path, secrets)?, &mut out::stdout());
        match command {
            Command::Run => {
                let telemetry = telemetry::start(&config.logging, "ingester", &clock)?;
                config.warn();
                let asked = Asked { shutdown, requests, level: telemetry.level() };
                let done = in_runtime(crate::run::run(config, asked, clock));
                done.map_err(|failure| {
                    if failure.is_logged() {
                        return failure;
                    }
                    tracing::error!(%failure, "the ingester ends");
                    failure.logged()
                })
            }
            Command::Ddl(args) => in_runtime(ddl::command(&config, &args, &clock, out)),
            Command::Pause { length, reason } => {
                let since = clock.wall();
                let until = length.map(|Span(length)| since + length);
                let pause = Some(Pause { since, until, reason });
                in_runtime(commands::pause::set_pause(&config, &clock, pause, out))
            }
            Command::Resume => in_runtime(commands::pause::set_pause(&config, &clock, None, out)),
            Command::Check => in_runtime(commands::check::check(&config, &path, &clock, out)),
            Command::Reconcile(args) => in_runtime(reconcile::command(&config, &args, &clock, out)),
            Command::Adopt(args) => in_runtime(adopt::command(&config, &args, &clock, out)),
            Command::Audit(args) => in_runtime(audit::command(&config, &args, &clock, out)),
            Command::Forget(args) => in_runtime(forget::command(&config, &args, &clock, out)),
            Command::Ledger(command) => in_runtime(ledger::command(&config, &command, &clock, out)),
            Command::Replay(args) => {
                let _telemetry = telemetry::start(&config.logging, "replay", &clock)?;
                in_runtime(replay::replay(&config, &args, &clock, out))
            }
        }
    }
}

fn pause_length(text: &str) -> Result<Span, &'static str> {
    let span = Span::parse(text).ok_or("write a number and one of s, m, h, d, such as 30m")?;
    if span.0.is_zero() || span.0 > LONGEST_PAUSE {
        return Err("a pause has an end within a year; without --for it lasts until `ingester resume`");
    }
    Ok(span)
}

/// A reason is shown on terminals as it is.
fn reason(text: &str) -> Result<String, &'static str> {
    if text.contains(char::is_control) { Err("write one line of plain text") } else { Ok(text.to_owned()) }
}

fn in_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // Do not wait for the look-up of a host name: it cannot be interrupted.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}
