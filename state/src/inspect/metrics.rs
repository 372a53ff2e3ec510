//! The metrics of both services: the same figures as `state dump` shows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use shared::clock;
use shared::metrics::Page;

use crate::alerts::rules::{self, IngesterFigures, ProducerFigures, Watched};
use crate::loads::{ErrorClass, Load, LoadState, PausedBy, Sums};
use crate::log::BatchStatus;
use crate::status::activity::{Activity, Component, ComponentStatus, failing};
use crate::status::alert::Alert;
use crate::status::configuration::ConfigurationStatus;
use crate::status::snapshot::{IngesterSnapshot, ProducerSnapshot};

type Gauge = (&'static str, &'static str, f64);

/// The figures of a producer's log.
#[must_use]
pub fn producer_page(snapshot: &ProducerSnapshot, now: DateTime<Utc>) -> Page {
    let mut page = Page::new("livestream_producer");
    let (totals, gaps) = (snapshot.totals, snapshot.gaps.totals);
    let outcomes = [
        ("row", totals.rows),
        ("duplicate", totals.duplicates),
        ("filtered", totals.filtered),
        ("rejected", totals.rejected),
    ];
    page.counters("records", "What became of the records received", "outcome", outcomes);
    for (name, help, value) in [
        ("received_records", "Records received", totals.received),
        ("rows_without_id", "Rows without a hit id: a duplicate of one is not recognised", totals.without_id),
        ("gaps", "Times in which the stream was not read and that were not sent again", gaps.gaps),
        ("gap_seconds", "Length of all gaps together", gaps.seconds),
    ] {
        page.counter(name, help, value);
    }
    let of = |status: BatchStatus| snapshot.batches.iter().filter(move |batch| batch.status == status);
    let statuses = [BatchStatus::Filling, BatchStatus::Sealed];
    let batches = statuses.map(|status| (status.name(), of(status).count() as f64));
    page.gauges("batches", "Batches that are not yet in S3", "status", batches);
    let oldest = of(BatchStatus::Sealed).filter_map(|batch| batch.sealed).min();
    gauges(&mut page, stream_gauges(snapshot, now));
    gauges(&mut page, room_gauges(snapshot));
    alert_gauges(&mut page, ProducerFigures::SERVICE, &snapshot.alerts);
    gauges(
        &mut page,
        [
            ("log_disk_bytes", "Bytes the log takes on disk", snapshot.disk_bytes as f64),
            (
                "log_waiting_rows",
                "Rows that are durable here and not yet in S3",
                snapshot.rows_to_upload as f64,
            ),
            ("log_waiting_rejects", "Rejects that are not yet in S3", snapshot.rejects_waiting as f64),
            (
                "hits_remembered",
                "Hit ids remembered to recognise duplicates",
                snapshot.hits_remembered as f64,
            ),
            ("oldest_sealed_batch_seconds", "Age of the oldest batch that waits for S3", age(oldest, now)),
        ],
    );
    page
}

fn stream_gauges(snapshot: &ProducerSnapshot, now: DateTime<Utc>) -> Vec<Gauge> {
    let sessions = &snapshot.sessions;
    let connected = sessions.iter().filter(|session| session.ended.is_none()).count();
    let newest = snapshot.newest_hit().or(snapshot.dedup.last_received);
    let behind = "Time since Adobe received the newest hit; Adobe itself takes 20 seconds to 5 minutes";
    let mut gauges = vec![
        ("connections", "Connections to the stream that are open", connected as f64),
        ("connections_wanted", "adobe.connections: so many are to be open", snapshot.connections as f64),
    ];
    // 0 would look healthy before there was a hit.
    gauges.extend(newest.map(|newest| ("stream_behind_seconds", behind, age(Some(newest), now))));
    gauges
}

/// What counts against `log.max_bytes`; nothing when the producer does not run.
fn room_gauges(snapshot: &ProducerSnapshot) -> Vec<Gauge> {
    let (Some(waiting), Some(max)) = (snapshot.waiting_bytes, snapshot.max_bytes) else { return vec![] };
    let full =
        f64::from(failing(&snapshot.components, Component::Log).any(|failing| failing.class == "full"));
    vec![
        ("log_waiting_bytes", "Bytes that wait for S3", waiting as f64),
        ("log_max_bytes", "log.max_bytes: so many may wait for S3", max as f64),
        ("log_full", "1 while as much waits for S3 as may: the stream is not read", full),
    ]
}

/// Each alert that the service knows, whether it stands or not.
fn alert_gauges(page: &mut Page, service: &str, alerts: &[Alert]) {
    let names = rules::all().into_iter().filter(|(of, _)| *of == service).map(|(_, about)| about.name);
    let stands = |name| f64::from(alerts.iter().any(|alert| alert.name == name));
    page.gauges("alerts", "1 while this alert stands", "alert", names.map(|name| (name, stands(name))));
}

