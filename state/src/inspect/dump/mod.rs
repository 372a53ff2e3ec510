//! What `state dump` shows: the producer's log and the ingester's bookkeeping side by side.

mod batch;
mod batch_table;
mod table;

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::ids::BatchId;

use crate::loads::{ARCHIVED_KEPT, Load, LoadState, Loads, Paused};
use crate::log::BatchStatus;
use crate::status::feed::Question;
use crate::status::service::{Part, Service};
use crate::status::snapshot::{BatchSnapshot, IngesterSnapshot, ProducerSnapshot, SNAPSHOT_FORMAT};

pub use batch::{BatchDump, Event, Happening, look_at_batch};

/// Both services at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Dump {
    /// [`SNAPSHOT_FORMAT`]
    pub format: u32,
    /// When.
    pub at: DateTime<Utc>,
    /// The producer's log.
    pub producer: Part<ProducerSnapshot>,
    /// The ingester's bookkeeping.
    pub ingester: Part<IngesterSnapshot>,
    /// What has not reached its end.
    pub pending: Pending,
    /// The batches that have not reached their end, wherever they are known.
    #[serde(skip)]
    waiting: HashSet<BatchId>,
    /// Whether nothing else is shown.
    #[serde(skip)]
    only_pending: bool,
    /// Failures from which on a load is marked.
    #[serde(skip)]
    alert_after: u32,
}

/// What has not reached its end, as far as these two databases know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Batches that are filling, sealed, or published and not known to be loaded.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
}

/// Reads both services.
///
/// # Errors
/// When one can neither be asked nor its database be read.
pub async fn look(config: &Config, clock: &Clock) -> Result<Dump, Failure> {
    let producer = look_at_producer(config, clock).await?;
    let ingester = look_at_ingester(config, clock).await?;
    Ok(Dump::of(producer, ingester, clock.wall()).alerting_after(config.ingester.alert_after))
}

/// Reads the producer's log alone.
///
/// # Errors
/// When it can neither be asked for nor read.
pub async fn look_at_producer(config: &Config, clock: &Clock) -> Result<Part<ProducerSnapshot>, Failure> {
    Service::producer(config, clock).ask(&Question::Snapshot, |log| Ok(log.snapshot()?)).await
}

/// Reads the ingester's bookkeeping alone.
///
/// # Errors
/// When it can neither be asked for nor read.
pub async fn look_at_ingester(config: &Config, clock: &Clock) -> Result<Part<IngesterSnapshot>, Failure> {
    let read = |loads: &Loads| {
        let paused = Paused::at(loads.pause()?.as_ref(), &config.ingester.pause, clock.wall());
        Ok(loads.snapshot_with(paused)?)
    };
    Service::ingester(config, clock).ask(&Question::Snapshot, read).await
}

fn is_loaded(state: &LoadState) -> bool {
    matches!(state, LoadState::Loaded { .. } | LoadState::Archived { .. })
}

fn loads_of(ingester: Option<&IngesterSnapshot>) -> HashMap<BatchId, &Load> {
    ingester.iter().flat_map(|ingester| &ingester.loads).map(|load| (load.batch, load)).collect()
}

impl Dump {
    /// The dump of what the two services have.
    #[must_use]
    pub fn of(producer: Part<ProducerSnapshot>, ingester: Part<IngesterSnapshot>, at: DateTime<Utc>) -> Self {
        let mut pending = Pending::default();
        let mut waiting = HashSet::new();
        let mut add = |batch, rows| {
            if waiting.insert(batch) {
                pending.batches += 1;
                pending.rows += rows;
            }
        };
        let known = ingester.snapshot.as_ref();
        let loads = loads_of(known);
        let made = producer.snapshot.iter().flat_map(|producer| &producer.batches);
        for batch in made.filter(|batch| is_pending(batch, known, &loads)) {
            add(batch.batch, batch.rows);
        }
        for load in known.iter().flat_map(|ingester| &ingester.loads).filter(|load| !is_loaded(&load.state)) {
            add(load.batch, load.rows);
        }
        let alert_after = u32::MAX;
        Self {
            format: SNAPSHOT_FORMAT,
            at,
            producer,
            ingester,
            pending,
            waiting,
            only_pending: false,
            alert_after,
        }
    }

    /// The same, marking loads that failed so many times or more.
    #[must_use]
    pub fn alerting_after(mut self, alert_after: u32) -> Self {
        self.alert_after = alert_after;
        self
    }

    /// The same with nothing in its lists but what is pending.
    #[must_use]
    pub fn only_pending(mut self) -> Self {
        let Self { producer, ingester, waiting, .. } = &mut self;
        if let Some(producer) = &mut producer.snapshot {
            producer.batches.retain(|batch| waiting.contains(&batch.batch));
            producer.sessions.clear();
            producer.gaps.list.clear();
        }
        if let Some(ingester) = &mut ingester.snapshot {
            // Rows in quarantine have not reached their end either.
            ingester.loads.retain(|load| waiting.contains(&load.batch) || load.quarantined > 0);
        }
        self.only_pending = true;
        self
    }

    /// The dump for people, at most 100 columns wide. The caller adds the last line end.
    #[must_use]
    pub fn table(&self) -> String {
        table::render(self)
    }
}

/// Whether a batch of the producer has not reached its end, as far as these two databases know.
fn is_pending(
    batch: &BatchSnapshot,
    ingester: Option<&IngesterSnapshot>,
    loads: &HashMap<BatchId, &Load>,
) -> bool {
    match (loads.get(&batch.batch), batch.status) {
        (Some(load), _) => !is_loaded(&load.state),
        (None, BatchStatus::Filling | BatchStatus::Sealed) => true,
        // Published, and not met by the ingester of this configuration, if there is one; or met so long ago that
        // it has forgotten it.
        (None, BatchStatus::Published) => ingester.is_some_and(|ingester| {
            let oldest = ingester.loads.first().map(|load| load.batch);
            ingester.loads.len() < ARCHIVED_KEPT || oldest.is_none_or(|oldest| batch.batch > oldest)
        }),
    }
}
