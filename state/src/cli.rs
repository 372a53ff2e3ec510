//! The command line of `state`.

use std::io::Write;

use clap::{Parser, Subcommand};
use serde::Serialize;
use shared::clock::Clock;
use shared::config::{Config, ConfigFile, Secrets};
use shared::exit::{Exit, Failure};
use shared::ids::BatchPrefix;
use shared::out;
use shared::shutdown::Shutdown;

use crate::alerts::trial;
use crate::inspect::columns;
use crate::inspect::dump::{BatchDump, Dump};
use crate::inspect::verify::verify;
use crate::tap::TapForm;
use crate::watch::{WatchForm, watch};

/// Show the producer's log and the ingester's load store.
///
/// Asks the services over their sockets if they run, and opens their databases if they do not. Needs no secrets, except
/// those of [[alert_target]] for `alerts test`.
#[derive(Debug, Parser)]
#[command(
    name = "state",
    version,
    after_help = "Examples:\n  state dump\n  state watch\n  state dump --batch 019caeda-ca6f\n  state tap -n 20\n  state verify\n  \
        state alerts test"
)]
pub struct Cli {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show every batch that is pending or was published lately, and the state of the stream.
    ///
    /// On a terminal, what needs attention has a colour (none with NO_COLOR=1) and lines fit its width.
    #[command(after_help = "Examples:\n  \
        state dump --pending\n  \
        state dump --batch 019caeda-ca6f-73aa-8f0b-91c6d2e85f03\n  \
        state dump --json | jq .pending\n  \
        state dump --config pipeline.toml | less")]
    Dump {
        #[command(flatten)]
        form: Form,
        /// Show only what is pending.
        #[arg(long, conflicts_with = "batch")]
        pending: bool,
        /// Show everything about one batch, by its id or at least the first 8 characters of it.
        #[arg(long, value_name = "ID")]
        batch: Option<BatchPrefix>,
    },
    /// Watch both services live in the terminal: the pipeline, what is wrong, and every batch.
    ///
    /// Asks every second, changes nothing, and works when a service does not run or does not answer: it says since when.
    /// It reads the database of a service that does not run once; r reads it again. Keys: arrows or j k select a batch,
    /// Enter opens it, p shows only what is pending, 1 to 4 change the table, ? shows all keys, q or Ctrl-C quits. No
    /// colours with NO_COLOR=1. Where standard output is no terminal (64), use `state dump`.
    #[command(after_help = "Examples:\n  \
        state watch --config pipeline.toml\n  \
        state watch --pending --interval 5s\n  \
        ssh -t HOST sudo -u livestream state watch")]
    Watch {
        #[command(flatten)]
        form: WatchForm,
    },
    /// Show records as they pass through the running producer, and what becomes of each.
    ///
    /// A record becomes a row, or is a duplicate, filtered (by which filter) or rejected (why). Columns that could not
    /// hold what was sent are named. The producer shows at most 1,000 records a second and never waits for this command:
    /// it counts the others, `… 1,204 not shown`. The log takes a row a moment before it is durable.
    ///
    /// RECORDS HOLD DATA OF CUSTOMERS. They go to standard output and nowhere else. The socket they come from is for the
    /// producer's user alone.
    ///
    /// Ends with 0 after -n records, at Ctrl-C, and when the reader of its output has gone; with 69 when the producer
    /// does not run or stops; with 77 when this user may not use the socket.
    #[command(after_help = "Examples:\n  \
        state tap -n 20\n  \
        state tap --rejects --full\n  \
        state tap --rows --json -n 1000 | jq -r .record\n  \
        sudo -u livestream state tap --config /etc/livestream/pipeline.toml")]
    Tap {
        #[command(flatten)]
        form: TapForm,
    },
    /// Read everything in both databases and name whatever is not as it was written.
    ///
    /// A service that runs checks its database itself, while it works. Exits with 65 if anything is wrong. Changes no
    /// record.
    #[command(after_help = "Examples:\n  \
        state verify\n  \
        state verify --json | jq '.producer.snapshot[].faults[]'")]
    Verify {
        #[command(flatten)]
        form: Form,
    },
    /// Try the targets of alerts.
    #[command(subcommand, after_help = "Example:\n  state alerts test")]
    Alerts(AlertsCommand),
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// Send a test message to each target, and say what it answered.
    ///
    /// Says nothing of the services, which need not run, and calls no heartbeat. At PagerDuty the incident is resolved at
    /// once. Exits with 69 if a target cannot be reached or fails, and with 78 if it refuses the message or none is
    /// configured.
    #[command(after_help = "Examples:\n  \
        state alerts test\n  \
        state alerts test --target oncall")]
    Test {
        /// Try this target only.
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Form {
    /// Print JSON (docs/STATE.md) instead of a table.
    #[arg(long)]
    json: bool,
}

impl Cli {
    /// Runs the command; a failure has the code the program ends with.
    pub fn execute(self) -> Result<(), Failure> {
        let secrets = if let Command::Alerts(_) = &self.command { Secrets::Alerts } else { Secrets::Unused };
        let config = Config::load(&self.config.path, secrets)?;
        let clock = Clock::system();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.command {
            Command::Watch { form } => {
                let shutdown = Shutdown::on_signals()?;
                runtime.block_on(watch(&form, &config, &clock, &shutdown))
            }
            Command::Tap { form } => {
                let shutdown = Shutdown::on_signals()?;
                runtime.block_on(form.run(&config, &shutdown))
            }
            Command::Dump { form: Form { json }, batch: Some(prefix), .. } => {
                let dump = runtime.block_on(BatchDump::read(&config, &clock, &prefix))?;
                show(json, &dump, || dump.table())?;
                dump.producer.answered().and(dump.ingester.answered())
            }
            Command::Dump { form: Form { json }, pending, .. } => {
                let dump = runtime.block_on(Dump::read(&config, &clock))?;
                let dump = if pending { dump.only_pending() } else { dump };
                show(json, &dump, || dump.table())?;
                dump.producer.answered().and(dump.ingester.answered())
            }
            Command::Verify { form: Form { json } } => {
                let verification = runtime.block_on(verify(&config, &clock))?;
                let mut report = Vec::new();
                let verdict = verification.print(&mut report);
                show(json, &verification, || String::from_utf8_lossy(&report).trim_end().to_owned())?;
                verdict
            }
            Command::Alerts(AlertsCommand::Test { target }) => {
                shared::tls::install();
                runtime.block_on(trial(&config, target.as_deref(), &clock, &mut out::stdout()))
            }
        }
    }
}

/// The text as the terminal shows it: fitted to its width, and with colours. Unchanged when there is no terminal.
fn on_terminal(text: &str) -> String {
    let fitted = out::terminal_width().map_or_else(|| text.to_owned(), |width| columns::fit(text, width));
    if out::colours() { columns::coloured(&fitted) } else { fitted }
}

fn show(json: bool, value: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), Failure> {
    let text = if json {
        serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Software, error))?
    } else {
        on_terminal(&table())
    };
    Ok(writeln!(out::stdout(), "{text}")?)
}
