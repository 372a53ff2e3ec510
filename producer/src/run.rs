//! `producer run`: the parts put together, and taken apart in order.

use std::sync::Arc;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::{BatchId, BatchPrefix};
use shared::object_store::ObjectStore;
use shared::schema::{Kind, Schema};
use shared::shutdown::Shutdown;
use state::inspect::metrics::producer_page;
use state::inspect::verify::Checked;
use state::log::{BatchStatus, Log, LogError, LogReader, Settings};
use state::status::feed::{self, Owner, Published, Republish};
use state::status::snapshot::{BatchDetail, Matching, ProducerSnapshot};
use tokio::sync::{broadcast, mpsc};

use crate::append;
use crate::counters::Counters;
use crate::source::{Shared, run_connections};
use crate::transform::{Filter, Transform};
use crate::upload::Shipping;
use crate::upload::copies::{Kept, Room};

/// Batches a follower of the feed may be behind before it is cut off and has to ask again.
const FEED_BACKLOG: usize = 1024;
/// Published batches a new follower is told of at once. It lists S3 too, when it starts and whenever the feed goes
/// away: telling it more would only make it look for folders that have long been archived.
const FEED_RECENT: usize = 20;
/// Batches that may wait to be uploaded once more; who asks for another asks again later.
const REPUBLISHED: usize = 64;

/// The transform a configuration asks for.
///
/// # Errors
/// When a filter's field or regular expression, or a column's path, cannot be used.
pub fn transform(config: &Config, schema: &Schema) -> Result<Transform, Failure> {
    let filters = config.filters.iter().map(Filter::of).collect::<Result<Vec<_>, _>>();
    let transform = filters.and_then(|filters| Transform::new(schema, &filters));
    let transform = transform.map_err(|error| Failure::new(Exit::Config, error))?;
    let transform = transform.with_invalid_text(config.adobe.invalid_text);
    Ok(transform.with_instance(&config.instance.name.to_string()))
}

/// The transform whose rows name their batch, once the log knows it, if the schema has a column for that.
pub(crate) fn mark_batches(transform: Transform, schema: &Schema, log: &Log) -> Transform {
    if !schema.columns.iter().any(|column| column.kind == Kind::Batch) {
        return transform;
    }
    transform.with_batch_mark(log.batch_mark())
}

