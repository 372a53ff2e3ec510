//! One line for each batch: what the producer and the ingester say of it together.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use shared::ids::BatchId;

use super::load::{failures, loading};
use super::overview::Dump;
use crate::loads::{Load, LoadState};
use crate::log::BatchStatus;
use crate::status::snapshot::BatchSnapshot;

/// A batch in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchLine {
    pub(crate) batch: BatchId,
    pub(crate) state: &'static str,
    pub(crate) files: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) opened: DateTime<Utc>,
    pub(crate) load: &'static str,
    /// What is done about it, if anything is to tell.
    pub(crate) more: Option<String>,
    /// Whether an operator must look.
    pub(crate) alert: bool,
    /// Whether it has not reached its end.
    pub(crate) pending: bool,
}

type Sides<'d> = (Option<&'d BatchSnapshot>, Option<&'d Load>);

impl Dump {
    /// What is pending anywhere, and the batches of the producer, oldest first.
    pub(crate) fn batch_lines(&self) -> Vec<BatchLine> {
        let loads = self.loads();
        let mut known: BTreeMap<BatchId, Sides<'_>> = BTreeMap::new();
        known.extend(self.waiting.keys().map(|id| (*id, (None, loads.get(id).copied()))));
        let made = self.batches().iter();
        known.extend(made.map(|made| (made.batch, (Some(made), loads.get(&made.batch).copied()))));
        known.into_iter().filter_map(|(id, known)| self.batch_line(id, known)).collect()
    }

    fn batch_line(&self, batch: BatchId, known: Sides<'_>) -> Option<BatchLine> {
        let (state, files, rows, bytes, opened) = match known {
            (Some(made), _) => {
                let (state, files) = match made.status {
                    BatchStatus::Sealed => ("sealed", format!("{}/{}", made.files_uploaded, made.files)),
                    BatchStatus::Filling => ("filling", made.files.to_string()),
                    BatchStatus::Published => ("published", made.files.to_string()),
                };
                (state, files, made.rows, made.bytes, made.opened)
            }
            (None, Some(load)) => {
                ("in S3", load.files.to_string(), load.rows, load.bytes, load.batch.opened_at())
            }
            (None, None) => return None,
        };
        let found = match &self.ingester.snapshot {
            Some(ingester) if ingester.paused.is_some() => "paused",
            Some(ingester) if ingester.held_back.is_some() => "held",
            _ => "found",
        };
        let (load, more) = match known.1.map(|load| (load, &load.state)) {
            None => ("-", None),
            Some((_, LoadState::Discovered)) => (found, None),
            Some((load, LoadState::Loading)) if self.ingester.pid.is_none() => {
                ("loading", Some(format!("loading #{} when the ingester stopped", load.attempts)))
            }
            Some((load, LoadState::Loading)) => ("loading", Some(loading(load, self.load_step(), self.at))),
            Some((load, LoadState::Retrying { next, class, why })) => {
                let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
                let tries = failures(load, *next, self.at);
                ("retrying", Some(format!("{}, {tries}: {why}", class.name())))
            }
            Some((_, LoadState::Loaded { .. })) => ("loaded", None),
            Some((_, LoadState::Archived { .. })) => ("archived", None),
        };
        let alert = known.1.is_some_and(|load| {
            matches!(load.state, LoadState::Retrying { .. }) && self.alarming.contains(&batch)
        });
        let pending = self.waiting.contains_key(&batch);
        Some(BatchLine { batch, state, files, rows, bytes, opened, load, more, alert, pending })
    }
}
