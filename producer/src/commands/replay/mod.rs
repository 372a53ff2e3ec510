//! `producer replay`: records from files go the way of those from the stream, into a log of its own and from there to
//! S3, so that rejects can become rows once the schema is mended.
//!
//! ```text
//! file, stdin, S3 (async)        read (a blocking thread)               append, ship: as for the stream
//! bytes as they stand      ──►   decompress, frame, unwrap rejects, ──► log in <log.dir>/replay ──► S3
//!                                transform
//! ```
//! The log counts every record it takes, durably and in order. So a journal that says at which count the reading of
//! each file began tells after a crash exactly what of it is taken in already.

mod form;
mod input;
mod journal;
mod read;
mod summary;

use std::ffi::OsString;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use shared::clock::Moment;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::Instance;
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use state::log::{Log, LogError, LogReader, Settings};
use state::status::snapshot::ProducerSnapshot;
use tokio::sync::{broadcast, mpsc};

use crate::append::{self, FromStream};
use crate::counters::Counters;
use crate::decode::blocks::BlockBuilder;
use crate::upload::Shipping;
use input::Input;
use journal::Journal;
use read::{Reader, Stop};
use summary::Summary;

/// What follows the name of the instance in that of its replays.
const SUFFIX: &str = "-replay";
/// Letters of an instance's name at most.
const NAME_MAX: usize = 64;
/// How often it is looked whether everything is in S3.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Rejects go to S3 as soon as they are there.
const REJECTS_EVERY: Duration = Duration::from_millis(500);
/// Pieces of a file that may wait for the reading thread.
const PIECES_WAITING: usize = 4;

/// What to replay.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Files, `-` for standard input, `s3://bucket/key`, or `s3://bucket/prefix/` for all objects below it: lines of
    /// JSON, plain or compressed with gzip or zstd, whatever they are called. A line is a record as Adobe sends it, or
    /// a reject as it stands in S3.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<OsString>,
    /// Take in again what a run before took in of these files that did not end.
    #[arg(long)]
    pub from_start: bool,
}

/// Takes the records of all files in, and returns when they are in S3 and published. Says on `out` what became of
/// them, however it ends.
///
/// # Errors
/// 66 when a file is not there; 65 when one is damaged or no lines of JSON, or when records were rejected; 75 when it
/// was stopped before the end; and as the producer.
pub(crate) async fn replay(
    config: Config,
    args: &Args,
    shutdown: Shutdown,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let config = of_its_own(config)?;
    let schema = config.schema.load()?;
    let transform = crate::run::transform(&config, &schema)?;
    let store = ObjectStore::connect(&config.s3).await;
    // Everything must be there before anything is opened.
    let Some(inputs) = shutdown.until(input::find(&args.files, &store)).await.transpose()? else {
        return Err(unfinished());
    };

    // Files are in no order of time: a hit is judged by its id alone.
    let settings = Settings { connections: 0, ..Settings::of(&config, &schema) };
    let (log, resumed) = Log::open(settings, Moment::now())?;
    let transform = crate::run::mark_batches(transform, &schema, &log);
    let before = log.totals();
    let mut journal = Journal::open(&config.log.dir, before.received)?;
    if args.from_start {
        journal.forget(inputs.iter().map(Input::name))?;
    }
    let log_reader = log.reader();
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let append::Appender { stream, shipped, to_ship, ended: mut log_ended } =
        append::start(log, shutdown.clone())?;
    let (feed, mut published) = broadcast::channel(1024);
    let shipping = Shipping::new(&config, store, log_reader.clone(), shipped, feed);
    let shipping = Shipping { rejects_every: REJECTS_EVERY, ..shipping };
    let shipped_enough = Shutdown::new();
    let mut shipping = tokio::spawn(shipping.run(resumed, to_ship, shipped_enough.clone()));

    let max = usize::try_from(config.adobe.max_record_bytes.0).unwrap_or(usize::MAX);
    let mut summary = Summary::new(counters.clone());
    let mut replay = Replay {
        log: log_reader.clone(),
        journal,
        base: before.received,
        reader: Some(Reader::new(BlockBuilder::new(transform, counters), max, stream.clone())),
        stream,
        bar: bar(inputs.iter().map(Input::bytes)),
        summary: &mut summary,
        shutdown: shutdown.clone(),
    };
    let (mut shipping_ended, mut log_closed) = (false, false);
    let mut done = tokio::select! {
        done = replay.all(inputs) => done,
        ended = &mut shipping => {
            shipping_ended = true;
            Err(crate::run::ended_by_itself(ended.ok().and_then(Result::err)))
        }
        ended = &mut log_ended => {
            log_closed = true;
            Err(ended.ok().and_then(Result::err).unwrap_or(LogError::Ended).into())
        }
    };
    drop(replay);
    // Whoever still works for an end that will not come is let go; what is staged is made durable.
    shutdown.stop();
    shipped_enough.stop();
    let closing = async {
        if !shipping_ended {
            let _ = shipping.await;
        }
        if !log_closed && let Ok(Err(error)) = log_ended.await { Err(Failure::from(error)) } else { Ok(()) }
    };
    done = done.and(tokio::time::timeout(config.shutdown.timeout.0, closing).await.unwrap_or(Ok(())));
    if let Ok(snapshot) = log_reader.snapshot() {
        summary.end(snapshot.totals.since(&before), &mut published);
        done = done.and(summary.write(out).map_err(Failure::from)).and(summary.rejects());
    }
    done
}

