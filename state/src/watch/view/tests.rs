use std::time::Duration;

use chrono::{DateTime, Utc};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use shared::clock::{Clock, Steady};
use shared::config::Severity;
use shared::ids::{BatchId, Instance};
use shared::seal::Counts;

use super::{Palette, draw};
use crate::loads::{ErrorClass, Load, LoadState, Paused, PausedBy, Quarantined, Refused};
use crate::log::BatchStatus;
use crate::status::activity::{Activity, Component};
use crate::status::alert::Alert;
use crate::status::service::Part;
use crate::status::snapshot::{BatchSnapshot, IngesterSnapshot, ProducerSnapshot};
use crate::watch::ask::Heard;
use crate::watch::model::{Asks, Key, Model, Tab};

fn at() -> DateTime<Utc> {
    "2026-03-02T14:07:31Z".parse().unwrap()
}

fn ago(seconds: u64) -> DateTime<Utc> {
    at() - Duration::from_secs(seconds)
}

fn instance() -> Instance {
    Instance::try_from("web-1".to_owned()).unwrap()
}

fn batch(number: u64, status: BatchStatus, rows: u64) -> BatchSnapshot {
    let opened = ago(3_600 - number);
    BatchSnapshot {
        batch: id(number),
        status,
        files: 10,
        files_uploaded: 4,
        rows,
        bytes: rows * 2_000,
        opened,
        sealed: (status != BatchStatus::Filling).then(|| opened + Duration::from_secs(30)),
        published: None,
    }
}

fn id(number: u64) -> BatchId {
    let millis = 0x019c_aeda_0000 + number;
    let (high, low) = (millis >> 16, millis & 0xffff);
    format!("{high:08x}-{low:04x}-7000-8000-000000000000").parse().unwrap()
}

fn producer(batches: &[BatchSnapshot]) -> ProducerSnapshot {
    // From JSON, in which fields that came later may be absent.
    let json = serde_json::json!({
        "instance": "web-1",
        "totals": {
            "received": 31_234, "rows": 30_000, "duplicates": 1_000, "filtered": 200, "rejected": 34, "without_id": 0
        },
        "rows_to_upload": 12_000,
        "disk_bytes": 5_000_000,
        "waiting_bytes": 3 << 20,
        "max_bytes": 16 << 20,
        "hits_remembered": 30_000,
        "rejects_waiting": 0,
        "batches": batches,
        "connections": 1,
        "sessions": [{
            "session": 4, "connection": 0, "connected": ago(600), "alive": at(), "ended": null, "why": null,
            "records": 9, "first_received": null, "last_received": ago(2), "gap": null
        }],
        "gaps": {"gaps": 1, "seconds": 318, "list": [{
            "session": 3, "connection": 0, "from": ago(918), "to": ago(600), "seconds": 318,
            "why": "the connection was reset"
        }]},
    });
    serde_json::from_value(json).unwrap()
}

fn load(number: u64, state: LoadState) -> Load {
    Load {
        attempts: 3,
        failed: 4,
        state,
        ..Load::new(id(number), instance(), 10, 10_000, 2_000_000, ago(60))
    }
}

fn running<T>(pid: u32, snapshot: T) -> Heard<T> {
    Heard::Part(Part::new(Some(pid), "/var/lib/x".to_owned(), None, Some(snapshot)))
}

fn hear(model: &mut Model, producer: ProducerSnapshot, ingester: IngesterSnapshot) {
    model.hear_producer(running(7, producer), at(), Steady::from_millis(0));
    model.hear_ingester(running(8, ingester), at());
    model.refresh(at());
}

/// All is well: one batch fills, one is loaded, one was.
fn well() -> Model {
    let mut model = Model::new(5, false, at());
    let batches = vec![
        batch(1, BatchStatus::Published, 10_000),
        batch(2, BatchStatus::Published, 10_000),
        batch(3, BatchStatus::Filling, 2_000),
    ];
    let loads = vec![
        Load { loaded: Some(ago(20)), ..load(1, LoadState::Archived { at: ago(19) }) },
        Load { started: Some(ago(4)), ..load(2, LoadState::Loading) },
    ];
    let activity = Activity::new(Clock::by_hand(ago(4)));
    activity.reporter(Component::Load).asks("Redshift", "COPY");
    let ingester =
        IngesterSnapshot { loads, components: activity.components(), ..IngesterSnapshot::default() };
    let earlier = producer(&batches);
    let later = ProducerSnapshot { totals: Counts { received: 76_234, ..earlier.totals }, ..earlier.clone() };
    model.hear_producer(running(7, earlier), at(), Steady::from_millis(0));
    model.hear_producer(running(7, later), at(), Steady::from_millis(5_000));
    model.hear_ingester(running(8, ingester), at());
    model.refresh(at());
    model
}

