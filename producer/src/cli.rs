//! The command line of the producer.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use shared::config::{Config, Secrets};
use shared::exit::Failure;
use shared::shutdown::Shutdown;

/// Reads Adobe Analytics Livestream, makes every hit durable, and writes batches of rows to S3.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 64 usage, 65 damaged data, 69 a service refused, 70 a fault of its own, 74 disk, 77 permission, 78 configuration,\n\
                  130 ended at once by a second signal.\n\
                  What is pending: `state dump`."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads the stream until SIGTERM or Ctrl-C.
    ///
    /// May be killed at any moment: the next start goes on from the log.
    #[command(
        after_help = "Example:\n  LIVESTREAM__ADOBE__CLIENT_SECRET=… producer run --config pipeline.toml"
    )]
    Run(Where),
    /// Tries token, stream, bucket and log directory, one after the other.
    #[command(after_help = "Example:\n  producer check --config pipeline.toml")]
    Check(Where),
    /// Prints the columns in force, or what becomes of a record, column by column.
    ///
    /// Connects to nothing and needs no secret.
    #[command(after_help = "Examples:\n  producer schema --json\n  producer schema --explain record.json")]
    Schema(crate::schema::Asked),
}

#[derive(Debug, clap::Args)]
struct Where {
    /// The configuration file of both services.
    #[arg(long, env = "LIVESTREAM_CONFIG", default_value = "/etc/livestream/pipeline.toml")]
    config: PathBuf,
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// With the code the program ends with.
    pub fn execute(self) -> Result<(), Failure> {
        shared::tls::install();
        // First of all, so that a stop asked for during the start is in order too.
        let shutdown = Shutdown::on_signals()?;
        let config = match &self.command {
            Command::Schema(asked) => return asked.print(&mut std::io::stdout().lock()),
            Command::Run(Where { config }) | Command::Check(Where { config }) => config,
        };
        let config = Config::load(config, Secrets::Producer)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = match self.command {
            Command::Check(_) => {
                let mut out = std::io::stdout();
                let checking = crate::check::check(&config, &mut out);
                runtime.block_on(shutdown.until(checking)).unwrap_or(Ok(()))
            }
            // Answered above.
            Command::Schema(_) => Ok(()),
            Command::Run(_) => {
                let telemetry = shared::telemetry::start(&config.logging, "producer")?;
                let done = runtime.block_on(crate::run::run(config, shutdown));
                if let Err(failure) = &done {
                    tracing::error!(%failure, "the producer ends");
                }
                drop(telemetry);
                done
            }
        };
        // Threads that still compress or copy are not waited for: nothing they hold is needed.
        runtime.shutdown_background();
        done
    }
}
