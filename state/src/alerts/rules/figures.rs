//! What an ingester knows of itself, and the questions its rules ask of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::human::counted;

use super::rule::{Found, Seen};
use crate::loads::{ErrorClass, Load};
use crate::status::activity::{Component, FailureCounts};
use crate::status::snapshot::IngesterSnapshot;

/// What an ingester knows of itself.
#[derive(Debug)]
pub struct IngesterFigures {
    /// Its load store, and what its components are doing.
    pub snapshot: IngesterSnapshot,
    /// Failures since the start.
    pub failures: FailureCounts,
    /// Since when S3 was not listed completely, or since the start.
    pub since_listing: Duration,
    /// `ingester.list_interval`.
    pub list_interval: Duration,
    /// `ingester.alert_after`.
    pub alert_after: u32,
}

pub(super) const STAGED: &str = "staged";
pub(super) const KNOWN: &str = "known";

pub(super) fn failed(component: Component, class: &str) -> String {
    format!("failed {} {class}", component.name())
}

/// What counts as lately, as `[15m]` and `[1h]` in the expressions.
pub(super) const LATELY: Duration = Duration::from_secs(15 * 60);
pub(super) const LAST_HOUR: Duration = Duration::from_secs(60 * 60);

type On<'s> = Seen<'s, IngesterFigures>;

impl On<'_> {
    pub(super) fn snapshot(&self) -> &IngesterSnapshot {
        &self.figures.snapshot
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Load> {
        self.snapshot().loads.iter().filter(|load| !load.is_loaded())
    }

    pub(super) fn failing_of(&self, component: Component) -> Option<Found> {
        self.failing(&self.snapshot().components, component)
    }

    /// The batches that failed for one of these reasons, whether they are tried again now or not.
    pub(super) fn refused(&self, classes: &[ErrorClass]) -> Option<Found> {
        let is_one = |load: &&Load| load.trouble().is_some_and(|class| classes.contains(&class));
        self.batches(self.waiting().filter(is_one))
    }

    pub(super) fn batches<'l>(&self, loads: impl Iterator<Item = &'l Load>) -> Option<Found> {
        let loads: Vec<_> = loads.collect();
        let first = loads.iter().min_by_key(|load| load.discovered)?;
        let rows = loads.iter().map(|load| load.rows).sum();
        let why = first.failures.last().map(|failed| format!(": {}", failed.why)).unwrap_or_default();
        let detail = format!(
            "{}, {}{why}",
            counted(loads.len() as u64, "batch", "batches"),
            counted(rows, "row", "rows")
        );
        let since = first.failures.first().map_or(first.discovered, |failed| failed.failed);
        Some(Found::new(loads.len() as f64, detail).since(since).batch(Some(first.batch)))
    }

    /// Whether all batches are of one producer: of several it is usual that they know each other's hits.
    pub(super) fn is_one_producer(&self) -> bool {
        self.snapshot().producers() == 1
    }

    pub(super) fn age(&self, since: DateTime<Utc>, detail: String) -> Found {
        Found::new(self.seconds(since), detail).since(since)
    }
}