fn backend(model: &mut Model, width: u16, height: u16, colours: bool) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, Palette { colours })).unwrap();
    terminal.backend().clone()
}

fn shown(model: &mut Model, width: u16, height: u16) -> String {
    let backend = backend(model, width, height, false);
    let cells = backend.buffer().content().chunks(width.into());
    let lines = cells.map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>());
    lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_shows(screen: &str, parts: &[&str]) {
    for part in parts {
        assert!(screen.contains(part), "{part:?} is missing in\n{screen}");
    }
}

#[test]
fn the_pipeline_and_its_batches_stand_on_80_by_24() {
    let screen = shown(&mut well(), 80, 24);
    let expected = "\
livestream  web-1  2026-03-02 14:07:31 UTC
producer  ● running, process 7
ingester  ● running, process 8
╭ Adobe ─────────╮   ╭ log ───────────╮   ╭ S3 ───────────╮   ╭ Redshift ──────╮
│● reading       │   │● writing       │   │● uploading    │   │● COPY          │
│9,000 hits/s    │ → │0 rows/s        │ → │0 rows/s       │ → │166 rows/s      │
│hit 2s old      │   │3.0 MiB 18%     │   │1 batch        │   │59m29s behind   │
╰────────────────╯   ╰────────────────╯   ╰───────────────╯   ╰────────────────╯
pending  2 batches, 12,000 rows, the oldest 59m58s old; the table ends 59m29s ag
 1 batches 3   2 alerts 0   3 gaps 1   4 quarantine 0   5 components
batch              state       files      rows     bytes    age load
019caeda-0003-7000 filling        10     2,000   3.8 MiB 59m57s -
019caeda-0002-7000 published      10    10,000  19.1 MiB 59m58s loading #3 for 4
019caeda-0001-7000 published      10    10,000  19.1 MiB 59m59s archived";
    let upper = screen.trim_end().lines().take(14).collect::<Vec<_>>().join("\n");
    assert_eq!(upper, expected, "\n{screen}");
    assert!(
        screen.ends_with("↑↓ select · Enter open · p only pending · 1-5 Tab · ? help · q quit"),
        "{screen}"
    );
    // Without the size that the boxes need, one line has the four stages.
    let small = shown(&mut well(), 60, 12);
    assert_shows(&small, &["Adobe ● reading → log ● writing → S3 ● uploading → Redshift", "loading #3"]);
}

/// S3 refuses the producer, Redshift does not let the ingester in.
fn outage() -> Model {
    let mut model = Model::new(5, false, at());
    let clock = Clock::by_hand(ago(70));
    let activity = Activity::new(clock.clone());
    let upload = activity.reporter(Component::Upload);
    upload.failed("refused", &"503 SlowDown: reduce the request rate", Some(Duration::from_secs(90)));
    let at_ingester = Activity::new(clock);
    at_ingester.reporter(Component::Load).failed(
        "passing",
        &"connection refused",
        Some(Duration::from_secs(75)),
    );
    let retrying = LoadState::Retrying {
        next: at() + Duration::from_secs(9),
        class: ErrorClass::Data,
        why: "1204 bad".to_owned(),
    };
    let quarantine = Quarantined {
        at: ago(9),
        rows: 37,
        first: Some(Refused { column: Some("evar1".to_owned()), reason: "it is too long".to_owned() }),
        replayed: None,
    };
    let loads = vec![
        load(1, retrying),
        Load { quarantined: 37, quarantine: Some(quarantine), ..load(2, LoadState::Loaded { at: ago(9) }) },
    ];
    let batches = vec![batch(1, BatchStatus::Published, 10_000), batch(3, BatchStatus::Sealed, 10_000)];
    let paused =
        Some(Paused { by: PausedBy::Hand, since: None, until: None, why: "by `ingester pause`".to_owned() });
    let producer = ProducerSnapshot { components: activity.components(), ..producer(&batches) };
    let components = at_ingester.components();
    let alerts = vec![Alert {
        name: "batch_refused".to_owned(),
        severity: Severity::Warning,
        since: ago(70),
        rounds: 0,
        batch: Some(id(1)),
        says: "a batch was refused".to_owned(),
        detail: "1204 bad".to_owned(),
        todo: "look at its rows".to_owned(),
        docs: "rejected-rows".to_owned(),
    }];
    let ingester = IngesterSnapshot { loads, paused, components, alerts, ..IngesterSnapshot::default() };
    hear(&mut model, producer, ingester);
    model
}

