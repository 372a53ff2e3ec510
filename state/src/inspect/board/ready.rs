//! Whether a service is ready: does its part to bring hits into the table. Anybody who can connect reads the answer: it names components and what was met in one word,
//! and no more.

use chrono::{DateTime, Utc};
use shared::human::ago;

use crate::status::activity::{Component, ComponentStatus};

/// What keeps the components of a service from their work, a line each. Ready, if there is nothing.
#[must_use]
pub fn missing(components: &[ComponentStatus], now: DateTime<Utc>) -> Vec<String> {
    components.iter().filter_map(|status| line(status, now)).collect()
}

fn line(status: &ComponentStatus, now: DateTime<Utc>) -> Option<String> {
    let number = status.number.map(|number| format!(" {number}")).unwrap_or_default();
    let name = format!("{}{number}", status.component.name());
    match (&status.failing, status.component, &status.step) {
        // Hits come into the table without them.
        (_, Component::Alerts | Component::Config | Component::Reconcile | Component::Archive, _) => None,
        (Some(failing), ..) => Some(format!("{name}: {} for {}", failing.class, ago(failing.since, now))),
        // Any other component does its work in steps.
        (None, Component::Stream, Some(step)) => {
            Some(format!("{name}: {} for {}", step.what, ago(step.since, now)))
        }
        (None, ..) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::clock::Clock;

    use super::*;
    use crate::status::activity::Activity;

    #[test]
    fn what_fails_and_a_stream_that_is_not_connected_are_missing_and_no_reason_is_told() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let activity = Activity::new(clock.clone());
        activity.reporter_of(Component::Stream, 0).begins("connecting");
        activity.reporter(Component::Load).begins("COPY");
        activity.reporter(Component::Upload).failed("refused", &"403 AccessDenied of a bucket", None);
        activity.reporter_of(Component::Alerts, 0).failed("network", &"the chat is away", None);
        clock.advance(Duration::from_secs(9));
        let now = || missing(&activity.components(), clock.wall());
        assert_eq!(now(), ["stream 0: connecting for 9s", "upload: refused for 9s"]);
        activity.reporter(Component::Upload).succeeded();
        activity.reporter_of(Component::Stream, 0).succeeded();
        assert_eq!(now(), [""; 0]);
    }
}
