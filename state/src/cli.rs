//! The command line of `state`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use serde::Serialize;
use shared::clock::Clock;
use shared::config::{Config, Secrets};
use shared::exit::{Exit, Failure};
use shared::ids::BatchPrefix;
use shared::out;

use crate::inspect::dump::{BatchDump, Dump};
use crate::inspect::verify::verify;

/// Shows the producer's log and the ingester's load store.
///
/// Asks the services over their sockets if they run, and opens their databases if they do not. Needs no secrets.
#[derive(Debug, Parser)]
#[command(
    name = "state",
    version,
    after_help = "Examples:\n  \
        state dump                       what is pending, and the state of the stream\n  \
        state dump --batch 019caeda-ca6f all about one batch\n  \
        state verify                     whether everything is as it was written\n\n\
        Exit codes: 0 done, 64 usage, 65 damaged or foreign data, 66 no such batch, 69 in use or no answer,\n\
        70 a fault of its own, 74 disk, 77 permission, 78 configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows every batch that is pending or was published lately, and the state of the stream.
    #[command(after_help = "Examples:\n  \
        state dump --pending\n  \
        state dump --batch 019caeda-ca6f-73aa-8f0b-91c6d2e85f03\n  \
        state dump --json | jq .pending\n  \
        watch state dump --config pipeline.toml")]
    Dump {
        #[command(flatten)]
        common: Common,
        /// Shows only what is pending.
        #[arg(long, conflicts_with = "batch")]
        pending: bool,
        /// Shows everything about one batch: give its id, or at least the first 8 characters of it.
        #[arg(long, value_name = "ID")]
        batch: Option<BatchPrefix>,
    },
    /// Reads everything in both databases and names whatever is not as it was written.
    ///
    /// A service that runs checks its database itself, while it works. Ends with 65 if anything is wrong. Changes no
    /// record.
    #[command(after_help = "Examples:\n  \
        state verify\n  \
        state verify --json | jq '.producer.snapshot[].faults[]'")]
    Verify {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The configuration file of the services.
    #[arg(
        long,
        value_name = "PATH",
        env = "LIVESTREAM_CONFIG",
        default_value = "/etc/livestream/pipeline.toml"
    )]
    config: PathBuf,
    /// Prints JSON (docs/STATE.md) instead of a table.
    #[arg(long)]
    json: bool,
}

impl Cli {
    /// Runs the command; a failure has the code the program ends with.
    pub fn execute(self) -> Result<(), Failure> {
        let (Command::Dump { common, .. } | Command::Verify { common }) = &self.command;
        let config = Config::load(&common.config, Secrets::Unused)?;
        let (json, clock) = (common.json, Clock::system());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.command {
            Command::Dump { batch: Some(prefix), .. } => {
                let dump = runtime.block_on(BatchDump::read(&config, &clock, &prefix))?;
                show(json, &dump, || dump.table())
            }
            Command::Dump { pending, .. } => {
                let dump = runtime.block_on(Dump::read(&config, &clock))?;
                let dump = if pending { dump.only_pending() } else { dump };
                show(json, &dump, || dump.table())
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

fn show(json: bool, value: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), Failure> {
    let text = if json {
        serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Software, error))?
    } else {
        table()
    };
    Ok(writeln!(out::stdout(), "{text}")?)
}