#[test]
fn an_outage_is_told_in_words_and_colours() {
    let mut model = outage();
    let screen = shown(&mut model, 110, 30);
    assert_shows(
        &screen,
        &[
            "│✗ fails",
            "│for 1m10s",
            "│✗ held up",
            "✗ upload S3 fails for 1m10s; 1 failure, last try 1m10s ago, next in 20s: 503 SlowDown",
            "✗ load held up for 1m10s; 1 failure, last try 1m10s ago, next in 5s: connection refused",
            "✗ 1 batch fails again and again, the oldest 019caeda-0001",
            "▲ loading is paused until `ingester resume`, by `ingester pause`",
            "retrying ALERT data, 4 failu",
            " 4 quarantine 37 ",
            " 2 alerts 1 ",
            "▲ alert warning for 1m10s: a batch was refused",
            "sealed       4/10",
        ],
    );
    // On a small screen the most urgent stays, and that there is more.
    let small = shown(&mut model, 50, 16);
    assert_shows(&small, &["S3 ✗ fails", "✗ upload S3 fails", "… 4 more"]);
    let coloured = backend(&mut model, 110, 30, true);
    let red = coloured.buffer().content().iter().filter(|cell| cell.fg == Color::Red).count();
    let plain = backend(&mut model, 110, 30, false);
    assert!(red > 100, "{red}");
    assert!(plain.buffer().content().iter().all(|cell| cell.fg == Color::Reset), "NO_COLOR");
}

#[test]
fn a_service_that_is_gone_or_silent_says_since_when() {
    let mut model = well();
    let stopped = Part::new(None, "/x".to_owned(), Some(ago(90)), Some(producer(&[])));
    model.hear_producer(Heard::Part(stopped), ago(60), Steady::from_millis(9_000));
    model.hear_ingester(Heard::Asked, at());
    model.refresh(at() + Duration::from_secs(3));
    assert_shows(&shown(&mut model, 120, 24), &["ingester  ● running"]);
    model.refresh(at() + Duration::from_secs(12));
    let screen = shown(&mut model, 140, 24);
    assert_shows(
        &screen,
        &[
            "producer  ○ not running since 2026-03-02 14:06:01 UTC (1m42s); its database as read at 14:06:31, r reads again",
            "ingester  ✗ no answer since 14:07:31 UTC (12s): its service is stopped or overloaded",
            "│○ stopped 1m42s",
            "│✗ silent 12s",
        ],
    );
    model.hear_ingester(Heard::Trouble("/x/feed.sock is for the service's user alone".to_owned()), at());
    assert_shows(&shown(&mut model, 140, 24), &["service's user alone"]);
    let nothing = Part::new(None, "/x".to_owned(), None, None);
    model.hear_ingester(Heard::Part(nothing), at());
    model.refresh(at());
    assert_shows(&shown(&mut model, 140, 24), &["ingester  ○ never ran with this configuration"]);
    let mut first = Model::new(5, false, at());
    assert_shows(&shown(&mut first, 80, 24), &["producer  ○ is being asked", "no batches"]);
}

