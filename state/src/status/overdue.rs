//! What waits although it could be loaded: neither a pause nor `ingester.load_interval` holds it back. Pure.

use chrono::{DateTime, Utc};

use crate::loads::{Load, LoadState};
use crate::status::snapshot::IngesterSnapshot;

impl IngesterSnapshot {
    /// Since when the oldest batch waits although nothing holds it back; None if none does.
    #[must_use]
    pub fn overdue_since(&self) -> Option<DateTime<Utc>> {
        let oldest = self.overdue().map(|load| load.discovered).min()?;
        Some(self.idle_until.map_or(oldest, |until| until.max(oldest)))
    }

    /// Batches that wait although nothing holds them back.
    pub(crate) fn overdue(&self) -> impl Iterator<Item = &Load> {
        let holds = self.held_back.is_some();
        let waiting = self.loads.iter().filter(|load| !load.is_loaded());
        waiting.filter(move |load| !(holds && load.state == LoadState::Discovered))
    }

    /// Since when nothing was loaded although nothing holds loading back; None while no batch is remembered as loaded.
    #[must_use]
    pub fn loaded_nothing_since(&self) -> Option<DateTime<Utc>> {
        let latest = self.loads.iter().filter_map(|load| load.loaded).max()?;
        Some(self.idle_until.map_or(latest, |until| until.max(latest)))
    }
}
