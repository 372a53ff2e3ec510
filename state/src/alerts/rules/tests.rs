use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::Steady;
use shared::ids::{BatchId, Instance};

use super::*;
use crate::alerts::growth::Growth;
use crate::loads::{ErrorClass, Failed, LedgerMark, Load, LoadState, Paused, PausedBy, Sums};
use crate::status::activity::{Activity, Component};
use crate::status::drift::{DriftKind, DriftSnapshot, Drifted};
use crate::status::snapshot::{HeldBack, IngesterSnapshot, ProducerSnapshot};

fn at(seconds: i64) -> DateTime<Utc> {
    "2026-03-02T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

/// Which rules are above their first limit now, holds left aside, and what they found.
fn above<S: Watched>(figures: &S, growth: &Growth, now: DateTime<Utc>) -> BTreeMap<&'static str, Found> {
    let seen = Seen { figures, growth, now };
    let found = S::rules().iter().filter_map(|rule| Some((&rule.about, (rule.measure)(&seen)?)));
    let found = found.filter(|(about, found)| found.value > about.levels[0].above);
    found.map(|(about, found)| (about.name, found)).collect()
}

fn ingester(loads: Vec<Load>) -> IngesterFigures {
    IngesterFigures {
        snapshot: IngesterSnapshot { loads, ..IngesterSnapshot::default() },
        failures: BTreeMap::new(),
        since_listing: Duration::ZERO,
        list_interval: Duration::from_secs(60),
        alert_after: 5,
    }
}

fn load(instance: &str) -> Load {
    Load::new(BatchId::new(), Instance::try_from(instance.to_owned()).unwrap(), 1, 10, 9, at(0))
}

fn failed(load: Load, class: ErrorClass) -> Load {
    let why = || "403".to_owned();
    let failed = Failed { attempt: Some(1), started: Some(at(20)), failed: at(30), class, why: why() };
    let state = LoadState::Retrying { next: at(60), class, why: why() };
    Load { attempts: 1, failed: 1, failures: vec![failed], state, ..load }
}

