//! The producer's log and the ingester's load store side by side.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::ids::BatchId;

use crate::limits::KEPT;
use crate::loads::{Load, LoadDatabase, Paused};
use crate::log::BatchStatus;
use crate::status::activity::{Component, ComponentStatus, Step};
use crate::status::alert::Alert;
use crate::status::feed::{Owner, Question};
use crate::status::service::{Part, Service, both};
use crate::status::snapshot::{BatchSnapshot, IngesterSnapshot, ProducerSnapshot, SNAPSHOT_FORMAT};

/// Both services at one moment.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Dump {
    /// [`SNAPSHOT_FORMAT`]
    pub format: u32,
    pub at: DateTime<Utc>,
    pub producer: Part<ProducerSnapshot>,
    pub ingester: Part<IngesterSnapshot>,
    pub pending: Pending,
    /// The loads that need an operator ([`Load::is_alarming`]).
    pub alarming: BTreeSet<BatchId>,
    #[serde(skip)]
    pub(super) waiting: HashMap<BatchId, u64>,
    #[serde(skip)]
    pub(super) only_pending: bool,
}

/// What has not reached its end, as far as these two databases know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Batches that are filling, sealed, or published and not known to be loaded.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
}

/// Asks the producer, or reads its log.
pub async fn ask_producer(config: &Config, clock: &Clock) -> Result<Part<ProducerSnapshot>, Failure> {
    Service::producer(config, clock).ask(&Question::Snapshot, Owner::snapshot).await
}

/// Asks the ingester, or reads its load store.
pub async fn ask_ingester(config: &Config, clock: &Clock) -> Result<Part<IngesterSnapshot>, Failure> {
    let read = |loads: &LoadDatabase| read_loads(config, clock, loads);
    Service::ingester(config, clock).ask(&Question::Snapshot, read).await
}

/// The load store of an ingester that does not run, with the pause that holds all the same.
pub(crate) fn read_loads(
    config: &Config,
    clock: &Clock,
    loads: &LoadDatabase,
) -> Result<IngesterSnapshot, Failure> {
    let paused = Paused::at(loads.pause()?.as_ref(), &config.ingester.pause, clock.wall());
    Ok(IngesterSnapshot { paused, ..Owner::snapshot(loads)? })
}

impl Dump {
    /// Asks both services, or reads their databases. Fails when neither can be asked.
    pub async fn read(config: &Config, clock: &Clock) -> Result<Self, Failure> {
        let (producer, ingester) = tokio::join!(ask_producer(config, clock), ask_ingester(config, clock));
        let (producer, ingester) = both(config, producer, ingester)?;
        Ok(Self::of(producer, ingester, clock.wall(), config.ingester.alert_after))
    }

    /// Of what both services have told.
    pub(crate) fn of(
        producer: Part<ProducerSnapshot>,
        ingester: Part<IngesterSnapshot>,
        at: DateTime<Utc>,
        alert_after: u32,
    ) -> Self {
        let (format, waiting, pending) = (SNAPSHOT_FORMAT, HashMap::new(), Pending::default());
        let alarming = BTreeSet::new();
        let mut dump =
            Self { format, at, producer, ingester, pending, alarming, waiting, only_pending: false };
        let loads = dump.loads();
        let alarming = loads.values().filter(|load| load.is_alarming(alert_after)).map(|load| load.batch);
        let alarming = alarming.collect();
        let met = loads.values().filter(|load| !load.is_loaded()).map(|load| (load.batch, load.rows));
        let made = dump.batches().iter().filter(|batch| dump.is_pending(batch, &loads));
        // Of a batch that both know, the producer's rows count.
        let waiting: HashMap<_, _> = met.chain(made.map(|batch| (batch.batch, batch.rows))).collect();
        dump.pending = Pending { batches: waiting.len() as u64, rows: waiting.values().sum() };
        (dump.waiting, dump.alarming) = (waiting, alarming);
        dump
    }

