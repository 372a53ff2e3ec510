//! The command line of `state`.

use std::io::Write;

use clap::{Parser, Subcommand};
use serde::Serialize;
use shared::clock::Clock;
use shared::config::{Config, ConfigFile, Secrets};
use shared::exit::{Exit, Failure};
use shared::ids::BatchPrefix;
use shared::out;

use crate::inspect::columns;
use crate::inspect::dump::{BatchDump, Dump};
use crate::inspect::verify::verify;

/// Show the producer's log and the ingester's load store.
///
/// Asks the services over their sockets if they run, and opens their databases if they do not. Needs no secrets.
#[derive(Debug, Parser)]
#[command(
    name = "state",
    version,
    after_help = "Examples:\n  state dump\n  state dump --batch 019caeda-ca6f\n  state verify"
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
        watch state dump --config pipeline.toml")]
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
        let (Command::Dump { form, .. } | Command::Verify { form }) = &self.command;
        let config = Config::load(&self.config.path, Secrets::Unused)?;
        let (json, clock) = (form.json, Clock::system());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.command {
            Command::Dump { batch: Some(prefix), .. } => {
                let dump = runtime.block_on(BatchDump::read(&config, &clock, &prefix))?;
                show(json, &dump, || dump.table())?;
                dump.producer.answered().and(dump.ingester.answered())
            }
            Command::Dump { pending, .. } => {
                let dump = runtime.block_on(Dump::read(&config, &clock))?;
                let dump = if pending { dump.only_pending() } else { dump };
                show(json, &dump, || dump.table())?;
                dump.producer.answered().and(dump.ingester.answered())
            }
            Command::Verify { .. } => {
                let verification = runtime.block_on(verify(&config, &clock))?;
                let mut report = Vec::new();
                let verdict = verification.print(&mut report);
                show(json, &verification, || String::from_utf8_lossy(&report).trim_end().to_owned())?;
                verdict
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
