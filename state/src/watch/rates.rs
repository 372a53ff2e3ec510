//! How fast rows pass each stage.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::clock::{Steady, age};

use crate::loads::{Load, LoadState};
use crate::status::snapshot::ProducerSnapshot;

/// Rates of the producer are those of so long.
const WINDOW: Duration = Duration::from_secs(10);
/// Batches are loaded in one go, so their rate is that of a longer time.
pub(super) const LOAD_WINDOW: Duration = Duration::from_secs(60);

/// Sums at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Steady,
    received: u64,
    rows: u64,
    uploaded: u64,
}

/// What the producer told lately.
#[derive(Debug, Default)]
pub(super) struct Rates(VecDeque<Sample>);

/// Of each second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) received: u64,
    pub(super) rows: u64,
    pub(super) uploaded: u64,
}

impl Rates {
    pub(super) fn add(&mut self, at: Steady, producer: &ProducerSnapshot) {
        let totals = &producer.totals;
        let uploaded = totals.rows.saturating_sub(producer.rows_to_upload);
        let sample = Sample { at, received: totals.received, rows: totals.rows, uploaded };
        // Another log has taken the place of the one before.
        if self.0.back().is_some_and(|last| last.received > sample.received) {
            self.0.clear();
        }
        self.0.push_back(sample);
        while self.0.get(1).is_some_and(|second| second.at.until(at) >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// Nothing is known of a service that was away.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// None before there are two samples.
    pub(super) fn rate(&self) -> Option<Rate> {
        let (first, last) = self.0.front().zip(self.0.back())?;
        let millis = u64::try_from(first.at.until(last.at).as_millis()).ok().filter(|millis| *millis > 0)?;
        let of = |before: u64, after: u64| after.saturating_sub(before).saturating_mul(1_000) / millis;
        Some(Rate {
            received: of(first.received, last.received),
            rows: of(first.rows, last.rows),
            uploaded: of(first.uploaded, last.uploaded),
        })
    }
}

/// Rows that were loaded in each second of the last minute.
pub(super) fn loaded<'l>(loads: impl IntoIterator<Item = &'l Load>, now: DateTime<Utc>) -> u64 {
    let recent = loads.into_iter().filter(|load| {
        let loaded = match load.state {
            LoadState::Loaded { at } => Some(load.loaded.unwrap_or(at)),
            LoadState::Archived { .. } => load.loaded,
            _ => None,
        };
        loaded.is_some_and(|at| age(at, now) < LOAD_WINDOW)
    });
    let rows: u64 = recent.map(|load| load.rows.saturating_sub(load.quarantined + load.known)).sum();
    rows / LOAD_WINDOW.as_secs()
}