    /// The same with only what is pending in its lists.
    #[must_use]
    pub fn only_pending(mut self) -> Self {
        let waiting = &self.waiting;
        if let Some(producer) = &mut self.producer.snapshot {
            producer.batches.retain(|batch| waiting.contains_key(&batch.batch));
            producer.sessions.clear();
            producer.gaps.list.clear();
        }
        if let Some(ingester) = &mut self.ingester.snapshot {
            // Rows in quarantine have not reached their end either.
            ingester.loads.retain(|load| waiting.contains_key(&load.batch) || load.quarantined > 0);
        }
        self.only_pending = true;
        self
    }

    /// What the components of both services are doing, in the order of the data.
    pub(crate) fn components(&self) -> Vec<ComponentStatus> {
        let producer = self.producer.snapshot.iter().flat_map(|snapshot| &snapshot.components);
        let ingester = self.ingester.snapshot.iter().flat_map(|snapshot| &snapshot.components);
        producer.chain(ingester).cloned().collect()
    }

    /// The alerts that stand at both services.
    pub(crate) fn alerts(&self) -> Vec<Alert> {
        let producer = self.producer.snapshot.iter().flat_map(|snapshot| &snapshot.alerts);
        let ingester = self.ingester.snapshot.iter().flat_map(|snapshot| &snapshot.alerts);
        producer.chain(ingester).cloned().collect()
    }

    /// What the ingester's loader is doing.
    pub(crate) fn load_step(&self) -> Option<&Step> {
        let mut components = self.ingester.snapshot.iter().flat_map(|snapshot| &snapshot.components);
        components.find(|status| status.component == Component::Load)?.step.as_ref()
    }

    /// The batches of the producer, oldest first.
    pub(crate) fn batches(&self) -> &[BatchSnapshot] {
        self.producer.snapshot.as_ref().map_or(&[], |producer| &producer.batches)
    }

    /// What the ingester knows of each batch.
    pub(crate) fn loads(&self) -> HashMap<BatchId, &Load> {
        let loads = self.ingester.snapshot.iter().flat_map(|ingester| &ingester.loads);
        loads.map(|load| (load.batch, load)).collect()
    }

    /// Whether a batch of the producer has not reached its end, as far as these two databases know.
    fn is_pending(&self, batch: &BatchSnapshot, loads: &HashMap<BatchId, &Load>) -> bool {
        match (loads.get(&batch.batch), batch.status, &self.ingester.snapshot) {
            (Some(load), _, _) => !load.is_loaded(),
            (None, BatchStatus::Filling | BatchStatus::Sealed, _) => true,
            (None, BatchStatus::Published, None) => false,
            // The ingester has not met it, or met it so long ago that it has forgotten it.
            (None, BatchStatus::Published, Some(IngesterSnapshot { loads, .. })) => {
                let oldest = loads.first().map(|load| load.batch);
                loads.len() < KEPT || oldest.is_none_or(|oldest| batch.batch > oldest)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::ids::Instance;

    use super::*;
    use crate::loads::{ErrorClass, Failed, LoadState};

    #[test]
    fn a_load_that_only_an_operator_can_mend_is_alarming_while_it_is_tried_again_too() {
        let at = DateTime::UNIX_EPOCH;
        let load = |state, class| {
            let failed = Failed { attempt: Some(1), started: None, failed: at, class, why: "w".to_owned() };
            let new = Load::new(BatchId::new(), Instance::try_from("i".to_owned()).unwrap(), 1, 1, 1, at);
            Load { state, failed: 1, failures: vec![failed], ..new }
        };
        let retrying = |class| load(LoadState::Retrying { next: at, class, why: "w".to_owned() }, class);
        let loads = vec![
            load(LoadState::Loading, ErrorClass::Data),
            retrying(ErrorClass::Configuration),
            retrying(ErrorClass::Passing),
            load(LoadState::Loaded { at }, ErrorClass::Data),
        ];
        let wanted = loads[..2].iter().map(|load| load.batch).collect::<BTreeSet<_>>();
        let snapshot = IngesterSnapshot { loads, ..IngesterSnapshot::default() };
        let dump =
            Dump::of(Part::read(Path::new("p"), None), Part::read(Path::new("i"), Some(snapshot)), at, 5);
        assert_eq!(dump.alarming, wanted);
        let json = serde_json::to_value(&dump).unwrap();
        assert_eq!(json["alarming"], serde_json::to_value(wanted).unwrap());
    }
}
