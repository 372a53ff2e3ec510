//! What `state dump --batch` shows: all that both services know of one batch, and how it came along.

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::config::{Archive, Config};
use shared::exit::{Exit, Failure};
use shared::ids::{BatchId, BatchPrefix};
use shared::layout::{self, SEAL};

use crate::loads::{ErrorClass, Load, LoadState, Loads};
use crate::log::LogReader;
use crate::status::ask::{PATIENCE, Part, Service};
use crate::status::feed::Question;
use crate::status::snapshot::{BatchDetail, SNAPSHOT_FORMAT};

/// Ids named when several batches are meant.
const NAMED: usize = 5;

/// One batch at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct BatchDump {
    /// [`SNAPSHOT_FORMAT`]
    pub format: u32,
    /// When.
    pub at: DateTime<Utc>,
    /// The batch.
    pub batch: BatchId,
    /// What the producer's log has of it; None inside when it does not know it.
    pub producer: Part<Option<BatchDetail>>,
    /// What the ingester's bookkeeping has of it; None inside when it does not know it.
    pub ingester: Part<Option<Load>>,
    /// Where its seal stands in S3, as far as both know; None when it has none yet, or none any more.
    pub seal: Option<String>,
    /// Where its rows in quarantine stand in S3; None when it has none, as far as the ingester knows.
    pub quarantine: Option<String>,
    /// What happened to it, in order of time.
    pub timeline: Vec<Event>,
}

/// Something that happened to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What.
    pub event: Happening,
    /// When, by the clock of the service that noted it.
    pub at: DateTime<Utc>,
    /// Milliseconds since the event before it; None for the first.
    pub after_ms: Option<u64>,
    /// The attempt it belongs to, if one.
    pub attempt: Option<u32>,
    /// Of a failure, what kind of trouble it was.
    pub class: Option<ErrorClass>,
    /// Of a failure, what happened.
    pub why: Option<String>,
}

/// What can happen to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// Its first row was accepted.
    Opened,
    /// Its files became final.
    Sealed,
    /// S3 confirmed its seal.
    Published,
    /// The ingester saw its seal.
    Discovered,
    /// An attempt to load it started.
    Started,
    /// An attempt failed, or could not start.
    Failed,
    /// The ledger has it.
    Loaded,
    /// Its folder is where the configuration wants it.
    Archived,
    /// The ingester saw its seal once more.
    FoundAgain,
}

/// Looks at the one batch whose id begins with `prefix`.
///
/// # Errors
/// When a database can neither be asked for nor read, no batch is known by that id, or several are.
pub async fn look_at_batch(config: &Config, prefix: &BatchPrefix) -> Result<BatchDump, Failure> {
    let question = Question::Batch(prefix.clone());
    let asked = Service::producer(config)
        .ask(&question, PATIENCE, LogReader::look, |log| log.matching(prefix).map_err(Failure::from));
    let producer = asked.await?;
    let asked =
        Service::ingester(config).ask(&question, PATIENCE, Loads::look, |loads| Ok(loads.matching(prefix)?));
    let ingester = asked.await?;
    let made = producer.snapshot.iter().flat_map(|found| &found.ids);
    let met = ingester.snapshot.iter().flat_map(|found| &found.ids);
    let mut ids: Vec<BatchId> = made.chain(met).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let batch = match ids.as_slice() {
        [batch] => *batch,
        [] => return Err(unknown(prefix, config)),
        several => return Err(ambiguous(prefix, several)),
    };
    let producer = producer.map(|found| found.batch);
    let ingester = ingester.map(|found| found.batch);
    Ok(BatchDump::of(batch, producer, ingester, config, Utc::now()))
}

fn unknown(prefix: &BatchPrefix, config: &Config) -> Failure {
    let error = anyhow::anyhow!(
        "no batch {prefix} is known here. Batches are forgotten long after they were published and archived: the ledger \
         ({}) and its folder in s3://{} still tell of it",
        config.redshift.ledger.unquoted(),
        config.s3.bucket,
    );
    Failure::new(Exit::NoInput, error)
}

fn ambiguous(prefix: &BatchPrefix, ids: &[BatchId]) -> Failure {
    let named: Vec<_> = ids.iter().take(NAMED).map(|id| format!("\n  {id}")).collect();
    let more = if ids.len() > NAMED { "\n  …" } else { "" };
    let error = anyhow::anyhow!("{} batches begin with {prefix}:{}{more}", ids.len(), named.concat());
    Failure::new(Exit::Usage, error)
}

