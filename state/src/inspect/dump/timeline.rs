//! What happened to a batch, as both services noted it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::ids::BatchId;

use crate::loads::{ErrorClass, Load, LoadState};
use crate::status::snapshot::BatchDetail;

/// Something that happened to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Event {
    pub event: Happening,
    pub at: DateTime<Utc>,
    /// Milliseconds since the event before it; None for the first.
    pub after_ms: Option<u64>,
    /// The attempt it belongs to, if one.
    pub attempt: Option<u32>,
    pub class: Option<ErrorClass>,
    pub why: Option<String>,
}

/// What can happen to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Happening {
    /// Its first row was accepted.
    Opened,
    Sealed,
    /// S3 confirmed its seal.
    Published,
    Discovered,
    Started,
    /// An attempt failed, or could not start.
    Failed,
    Loaded,
    Archived,
    FoundAgain,
}

/// What happened to `batch`, in order of time.
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
    }
    // The clocks of the two services may differ. The sort is stable: events of one service stay in their order.
    events.sort_by_key(|event| event.at);
    let before: Vec<_> = events.iter().map(|event| event.at).collect();
    for (event, before) in events.iter_mut().skip(1).zip(before) {
        event.after_ms = Some(u64::try_from((event.at - before).num_milliseconds()).unwrap_or(0));
    }
    events
}
