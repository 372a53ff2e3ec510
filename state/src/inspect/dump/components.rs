//! What keeps the services from their work, and which step takes long.

use chrono::{DateTime, TimeDelta, Utc};
use shared::human::{ago, counted};

use crate::inspect::columns;
use crate::status::activity::{Component, ComponentStatus, Failing, Step};
use crate::status::alert::Alert;
use crate::status::configuration::ConfigurationStatus;

/// A step that takes longer is shown.
const LONG: TimeDelta = TimeDelta::seconds(3);
/// A request without an answer for so long may never get one.
const UNANSWERED: TimeDelta = TimeDelta::seconds(30);
/// Where the text of a line begins.
const INDENT: usize = 10;

/// One line, and one paragraph for the reason, for each component that fails; one line for each step that takes long.
pub(super) fn components(out: &mut Vec<String>, components: &[ComponentStatus], now: DateTime<Utc>) {
    for status in components {
        let name = status.component.name();
        // A target is named by its reason.
        let number = status.number.filter(|_| status.component != Component::Alerts);
        let number = number.map(|number| format!("connection {number} ")).unwrap_or_default();
        if let Some(failing) = &status.failing {
            out.push(format!("{name:<INDENT$}{number}{}", describe(status.component, failing, now)));
            out.push(columns::wrap(&failing.why, INDENT));
        }
        if let Some(step) = status.step.as_ref().filter(|step| now - step.since >= LONG) {
            out.push(format!("{name:<INDENT$}{number}{} for {}", under_way(step, now), ago(step.since, now)));
        }
    }
}

/// One line for each alert.
pub(super) fn alerts(out: &mut Vec<String>, alerts: &[Alert], now: DateTime<Utc>) {
    out.extend(alerts.iter().map(|alert| {
        let (severity, since) = (alert.severity.name(), ago(alert.since, now));
        let batch = alert.batch.map(|batch| format!(" (batch {batch})")).unwrap_or_default();
        let text = format!("{severity} for {since}: {}{batch}; {}", alert.says, alert.todo);
        format!("{:<INDENT$}{}", "alert", columns::wrap(&text, INDENT).trim_start())
    }));
}

/// One line for each service that has reloaded its configuration, with what still waits for a restart.
pub(super) fn configuration(
    out: &mut Vec<String>,
    service: &str,
    status: Option<&ConfigurationStatus>,
    now: DateTime<Utc>,
) {
    let Some(status) = status.filter(|status| status.reloads > 0) else { return };
    let since = ago(status.taken, now);
    let text = match status.waiting.as_slice() {
        [] => format!("{service}: configuration reloaded {since} ago"),
        keys => {
            format!("{service}: configuration reloaded {since} ago; restart it to take {}", keys.join(", "))
        }
    };
    out.push(format!("{:<INDENT$}{}", "reloaded", columns::wrap(&text, INDENT).trim_start()));
}

/// What it does, or whose answer it has waited for too long.
pub(crate) fn under_way(step: &Step, now: DateTime<Utc>) -> String {
    match &step.waits_for {
        Some(whom) if now - step.since >= UNANSWERED => {
            format!("waiting for {whom}'s answer to {}", step.what)
        }
        _ => step.what.clone(),
    }
}

/// Since when, how often, and what comes next.
pub(crate) fn describe(component: Component, failing: &Failing, now: DateTime<Utc>) -> String {
    let state = match (component, failing.class.as_str()) {
        (Component::Stream, _) => "not connected",
        (Component::Log, "full") => "FULL",
        (Component::Load, _) => "held up",
        // What stands in the way is then an object or a disk, and not S3.
        (Component::Discovery | Component::Archive, "incomplete") | (Component::Upload, "other") => "fails",
        (Component::Upload | Component::Discovery | Component::Archive, _) => "S3 fails",
        (Component::Reconcile, "decide") => "needs an operator",
        (Component::Log | Component::Reconcile, _) => "fails",
        (Component::Alerts, _) => "not told",
        (Component::Config, _) => "NOT RELOADED",
    };
    let since = ago(failing.since, now);
    let Failing { failures, last, next, .. } = failing;
    let failures = counted(*failures, "failure", "failures");
    match next {
        None => format!("{state} for {since}:"),
        Some(next) if *next <= now => format!("{state} for {since}; {failures}, trying again now:"),
        Some(next) => {
            let (last, next) = (ago(*last, now), ago(now, *next));
            format!("{state} for {since}; {failures}, last try {last} ago, next in {next}:")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::clock::Clock;

    use super::*;
    use crate::status::activity::Activity;

    #[test]
    fn what_fails_says_since_when_why_and_what_comes_next() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let activity = Activity::new(clock.clone());
        let stream = activity.reporter_of(Component::Stream, 1);
        stream.failed("403", &"403 Forbidden: ask Customer Care", Some(Duration::from_secs(2)));
        clock.advance(Duration::from_secs(62));
        stream.failed("403", &"403 Forbidden: ask Customer Care", Some(Duration::from_secs(60)));
        activity.reporter(Component::Log).held("full", &"16.0 MiB of 16.0 MiB wait for S3");
        activity.reporter(Component::Load).begins("COPY");
        clock.advance(Duration::from_secs(8));
        let mut out = Vec::new();
        components(&mut out, &activity.components(), clock.wall());
        assert_eq!(
            out,
            [
                "stream    connection 1 not connected for 1m10s; 2 failures, last try 8s ago, next in 52s:",
                "          403 Forbidden: ask Customer Care",
                "log       FULL for 8s:",
                "          16.0 MiB of 16.0 MiB wait for S3",
                "load      COPY for 8s",
            ]
        );
    }

    #[test]
    fn a_request_that_is_not_answered_for_long_says_whose_answer_is_waited_for() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let activity = Activity::new(clock.clone());
        activity.reporter(Component::Load).asks("Redshift", "LOCK");
        let told = |clock: &Clock| {
            let mut out = Vec::new();
            components(&mut out, &activity.components(), clock.wall());
            out
        };
        assert_eq!(told(&clock), [""; 0]);
        clock.advance(Duration::from_secs(10));
        assert_eq!(told(&clock), ["load      LOCK for 10s"]);
        clock.advance(Duration::from_secs(32));
        assert_eq!(told(&clock), ["load      waiting for Redshift's answer to LOCK for 42s"]);
    }
}