fn names<V>(above: &BTreeMap<&'static str, V>) -> Vec<&'static str> {
    above.keys().copied().collect()
}

fn none() -> Growth {
    Growth::default()
}

#[test]
fn a_batch_that_needs_an_operator_does_so_also_while_it_is_tried_again() {
    let refused = failed(load("web-1"), ErrorClass::Configuration);
    let trying = Load { state: LoadState::Loading, ..refused.clone() };
    for load in [refused, trying] {
        let (batch, figures) = (load.batch, ingester(vec![load]));
        let above = above(&figures, &none(), at(61));
        assert_eq!(names(&above), ["needs_operator"]);
        let found = &above["needs_operator"];
        assert_eq!((found.since, found.batch), (Some(at(30)), Some(batch)));
        assert_eq!(found.detail, "1 batch, 10 rows: 403");
    }
    let data = failed(load("web-1"), ErrorClass::Data);
    assert_eq!(names(&above(&ingester(vec![data]), &none(), at(61))), ["batch_refused"]);
    let mut often = failed(load("web-1"), ErrorClass::Passing);
    assert_eq!(names(&above(&ingester(vec![often.clone()]), &none(), at(61))), [""; 0]);
    often.failed = 5;
    assert_eq!(names(&above(&ingester(vec![often]), &none(), at(61))), ["batch_alarming"]);
}

#[test]
fn what_waits_is_an_alert_unless_loading_is_paused() {
    let mut figures = ingester(vec![load("web-1")]);
    assert_eq!(names(&above(&figures, &none(), at(900))), [""; 0]);
    assert_eq!(names(&above(&figures, &none(), at(901))), ["batch_not_loaded"]);
    let held = HeldBack { batches: 1, rows: 10, until: at(99_999), load_rows: 1_000_000 };
    figures.snapshot.held_back = Some(held);
    assert_eq!(names(&above(&figures, &none(), at(9_999))), [""; 0]);
    // What was held back has become due, and is being loaded.
    figures.snapshot.held_back = None;
    figures.snapshot.loads[0].state = LoadState::Loading;
    figures.snapshot.idle_until = Some(at(9_999));
    figures.snapshot.loads.push(Load { loaded: Some(at(1)), ..load("web-1") });
    figures.snapshot.loads[1].state = LoadState::Loaded { at: at(1) };
    assert_eq!(names(&above(&figures, &none(), at(9_999 + 900))), [""; 0]);
    assert_eq!(names(&above(&figures, &none(), at(9_999 + 901))), ["batch_not_loaded"]);
    assert_eq!(names(&above(&figures, &none(), at(9_999 + 3_601))), ["batch_not_loaded", "nothing_loaded"]);
    figures.snapshot.loads.truncate(1);
    figures.snapshot.loads[0].state = LoadState::Discovered;
    figures.snapshot.paused =
        Some(Paused { by: PausedBy::Window, since: None, until: None, why: String::new() });
    assert_eq!(names(&above(&figures, &none(), at(9_999))), [""; 0]);
    figures.snapshot.paused =
        Some(Paused { by: PausedBy::Hand, since: None, until: None, why: String::new() });
    assert_eq!(names(&above(&figures, &none(), at(9_999))), ["paused"]);
}

#[test]
fn rows_in_quarantine_a_ledger_that_says_nothing_and_a_listing_long_ago_are_alerts() {
    let mut figures = ingester(vec![Load { quarantined: 7, loaded: Some(at(5)), ..load("web-1") }]);
    let mark = LedgerMark { pipeline: String::new(), table: "public.t".to_owned(), knows_from: None };
    figures.snapshot.ledger = Some(mark);
    figures.since_listing = Duration::from_secs(901);
    let found = above(&figures, &none(), at(60));
    assert_eq!(names(&found), ["ledger_speaks_for_nothing", "not_listed", "rows_quarantined"]);
    assert_eq!(found["rows_quarantined"].detail, "7 rows of 1 batch");
    figures.list_interval = Duration::from_secs(600);
    assert!(!above(&figures, &none(), at(60)).contains_key("not_listed"), "it is listed rarely");
}

#[test]
fn known_rows_and_staged_loads_are_an_alert_of_one_producer_only() {
    let mut growth = Growth::default();
    let mut figures = ingester(vec![Load { loaded: Some(at(0)), ..load("web-1") }]);
    growth.sample(figures.counters(), Steady::from_millis(0));
    figures.snapshot.sums = Sums { staged_loads: 11, known_rows: 3 };
    figures.failures = BTreeMap::from([
        ((Component::Load, "passing".to_owned()), 21),
        ((Component::Alerts, "500".to_owned()), 99),
    ]);
    growth.sample(figures.counters(), Steady::from_millis(5_000));
    let found = above(&figures, &growth, at(5));
    assert_eq!(names(&found), ["failures_growing", "loads_staged", "rows_known"]);
    assert_eq!(found["failures_growing"].detail, "load, passing: 21 failures in 15 minutes");
    figures.snapshot.loads.push(Load { loaded: Some(at(0)), ..load("web-2") });
    assert_eq!(names(&above(&figures, &growth, at(5))), ["failures_growing"]);
    let activity = Activity::new(shared::clock::Clock::by_hand(at(0)));
    activity.reporter(Component::Load).failed("passing", &"away", None);
    figures.snapshot.components = activity.components();
    assert_eq!(names(&above(&figures, &growth, at(60))), ["failures_growing", "load_failing"]);
    assert_eq!(names(&above(&figures, &growth, at(61))), ["load_failing"], "an outage");
}

fn producer() -> ProducerFigures {
    let snapshot = serde_json::json!({
        "instance": "web-1", "totals": { "received": 1000, "rows": 1000, "duplicates": 0, "filtered": 0, "rejected": 0 },
        "rows_to_upload": 40, "disk_bytes": 1, "hits_remembered": 4, "rejects_waiting": 0, "connections": 1,
        "batches": [{ "batch": "019caedd-161f-7b12-a7e4-c08d39f61a2c", "status": "sealed", "files": 4, "files_uploaded": 1,
            "rows": 40, "bytes": 9, "opened": at(0), "sealed": at(0), "published": null }],
        "sessions": [{ "session": 0, "connection": 0, "connected": at(0), "alive": at(0), "ended": null, "why": null,
            "records": 9, "counts": null, "first_received": at(0), "last_received": at(0), "gap": null }]
    });
    let snapshot: ProducerSnapshot = serde_json::from_value(snapshot).unwrap();
    ProducerFigures { snapshot, damaged_sessions: 0, nulled: Vec::new() }
}

#[test]
fn what_the_stream_loses_or_alters_is_an_alert_by_how_much_it_grows() {
    let (mut growth, mut figures) = (Growth::default(), producer());
    growth.sample(figures.counters(), Steady::from_millis(0));
    assert_eq!(names(&above(&figures, &growth, at(5))), [""; 0]);
    figures.snapshot.totals.received += 2_000;
    figures.snapshot.totals.rejected += 20;
    figures.nulled = vec![("evar1".to_owned(), 9), ("evar2".to_owned(), 21)];
    figures.damaged_sessions = 1;
    figures.snapshot.gaps.totals.gaps = 1;
    growth.sample(figures.counters(), Steady::from_millis(5_000));
    let found = above(&figures, &growth, at(5));
    assert_eq!(names(&found), ["gaps", "stream_damaged", "values_nulled"], "1 % of rejects is not above 1");
    assert_eq!(found["values_nulled"].detail, "21 values of evar2 in 15 minutes");
    figures.snapshot.totals.rejected += 1;
    growth.sample(figures.counters(), Steady::from_millis(10_000));
    assert_eq!(
        above(&figures, &growth, at(10))["records_rejected"].detail,
        "21 rejects of 2,000 in 15 minutes"
    );
}

#[test]
fn a_producer_that_waits_for_s3_or_adobe_says_since_when_and_which_batch() {
    let (clock, mut figures) = (shared::clock::Clock::by_hand(at(0)), producer());
    let activity = Activity::new(clock.clone());
    activity.reporter(Component::Upload).failed("configuration", &"403 AccessDenied", None);
    activity.reporter(Component::Stream).failed("503", &"answered 503", None);
    activity.reporter(Component::Log).held("full", &"16 of 16 MiB");
    figures.snapshot.components = activity.components();
    assert_eq!(names(&above(&figures, &none(), at(30))), ["log_full"]);
    let found = above(&figures, &none(), at(31));
    assert_eq!(names(&found), ["log_full", "stream_failing", "upload_failing"]);
    let upload = &found["upload_failing"];
    assert_eq!((upload.since, upload.batch), (Some(at(0)), Some(figures.snapshot.batches[0].batch)));
    assert_eq!(upload.detail, "403 AccessDenied");
    activity.reporter(Component::Upload).begins("waiting for S3");
    figures.snapshot.components = activity.components();
    figures.snapshot.sessions[0].ended = Some(at(1));
    let all = ["batch_not_uploaded", "connections_missing", "log_full", "stream_behind", "stream_failing"];
    let found = above(&figures, &none(), at(1_801));
    assert_eq!(names(&found), [&all[..], &["upload_failing", "upload_unanswered"]].concat());
    assert_eq!(found["batch_not_uploaded"].detail, "1 of 4 files are in S3, 40 rows wait");
}

#[test]
fn a_log_is_an_alert_before_it_is_full() {
    let mut figures = producer();
    (figures.snapshot.waiting_bytes, figures.snapshot.max_bytes) = (Some(80 << 20), Some(100 << 20));
    assert_eq!(names(&above(&figures, &none(), at(30))), [""; 0]);
    figures.snapshot.waiting_bytes = Some(81 << 20);
    let found = above(&figures, &none(), at(30));
    assert_eq!(found["log_filling"].detail, "81.0 MiB of 100.0 MiB (log.max_bytes) wait for S3");
}

#[test]
fn a_stream_that_is_not_as_it_was_is_an_alert_that_names_the_columns() {
    let mut figures = producer();
    figures.snapshot.drift = Some(Box::default());
    assert_eq!(names(&above(&figures, &none(), at(30))), [""; 0]);
    let drifted = |kind, field: &str, second| Drifted {
        kind,
        field: field.to_owned(),
        at: at(second),
        before: 1.0,
        now: 0.75,
        example: None,
        round: if field == "evar2" { 3 } else { 2 },
    };
    // The last one is for the next round.
    let drifted = vec![
        drifted(DriftKind::At255Bytes, "evar1", 20),
        drifted(DriftKind::FilledLess, "useragent", 10),
        drifted(DriftKind::At255Bytes, "evar2", 25),
    ];
    figures.snapshot.drift = Some(Box::new(DriftSnapshot { drifted, rounds: 2, ..DriftSnapshot::default() }));
    let found = above(&figures, &none(), at(30));
    assert_eq!(names(&found), ["drift"]);
    assert_eq!((found["drift"].since, found["drift"].rounds, found["drift"].value), (Some(at(10)), 2, 2.0));
    assert_eq!(
        found["drift"].detail,
        "filled less often than before: useragent (100 % → 75 %); values of exactly 255 bytes, as Adobe cuts them: evar1 \
         (100 % → 75 %)"
    );
}