/// The configuration of a replay: a log beside the producer's, so that either may run without the other, and the
/// name that its seals and rejects bear.
fn of_its_own(mut config: Config) -> Result<Config, Failure> {
    config.log.dir = config.log.dir.join("replay");
    let name = config.instance.name.to_string();
    let kept = name.get(..NAME_MAX - SUFFIX.len()).unwrap_or(&name);
    config.instance.name =
        Instance::try_from(format!("{kept}{SUFFIX}")).map_err(|error| Failure::new(Exit::Software, error))?;
    Ok(config)
}

fn unfinished() -> Failure {
    let error = anyhow::anyhow!(
        "stopped before the end; the same command goes on where this one was, and takes in nothing twice"
    );
    Failure::new(Exit::Unfinished, error)
}

/// Shown on a terminal only.
fn bar(sizes: impl Iterator<Item = Option<u64>>) -> ProgressBar {
    let bar = match sizes.sum::<Option<u64>>() {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::no_length(),
    };
    let style = "{elapsed_precise} {bar:24} {binary_bytes} of {binary_total_bytes}  {msg}";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

struct Replay<'s> {
    log: LogReader,
    journal: Journal,
    /// Records the log had received when it was opened.
    base: u64,
    /// None while it is reading.
    reader: Option<Reader>,
    stream: mpsc::Sender<FromStream>,
    bar: ProgressBar,
    summary: &'s mut Summary,
    shutdown: Shutdown,
}

impl Replay<'_> {
    async fn all(&mut self, inputs: Vec<Input>) -> Result<(), Failure> {
        let mut ended_well = Vec::new();
        for input in inputs {
            let name = input.name().to_owned();
            if self.one(input).await? {
                ended_well.push(name);
            }
        }
        self.bar.set_message("waiting for S3");
        // Taken only in an order that the log keeps: when this one has come, so has everything before it.
        let _ = self.stream.send(FromStream::Complete).await;
        let shutdown = self.shutdown.clone();
        if shutdown.until(self.in_s3()).await.transpose()?.is_none() {
            return Err(unfinished());
        }
        self.journal.forget(ended_well.iter().map(String::as_str))?;
        self.bar.finish_and_clear();
        self.summary.damage()
    }

    /// Takes one file in; false when it is damaged.
    async fn one(&mut self, input: Input) -> Result<bool, Failure> {
        let name = input.name().to_owned();
        let shutdown = self.shutdown.clone();
        let opening = shutdown.until(input.open()).await;
        let Some(mut opened) = opening.transpose()? else { return Err(unfinished()) };
        let Some(mut reader) = self.reader.take() else { return Err(unfinished()) };
        let skipped = self.journal.begin(&name, opened.stamp(), self.base + reader.sent())?;
        if skipped > 0 {
            tracing::info!(file = name, records = skipped, "taken in before by a run that did not end");
        }
        let (to_reader, pieces) = mpsc::channel(PIECES_WAITING);
        let bar = self.bar.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let ended = reader.read(pieces, skipped, |records| bar.set_message(format!("{records} records")));
            (reader, ended)
        });
        // Dropped without a last word when the process is to stop: then the reader stops too.
        let pumped = shutdown.until(opened.pump(to_reader, &self.bar)).await;
        let (reader, ended) = reading.await.map_err(|error| Failure::new(Exit::Software, error))?;
        self.reader = Some(reader);
        let Some(pumped) = pumped else { return Err(unfinished()) };
        pumped?;
        match ended {
            Ok(records) => {
                self.summary.skipped += skipped.min(records);
                Ok(true)
            }
            Err(Stop::Damaged { records, why }) => {
                self.summary.skipped += skipped.min(records);
                self.summary.damaged(&name, records, &why);
                Ok(false)
            }
            Err(Stop::NotLines(why)) => {
                self.summary.refused(&name, why);
                Ok(false)
            }
            Err(Stop::Cut) => Err(unfinished()),
            // The log has failed, and says so itself.
            Err(Stop::Closed) => std::future::pending().await,
        }
    }

    /// Returns when all that was sent is durable, in S3 and published, and every reject shipped.
    async fn in_s3(&self) -> Result<(), Failure> {
        let received = self.base + self.reader.as_ref().map_or(0, Reader::sent);
        loop {
            let log = self.log.clone();
            let looked = tokio::task::spawn_blocking(move || log.snapshot()).await;
            let ProducerSnapshot { totals, rejects_waiting, batches, .. } =
                looked.map_err(|error| Failure::new(Exit::Software, error))??;
            let published = batches.iter().all(|batch| batch.published.is_some());
            if totals.received == received && rejects_waiting == 0 && published {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
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
            let config = of_its_own(config.unwrap()).unwrap();
            assert_eq!(config.instance.name.to_string(), expected);
            assert_eq!(config.log.dir, std::path::Path::new("/var/lib/livestream/producer/replay"));
        }
    }
}
