//! The command line of the producer.

use std::io;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Parser, Subcommand};
use shared::clock::Clock;
use shared::config::{Config, Secrets};
use shared::exit::{Exit, Failure};
use shared::ids::Instance;
use shared::out;
use shared::shutdown::Shutdown;

use crate::commands::check::check;
use crate::commands::import::import;
use crate::commands::replay::{Args, replay};
use crate::commands::schema::{Asked, Where};

/// Reads Adobe Analytics Livestream, makes every hit durable, and writes batches of rows to S3.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 64 usage, 65 damaged data or rejects of a replay, 66 no such file, 69 a service refused, \
                  70 a fault of its own, 74 disk, 75 stopped before the end, 77 permission, 78 configuration, \
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
        after_help = "Examples:\n  LIVESTREAM__ADOBE__CLIENT_SECRET=… producer run --config pipeline.toml\n  producer run --drain"
    )]
    Run {
        #[command(flatten)]
        place: Where,
        /// Upload everything that is in the log, read nothing from the stream, and end.
        ///
        /// Seals the half-filled batch, and ends with 0 when nothing waits for S3 any more. Do so before you change
        /// s3.bucket or s3.to_ingest, or remove a producer.
        #[arg(long)]
        drain: bool,
    },
    /// Tries token, stream, bucket and log directory, one after the other.
    ///
    /// Closes the connection to the stream as soon as Adobe has answered, after at most adobe.connect_timeout for each
    /// answer, and reads nothing of it. Adobe counts what it sent by then as read; a start with adobe.reset = "smallest"
    /// asks for it again. Opens no connection while the producer of this log runs. Do not check beside another producer
    /// of the same stream.
    #[command(after_help = "Example:\n  producer check --config pipeline.toml")]
    Check(Where),
    /// Prints the columns, or what becomes of a record, column by column.
    ///
    /// Connects to nothing and needs no secret.
    #[command(after_help = "Examples:\n  producer schema --json\n  producer schema --explain record.json")]
    Schema(Asked),
    /// Turns the configuration of the Python daemon into one of ours.
    ///
    /// Reads config_admin.json, producer_parameters.json and the private key. Overwrites nothing.
    #[command(
        name = "import-config",
        after_help = "Example:\n  producer import-config /opt/adobe-livestream-redshift-daemon --output /etc/livestream/pipeline.toml"
    )]
    ImportConfig(ImportConfig),
    /// Reads records from files and uploads them to S3 as the stream's: rejects, once the schema is corrected.
    ///
    /// Ends when everything is published. It has a log of its own, `replay` in `log.dir`, so the producer may run
    /// meanwhile. It does not know what the producer accepted: a record that became a row before is loaded again. The
    /// same command finishes a run that was stopped or killed, and reads nothing twice.
    #[command(
        after_help = "Examples:\n  producer replay s3://example-livestream/Rejected/20260302/\n  zcat records.gz | grep '\"reportSuite\":\"test\"' | producer replay -"
    )]
    Replay {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        what: Args,
    },
}

#[derive(Debug, clap::Args)]
struct ImportConfig {
    /// The daemon's folder, or its `data`.
    dir: PathBuf,
    /// Where to write the configuration; the secrets go beside it, into files of their own. Without it, the
    /// configuration is printed.
    #[arg(long)]
    output: Option<PathBuf>,
    /// `instance.name` of the configuration.
    #[arg(long, default_value = "web-1", value_parser = |name: &str| Instance::try_from(name.to_owned()))]
    instance: Instance,
}

impl Cli {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        shared::tls::install();
        // Before all else, so that a stop during the start is orderly too.
        let shutdown = Shutdown::on_signals()?;
        let clock = Clock::system();
        let mut out = out::stdout();
        match self.command {
            Command::Schema(args) => args.print(&mut out),
            Command::ImportConfig(ImportConfig { dir, output, instance }) => {
                import(&dir, &instance, output.as_deref(), &mut out, &mut out::stderr())
            }
            Command::Check(place) => {
                let config = Config::load(&place.config, Secrets::Producer)?;
                let checked = block_on(async { shutdown.until(check(&config, &clock, &mut out)).await })?;
                let stopped =
                    || Failure::new(Exit::Unfinished, anyhow!("stopped before everything was tried"));
                checked.unwrap_or_else(|| Err(stopped()))
            }
            Command::Run { place, drain } => {
                let secrets = if drain { Secrets::Store } else { Secrets::Producer };
                let config = Config::load(&place.config, secrets)?;
                let _telemetry = shared::telemetry::start(&config.logging, "producer", &clock)?;
                config.warn();
                let done = block_on(crate::run::run(config, drain, clock, shutdown))?;
                if let Err(failure) = &done {
                    tracing::error!(%failure, "the producer ends");
                }
                done
            }
            Command::Replay { place, what } => {
                let config = Config::load(&place.config, Secrets::Store)?;
                let _telemetry = shared::telemetry::start(&config.logging, "replay", &clock)?;
                config.warn();
                block_on(replay(config, &what, &clock, shutdown, &mut out))?
            }
        }
    }
}

/// Runs `work` on a runtime of its own. Does not wait for threads that still compress or copy then: nothing they hold is
/// needed.
fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}
