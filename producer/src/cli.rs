//! The command line of the producer.

use std::io;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Parser, Subcommand};
use shared::clock::Clock;
use shared::config::{Config, ConfigFile, Secrets};
use shared::exit::{Exit, Failure};
use shared::ids::Instance;
use shared::out;
use shared::shutdown::{ReloadRequests, Shutdown};
use state::reload::Asked;

use crate::commands::check::check;
use crate::commands::import::import;
use crate::commands::init::{self, init};
use crate::commands::replay::{Args, replay};
use crate::commands::schema;

/// Read Adobe Analytics Livestream, make every hit durable, and write batches of rows to S3.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  producer check --config pipeline.toml\n  producer run --config pipeline.toml\n  state dump"
)]
pub struct Cli {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the stream until SIGTERM or Ctrl-C.
    ///
    /// May be killed at any moment: the next start continues from the log. `state dump` shows what is pending. SIGHUP has it
    /// read its configuration again; docs/CONFIGURATION.md says which keys it takes then.
    #[command(
        after_help = "Examples:\n  LIVESTREAM__ADOBE__CLIENT_SECRET=… producer run --config pipeline.toml\n  producer run --drain"
    )]
    Run {
        /// Upload everything that is in the log, read nothing from the stream, and end.
        ///
        /// Seals the half-filled batch, and ends with 0 when nothing waits for S3 any more. Do so before you change
        /// s3.bucket or s3.to_ingest, or remove a producer.
        #[arg(long)]
        drain: bool,
    },
    /// Try token, stream, bucket and log directory, one after the other.
    ///
    /// Closes the connection to the stream as soon as Adobe has answered, after at most adobe.connect_timeout for each
    /// answer, and reads nothing of it. Adobe counts what it sent by then as read; a start with adobe.reset = "smallest"
    /// asks for it again. Opens no connection while the producer of this log runs. Do not check beside another producer
    /// of the same stream.
    #[command(after_help = "Example:\n  producer check --config pipeline.toml")]
    Check,
    /// Print the columns, what becomes of a record, or which fields the stream brings.
    ///
    /// Needs no secret, and asks nobody but, for --seen and --suggest, the producer that runs.
    #[command(
        after_help = "Examples:\n  producer schema --json\n  producer schema --explain record.json\n  \
        producer schema --seen\n  producer schema --suggest --input records.ndjson.gz > schema.toml"
    )]
    Schema(schema::Asked),
    /// Ask what a configuration needs, and write it.
    ///
    /// Writes the file that --config names, a schema file to add to, the secrets into files of their own, and the grants
    /// and policies to apply, with the names filled in. Takes from flags what they say, asks on a terminal for the rest, and
    /// connects to nothing. A secret is taken from LIVESTREAM__ADOBE__CLIENT_SECRET or LIVESTREAM__REDSHIFT__PASSWORD if they
    /// are set; typed, it does not show. Overwrites nothing without --force. Ends with 64 if an answer is missing or wrong.
    #[command(
        after_help = "Examples:\n  producer init\n  producer init --config /etc/livestream/web-1.toml --table public.web\n  \
        producer init --config pipeline.toml --yes --client-id ID --stream-url URL --bucket NAME \\\n    \
        --region REGION --redshift-host HOST --database NAME --iam-role ARN"
    )]
    Init(Box<init::Flags>),
    /// Turn the configuration of the Python daemon into one of ours.
    ///
    /// Reads config_admin.json, producer_parameters.json and the private key. Overwrites nothing.
    #[command(
        name = "import-config",
        after_help = "Example:\n  producer import-config /opt/adobe-livestream-redshift-daemon \\\n    --output /etc/livestream/pipeline.toml"
    )]
    ImportConfig(ImportConfig),
    /// Upload records from files as if the stream had sent them: rejects, once the schema is corrected.
    ///
    /// Ends when everything is published. It has a log of its own, `replay` in `log.dir`, so the producer may run
    /// meanwhile. It does not know what the producer accepted: a record that became a row before is loaded again. The
    /// same command finishes a run that was stopped or killed, and reads nothing twice. Exits with 65 if records are
    /// rejected again.
    #[command(
        after_help = "Examples:\n  producer replay s3://example-livestream/Rejected/20260302/\n  zcat records.gz | grep '\"reportSuite\":\"test\"' | producer replay -"
    )]
    Replay(Args),
}

#[derive(Debug, clap::Args)]
struct ImportConfig {
    /// Read the daemon's files in this folder, or in its `data`.
    dir: PathBuf,
    /// Write the configuration to FILE and the secrets beside it, into files of their own. Without it, print the
    /// configuration.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Set `instance.name` in the configuration.
    #[arg(long, value_name = "NAME", default_value = "web-1", value_parser = |name: &str| Instance::try_from(name.to_owned()))]
    instance: Instance,
}

impl Cli {
    /// Runs the command.
    pub fn execute(self) -> Result<(), Failure> {
        shared::tls::install();
        // Before all else, so that a stop during the start is orderly too.
        let (shutdown, requests) = match self.command {
            // Ctrl-C ends it at any question.
            Command::Init(_) => (Shutdown::new(), ReloadRequests::none()),
            Command::Run { .. } => Shutdown::of_service()?,
            _ => (Shutdown::on_signals()?, ReloadRequests::none()),
        };
        let clock = Clock::system();
        let (mut out, path) = (out::stdout(), &self.config.path);
        match self.command {
            Command::Init(flags) => init(&flags, path, &mut io::stdin().lock(), &mut out, &mut out::stderr()),
            Command::Schema(args) => block_on(args.print(path, &clock, &mut out))?,
            Command::ImportConfig(ImportConfig { dir, output, instance }) => {
                import(&dir, &instance, output.as_deref(), &mut out, &mut out::stderr())
            }
            Command::Check => {
                let config = Config::load(path, Secrets::Producer)?;
                let checked = block_on(async { shutdown.until(check(&config, &clock, &mut out)).await })?;
                let stopped =
                    || Failure::new(Exit::Unfinished, anyhow!("stopped before everything was tried"));
                checked.unwrap_or_else(|| Err(stopped()))
            }
            Command::Run { drain } => {
                let secrets = if drain { Secrets::Store } else { Secrets::Producer };
                let config = Config::load(path, secrets)?;
                let telemetry = shared::telemetry::start(&config.logging, "producer", &clock)?;
                config.warn();
                let asked = Asked { shutdown, requests, level: telemetry.level() };
                let done = block_on(crate::run::run(config, drain, asked, clock))?;
                done.map_err(|failure| {
                    tracing::error!(%failure, "the producer ends");
                    failure.logged()
                })
            }
            Command::Replay(what) => {
                let config = Config::load(path, Secrets::Replay)?;
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
