//! The pipeline, stage by stage: how each stands, how fast rows pass it, and what waits there.

use chrono::{DateTime, Utc};
use shared::config::Severity;
use shared::human::{ago, bytes, count};

use crate::inspect::dump::Dump;
use crate::loads::LoadState;
use crate::log::BatchStatus;
use crate::status::activity::{Component, ComponentStatus, Failing, failing};
use crate::status::snapshot::ProducerSnapshot;
use crate::watch::model::{Contact, Model};
use crate::watch::rates;

/// A log that is fuller will soon stop the stream.
const NEARLY_FULL_PERCENT: u64 = 80;

/// How a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Fine,
    /// It waits for something that will pass, or that somebody wants.
    Waits,
    Fails,
    /// Nobody is there who could say.
    Gone,
}

impl Tone {
    /// An alert that must be seen to at once is a failure; others wait for somebody.
    pub(super) fn of_severity(severity: Severity) -> Self {
        match severity {
            Severity::Warning => Self::Waits,
            Severity::Critical => Self::Fails,
        }
    }

    /// A sign for those who see no colours.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Fine => "●",
            Self::Waits => "▲",
            Self::Fails => "✗",
            Self::Gone => "○",
        }
    }
}

/// A stage, in words that fit a narrow box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) tone: Tone,
    pub(super) state: String,
    /// Its rate, or since when it fails.
    pub(super) rate: String,
    /// What waits there.
    pub(super) backlog: String,
}

/// From Adobe to Redshift.
pub(super) fn stages(model: &Model) -> [Stage; 4] {
    let components = model.dump.components();
    [adobe(model, &components), log(model, &components), s3(model, &components), redshift(model, &components)]
}

/// Why nothing is known of a stage, if nothing is.
fn gone(contact: &Contact, now: DateTime<Utc>) -> Option<(Tone, String)> {
    let since = |since: &Option<DateTime<Utc>>| {
        since.map(|since| format!(" {}", ago(since, now))).unwrap_or_default()
    };
    match contact {
        Contact::Running { .. } => None,
        Contact::Asking => Some((Tone::Gone, "asking".to_owned())),
        Contact::Silent { since: at, .. } => Some((Tone::Fails, format!("silent{}", since(at)))),
        Contact::Stopped { since: at, .. } => Some((Tone::Gone, format!("stopped{}", since(at)))),
        Contact::NeverRan => Some((Tone::Gone, "never ran".to_owned())),
    }
}

/// Per second, with its noun; nothing is known before the second answer.
fn rate(rate: Option<u64>, noun: &str) -> String {
    rate.map(|rate| format!("{} {noun}/s", count(rate))).unwrap_or_default()
}

fn adobe(model: &Model, components: &[ComponentStatus]) -> Stage {
    let (now, name) = (model.now, "Adobe");
    let producer = model.dump.producer.snapshot.as_ref();
    let newest = producer.and_then(ProducerSnapshot::newest_hit);
    let backlog = newest.map(|at| format!("hit {} old", ago(at, now))).unwrap_or_default();
    let received = rate(model.rates.rate().map(|rate| rate.received), "hits");
    let fails: Vec<_> = failing(components, Component::Stream).collect();
    let connections = producer.map_or(1, |producer| producer.connections.max(1));
    let full = failing(components, Component::Log).any(|failing| failing.class == "full");
    let (tone, state, rate) = if let Some((tone, state)) = gone(&model.producer.contact(now), now) {
        (tone, state, String::new())
    } else if let Some(first) = fails.iter().map(|failing| failing.since).min() {
        let state = match fails.len() as u64 {
            some if some < connections => format!("{some} of {connections} lost"),
            _ => "not connected".to_owned(),
        };
        (Tone::Fails, state, format!("for {}", ago(first, now)))
    } else if full {
        (Tone::Waits, "held by log".to_owned(), received)
    } else if producer.is_some_and(|producer| producer.sessions.iter().all(|one| one.ended.is_some())) {
        (Tone::Waits, "no session".to_owned(), received)
    } else {
        (Tone::Fine, "reading".to_owned(), received)
    };
    Stage { name, tone, state, rate, backlog }
}