/// Whether the service runs with the configuration that its file has. By the names that Prometheus gives its own.
fn configuration(page: &mut Page, status: &ConfigurationStatus) {
    let ConfigurationStatus { taken, failed, waiting, .. } = status;
    let gauges: [Gauge; 3] = [
        (
            "config_last_reload_successful",
            "0 if the latest reload of the configuration was refused",
            f64::from(failed.is_none()),
        ),
        (
            "config_last_reload_success_timestamp_seconds",
            "When the configuration that counts was taken: at the latest reload that succeeded, or at the start",
            taken.timestamp() as f64,
        ),
        (
            "config_keys_waiting_for_restart",
            "Keys whose changed values count only after a restart",
            waiting.len() as f64,
        ),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, value);
    }
}

/// What the components of a service are doing.
pub fn activity_figures(page: &mut Page, activity: &Activity, now: DateTime<Utc>) {
    if let Some(status) = activity.configuration() {
        configuration(page, &status);
    }
    let components = activity.components();
    let longest = |since: &dyn Fn(&ComponentStatus) -> Option<DateTime<Utc>>| {
        let mut longest: BTreeMap<&'static str, f64> = BTreeMap::new();
        for status in &components {
            let seconds = age(since(status), now);
            let entry = longest.entry(status.component.name()).or_default();
            *entry = entry.max(seconds);
        }
        longest
    };
    let failing = longest(&|status| status.failing.as_ref().map(|failing| failing.since));
    let help = "Time since which this component has met failures only; 0 while all is well";
    page.gauges("failing_seconds", help, "component", failing);
    let step = longest(&|status| status.step.as_ref().map(|step| step.since));
    page.gauges("step_seconds", "Time that the step under way has taken", "component", step);
    let help = "Failures since the start, by component and by what was met";
    page.counters_by(
        "failures",
        help,
        ["component", "class"],
        activity
            .failures()
            .into_iter()
            .map(|((component, class), count)| ([component.name().to_owned(), class], count)),
    );
}

/// The figures of an ingester's load store.
#[must_use]
pub fn ingester_page(snapshot: &IngesterSnapshot, alert_after: u32, now: DateTime<Utc>) -> Page {
    let mut page = Page::new("livestream_ingester");
    let number = |is: &dyn Fn(&Load) -> bool| snapshot.loads.iter().filter(|load| is(load)).count() as f64;
    let states = LoadState::NAMES.map(|state| (state, number(&|load| load.state.name() == state)));
    let help = "Batches this ingester remembers, of the archived ones the latest";
    page.gauges("batches", help, "state", states);
    let failed = |class| number(&|load| load.trouble() == Some(class));
    let classes = ErrorClass::ALL.map(|class| (class.name(), failed(class)));
    let help = "Batches whose last attempt failed, by what is wrong";
    page.gauges("retrying_batches", help, "class", classes);
    let help = "Batches that need an operator, or that failed `ingester.alert_after` times or more";
    page.gauge("alarming_batches", help, number(&|load| load.is_alarming(alert_after)));
    let by = |by| f64::from(snapshot.paused.as_ref().is_some_and(|paused| paused.by == by));
    let paused = [("hand", by(PausedBy::Hand)), ("window", by(PausedBy::Window))];
    let help = "1 while nothing is loaded because of `ingester pause` or ingester.pause";
    page.gauges("paused", help, "by", paused);
    gauges(&mut page, load_gauges(snapshot, now));
    staged(&mut page, snapshot);
    page.gauge("producers", "Producers whose batches this ingester remembers", snapshot.producers() as f64);
    alert_gauges(&mut page, IngesterFigures::SERVICE, &snapshot.alerts);
    page
}

fn load_gauges(snapshot: &IngesterSnapshot, now: DateTime<Utc>) -> [Gauge; 6] {
    let (loads, held) = (&snapshot.loads, snapshot.held_back.as_ref());
    let waiting = || loads.iter().filter(|load| !load.is_loaded());
    let quarantined = || loads.iter().map(|load| load.quarantined).filter(|rows| *rows > 0);
    let rows = waiting().map(|load| load.rows).sum::<u64>() as f64;
    let refused = "Rows that Redshift refused and that wait for `ingester replay`, of the batches remembered";
    [
        ("waiting_rows", "Rows that are sealed in S3 and not loaded", rows),
        ("quarantined_rows", refused, quarantined().sum::<u64>() as f64),
        ("quarantined_batches", "Batches with such rows", quarantined().count() as f64),
        (
            "held_back_rows",
            "Rows of the batches that ingester.load_interval holds back",
            held.map_or(0, |held| held.rows) as f64,
        ),
        (
            "oldest_waiting_batch_seconds",
            "Time since the oldest batch waits that is not held back; a pause and the time held back do not count",
            age(snapshot.overdue_since(), now),
        ),
        (
            "since_last_load_seconds",
            "Time since the latest batch was loaded; a pause and the time held back do not count",
            age(snapshot.loaded_nothing_since(), now),
        ),
    ]
}