/// Runs the producer until a signal, or until it cannot go on.
///
/// # Errors
/// When the log cannot be opened or fails, or the credential or the stream's address is wrong.
pub(crate) async fn run(config: Config, clock: Clock, shutdown: Shutdown) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let transform = transform(&config, &schema)?;
    let (log, resumed) = Log::open(Settings::of(&config, &schema), clock.now())?;
    let transform = mark_batches(transform, &schema, &log);
    let (known, resuming) = (log.known(), log.has_history());
    tracing::info!(
        instance = %config.instance.name,
        dir = %config.log.dir.display(),
        rows = resumed.rows,
        files = resumed.closed.len(),
        batches = resumed.sealed.len(),
        hits = resumed.hits,
        "log open"
    );
    let store = ObjectStore::connect(&config.s3).await;
    let reader = log.reader();
    let room =
        Room { max: config.log.keep_uploaded.0, shared: config.log.max_bytes.0, waiting: log.waiting() };
    let kept = Kept::open(&config.log.dir, room)?;
    tokio::spawn(kept.clone().watch(shutdown.clone()));
    let (republish, once_more) = mpsc::channel(REPUBLISHED);
    let (feed_out, _) = broadcast::channel(FEED_BACKLOG);
    let appender = append::start(log, shutdown.clone())?;

    let owner =
        Arc::new(LogOwner { log: reader.clone(), feed: feed_out.clone(), kept: kept.clone(), republish });
    let socket = config.producer_socket();
    let serving = tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            if let Err(error) = feed::serve(&socket, owner, shutdown).await {
                tracing::error!(%error, socket = %socket.display(), "nobody can ask this producer: the socket failed");
            }
        }
    });
    let counters = Arc::new(Counters::new(transform.filter_names()));
    let (listen, figures, counted, time) =
        (config.metrics.producer_listen.clone(), reader.clone(), counters.clone(), clock.clone());
    let page = move || {
        let mut page = producer_page(&Owner::snapshot(&figures)?, time.wall());
        counted.show(&mut page);
        Ok(page)
    };
    tokio::spawn(shared::admin::serve(listen, page, shutdown.clone()));
    let shipping = Shipping::new(&config, store, reader, appender.shipped, feed_out).keeping(kept);
    let mut shipping =
        tokio::spawn(shipping.run_and_mend(resumed, appender.to_ship, once_more, shutdown.clone()));
    let shared = Shared::new(
        &config.adobe,
        Some(config.token_cache()),
        counters,
        appender.stream,
        known,
        clock.clone(),
    )?;

    // What ended the producer, if it was not asked to stop; kept here, since what follows may take too long.
    let mut failure = None;
    let mut log_ended = appender.ended;
    let work = async {
        // The stream ends by a signal or an error of its own, the two others by an error only. The first to end
        // ends all; the log last, when nobody can tell it anything any more.
        let streaming = run_connections(shared, transform, resuming, &shutdown);
        tokio::pin!(streaming);
        let mut shipped = false;
        let ended = loop {
            tokio::select! {
                streamed = &mut streaming => break streamed,
                ended = &mut shipping, if !shipped => match ended {
                    Ok(Ok(())) if shutdown.is_stopping() => shipped = true,
                    ended => break Err(ended_by_itself(ended.ok().and_then(Result::err))),
                },
                // Whatever the reason, a log that has ended has said its last word.
                ended = &mut log_ended => return ended.unwrap_or(Err(LogError::Ended)),
            }
        };
        shutdown.stop();
        failure = ended.err();
        if failure
            .as_ref()
            .is_some_and(|failure| matches!(failure.exit(), Exit::Data | Exit::Io | Exit::Software))
        {
            // The log is not to be believed any more: nothing is worth waiting for.
            return Ok(());
        }
        if !shipped {
            let _ = shipping.await;
        }
        let _ = serving.await;
        log_ended.await.unwrap_or_else(|_| Err(LogError::Missing("thread that writes it".to_owned())))
    };
    let overdue = async {
        shutdown.stopping().await;
        clock.sleep(config.shutdown.timeout.0).await;
    };
    let done = tokio::select! {
        done = work => done,
        () = overdue => {
            tracing::warn!("not everything ended within shutdown.timeout; the next start goes on from the log");
            Ok(())
        }
    };
    if let Some(failure) = failure {
        return Err(failure);
    }
    done?;
    tracing::info!("stopped");
    Ok(())
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

/// Answers questions about the log.
struct LogOwner {
    log: LogReader,
    feed: broadcast::Sender<Published>,
    kept: Kept,
    republish: mpsc::Sender<BatchId>,
}

impl Owner for LogOwner {
    type Snapshot = ProducerSnapshot;
    type Batch = BatchDetail;

    fn snapshot(&self) -> Result<ProducerSnapshot, Failure> {
        Owner::snapshot(&self.log)
    }

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<BatchDetail>, Failure> {
        Owner::batch(&self.log, prefix)
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Owner::verify(&self.log)
    }

    fn republish(&self, batch: BatchId) -> Result<Republish, Failure> {
        let batches = self.log.batches().map_err(LogError::from)?;
        match batches.iter().find(|(_, known)| known.id == batch).map(|(_, known)| known.status) {
            Some(BatchStatus::Filling | BatchStatus::Sealed) => return Ok(Republish::NotPublished),
            known => {
                if let Err(why) = self.kept.seal(batch) {
                    tracing::warn!(%batch, why, "asked for a batch once more, of which no copy is left");
                    return Ok(if known.is_some() { Republish::Gone } else { Republish::Unknown });
                }
            }
        }
        if self.kept.begin(batch) && self.republish.try_send(batch).is_err() {
            self.kept.end(batch);
            let busy = anyhow::anyhow!("too many batches are uploaded once more already: ask again later");
            return Err(Failure::new(Exit::Unavailable, busy));
        }
        Ok(Republish::UnderWay)
    }

    fn loaded(&self, batch: BatchId) {
        self.kept.forget(batch);
    }

    fn follow(&self) -> Option<(Vec<Published>, broadcast::Receiver<Published>)> {
        // Subscribed before the log is read: a batch published in between is told twice rather than never.
        let coming = self.feed.subscribe();
        let batches = self.log.batches().unwrap_or_default();
        let published = batches.iter().filter(|(_, batch)| batch.status == BatchStatus::Published);
        let mut recent: Vec<_> =
            published.rev().take(FEED_RECENT).map(|(_, batch)| Published { batch: batch.id }).collect();
        recent.reverse();
        Some((recent, coming))
    }
}