fn log(model: &Model, components: &[ComponentStatus]) -> Stage {
    let (now, name) = (model.now, "log");
    let producer = model.dump.producer.snapshot.as_ref();
    let filled = producer.and_then(|it| Some((it.waiting_bytes?, it.max_bytes?.max(1))));
    let percent = filled.map(|(waiting, max)| waiting.saturating_mul(100) / max);
    let backlog = match (filled, producer) {
        (Some((waiting, _)), _) => format!("{} {}%", bytes(waiting), percent.unwrap_or(0)),
        (None, Some(producer)) => format!("{} rows", count(producer.rows_to_upload)),
        (None, None) => String::new(),
    };
    let fails = failing(components, Component::Log).next();
    let stored = rate(model.rates.rate().map(|rate| rate.rows), "rows");
    let (tone, state, rate) = if let Some((tone, state)) = gone(&model.producer.contact(now), now) {
        (tone, state, String::new())
    } else if let Some(Failing { since, class, .. }) = fails {
        let state = if class == "full" { "FULL" } else { "fails" };
        (Tone::Fails, state.to_owned(), format!("for {}", ago(*since, now)))
    } else if percent.is_some_and(|percent| percent >= NEARLY_FULL_PERCENT) {
        (Tone::Waits, "nearly full".to_owned(), stored)
    } else {
        (Tone::Fine, "writing".to_owned(), stored)
    };
    Stage { name, tone, state, rate, backlog }
}

fn s3(model: &Model, components: &[ComponentStatus]) -> Stage {
    let (now, name) = (model.now, "S3");
    let waiting = waiting_in_s3(&model.dump);
    let backlog = if waiting == 1 { "1 batch".to_owned() } else { format!("{} batches", count(waiting)) };
    let uploads = failing(components, Component::Upload);
    let reads =
        [Component::Discovery, Component::Archive].into_iter().flat_map(|one| failing(components, one));
    let fails = uploads.chain(reads).map(|failing| failing.since).min();
    let uploaded = rate(model.rates.rate().map(|rate| rate.uploaded), "rows");
    let (tone, state, rate) = if let Some(since) = fails {
        (Tone::Fails, "fails".to_owned(), format!("for {}", ago(since, now)))
    } else if let Some((tone, state)) = gone(&model.producer.contact(now), now) {
        (tone, state, String::new())
    } else {
        (Tone::Fine, "uploading".to_owned(), uploaded)
    };
    Stage { name, tone, state, rate, backlog }
}

/// Batches that stand in S3 and are not known to be loaded.
pub(super) fn waiting_in_s3(dump: &Dump) -> u64 {
    let unpublished =
        dump.batches().iter().filter(|batch| batch.status != BatchStatus::Published).count() as u64;
    dump.pending.batches.saturating_sub(unpublished)
}

fn redshift(model: &Model, components: &[ComponentStatus]) -> Stage {
    let (now, name) = (model.now, "Redshift");
    let ingester = model.dump.ingester.snapshot.as_ref();
    let loads = || ingester.iter().flat_map(|ingester| &ingester.loads);
    let retrying = loads().filter(|load| matches!(load.state, LoadState::Retrying { .. })).count();
    let backlog = match (retrying, newest_loaded(&model.dump)) {
        (0, Some(at)) => format!("{} behind", ago(at, now)),
        (0, None) => String::new(),
        (retrying, _) => format!("{} retrying", count(retrying as u64)),
    };
    let fails = failing(components, Component::Load).map(|failing| failing.since).min();
    let loaded = rate(ingester.map(|_| rates::loaded(loads(), now)), "rows");
    let paused = ingester.is_some_and(|ingester| ingester.paused.is_some());
    let (tone, state, rate) = if let Some((tone, state)) = gone(&model.ingester.contact(now), now) {
        (tone, state, String::new())
    } else if let Some(since) = fails {
        (Tone::Fails, "held up".to_owned(), format!("for {}", ago(since, now)))
    } else if paused {
        (Tone::Waits, "paused".to_owned(), loaded)
    } else if ingester.is_some_and(|ingester| ingester.held_back.is_some()) {
        (Tone::Waits, "holds back".to_owned(), loaded)
    } else if retrying > 0 {
        (Tone::Waits, "retrying".to_owned(), loaded)
    } else if let Some(step) = model.dump.load_step() {
        (Tone::Fine, step.what.clone(), loaded)
    } else {
        (Tone::Fine, "waiting".to_owned(), loaded)
    };
    Stage { name, tone, state, rate, backlog }
}

/// When the newest batch was sealed that the table is known to have: no row of it was received later.
pub(super) fn newest_loaded(dump: &Dump) -> Option<DateTime<Utc>> {
    let sealed = |batch| dump.batches().iter().find(|made| made.batch == batch).and_then(|made| made.sealed);
    let loads = dump.ingester.snapshot.iter().flat_map(|ingester| &ingester.loads);
    // Ids are in the order of time.
    let newest = loads.filter(|load| load.is_loaded()).max_by_key(|load| load.batch)?;
    Some(sealed(newest.batch).unwrap_or_else(|| newest.batch.opened_at()))
}