fn staged(page: &mut Page, snapshot: &IngesterSnapshot) {
    let Sums { staged_loads, known_rows } = snapshot.sums;
    let help = "Batches whose rows were compared with the table before they were loaded";
    page.counter("staged_loads", help, staged_loads);
    page.counter("known_rows", "Rows of those that the table had already", known_rows);
    let unspoken = snapshot.ledger.as_ref().is_some_and(|mark| mark.knows_from.is_none());
    let help = "1 until `ingester ledger knows-from` says which rows the ledger knows; every load is staged meanwhile";
    page.gauge("ledger_speaks_for_nothing", help, f64::from(unspoken));
}

fn gauges(page: &mut Page, gauges: impl IntoIterator<Item = Gauge>) {
    for (name, help, value) in gauges {
        page.gauge(name, help, value);
    }
}

fn age(since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> f64 {
    since.map_or(0.0, |since| clock::age(since, now).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use shared::ids::{BatchId, Instance};

    use super::*;
    use crate::loads::{LedgerMark, LoadEvent, Paused};

    #[test]
    fn a_gap_shows_in_the_figures_of_the_producer() {
        let snapshot = serde_json::json!({
            "instance": "web-1", "totals": { "received": 9, "rows": 4, "duplicates": 3, "filtered": 2, "rejected": 0 },
            "rows_to_upload": 4, "disk_bytes": 1, "hits_remembered": 4, "rejects_waiting": 0,
            "batches": [], "sessions": [], "gaps": { "gaps": 2, "seconds": 318, "list": [] }
        });
        let snapshot: ProducerSnapshot = serde_json::from_value(snapshot).unwrap();
        let text = producer_page(&snapshot, DateTime::UNIX_EPOCH).text();
        assert!(!text.contains("stream_behind_seconds") && !text.contains("producer_log_full "), "{text}");
        for line in [
            "livestream_producer_gaps_total 2",
            "livestream_producer_gap_seconds_total 318",
            r#"livestream_producer_records_total{outcome="duplicate"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn batches_are_counted_by_state_and_by_what_is_wrong() {
        let at = |s| DateTime::from_timestamp(s, 0).unwrap();
        let load = |event: Option<LoadEvent>| {
            let mut load =
                Load::new(BatchId::new(), Instance::try_from("web-1".to_owned()).unwrap(), 1, 10, 9, at(0));
            if let Some(event) = event {
                load.state = load.state.next(event, at(5)).unwrap();
            }
            load
        };
        let failed = LoadEvent::Failed { next: at(9), class: ErrorClass::Data, why: "no".to_owned() };
        let refused = Load { quarantined: 3, ..load(None) };
        let loads = vec![refused, load(Some(LoadEvent::Attempt)), load(Some(failed))];
        let paused = Some(Paused { by: PausedBy::Window, since: None, until: None, why: String::new() });
        let sums = Sums { staged_loads: 2, known_rows: 70 };
        let mark = LedgerMark { pipeline: String::new(), table: String::new(), knows_from: None };
        let snapshot =
            IngesterSnapshot { loads, paused, sums, ledger: Some(mark), ..IngesterSnapshot::default() };
        let text = ingester_page(&snapshot, 5, at(60)).text();
        for line in [
            r#"livestream_ingester_batches{state="discovered"} 1.0"#,
            r#"livestream_ingester_batches{state="archived"} 0.0"#,
            r#"livestream_ingester_retrying_batches{class="data"} 1.0"#,
            r#"livestream_ingester_retrying_batches{class="passing"} 0.0"#,
            "livestream_ingester_alarming_batches 1.0",
            r#"livestream_ingester_paused{by="hand"} 0.0"#,
            r#"livestream_ingester_paused{by="window"} 1.0"#,
            "livestream_ingester_waiting_rows 30.0",
            "livestream_ingester_quarantined_rows 3.0",
            "livestream_ingester_quarantined_batches 1.0",
            "livestream_ingester_staged_loads_total 2",
            "livestream_ingester_known_rows_total 70",
            "livestream_ingester_ledger_speaks_for_nothing 1.0",
            "livestream_ingester_oldest_waiting_batch_seconds 60.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
