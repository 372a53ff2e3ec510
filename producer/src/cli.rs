//! The command line of the producer.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use shared::clock::Clock;
use shared::config::{Config, Secrets};
use shared::exit::{Exit, Failure};
use shared::ids::Instance;
use shared::out;
use shared::shutdown::Shutdown;

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
        after_help = "Example:\n  LIVESTREAM__ADOBE__CLIENT_SECRET=… producer run --config pipeline.toml"
    )]
    Run(Where),
    /// Tries token, stream, bucket and log directory, one after the other.
    ///
    /// The connection to the stream is closed as soon as Adobe has answered, after at most adobe.connect_timeout for each
    /// answer, and nothing of it is read. What Adobe had sent by then counts as read: a start with adobe.reset =
    /// "smallest" asks for it again. While the producer of this log runs no connection is opened. Do not check beside
    /// another producer of the same stream.
    #[command(after_help = "Example:\n  producer check --config pipeline.toml")]
    Check(Where),
    /// Prints the columns in force, or what becomes of a record, column by column.
    ///
    /// Connects to nothing and needs no secret.
    #[command(after_help = "Examples:\n  producer schema --json\n  producer schema --explain record.json")]
    Schema(crate::commands::schema::Asked),
    /// Turns the configuration of the Python daemon into one of ours.
    ///
    /// Reads config_admin.json, producer_parameters.json and the private key. Overwrites nothing.
    #[command(
        name = "import-config",
        after_help = "Example:\n  producer import-config /opt/adobe-livestream-redshift-daemon --output /etc/livestream/pipeline.toml"
    )]
    ImportConfig(ImportConfig),
    /// Takes records from files and brings them to S3 as the stream's: rejects, once the schema is mended.
    ///
    /// Ends when everything is published. It has a log of its own, `replay` in `log.dir`, so the producer may run
    /// meanwhile; and it does not know what that has accepted: a record that became a row before is loaded again. A run
    /// that was stopped or killed is finished by the same command, which takes in nothing twice.
    #[command(
        after_help = "Examples:\n  producer replay s3://example-livestream/Rejected/20260302/\n  zcat records.gz | grep '\"reportSuite\":\"test\"' | producer replay -"
    )]
    Replay {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        what: crate::commands::replay::Args,
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
        let (place, secrets) = match &self.command {
            Command::Run(place) | Command::Check(place) => (place, Secrets::Producer),
            Command::Replay { place, .. } => (place, Secrets::Store),
            Command::Schema(asked) => return asked.print(&mut out::stdout()),
            Command::ImportConfig(ImportConfig { dir, output, instance }) => {
                let (mut out, mut notes) = (out::stdout(), out::stderr());
                return crate::commands::import::import(
                    dir,
                    instance,
                    output.as_deref(),
                    &mut out,
                    &mut notes,
                );
            }
        };
        let clock = Clock::system();
        let config = Config::load(&place.config, secrets)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        // What needs no configuration has ended above; it is listed so that a new command is not forgotten.
        let done = match self.command {
            Command::ImportConfig(_) | Command::Schema(_) => Ok(()),
            Command::Check(_) => {
                let mut out = out::stdout();
                let checking = crate::commands::check::check(&config, &clock, &mut out);
                runtime.block_on(shutdown.until(checking)).unwrap_or_else(|| {
                    Err(Failure::new(
                        Exit::Unfinished,
                        anyhow::anyhow!("stopped before everything was tried"),
                    ))
                })
            }
            Command::Run(_) => {
                let telemetry = shared::telemetry::start(&config.logging, "producer")?;
                config.warn();
                let done = runtime.block_on(crate::run::run(config, clock, shutdown));
                if let Err(failure) = &done {
                    tracing::error!(%failure, "the producer ends");
                }
                drop(telemetry);
                done
            }
            Command::Replay { what, .. } => {
                let telemetry = shared::telemetry::start(&config.logging, "replay")?;
                config.warn();
                let mut out = out::stdout();
                let replay = crate::commands::replay::replay(config, &what, shutdown, &mut out);
                let done = runtime.block_on(replay);
                drop(telemetry);
                done
            }
        };
        // Threads that still compress or copy are not waited for: nothing they hold is needed.
        runtime.shutdown_background();
        done
    }
}
