//! One batch: what both services know of it, and what happened to it.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::clock::Clock;
use shared::config::{Archive, Config};
use shared::exit::{Exit, Failure};
use shared::ids::{BatchId, BatchPrefix};
use shared::layout::{self, SEAL};

use crate::loads::{ErrorClass, Load, LoadState, Quarantined};
use crate::status::batch_detail::BatchDetail;
use crate::status::feed::{Owner, Question};
use crate::status::service::{Part, Service, both};
use crate::status::snapshot::{Matching, SNAPSHOT_FORMAT};

const NAMED: usize = 5;

/// One batch at one moment.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct BatchDump {
    /// [`SNAPSHOT_FORMAT`]
    pub format: u32,
    pub at: DateTime<Utc>,
    pub batch: BatchId,
    /// What the producer's log has of it; None inside when the log does not know it.
    pub producer: Part<Option<BatchDetail>>,
    /// What the ingester's load store has of it; None inside when the load store does not know it.
    pub ingester: Part<Option<Load>>,
    /// Where its objects are in S3, or go to, as far as both know; None after they were deleted.
    pub place: Option<String>,
    /// Where its seal is in S3, as far as both know; None before it has one, and after it was deleted.
    pub seal: Option<String>,
    /// Where its rows in quarantine are in S3; None when it has none, as far as the ingester knows.
    pub quarantine: Option<String>,
    pub timeline: Vec<Event>,
}

impl BatchDump {
    /// Reads the one batch whose id begins with `prefix`; fails when no batch is known by that id, or several are.
    pub async fn read(config: &Config, clock: &Clock, prefix: &BatchPrefix) -> Result<Self, Failure> {
        let question = Question::Batch(prefix.clone());
        let (log, loads) = (Service::producer(config, clock), Service::ingester(config, clock));
        let (producer, ingester) = tokio::join!(
            log.ask(&question, |log| Owner::batch(log, prefix)),
            loads.ask(&question, |loads| Owner::batch(loads, prefix))
        );
        let (producer, ingester) = both(config, producer, ingester)?;
        Self::matching(config, prefix, producer, ingester, clock.wall())
    }

    /// The same of what the services answer that run; no database is opened.
    pub(in crate::inspect) async fn of_running(
        config: &Config,
        clock: &Clock,
        prefix: &BatchPrefix,
        within: Duration,
    ) -> Result<Self, Failure> {
        let question = Question::Batch(prefix.clone());
        let (producer, ingester) = (Service::producer(config, clock), Service::ingester(config, clock));
        let asked = (producer.ask_running(&question, within), ingester.ask_running(&question, within));
        let (producer, ingester) = tokio::join!(asked.0, asked.1);
        Self::matching(config, prefix, producer, ingester, clock.wall())
    }

    fn matching(
        config: &Config,
        prefix: &BatchPrefix,
        producer: Part<Matching<BatchDetail>>,
        ingester: Part<Matching<Load>>,
        at: DateTime<Utc>,
    ) -> Result<Self, Failure> {
        let made = producer.snapshot.iter().flat_map(|found| &found.ids);
        let met = ingester.snapshot.iter().flat_map(|found| &found.ids);
        let ids: BTreeSet<_> = made.chain(met).copied().collect();
        if ids.is_empty() {
            // Whoever could not be asked may know it.
            producer.answered().and(ingester.answered())?;
        }
        let batch = only(prefix, &ids, config)?;
        let producer = producer.map(|found| found.batch);
        let ingester = ingester.map(|found| found.batch);
        Ok(Self::of(config, at, batch, producer, ingester))
    }

    /// Of what both services have told.
    pub(crate) fn of(
        config: &Config,
        at: DateTime<Utc>,
        batch: BatchId,
        producer: Part<Option<BatchDetail>>,
        ingester: Part<Option<Load>>,
    ) -> Self {
        let made = producer.snapshot.iter().flatten().next();
        let load = ingester.snapshot.iter().flatten().next();
        let place = place(config, batch, made, load);
        let sealed = load.is_some() || made.is_some_and(|made| made.summary.published.is_some());
        let seal = place.as_ref().filter(|_| sealed).map(|place| format!("{place}{SEAL}"));
        let quarantine = load.filter(|load| load.quarantined > 0).map(|_| {
            let prefix = format!("s3://{}/{}", config.s3.bucket, config.s3.quarantine);
            layout::folder(&prefix, batch)
        });
        let timeline = timeline(batch, made, load);
        Self { format: SNAPSHOT_FORMAT, at, batch, producer, ingester, place, seal, quarantine, timeline }
    }
}