#[test]
fn a_thousand_batches_are_gone_through_and_the_selected_one_stays_when_others_come() {
    let mut model = Model::new(5, true, at());
    let batches =
        |many| (1..=many).map(|number| batch(number, BatchStatus::Sealed, 1_000)).collect::<Vec<_>>();
    hear(&mut model, producer(&batches(1_000)), IngesterSnapshot::default());
    let screen = shown(&mut model, 120, 30);
    assert_shows(
        &screen,
        &[" 1 pending 1,000 ", "pending  1,000 batches, 1,000,000 rows", &id(1_000).to_string()],
    );
    assert_eq!(model.key(Key::Last), Asks::Nothing);
    assert_shows(&shown(&mut model, 120, 30), &[&id(1).to_string(), &id(15).to_string()]);
    assert_eq!(model.key(Key::Page(-1)), Asks::Nothing);
    assert_eq!(model.key(Key::Move(-1)), Asks::Nothing);
    let selected = model.lines[model.table.selected().unwrap()].batch;
    hear(&mut model, producer(&batches(1_003)), IngesterSnapshot::default());
    assert_eq!(model.lines[model.table.selected().unwrap()].batch, selected);
    assert_shows(&shown(&mut model, 120, 30), &[&selected.to_string()]);
    assert_eq!(model.key(Key::Enter), Asks::Open(selected));
}

#[test]
fn tabs_show_gaps_alerts_quarantine_and_components() {
    let mut model = outage();
    for (tab, parts) in [
        (
            Tab::Gaps,
            &["1 gap, 5m18s together", "03-02 13:52:13 to 03-02 13:57:31 UTC (5m18s) before session 3"][..],
        ),
        (
            Tab::Alerts,
            &["▲ batch_refused  warning for 1m10s: a batch", "    look at its rows", "#rejected-rows"],
        ),
        (Tab::Quarantine, &["37 of 10,000 rows", "column evar1: it is too long", "ingester replay"]),
        (Tab::Components, &["✗ upload      S3 fails for 1m10s", "    503 SlowDown: reduce", "✗ load"]),
    ] {
        assert_eq!(model.key(Key::Tab(tab)), Asks::Nothing);
        assert_shows(&shown(&mut model, 100, 30), parts);
    }
    assert_eq!(model.key(Key::NextTab), Asks::Nothing);
    assert_eq!(model.tab, Tab::Batches, "behind the last comes the first");
}

#[test]
fn a_batch_is_opened_scrolled_and_closed_and_the_help_says_how() {
    let mut model = well();
    let newest = id(3);
    assert_eq!(model.key(Key::Enter), Asks::Open(newest));
    assert_shows(&shown(&mut model, 80, 24), &["reading …", "Esc back"]);
    let text = (0..50).map(|line| format!("line {line} of it")).collect::<Vec<_>>().join("\n");
    model.tell_batch(id(1), "of another".to_owned());
    model.tell_batch(newest, text);
    assert_shows(&shown(&mut model, 80, 24), &["line 0 of it"]);
    assert_eq!(model.key(Key::Last), Asks::Nothing);
    let end = shown(&mut model, 80, 24);
    assert!(end.contains("line 49 of it") && !end.contains("line 0 of it"), "{end}");
    assert_eq!(model.key(Key::Help), Asks::Nothing);
    assert_shows(&shown(&mut model, 80, 30), &["Enter            open the batch", "q Ctrl-C         quit"]);
    assert_eq!(model.key(Key::Back), Asks::Nothing, "the help goes first");
    assert_eq!(model.key(Key::Back), Asks::Close);
    assert_eq!((model.key(Key::Back), model.key(Key::Quit)), (Asks::Nothing, Asks::Quit));
}

#[test]
fn only_what_is_pending_is_shown_when_asked_for() {
    let mut model = well();
    assert_eq!(model.key(Key::Pending), Asks::Nothing);
    let screen = shown(&mut model, 80, 24);
    assert!(screen.contains(" 1 pending 2 ") && !screen.contains("archived"), "{screen}");
    assert_eq!(model.key(Key::Pending), Asks::Nothing);
    assert_shows(&shown(&mut model, 80, 24), &["archived"]);
}

#[test]
fn no_size_is_too_small() {
    for mut model in [well(), outage(), Model::new(5, false, at())] {
        for (width, height) in [(1, 1), (3, 2), (20, 5), (40, 10), (67, 24), (80, 19), (300, 100)] {
            for key in [Key::Last, Key::Help, Key::Back, Key::Enter, Key::Back, Key::NextTab] {
                model.key(key);
                let _ = shown(&mut model, width, height);
            }
        }
    }
    let tiny = shown(&mut outage(), 40, 10);
    assert_shows(&tiny, &["Adobe ● reading", "S3 ✗ f", "pending"]);
}
