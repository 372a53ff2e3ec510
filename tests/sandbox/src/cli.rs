//! The command line of `demo`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cost;
use crate::demo::{keeper, psql, run};

/// Streams hits from a stand-in for Livestream through the real services into a stand-in for Redshift, and judges
/// the result.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs it, from stream to verdict.
    #[command(
        after_help = "The last line says it all; the exit code is 0 only if nothing was lost, doubled or altered:\n  \
                            sent=… loaded=… duplicates=… filtered=… rejected=… lost=0 doubled=0 seconds=… rows_per_s=…"
    )]
    Run(run::Options),
    /// Opens psql on what the last demo loaded, whether its stand-ins run or not.
    #[command(after_help = "Example:\n  demo psql -- -c 'SELECT count(*) FROM public.livestream'")]
    Psql {
        /// Where the demo left its files.
        #[arg(long, default_value = "target/demo")]
        dir: PathBuf,
        /// What psql is told.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Counts what a million hits cost in requests, COPYs and Redshift time, for three sizes of sites.
    ///
    /// Takes about a minute. docs/COST.md has the result.
    Cost,
    /// The stand-ins alone, for `run`, which talks to them over their standard input and output.
    #[command(hide = true)]
    StandIns(keeper::Options),
}

impl Cli {
    /// Does what was asked; says on standard output why it could not.
    pub fn execute(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(self.run()));
        done.unwrap_or_else(|error| {
            println!("error: {error:#}");
            ExitCode::FAILURE
        })
    }

    async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(options) => run::run(options).await,
            Command::Psql { dir, args } => psql::run(&dir, &args).await,
            Command::Cost => cost::run().await.map(|()| ExitCode::SUCCESS),
            Command::StandIns(options) => keeper::run(options).await.map(|()| ExitCode::SUCCESS),
        }
    }
}
