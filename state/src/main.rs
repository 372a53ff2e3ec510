//! `state`: what is pending, whether the services run or not.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shared::config::{Config, Secrets};
use shared::exit::{Exit, Failure};

/// Looks at the producer's log and the ingester's bookkeeping.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 64 usage, 65 damaged data, 69 in use, 74 disk, 77 permission, 78 configuration."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows every batch that is pending or was published lately, and the state of the stream.
    ///
    /// Asks the services over their sockets if they run, and reads their databases if they do not. Needs no secrets.
    #[command(
        after_help = "Examples:\n  state dump\n  state dump --json | jq .pending\n  watch state dump --config pipeline.toml"
    )]
    Dump {
        /// The configuration file of the services.
        #[arg(long, env = "LIVESTREAM_CONFIG", default_value = "/etc/livestream/pipeline.toml")]
        config: PathBuf,
        /// Prints JSON (docs/STATE.md) instead of a table.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    shared::exit::main(run)
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Command::Dump { config, json } = cli.command;
    let config = Config::load(&config, Secrets::Unused)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dump = runtime.block_on(state::dump::look(&config))?;
    let text = if json {
        serde_json::to_string_pretty(&dump).map_err(|error| Failure::new(Exit::Software, error))?
    } else {
        dump.table()
    };
    match writeln!(std::io::stdout(), "{text}") {
        // `state dump | head` is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
