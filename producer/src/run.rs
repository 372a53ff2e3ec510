//! `producer run`: starts the parts, and stops them in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shared::clock::Clock;
use shared::config::Config;
use shared::dirs;
use shared::exit::{Exit, Failure};
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use shared::systemd::ServiceManager;
use state::inspect::status_line;
use state::log::{Log, LogError, Resumed, Settings};
use state::reload::{Asked, Reloader};
use state::status::activity::{Activity, Component};
use state::status::history::History;
use state::status::tap::Tap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::alerts;
use crate::append;
use crate::configured::{to_run, transform};
use crate::counters::Counters;
use crate::drain::drain;
use crate::drift::{self, Drift};
use crate::log_owner;
use crate::reload::Producer;
use crate::shown::Shown;
use crate::source::{Shared, run_connections};
use crate::transform::CurrentTransform;
use crate::upload::Uploader;
use crate::upload::copies::{Room, UploadCopies};

const REPUBLISHED: usize = 64;

/// Reads the stream until shutdown. With `only_drain` reads nothing, and ends when everything in the log is in S3.
pub(crate) async fn run(
    config: Config,
    only_drain: bool,
    Asked { shutdown, requests, level }: Asked,
    clock: Clock,
) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let transform = transform(&config, &schema)?;
    let manager = ServiceManager::of_environment(clock.clone());
    let start = manager.begin_start("opening the log");
    let settings = Settings::of(&config, &schema).with_pseudonyms_of(transform.form());
    let (log, resumed) = open_log(&config, settings, &clock)?;
    let batch_placeholder = log.batch_placeholder().to_owned();
    let transform = to_run(transform, &schema, &batch_placeholder);
    let (reader, known, resuming) = (log.reader(), log.known(), log.has_history());
    let store = ObjectStore::connect(&config.s3).await;
    let room =
        Room { max: config.log.keep_uploaded.0, shared: config.log.max_bytes.0, waiting: log.waiting() };
    let copies = UploadCopies::open(&config.log.dir, room)?;
    tokio::spawn(copies.clone().make_room_until_stopped(clock.clone(), shutdown.clone()));
    let activity = Activity::new(clock.clone());
    let (reporter, watched) = (activity.reporter(Component::Log), manager.watch("log"));
    let appender = append::start(log, reporter, watched, clock.clone(), shutdown.clone())?;

    let (republish, to_republish) = mpsc::channel(REPUBLISHED);
    let counters = Counters::new(transform.filter_names()).with_protected(transform.protected_fields());
    let counters =
        Arc::new(counters.with_drift(Drift::open(&config.log.dir, transform.columns(), clock.clone())));
    let (known_fields, dir) = (counters.drift.clone(), config.log.dir.clone());
    tokio::spawn(drift::keep(known_fields, dir, clock.clone(), shutdown.clone()));
    let shown = Shown {
        log: reader.clone(),
        activity: activity.clone(),
        counters: counters.clone(),
        history: History::new(clock.clone()),
    };
    let tap = Tap::default();
    let (status, feed) = log_owner::start(
        shown.clone(),
        copies.clone(),
        republish,
        tap.clone(),
        socket(&config),
        clock.clone(),
        shutdown.clone(),
    );
    let page_token = watch::Sender::new(config.metrics.token.clone());
    shown.clone().serve(&config, page_token.subscribe(), clock.clone(), shutdown.clone());
    let told = watch::Sender::new(Arc::new(config.clone()));
    // A drain reads nothing, and has none of their secrets.
    if !only_drain {
        tokio::spawn(alerts::start(told.subscribe(), shown.clone(), &clock, &shutdown)?);
    }
    let uploader =
        Uploader::new(&config, store.clone(), reader.clone(), appender.upload_reports, feed, clock.clone())
            .with_copies(copies, to_republish)
            .with_reporter(activity.reporter(Component::Upload));
    let uploading = uploader.run(resumed, appender.sealed_batches, shutdown.clone());
    let uploader = tokio::spawn(manager.watch("upload").run(uploading));
    let line = move || Some(status_line::producer(&shown.snapshot().ok()?));
    manager.keep_told(line, config.shutdown.timeout.0, shutdown.clone());
    start.ready(if only_drain { "draining the log" } else { "connecting to the stream" });
    let (adobe, cache) = (&config.adobe, Some(config.token_cache()));
    let reading = async {
        if only_drain {
            activity.reporter(Component::Stream).begins("draining the log; the stream is not read");
            return drain(reader, appender.stream, clock.clone(), &shutdown).await;
        }
        let shared = Shared::new(adobe, cache, counters.clone(), appender.stream, known, clock.clone())?;
        let transforms = watch::Sender::new(transform);
        let current = CurrentTransform::new(transforms.subscribe());
        let tokens = shared.tokens.clone();
        let service =
            Producer { transforms, batch_placeholder, counters, tokens, store, page_token, alerts: told };
        let (config, activity) = (config.clone(), activity);
        let reloader = Reloader { service, config, schema, level, manager, activity: activity.clone() };
        tokio::spawn(reloader.run(requests, shutdown.clone()));
        run_connections(Shared { activity, tap, ..shared }, current, resuming, &shutdown).await
    };

    let parts = Parts { uploader, status, log: appender.ended };
    Box::pin(parts.run_to_end(reading, config.shutdown.timeout.0, &clock, &shutdown)).await
}

