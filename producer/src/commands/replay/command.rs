//! The command: a log of its own with all that brings it to S3, and the files that are read into it.

use std::ffi::OsString;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::Instance;
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use shared::systemd::Loop;
use state::log::{Log, LogError, Resumed, Settings};
use state::status::activity::{Activity, Component};
use state::status::feed::Published;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::append::{self, Appender, ConnectionEvent};
use crate::commands::replay::files::{Replay, unfinished};
use crate::commands::replay::input;
use crate::commands::replay::journal::Journal;
use crate::commands::replay::read::Reader;
use crate::commands::replay::summary::Summary;
use crate::counters::Counters;
use crate::decode::blocks::BlockBuilder;
use crate::run::ended_by_itself;
use crate::upload::Uploader;

/// Follows the name of the instance in that of its replays.
const SUFFIX: &str = "-replay";
const NAME_MAX: usize = 64;
/// Rejects go to S3 as soon as they are there.
const REJECTS_EVERY: Duration = Duration::from_millis(500);

/// What to replay.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Read these files, `-` for standard input, `s3://bucket/key`, or `s3://bucket/prefix/` for all objects below it:
    /// lines of JSON, plain or compressed with gzip or zstd, whatever they are called. A line is a record as Adobe sends
    /// it, or a reject as it stands in S3.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<OsString>,
    /// Take in again what a run before took in of these files that did not end.
    #[arg(long)]
    from_start: bool,
}

/// Takes the records of all files in until they are published. Reports on `out` what became of them, however it ends.
pub(crate) async fn replay(
    config: Config,
    args: &Args,
    clock: &Clock,
    shutdown: Shutdown,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let config = with_own_log(config)?;
    let schema = config.schema.load()?;
    let transform = crate::configured::transform(&config, &schema)?;
    let store = ObjectStore::connect(&config.s3).await;
    // Every file must be there before the log is opened.
    let Some(inputs) = shutdown.until(input::find(&args.files, &store)).await.transpose()? else {
        return Err(unfinished());
    };

    // Files are in no order of time: a hit is judged by its id alone.
    let settings = Settings::of(&config, &schema).with_pseudonyms_of(transform.form());
    let settings = Settings { connections: 0, ..settings };
    let (log, resumed) = Log::open(settings, clock.now())?;
    let transform = transform.with_batch_placeholder(log.batch_placeholder());
    let before = log.totals();
    let mut journal = Journal::open(&config.log.dir, before.received)?;
    if args.from_start {
        journal.forget(inputs.iter().map(|input| input.name.as_str()))?;
    }
    let reader = log.reader();
    let (stream, mut published, mut pipeline) =
        Pipeline::start(&config, log, resumed, store, clock, &shutdown)?;

    let counters = Counters::new(transform.filter_names()).with_protected(transform.protected_fields());
    let counters = Arc::new(counters);
    let max = usize::try_from(config.adobe.max_record_bytes.0).unwrap_or(usize::MAX);
    let records = BlockBuilder::new(transform, counters.clone());
    let mut summary = Summary::new(counters);
    let mut replay = Replay {
        log: reader.clone(),
        journal,
        received_before: before.received,
        reader: Some(Reader::new(records, max, stream.clone())),
        stream,
        summary: &mut summary,
        clock: clock.clone(),
        shutdown: shutdown.clone(),
    };
    let done = tokio::select! {
        done = replay.files(inputs) => done,
        failure = pipeline.failure() => Err(failure),
    };
    drop(replay);
    // Ends the appender and the uploader; what is staged is made durable.
    shutdown.stop();
    let closed = tokio::select! {
        closed = pipeline.close() => closed,
        () = clock.sleep(config.shutdown.timeout.0) => Ok(()),
    };
    let mut done = done.and(closed);
    if let Ok(snapshot) = reader.snapshot() {
        summary.end(snapshot.totals.since(&before), &mut published);
        done = done.and(summary.write(out).map_err(Failure::from)).and(summary.rejects());
    }
    done
}

struct Pipeline {
    log: oneshot::Receiver<Result<(), LogError>>,
    uploader: JoinHandle<Result<(), LogError>>,
    stop_uploader: Shutdown,
}

impl Pipeline {
    /// Also returns where the rows go in, and where published batches are told.
    fn start(
        config: &Config,
        log: Log,
        resumed: Resumed,
        store: ObjectStore,
        clock: &Clock,
        shutdown: &Shutdown,
    ) -> Result<(mpsc::Sender<ConnectionEvent>, broadcast::Receiver<Published>, Self), Failure> {
        let reader = log.reader();
        let reporter = Activity::new(clock.clone()).reporter(Component::Log);
        let Appender { stream, upload_reports, sealed_batches, ended } =
            append::start(log, reporter, Loop::default(), clock.clone(), shutdown.clone())?;
        let (feed, published) = broadcast::channel(1024);
        let uploader = Uploader::new(config, store, reader, upload_reports, feed, clock.clone())
            .with_rejects_every(REJECTS_EVERY);
        let stop_uploader = Shutdown::new();
        let uploader = tokio::spawn(uploader.run(resumed, sealed_batches, stop_uploader.clone()));
        Ok((stream, published, Self { log: ended, uploader, stop_uploader }))
    }

    async fn failure(&mut self) -> Failure {
        tokio::select! {
            ended = &mut self.uploader => ended_by_itself(ended.ok().and_then(Result::err)),
            ended = &mut self.log => ended.ok().and_then(Result::err).unwrap_or(LogError::Ended).into(),
        }
    }

    /// Waits until both have ended. Those that ended by themselves were reported as a failure.
    async fn close(mut self) -> Result<(), Failure> {
        self.stop_uploader.stop();
        if !self.uploader.is_finished() {
            let _ = (&mut self.uploader).await;
        }
        if !self.log.is_terminated()
            && let Ok(Err(error)) = (&mut self.log).await
        {
            return Err(error.into());
        }
        Ok(())
    }
}

/// A log beside the producer's, so that either may run without the other, and a name for seals and rejects.
fn with_own_log(mut config: Config) -> Result<Config, Failure> {
    config.log.dir = config.log.dir.join("replay");
    let name = config.instance.name.to_string();
    let kept = name.get(..NAME_MAX - SUFFIX.len()).unwrap_or(&name);
    config.instance.name =
        Instance::try_from(format!("{kept}{SUFFIX}")).map_err(|error| Failure::new(Exit::Software, error))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_has_a_name_of_its_own_that_fits() {
        for (name, expected) in
            [("web-1", "web-1-replay".to_owned()), (&"n".repeat(64), "n".repeat(57) + SUFFIX)]
        {
            let text = include_str!("../../../../deploy/pipeline.example.toml").replace("web-1", name);
            let path = std::path::Path::new("pipeline.toml");
            let config = Config::parse(&text, path, std::iter::empty(), shared::config::Secrets::Unused);
            let config = with_own_log(config.unwrap()).unwrap();
            assert_eq!(config.instance.name.to_string(), expected);
            assert_eq!(config.log.dir, std::path::Path::new("/var/lib/livestream/producer/replay"));
        }
    }
}
