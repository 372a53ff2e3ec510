//! What a target is sent: the same words in the form of each kind.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use shared::clock;
use shared::config::{AlertKind, AlertTarget, Config, Severity};
use shared::human::{duration, time};

use crate::alerts::outbox::{Due, Event};
use crate::status::alert::Alert;

/// Characters that PagerDuty takes of a summary.
const SUMMARY_CHARS: usize = 1_024;

/// Who sends.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Origin {
    pub(super) service: &'static str,
    instance: String,
    host: String,
}

impl Origin {
    pub(super) fn new(service: &'static str, config: &Config) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("unknown").to_owned();
        Self { service, instance: config.instance.name.to_string(), host }
    }
}

/// The body of the request.
pub(super) fn body(target: &AlertTarget, origin: &Origin, due: &Due, now: DateTime<Utc>) -> Value {
    match target.kind {
        AlertKind::Slack => json!({ "text": slack(origin, due, now) }),
        AlertKind::PagerDuty => pagerduty(target, origin, due, now),
        AlertKind::Json => json(origin, due, now),
    }
}

fn headline(origin: &Origin, due: &Due) -> String {
    let Origin { service, instance, .. } = origin;
    let state = match (due.event, due.alert.severity) {
        (Event::Test, _) => "test",
        (Event::Resolved, _) => "resolved",
        (Event::Begun, severity) => severity.name(),
        (Event::Stands, Severity::Warning) => "still warning",
        (Event::Stands, Severity::Critical) => "still critical",
    };
    format!("[{state}] {service} {instance}: {}", due.alert.says)
}

fn slack(origin: &Origin, due: &Due, now: DateTime<Utc>) -> String {
    let Alert { severity, since, batch, detail, todo, docs, .. } = &due.alert;
    let sign = match (due.event, severity) {
        (Event::Test | Event::Resolved, _) => ":large_green_circle:",
        (_, Severity::Warning) => ":large_yellow_circle:",
        (_, Severity::Critical) => ":red_circle:",
    };
    let length = duration(clock::age(*since, due.ended.unwrap_or(now)));
    let span = match due.ended {
        Some(ended) => format!("from {} to {} ({length})", time(*since), time(ended)),
        None => format!("since {} ({length})", time(*since)),
    };
    let batch = batch.map(|batch| format!(", batch {batch}")).unwrap_or_default();
    let mut lines = vec![format!("{sign} *{}*", escaped(&headline(origin, due))), format!("{span}{batch}")];
    if !detail.is_empty() {
        lines.push(escaped(detail));
    }
    if due.event != Event::Resolved {
        lines.push(format!("What to do: {}", escaped(todo)));
        lines.push(escaped(docs));
    }
    lines.join("\n")
}

/// <https://docs.slack.dev/messaging/formatting-message-text#escaping>
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// <https://developer.pagerduty.com/docs/send-alert-event>. The key makes all events of one alert one incident.
fn pagerduty(target: &AlertTarget, origin: &Origin, due: &Due, now: DateTime<Utc>) -> Value {
    let Origin { service, instance, host } = origin;
    let alert = &due.alert;
    let action = if due.event == Event::Resolved { "resolve" } else { "trigger" };
    let mut event = json!({
        "routing_key": target.routing_key.reveal(),
        "event_action": action,
        "dedup_key": format!("livestream/{service}/{instance}/{}", alert.name),
        "payload": {
            "summary": headline(origin, due).chars().take(SUMMARY_CHARS).collect::<String>(),
            "source": host,
            "severity": alert.severity.name(),
            "timestamp": alert.since,
            "component": service,
            "group": instance,
            "class": alert.name,
            "custom_details": json(origin, due, now),
        },
    });
    if alert.docs.starts_with("https://") {
        event["links"] = json!([{ "href": alert.docs, "text": "What to do" }]);
    }
    event
}

#[derive(Serialize)]
struct Message<'m> {
    event: Event,
    at: DateTime<Utc>,
    #[serde(flatten)]
    origin: &'m Origin,
    #[serde(flatten)]
    alert: &'m Alert,
    ended: Option<DateTime<Utc>>,
}