fn only(prefix: &BatchPrefix, ids: &BTreeSet<BatchId>, config: &Config) -> Result<BatchId, Failure> {
    match (ids.len(), ids.first()) {
        (1, Some(batch)) => Ok(*batch),
        (0, _) | (_, None) => {
            let error = anyhow::anyhow!(
                "no batch {prefix} is known here. Batches are forgotten long after they were published and archived: \
                 the ledger ({}) and its folder in s3://{} still tell of it",
                config.redshift.ledger.unquoted(),
                config.s3.bucket,
            );
            Err(Failure::new(Exit::NoInput, error))
        }
        (many, _) => {
            let named: String = ids.iter().take(NAMED).map(|id| format!("\n  {id}")).collect();
            let more = if many > NAMED { "\n  …" } else { "" };
            let error = anyhow::anyhow!("{many} batches begin with {prefix}:{named}{more}");
            Err(Failure::new(Exit::Usage, error))
        }
    }
}

fn place(config: &Config, batch: BatchId, made: Option<&BatchDetail>, load: Option<&Load>) -> Option<String> {
    let below = |prefix: &str| format!("s3://{}/{prefix}", config.s3.bucket);
    let archived = load.filter(|load| matches!(load.state, LoadState::Archived { .. }));
    Some(match (archived, config.ingester.archive, made) {
        (Some(_), Archive::Delete, _) => return None,
        (Some(load), Archive::Move, _) => layout::folder(&below(&config.s3.ingested), load.ledger_id()),
        (_, _, Some(made)) => layout::folder(&made.place, batch),
        (_, _, None) => layout::folder(&below(&config.s3.to_ingest), batch),
    })
}

/// Something that happened to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Event {
    pub event: Happening,
    pub at: DateTime<Utc>,
    /// Milliseconds since the event before it; None for the first.
    pub after_ms: Option<u64>,
    pub attempt: Option<u32>,
    pub class: Option<ErrorClass>,
    pub why: Option<String>,
}

/// What can happen to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Happening {
    Opened,
    Sealed,
    Published,
    Discovered,
    Started,
    Failed,
    Loaded,
    Archived,
    FoundAgain,
    /// Rows of it went into quarantine.
    Quarantined,
    /// Rows of it left the quarantine.
    Replayed,
}

pub(super) fn timeline(batch: BatchId, made: Option<&BatchDetail>, load: Option<&Load>) -> Vec<Event> {
    use Happening as H;
    let mut events = Vec::new();
    let mut add = |event, at: Option<DateTime<Utc>>, attempt, failure: Option<(ErrorClass, &String)>| {
        let (class, why) = failure.map(|(class, why)| (class, why.clone())).unzip();
        events.extend(at.map(|at| Event { event, at, after_ms: None, attempt, class, why }));
    };
    let made = made.map(|made| &made.summary);
    let opened = made.map_or_else(|| batch.opened_at(), |made| made.opened);
    add(H::Opened, Some(opened), None, None);
    add(H::Sealed, made.and_then(|made| made.sealed), None, None);
    add(H::Published, made.and_then(|made| made.published), None, None);
    if let Some(load) = load {
        add(H::Discovered, Some(load.discovered), None, None);
        for (number, failed) in load.failures.iter().enumerate() {
            add(H::Started, failed.started, failed.attempt, None);
            // The state keeps more of the reason of the latest failure.
            let why = match &load.state {
                LoadState::Retrying { why, .. } if number + 1 == load.failures.len() => why,
                _ => &failed.why,
            };
            add(H::Failed, Some(failed.failed), failed.attempt, Some((failed.class, why)));
        }
        add(H::Started, load.started, Some(load.attempts), None);
        let (loaded, archived) = match load.state {
            LoadState::Loaded { at } => (Some(at), None),
            LoadState::Archived { at } => (None, Some(at)),
            _ => (None, None),
        };
        add(H::Loaded, load.loaded.or(loaded), None, None);
        add(H::Archived, archived, None, None);
        add(H::FoundAgain, load.found_again, None, None);
        if let Some(Quarantined { at, replayed, .. }) = load.quarantine {
            add(H::Quarantined, Some(at), None, None);
            add(H::Replayed, replayed, None, None);
        }
    }
    // The clocks of the two services may differ. The sort is stable: events of one service stay in their order.
    events.sort_by_key(|event| event.at);
    let before: Vec<_> = events.iter().map(|event| event.at).collect();
    for (event, before) in events.iter_mut().skip(1).zip(before) {
        event.after_ms = Some(u64::try_from((event.at - before).num_milliseconds()).unwrap_or(0));
    }
    events
}