/// Opens the log, and reports what it holds.
fn open_log(config: &Config, settings: Settings, clock: &Clock) -> Result<(Log, Resumed), Failure> {
    let (log, resumed) = Log::open(settings, clock.now())?;
    let (instance, dir) = (&config.instance.name, config.log.dir.display());
    let (files, batches) = (resumed.closed.len(), resumed.sealed.len());
    let Resumed { rows, hits, .. } = resumed;
    tracing::info!(%instance, %dir, rows, files, batches, hits, "log open");
    for batch in log.reader().bound_elsewhere(&Settings::place_of(config)).map_err(LogError::from)? {
        tracing::warn!(
            batch = %batch.id, place = batch.place,
            "a part of the batch is in S3 at another place than s3.bucket and s3.to_ingest say: it is finished there, and \
             an ingester that reads that place must load it"
        );
    }
    Ok((log, resumed))
}

/// The producer's socket. Without its directory it fails, and says so; the stream is read all the same.
fn socket(config: &Config) -> PathBuf {
    let socket = config.producer_socket();
    if let Some(dir) = socket.parent() {
        let _missing = dirs::make("ingester.feed", dir);
    }
    socket
}

struct Parts {
    uploader: JoinHandle<Result<(), LogError>>,
    status: JoinHandle<()>,
    log: oneshot::Receiver<Result<(), LogError>>,
}

impl Parts {
    /// Runs until all parts have ended, but after a stop for `timeout` at most.
    async fn run_to_end(
        self,
        reading: impl Future<Output = Result<(), Failure>>,
        timeout: Duration,
        clock: &Clock,
        shutdown: &Shutdown,
    ) -> Result<(), Failure> {
        let mut failure = None;
        let overdue = async {
            shutdown.stopping().await;
            clock.sleep(timeout).await;
        };
        let ended = tokio::select! {
            ended = self.run(reading, &mut failure, shutdown) => ended,
            () = overdue => {
                tracing::warn!("not everything ended within shutdown.timeout; the next start goes on from the log");
                Ok(())
            }
        };
        if let Some(failure) = failure {
            return Err(failure);
        }
        ended?;
        tracing::info!("stopped");
        Ok(())
    }

    /// Runs until the first part ends, then stops all, and waits for the log last. Sets `failure` as soon as it is
    /// known, since the rest may take too long.
    async fn run(
        mut self,
        reading: impl Future<Output = Result<(), Failure>>,
        failure: &mut Option<Failure>,
        shutdown: &Shutdown,
    ) -> Result<(), LogError> {
        tokio::pin!(reading);
        let mut uploaded = false;
        // The connections end by a signal or an error, a drain also when it is done, the uploader and the log by an error
        // only.
        let first = loop {
            tokio::select! {
                ended = &mut reading => break ended,
                ended = &mut self.uploader, if !uploaded => match ended {
                    Ok(Ok(())) if shutdown.is_stopping() => uploaded = true,
                    ended => break Err(ended_by_itself(ended.ok().and_then(Result::err))),
                },
                ended = &mut self.log => return ended.unwrap_or(Err(LogError::Ended)),
            }
        };
        shutdown.stop();
        let exit = first.as_ref().err().map(Failure::exit);
        *failure = first.err();
        if let Some(Exit::Data | Exit::Io | Exit::Software) = exit {
            // The log cannot be trusted: nothing is worth waiting for.
            return Ok(());
        }
        if !uploaded {
            let _ = self.uploader.await;
        }
        let _ = self.status.await;
        self.log.await.unwrap_or_else(|_| Err(LogError::Missing("thread that writes it".to_owned())))
    }
}

/// Why the log cannot be written or read any more.
pub(crate) fn ended_by_itself(error: Option<LogError>) -> Failure {
    match error {
        Some(error) => error.into(),
        None => {
            Failure::new(Exit::Software, anyhow::anyhow!("a part of the producer that never ends has ended"))
        }
    }
}
