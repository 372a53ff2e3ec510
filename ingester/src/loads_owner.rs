//! Answers on the status socket, and makes the page of metrics.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use shared::exit::Failure;
use shared::ids::{BatchId, BatchPrefix};
use shared::metrics::Page;
use state::Checked;
use state::inspect::metrics::{activity_figures, ingester_page};
use state::loads::{Load, Pause, Pausing};
use state::status::activity::Activity;
use state::status::feed::Owner;
use state::status::history::{History, Samples};
use state::status::snapshot::{IngesterSnapshot, Matching};

use crate::load::pause::Pauses;
use crate::load_store::LoadStore;

/// What an ingester knows of itself.
#[derive(Debug, Clone)]
pub(crate) struct LoadsOwner {
    pub(crate) load_store: LoadStore,
    pub(crate) pauses: Pauses,
    pub(crate) activity: Activity,
    /// `ingester.load_rows`
    pub(crate) load_rows: u64,
    pub(crate) history: History,
    pub(crate) idle: Idle,
}

/// When loading was last paused or held back, as far as somebody looked. The alerts look every few seconds. In memory only:
/// after a restart what waits is late from the moment it was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Idle(Arc<Mutex<Option<DateTime<Utc>>>>);

impl Idle {
    fn until(&self, is_idle: bool, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // A value that a panic leaves whole.
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_idle {
            *until = Some(now);
        }
        *until
    }
}

impl LoadsOwner {
    pub(crate) fn page(&self, alert_after: u32, now: DateTime<Utc>) -> Result<Page, Failure> {
        let mut page = ingester_page(&self.snapshot()?, alert_after, now);
        activity_figures(&mut page, &self.activity, now);
        Ok(page)
    }
}

impl Owner for LoadsOwner {
    type Snapshot = IngesterSnapshot;
    type Batch = Load;

    fn snapshot(&self) -> Result<IngesterSnapshot, Failure> {
        let snapshot = Owner::snapshot(&self.load_store.loads())?;
        let (paused, held_back) = (self.pauses.present(), self.load_store.held_back(self.load_rows));
        let is_idle = paused.is_some() || held_back.is_some();
        Ok(IngesterSnapshot {
            paused,
            held_back,
            idle_until: self.idle.until(is_idle, self.load_store.clock().wall()),
            components: self.activity.components(),
            alerts: self.activity.alerts(),
            ..snapshot
        })
    }

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<Load>, Failure> {
        Owner::batch(&self.load_store.loads(), prefix)
    }

    fn history(&self) -> Result<Samples, Failure> {
        Ok(self.history.samples())
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Owner::verify(&self.load_store.loads())
    }

    fn set_pause(&self, pause: Option<Pause>) -> Result<Pausing, Failure> {
        self.pauses.set(pause)
    }

    fn replayed(&self, batch: BatchId, left: u64) -> Result<bool, Failure> {
        self.load_store.replayed(batch, left)
    }
}
