//! What a service does, in one line, for `systemctl status`. Reasons stay in `state dump`: a line has no room for them.

use shared::human::counted;

use crate::loads::LoadState;
use crate::log::BatchStatus;
use crate::status::activity::{Component, ComponentStatus, failing};
use crate::status::snapshot::{IngesterSnapshot, ProducerSnapshot};

/// What a connection is doing until it is connected.
const CONNECTING: &str = "connecting";

/// Such as `reading; 3 batches wait for S3`.
#[must_use]
pub fn producer(snapshot: &ProducerSnapshot) -> String {
    let waiting = snapshot.batches.iter().filter(|batch| batch.status == BatchStatus::Sealed).count();
    let mut parts = vec![stream(&snapshot.components)];
    if let Some(class) = fails(&snapshot.components, Component::Upload) {
        parts.push(format!("S3 fails ({class})"));
    }
    parts.push(waits(waiting, "for S3"));
    parts.join("; ")
}

fn stream(components: &[ComponentStatus]) -> String {
    if fails(components, Component::Log).is_some() {
        return "the log is full, the stream is not read".to_owned();
    }
    let connections: Vec<_> = of(components, Component::Stream).collect();
    let broken: Vec<_> = connections.iter().filter_map(|connection| connection.failing.as_ref()).collect();
    let reads =
        connections.iter().any(|connection| connection.failing.is_none() && connection.step.is_none());
    match (broken.first(), reads) {
        (None, true) => "reading".to_owned(),
        (None, false) => match connections.iter().find_map(|connection| connection.step.as_ref()) {
            Some(step) if step.what != CONNECTING => step.what.clone(),
            _ => "connecting to the stream".to_owned(),
        },
        (Some(failing), reads) => {
            let why = format!("({}, {})", failing.class, counted(failing.failures, "failure", "failures"));
            match (reads, broken.len(), connections.len()) {
                (true, broken, of) => format!("reading; {broken} of {of} connections broken {why}"),
                (false, ..) => format!("not connected to the stream {why}"),
            }
        }
    }
}

/// Such as `loading: COPY; 3 batches wait`.
#[must_use]
pub fn ingester(snapshot: &IngesterSnapshot) -> String {
    let pending = |state: &LoadState| {
        matches!(state, LoadState::Discovered | LoadState::Loading | LoadState::Retrying { .. })
    };
    let waiting = snapshot.loads.iter().filter(|load| pending(&load.state)).count();
    let components = &snapshot.components;
    let step = of(components, Component::Load).find_map(|load| load.step.as_ref());
    let mut parts = vec![match (&snapshot.paused, fails(components, Component::Load), step) {
        (Some(_), ..) => "paused".to_owned(),
        (None, Some(class), _) => format!("loading is held up ({class})"),
        (None, None, Some(step)) => format!("loading: {}", step.what),
        (None, None, None) if snapshot.held_back.is_some() => "holding batches back for one COPY".to_owned(),
        (None, None, None) => "ready to load".to_owned(),
    }];
    for (component, name) in [(Component::Discovery, "discovery"), (Component::Archive, "archiving")] {
        if let Some(class) = fails(components, component) {
            parts.push(format!("{name} fails ({class})"));
        }
    }
    parts.push(waits(waiting, "to be loaded"));
    parts.join("; ")
}

fn waits(batches: usize, what_for: &str) -> String {
    match batches {
        0 => format!("no batch waits {what_for}"),
        1 => format!("1 batch waits {what_for}"),
        _ => format!("{} wait {what_for}", counted(batches as u64, "batch", "batches")),
    }
}

fn of(components: &[ComponentStatus], component: Component) -> impl Iterator<Item = &ComponentStatus> {
    components.iter().filter(move |status| status.component == component)
}

/// The class of what keeps the component from its work.
fn fails(components: &[ComponentStatus], component: Component) -> Option<&str> {
    failing(components, component).next().map(|failing| failing.class.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::clock::Clock;

    use super::*;
    use crate::status::activity::Activity;

    #[test]
    fn the_stream_is_told_by_what_its_connections_do() {
        let activity = Activity::new(Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap()));
        assert_eq!(stream(&activity.components()), "connecting to the stream");
        let [first, second] = [0, 1].map(|number| activity.reporter_of(Component::Stream, number));
        first.begins("draining the log");
        assert_eq!(stream(&activity.components()), "draining the log");
        first.begins("connecting");
        assert_eq!(stream(&activity.components()), "connecting to the stream");
        first.succeeded();
        second.succeeded();
        assert_eq!(stream(&activity.components()), "reading");
        second.failed("refused", &"409: the reason stays in the dump", Some(Duration::from_secs(1)));
        let one = "reading; 1 of 2 connections broken (refused, 1 failure)";
        assert_eq!(stream(&activity.components()), one);
        first.failed("network", &"no route", None);
        first.failed("network", &"no route", None);
        let both = "not connected to the stream (network, 2 failures)";
        assert_eq!(stream(&activity.components()), both);
        activity.reporter(Component::Log).held("full", &"16 MiB of 16 MiB");
        assert_eq!(stream(&activity.components()), "the log is full, the stream is not read");
    }

    #[test]
    fn the_ingester_is_told_by_what_holds_it_up_or_else_by_its_step() {
        let activity = Activity::new(Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap()));
        let line = || {
            ingester(&IngesterSnapshot { components: activity.components(), ..IngesterSnapshot::default() })
        };
        assert_eq!(line(), "ready to load; no batch waits to be loaded");
        let load = activity.reporter(Component::Load);
        load.asks("Redshift", "COPY");
        assert_eq!(line(), "loading: COPY; no batch waits to be loaded");
        load.failed("configuration", &"no role", None);
        activity.reporter(Component::Discovery).failed("passing", &"503", None);
        let held =
            "loading is held up (configuration); discovery fails (passing); no batch waits to be loaded";
        assert_eq!(line(), held);
        assert_eq!(
            [waits(1, "for S3"), waits(1_200, "for S3")],
            ["1 batch waits for S3", "1,200 batches wait for S3"]
        );
    }
}