impl BatchDump {
    /// The dump of what the two services have of `batch`.
    #[must_use]
    pub fn of(
        batch: BatchId,
        producer: Part<Option<BatchDetail>>,
        ingester: Part<Option<Load>>,
        config: &Config,
        at: DateTime<Utc>,
    ) -> Self {
        let (made, load) =
            (producer.snapshot.iter().flatten().next(), ingester.snapshot.iter().flatten().next());
        let seal = seal(config, batch, made, load);
        let quarantine = load.filter(|load| load.quarantined > 0).map(|_| {
            let (bucket, prefix) = (&config.s3.bucket, &config.s3.quarantine);
            layout::folder(&format!("s3://{bucket}/{prefix}"), batch)
        });
        let timeline = timeline(batch, made, load);
        Self { format: SNAPSHOT_FORMAT, at, batch, producer, ingester, seal, quarantine, timeline }
    }

    /// The dump for people, at most 100 columns wide. The caller adds the last line end.
    #[must_use]
    pub fn table(&self) -> String {
        crate::inspect::dump::batch_table::render(self)
    }
}

fn seal(config: &Config, batch: BatchId, made: Option<&BatchDetail>, load: Option<&Load>) -> Option<String> {
    let below = |prefix: &str, id| format!("{}{SEAL}", layout::folder(prefix, id));
    let bucket = |prefix: &str, id| below(&format!("s3://{}/{prefix}", config.s3.bucket), id);
    match (load.map(|load| (&load.state, load.ledger_id())), config.ingester.archive) {
        (Some((LoadState::Archived { .. }, _)), Archive::Delete) => None,
        (Some((LoadState::Archived { .. }, id)), Archive::Move) => Some(bucket(&config.s3.ingested, id)),
        _ => match made {
            Some(made) => made.summary.published.map(|_| below(&made.place, batch)),
            None => Some(bucket(&config.s3.to_ingest, batch)),
        },
    }
}

fn timeline(batch: BatchId, made: Option<&BatchDetail>, load: Option<&Load>) -> Vec<Event> {
    let plain = |event, at| Event { event, at, after_ms: None, attempt: None, class: None, why: None };
    let opened = made.map_or_else(|| batch.opened_at(), |made| made.summary.opened);
    let mut events = vec![plain(Happening::Opened, opened)];
    let summary = made.map(|made| &made.summary);
    events.extend(summary.and_then(|batch| batch.sealed).map(|at| plain(Happening::Sealed, at)));
    events.extend(summary.and_then(|batch| batch.published).map(|at| plain(Happening::Published, at)));
    if let Some(load) = load {
        events.push(plain(Happening::Discovered, load.discovered));
        let last = load.failures.len().wrapping_sub(1);
        for (number, failed) in load.failures.iter().enumerate() {
            let started = |at| Event { attempt: failed.attempt, ..plain(Happening::Started, at) };
            events.extend(failed.started.map(started));
            // Of the latest failure more of the reason is kept.
            let why = match &load.state {
                LoadState::Retrying { why, .. } if number == last => why,
                _ => &failed.why,
            };
            events.push(Event {
                attempt: failed.attempt,
                class: Some(failed.class),
                why: Some(why.clone()),
                ..plain(Happening::Failed, failed.failed)
            });
        }
        let started = |at| Event { attempt: Some(load.attempts), ..plain(Happening::Started, at) };
        events.extend(load.started.map(started));
        let loaded = match load.state {
            LoadState::Loaded { at } => load.loaded.or(Some(at)),
            _ => load.loaded,
        };
        events.extend(loaded.map(|at| plain(Happening::Loaded, at)));
        if let LoadState::Archived { at } = load.state {
            events.push(plain(Happening::Archived, at));
        }
        events.extend(load.found_again.map(|at| plain(Happening::FoundAgain, at)));
    }
    // The two services may run by different clocks; what one of them noted stays in its order.
    events.sort_by_key(|event| event.at);
    let before: Vec<_> = events.iter().map(|event| event.at).collect();
    for (event, before) in events.iter_mut().skip(1).zip(before) {
        event.after_ms = Some(u64::try_from((event.at - before).num_milliseconds()).unwrap_or(0));
    }
    events
}
