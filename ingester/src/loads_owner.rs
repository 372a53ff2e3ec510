//! Answers on the status socket, and makes the page of metrics.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use shared::exit::Failure;
use shared::ids::{BatchId, BatchPrefix};
use shared::lock::locked;
use shared::metrics::Page;
use state::Checked;
use state::inspect::metrics::{activity_figures, ingester_page};
use state::loads::{Load, Pause, Pausing};
use state::status::feed::Owner;
use state::status::history::{History, Samples};
use state::status::snapshot::{IngesterSnapshot, Matching};

use crate::services::Services;

/// What an ingester knows of itself.
#[derive(Debug, Clone)]
pub struct LoadsOwner {
    pub(crate) services: Services,
    pub(crate) history: History,
    pub(crate) idle: Idle,
}

/// When loading was last paused or held back, as far as somebody looked. The alerts look every few seconds. In memory only:
/// after a restart what waits is late from the moment it was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Idle(Arc<Mutex<Option<DateTime<Utc>>>>);

impl Idle {
    fn until(&self, is_idle: bool, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut until = locked(&self.0);
        if is_idle {
            *until = Some(now);
        }
        *until
    }
}

impl LoadsOwner {
    /// What these tasks know, with a history that begins now.
    pub fn new(services: &Services) -> Self {
        let history = History::new(services.clock.clone());
        Self { services: services.clone(), history, idle: Idle::default() }
    }

    pub(crate) fn page(&self) -> Result<Page, Failure> {
        let Services { config, activity, clock, .. } = &self.services;
        let now = clock.wall();
        let mut page = ingester_page(&self.snapshot()?, config.ingester.alert_after, now);
        activity_figures(&mut page, activity, now);
        Ok(page)
    }
}

impl Owner for LoadsOwner {
    type Snapshot = IngesterSnapshot;
    type Batch = Load;

    fn snapshot(&self) -> Result<IngesterSnapshot, Failure> {
        let Services { config, load_store, pauses, activity, clock, .. } = &self.services;
        let snapshot = Owner::snapshot(&load_store.loads())?;
        let held_back = load_store.held_back(config.ingester.load_rows);
        let paused = pauses.present();
        let is_idle = paused.is_some() || held_back.is_some();
        Ok(IngesterSnapshot {
            paused,
            held_back,
            idle_until: self.idle.until(is_idle, clock.wall()),
            components: activity.components(),
            alerts: activity.alerts(),
            configuration: activity.configuration(),
            ..snapshot
        })
    }

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<Load>, Failure> {
        Owner::batch(&self.services.load_store.loads(), prefix)
    }

    fn history(&self) -> Result<Samples, Failure> {
        Ok(self.history.samples())
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Owner::verify(&self.services.load_store.loads())
    }

    fn set_pause(&self, pause: Option<Pause>) -> Result<Pausing, Failure> {
        self.services.pauses.set(pause)
    }

    fn replayed(&self, batch: BatchId, left: u64) -> Result<bool, Failure> {
        self.services.load_store.replayed(batch, left)
    }
}