fn json(origin: &Origin, due: &Due, now: DateTime<Utc>) -> Value {
    let message = Message { event: due.event, at: now, origin, alert: &due.alert, ended: due.ended };
    // Plain data: it has no map whose keys are no text.
    serde_json::to_value(message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use shared::secret::Secret;

    use super::*;

    fn due(event: Event) -> Due {
        let at = |time: &str| format!("2026-03-02T{time}Z").parse().unwrap();
        let alert = Alert {
            name: "upload_failing".to_owned(),
            severity: Severity::Critical,
            since: at("12:00:00"),
            rounds: 0,
            batch: Some("019caedd-161f-7b12-a7e4-c08d39f61a2c".parse().unwrap()),
            says: "S3 takes no uploads".to_owned(),
            detail: "403 <AccessDenied> & more".to_owned(),
            todo: "run `producer check`".to_owned(),
            docs: "https://wiki.example/OPERATIONS.md#s3-refuses".to_owned(),
        };
        let ended = (event == Event::Resolved).then(|| at("12:05:00"));
        Due { event, alert, ended }
    }

    fn sent(kind: AlertKind, event: Event) -> Value {
        let target = AlertTarget {
            name: "oncall".to_owned(),
            kind,
            url: Secret::default(),
            url_file: std::path::PathBuf::new(),
            routing_key: Secret::new("key"),
            routing_key_file: std::path::PathBuf::new(),
            severity: Severity::Warning,
        };
        let origin = Origin { service: "producer", instance: "web-1".to_owned(), host: "machine".to_owned() };
        body(&target, &origin, &due(event), "2026-03-02T12:05:10Z".parse().unwrap())
    }

    #[test]
    fn slack_gets_a_text_that_says_what_since_when_which_batch_and_what_to_do() {
        assert_eq!(
            sent(AlertKind::Slack, Event::Begun)["text"],
            ":red_circle: *[critical] producer web-1: S3 takes no uploads*\n\
             since 2026-03-02 12:00:00 UTC (5m10s), batch 019caedd-161f-7b12-a7e4-c08d39f61a2c\n\
             403 &lt;AccessDenied&gt; &amp; more\n\
             What to do: run `producer check`\n\
             https://wiki.example/OPERATIONS.md#s3-refuses"
        );
        let text = sent(AlertKind::Slack, Event::Resolved)["text"].as_str().unwrap().to_owned();
        assert!(text.contains("[resolved]") && text.contains("to 2026-03-02 12:05:00 UTC (5m00s)"), "{text}");
        assert!(!text.contains("What to do"), "{text}");
    }

    #[test]
    fn pagerduty_gets_one_incident_for_all_events_of_an_alert() {
        let (begun, resolved) =
            (sent(AlertKind::PagerDuty, Event::Begun), sent(AlertKind::PagerDuty, Event::Resolved));
        assert_eq!(
            (&begun["event_action"], &resolved["event_action"]),
            (&json!("trigger"), &json!("resolve"))
        );
        assert_eq!(begun["dedup_key"], "livestream/producer/web-1/upload_failing");
        assert_eq!(begun["dedup_key"], resolved["dedup_key"]);
        assert_eq!(begun["routing_key"], "key");
        assert_eq!(begun["payload"]["severity"], "critical");
        assert_eq!(begun["payload"]["source"], "machine");
        assert_eq!(begun["links"][0]["href"], "https://wiki.example/OPERATIONS.md#s3-refuses");
    }

    #[test]
    fn json_has_the_alert_as_the_dump_has_it_and_who_sends_it() {
        let message = sent(AlertKind::Json, Event::Stands);
        assert_eq!((&message["event"], &message["service"]), (&json!("stands"), &json!("producer")));
        assert_eq!((&message["instance"], &message["host"]), (&json!("web-1"), &json!("machine")));
        assert_eq!(message["since"], "2026-03-02T12:00:00Z");
        assert_eq!(message["severity"], "critical");
        assert_eq!(message["ended"], Value::Null);
        assert!(message.get("routing_key").is_none());
    }
}
