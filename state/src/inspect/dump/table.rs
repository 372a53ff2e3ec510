//! Both services for people: aligned, what is pending last so that it stands above the prompt.

use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::human::{ago, bytes, count, counted, duration, time};

use super::batch_line::BatchLine;
use super::components::{alerts, components, configuration};
use super::load::refused;
use super::overview::Dump;
use crate::inspect::columns::{self, header, outcomes};
use crate::loads::Sums;
use crate::log::{ENDED_WITHOUT_A_WORD, Session};
use crate::status::activity::{Component, ComponentStatus};
use crate::status::snapshot::{GapsSnapshot, HeldBack, ProducerSnapshot};

const FINISHED_SHOWN: usize = 10;
const QUARANTINED_SHOWN: usize = 10;

impl Dump {
    /// The dump for people. The caller fits it to the terminal and adds the last line end.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = vec![header(self.at, &self.producer, &self.ingester)];
        if let Some(producer) = self.producer.snapshot.as_ref().filter(|_| !self.only_pending) {
            stream(&mut out, producer, self.producer.pid.is_some(), self.at);
        }
        components(&mut out, &self.components(), self.at);
        alerts(&mut out, &self.alerts(), self.at);
        drift(&mut out, self);
        let producer = self.producer.snapshot.as_ref().and_then(|producer| producer.configuration.as_ref());
        configuration(&mut out, "producer", producer, self.at);
        let ingester = self.ingester.snapshot.as_ref().and_then(|ingester| ingester.configuration.as_ref());
        configuration(&mut out, "ingester", ingester, self.at);
        batches(&mut out, self);
        quarantine(&mut out, self);
        ledger(&mut out, self);
        out.push(match self.pending.batches {
            0 => "nothing is pending".to_owned(),
            batches => {
                let rows = counted(self.pending.rows, "row", "rows");
                format!("pending  {}, {rows}", counted(batches, "batch", "batches"))
            }
        });
        if let Some(ingester) = &self.ingester.snapshot {
            out.extend(ingester.paused.as_ref().map(|paused| format!("paused   {}", paused.describe())));
            out.extend(ingester.held_back.as_ref().map(held_back));
        }
        out.join("\n")
    }
}

/// What waits for more rows or for its time.
pub(crate) fn held_back(held: &HeldBack) -> String {
    let (batches, rows) = (counted(held.batches, "batch", "batches"), counted(held.rows, "row", "rows"));
    let (until, worth) = (time(held.until), counted(held.load_rows, "row", "rows"));
    format!(
        "held     {batches}, {rows}: loaded at {until} or with {worth} (ingester.load_interval, load_rows)"
    )
}

/// What of the stream is not as it was.
fn drift(out: &mut Vec<String>, dump: &Dump) {
    let drift = dump.producer.snapshot.as_ref().and_then(|producer| producer.drift.as_ref());
    let Some(drift) = drift.filter(|drift| !drift.drifted.is_empty() && !dump.only_pending) else { return };
    let since = drift.drifted.iter().map(|one| one.at).min().map_or(String::new(), |at| ago(at, dump.at));
    let fields = counted(drift.drifted.len() as u64, "field is", "fields are");
    out.push(format!("\ndrift     {fields} not as before, first told {since} ago; `producer schema --seen`"));
    out.extend(drift.lines().iter().map(|line| columns::wrap(line, 10)));
}

fn batches(out: &mut Vec<String>, dump: &Dump) {
    let mut lines = dump.batch_lines();
    if lines.is_empty() {
        // With nothing but what is pending, the last line says it.
        let none = if dump.only_pending { "" } else { "\nno batches\n" };
        out.push(none.to_owned());
        return;
    }
    // Of those that have reached their end only the latest.
    let mut hidden = lines.iter().filter(|line| !line.pending).count().saturating_sub(FINISHED_SHOWN);
    out.push(format!("\n{:36}  state      files     rows      bytes     age  load", "batch"));
    if hidden > 0 {
        let end = if dump.ingester.snapshot.is_some() { "loaded" } else { "published" };
        out.push(format!("({}: {end})", counted(hidden as u64, "older one", "older ones")));
    }
    lines.retain(|line| {
        let hide = hidden > 0 && !line.pending;
        hidden -= usize::from(hide);
        !hide
    });
    out.extend(lines.iter().map(|line| batch(line, dump.at)));
    out.push(String::new());
}

fn batch(line: &BatchLine, now: DateTime<Utc>) -> String {
    let BatchLine { batch, state, files, rows, bytes: size, opened, load, more, alert, .. } = line;
    let (rows, size, age) = (count(*rows), bytes(*size), ago(*opened, now));
    let alert = if *alert { "ALERT " } else { "" };
    let more = more.as_ref().map(|more| format!("\n    {alert}{more}")).unwrap_or_default();
    format!("{batch}  {state:9}  {files:>5}  {rows:>7}  {size:>9}  {age:>6}  {load}{more}")
}

fn quarantine(out: &mut Vec<String>, dump: &Dump) {
    let loads = dump.ingester.snapshot.iter().flat_map(|ingester| &ingester.loads);
    let quarantined: Vec<_> = loads.filter(|load| load.quarantined > 0).collect();
    if quarantined.is_empty() {
        return;
    }
    let rows = counted(quarantined.iter().map(|load| load.quarantined).sum(), "row", "rows");
    let batches = counted(quarantined.len() as u64, "batch", "batches");
    out.push(format!("in quarantine  {rows} of {batches}; `ingester replay --help` says what to do"));
    let hidden = quarantined.len().saturating_sub(QUARANTINED_SHOWN);
    if hidden > 0 {
        out.push(format!("    ({})", counted(hidden as u64, "older batch", "older batches")));
    }
    for load in quarantined.iter().skip(hidden) {
        out.push(format!(
            "    {}  {} of {}",
            load.batch,
            count(load.quarantined),
            counted(load.rows, "row", "rows")
        ));
        let first = load.quarantine.as_ref().and_then(|quarantine| quarantine.first.as_ref());
        out.extend(first.map(|first| columns::wrap(&refused(first), 8)));
    }
    out.push(String::new());
}

/// What concerns all loads: rows that the table had already, and what the ledger speaks for.
fn ledger(out: &mut Vec<String>, dump: &Dump) {
    let Some(ingester) = &dump.ingester.snapshot else { return };
    let Sums { staged_loads, known_rows } = ingester.sums;
    if staged_loads > 0 && !dump.only_pending {
        let (loads, rows) = (counted(staged_loads, "load", "loads"), count(known_rows));
        out.push(format!("staged   {loads} compared rows with the table, which had {rows} of them already"));
    }
    match ingester.ledger.as_ref().map(|mark| mark.knows_from) {
        Some(None) => out.push(
            "ledger   speaks for no time yet: every load is staged until `ingester ledger knows-from` is told"
                .to_owned(),
        ),
        Some(Some(from)) if from > DateTime::<Utc>::UNIX_EPOCH && !dump.only_pending => {
            let from = time(from);
            out.push(format!("ledger   speaks for rows received since {from}; older ones load staged"));
        }
        Some(Some(_)) | None => {}
    }
}

const GAPS_SHOWN: usize = 10;

pub(super) fn stream(out: &mut Vec<String>, producer: &ProducerSnapshot, running: bool, now: DateTime<Utc>) {
    let totals = &producer.totals;
    out.push(format!("\ninstance  {}\nreceived  {}", producer.instance, outcomes(totals)));
    if totals.without_id > 0 {
        out.push(format!("          {} of the rows have no hit id", count(totals.without_id)));
    }
    let rows = counted(producer.rows_to_upload, "row", "rows");
    let rejects = counted(producer.rejects_waiting, "reject", "rejects");
    let limit = match (producer.waiting_bytes, producer.max_bytes) {
        (Some(waiting), Some(max)) => format!(", {} of {} (log.max_bytes)", bytes(waiting), bytes(max)),
        _ => String::new(),
    };
    out.push(format!("log       {rows} and {rejects} wait for S3{limit}"));
    let (disk, hits) = (bytes(producer.disk_bytes), counted(producer.hits_remembered, "hit id", "hit ids"));
    out.push(format!("          {disk} on disk, {hits} remembered"));
    if producer.dedup.too_short {
        let text = "log.dedup_hits holds less than log.dedup_window: more is compared with the table";
        out.push(format!("          {text}"));
    }
    let sessions = latest_sessions(producer);
    // The lines of the component say why it is not connected.
    let told = |status: &&ComponentStatus| {
        status.component == Component::Stream && (status.failing.is_some() || status.step.is_some())
    };
    let failing: Vec<_> = producer.components.iter().filter(told).map(|status| status.number).collect();
    if sessions.is_empty() && failing.is_empty() {
        out.push("stream    never connected".to_owned());
    }
    let several = producer.connections > 1;
    out.extend(sessions.into_iter().map(|session| {
        let fails = failing.iter().any(|number| number.is_none_or(|number| number == session.connection));
        connection(session, several, running, fails, now)
    }));
    gaps(out, &producer.gaps);
}

/// The latest session of each connection that is still used, or the latest of all.
fn latest_sessions(producer: &ProducerSnapshot) -> Vec<&Session> {
    let latest = |connection: u64| {
        producer.sessions.iter().rev().find(|session| u64::from(session.connection) == connection)
    };
    let mut sessions: Vec<_> = (0..producer.connections.max(1)).filter_map(latest).collect();
    if sessions.is_empty() {
        sessions.extend(producer.sessions.last());
    }
    sessions
}

fn connection(session: &Session, several: bool, running: bool, fails: bool, now: DateTime<Utc>) -> String {
    let lost = |since, why| format!("not connected for {}: {why}", ago(since, now));
    let state = match session.ended {
        Some(ended) if fails => format!("ended {} ago", ago(ended, now)),
        Some(ended) => lost(ended, session.why.as_deref().unwrap_or("unknown")),
        None if running => format!("connected for {}", ago(session.connected, now)),
        None => lost(session.alive, ENDED_WITHOUT_A_WORD),
    };
    let connection = if several { format!("connection {}, ", session.connection) } else { String::new() };
    let records = counted(session.records, "record", "records");
    format!("stream    {connection}session {}, {records}, {state}", session.session)
}

fn gaps(out: &mut Vec<String>, gaps: &GapsSnapshot) {
    let all = gaps.totals.gaps;
    if all == 0 && gaps.list.is_empty() {
        return;
    }
    let sum = duration(Duration::from_secs(gaps.totals.seconds));
    out.push(format!("gaps      {}, {sum} together; hits received in them are missing", count(all)));
    let hidden = gaps.list.len().saturating_sub(GAPS_SHOWN);
    let shown = (gaps.list.len() - hidden) as u64;
    if all > shown {
        out.push(format!("          ({})", counted(all - shown, "older one", "older ones")));
    }
    for gap in gaps.list.iter().skip(hidden) {
        let (from, to) = (gap.from.format("%m-%d %H:%M:%S"), gap.to.format("%m-%d %H:%M:%S"));
        let (length, why) = (ago(gap.from, gap.to), gap.why.as_deref().unwrap_or("unknown"));
        out.push(format!("          {from} to {to} UTC ({length}) before session {}: {why}", gap.session));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use shared::clock::Clock;
    use shared::ids::{BatchId, Instance};
    use shared::seal::Counts;

    use super::*;
    use crate::loads::{ErrorClass, LedgerMark, Load, LoadState, Paused, PausedBy, Quarantined, Refused};
    use crate::log::{BatchStatus, Dedup, GapTotals};
    use crate::status::activity::{Activity, Component, Failing};
    use crate::status::drift::{DriftKind, DriftSnapshot, Drifted};
    use crate::status::service::Part;
    use crate::status::snapshot::{
        BatchSnapshot, GapSnapshot, GapsSnapshot, IngesterSnapshot, ProducerSnapshot,
    };

    fn gaps(number: u32) -> GapsSnapshot {
        let from = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let gap = |n: u32| GapSnapshot {
            session: n.into(),
            connection: 0,
            from,
            to: from + Duration::from_secs(318),
            seconds: 318,
            why: Some("a reason without end ".repeat(8)),
        };
        let totals = GapTotals { gaps: 15, seconds: 15 * 318 };
        GapsSnapshot { totals, list: (0..number).map(gap).collect() }
    }

    fn dump() -> Dump {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let instance = Instance::try_from("web-1".to_owned()).unwrap();
        let made = |status| BatchSnapshot {
            batch: BatchId::new(),
            status,
            files: 10,
            files_uploaded: 4,
            rows: 10_000,
            bytes: 20_000_000,
            opened: at,
            sealed: None,
            published: None,
        };
        let batches: Vec<_> =
            [BatchStatus::Published, BatchStatus::Sealed, BatchStatus::Filling].map(made).into();
        let loads = vec![Load {
            attempts: 3,
            failed: 4,
            state: LoadState::Retrying {
                next: at + Duration::from_secs(9),
                class: ErrorClass::Passing,
                why: "1023\n  Serializable isolation violation on table ".repeat(5),
            },
            ..Load::new(batches[0].batch, instance.clone(), 10, 10_000, 2_000_000, at)
        }];
        let producer = ProducerSnapshot {
            instance,
            totals: Counts {
                received: 31_234,
                rows: 30_000,
                duplicates: 1_000,
                filtered: 200,
                rejected: 34,
                without_id: 5,
            },
            rows_to_upload: 12_000,
            disk_bytes: 5_000_000,
            waiting_bytes: Some(3 << 20),
            max_bytes: Some(16 << 20),
            hits_remembered: 30_000,
            rejects_waiting: 34,
            batches,
            sessions: vec![],
            connections: 1,
            dedup: Dedup { too_short: true, ..Dedup::default() },
            gaps: gaps(12),
            components: vec![],
            counters: None,
            drift: None,
            alerts: vec![],
            configuration: None,
        };
        let ingester = IngesterSnapshot { loads, ..IngesterSnapshot::default() };
        Dump::of(part(Some(7), producer), part(None, ingester), at, u32::MAX)
    }

    fn part<T>(pid: Option<u32>, snapshot: T) -> Part<T> {
        Part {
            pid,
            stopped: None,
            ..Part::read(Path::new(&"/var/lib/livestream/".repeat(6)), Some(snapshot))
        }
    }

    #[test]
    fn the_table_fits_100_columns_and_shows_attempt_next_try_and_reason() {
        let table = dump().table();
        let fitted = columns::fit(&table, columns::WIDTH);
        assert!(fitted.lines().all(|line| line.chars().count() <= columns::WIDTH), "{fitted}");
        for part in [
            "ingester  not running: read from its database in /var/lib",
            "  retrying\n    passing, 4 failures, next in 9s: 1023 Serializable",
            "4/10",
            "pending  3 batches, 30,000 rows",
            "process 7",
            "5 of the rows have no hit id",
            "log       12,000 rows and 34 rejects wait for S3, 3.0 MiB of 16.0 MiB (log.max_bytes)",
            "          4.8 MiB on disk, 30,000 hit ids remembered",
            "log.dedup_hits holds less",
            "gaps      15, 1h19m together",
            "(5 older ones)",
            "01-15 08:00:00 to 01-15 08:05:18 UTC (5m18s) before session 11: a reason",
        ] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
    }

    #[test]
    fn what_is_held_back_says_what_it_waits_for() {
        let Dump { producer, mut ingester, at, .. } = dump();
        let snapshot = ingester.snapshot.as_mut().unwrap();
        snapshot.loads[0].state = LoadState::Discovered;
        snapshot.held_back = Some(HeldBack { batches: 2, rows: 20_000, until: at, load_rows: 1_000_000 });
        let table = Dump::of(producer, ingester, at, u32::MAX).table();
        assert!(table.lines().any(|line| line.ends_with("  held")), "{table}");
        let last = table.lines().last().unwrap();
        let wanted =
            format!("held     2 batches, 20,000 rows: loaded at {} or with 1,000,000 rows", time(at));
        assert!(last.starts_with(&wanted), "{last}");
    }

    #[test]
    fn a_pause_is_told_last_and_beside_the_batches_that_wait_for_it() {
        let Dump { producer, mut ingester, at, .. } = dump();
        let snapshot = ingester.snapshot.as_mut().unwrap();
        snapshot.loads[0].state = LoadState::Discovered;
        let why = format!("by `ingester pause` since then: {}", "a long reason ".repeat(20));
        snapshot.paused = Some(Paused { by: PausedBy::Hand, since: None, until: None, why });
        let table = Dump::of(producer, ingester, at, u32::MAX).table();
        assert!(table.lines().any(|line| line.ends_with("  paused")), "{table}");
        let last = table.lines().last().unwrap();
        assert!(
            last.starts_with("paused   until `ingester resume`, by `ingester pause` since then: a"),
            "{last}"
        );
    }

    #[test]
    fn a_stream_that_is_refused_is_not_said_to_be_stopped_or_never_connected() {
        let failing = Failing {
            since: DateTime::UNIX_EPOCH,
            failures: 3,
            last: DateTime::UNIX_EPOCH,
            class: "403".to_owned(),
            why: "403 Forbidden: ask Customer Care".to_owned(),
            next: None,
        };
        let refused = |number| ComponentStatus {
            component: Component::Stream,
            number,
            step: None,
            failing: Some(failing.clone()),
        };
        let table = |sessions: Vec<Session>, components| {
            let Dump { mut producer, ingester, at, .. } = dump();
            let snapshot = producer.snapshot.as_mut().unwrap();
            (snapshot.sessions, snapshot.components, snapshot.connections) = (sessions, components, 2);
            Dump::of(producer, ingester, at, u32::MAX).table()
        };
        let session = |connection| Session {
            session: 4,
            connection,
            connected: DateTime::UNIX_EPOCH,
            alive: DateTime::UNIX_EPOCH,
            ended: Some(DateTime::from_timestamp(1_799_999_930, 0).unwrap()),
            why: Some("the producer was stopped".to_owned()),
            records: 9,
            counts: None,
            first_received: None,
            last_received: None,
            gap: None,
        };
        assert!(table(vec![], vec![]).contains("never connected"));
        let never = table(vec![], vec![refused(Some(0))]);
        assert!(!never.contains("never connected") && never.contains("403 Forbidden"), "{never}");
        let sessions = vec![session(0), session(1)];
        let one = table(sessions.clone(), vec![refused(Some(1))]);
        assert!(one.contains("connection 0, session 4, 9 records, not connected for 1m10s: the"), "{one}");
        assert!(one.contains("connection 1, session 4, 9 records, ended 1m10s ago"), "{one}");
        let both = table(sessions, vec![refused(None)]);
        assert!(!both.contains("the producer was stopped"), "{both}");
    }

    #[test]
    fn what_a_person_should_look_at_is_marked() {
        let table = |failed| {
            let Dump { producer, mut ingester, at, .. } = dump();
            ingester.snapshot.as_mut().unwrap().loads[0].failed = failed;
            Dump::of(producer, ingester, at, 5).table()
        };
        assert!(table(5).contains("    ALERT passing, 5 failures, next") && !table(4).contains("ALERT"));
    }

    #[test]
    fn a_load_under_way_says_for_how_long_and_at_which_step() {
        let mut dump = dump();
        let load = &mut dump.ingester.snapshot.as_mut().unwrap().loads[0];
        (load.state, load.started) = (LoadState::Loading, Some(dump.at - Duration::from_secs(37)));
        let activity = Activity::new(Clock::by_hand(dump.at));
        activity.reporter(Component::Load).asks("Redshift", "COPY");
        dump.ingester.snapshot.as_mut().unwrap().components = activity.components();
        dump.ingester.pid = Some(8);
        assert!(dump.table().contains("\n    loading #3 for 37s, at COPY\n"), "{}", dump.table());
        // Of a service that is gone nobody knows.
        dump.ingester.pid = None;
        dump.ingester.snapshot.as_mut().unwrap().components.clear();
        assert!(dump.table().contains("\n    loading #3 when the ingester stopped\n"), "{}", dump.table());
    }

    #[test]
    fn rows_in_quarantine_are_shown_until_they_are_loaded() {
        let Dump { producer, mut ingester, at, .. } = dump();
        let load = &mut ingester.snapshot.as_mut().unwrap().loads[0];
        (load.state, load.quarantined) = (LoadState::Archived { at }, 37);
        let batch = load.batch;
        let first = Refused { column: Some("evar1".to_owned()), reason: "it is too long".to_owned() };
        load.quarantine = Some(Quarantined { at, rows: 37, first: Some(first), replayed: None });
        let table = Dump::of(producer, ingester, at, u32::MAX).only_pending().table();
        assert!(table.contains("in quarantine  37 rows of 1 batch; `ingester replay"), "{table}");
        let line = format!("    {batch}  37 of 10,000 rows\n        column evar1: it is too long\n");
        assert!(table.contains(&line), "{table}");
        assert!(!dump().table().contains("quarantine"));
    }

    #[test]
    fn what_the_ledger_does_not_speak_for_is_told_and_what_the_table_had_already() {
        let Dump { producer, mut ingester, at, .. } = dump();
        let snapshot = ingester.snapshot.as_mut().unwrap();
        snapshot.sums = Sums { staged_loads: 3, known_rows: 1_200 };
        let mark = |knows_from| LedgerMark { pipeline: String::new(), table: "t".to_owned(), knows_from };
        snapshot.ledger = Some(mark(None));
        let told = Dump::of(producer.clone(), ingester.clone(), at, u32::MAX);
        let table = told.table();
        assert!(table.contains("staged   3 loads") && table.contains("had 1,200 of them"), "{table}");
        assert!(table.contains("ledger   speaks for no time yet"), "{table}");
        let fitted = columns::fit(&table, columns::WIDTH);
        assert!(fitted.lines().all(|line| line.chars().count() <= columns::WIDTH), "{fitted}");
        let pending = told.only_pending().table();
        assert!(pending.contains("speaks for no time yet") && !pending.contains("staged   3"), "{pending}");
        let mut with = |knows_from| {
            ingester.snapshot.as_mut().unwrap().ledger = Some(mark(Some(knows_from)));
            Dump::of(producer.clone(), ingester.clone(), at, u32::MAX).table()
        };
        assert!(with(at).contains("ledger   speaks for rows received since"));
        assert!(!with(DateTime::UNIX_EPOCH).contains("ledger  "), "it speaks for all");
    }

    #[test]
    fn what_drifted_is_shown_while_there_is_any() {
        let Dump { mut producer, ingester, at, .. } = dump();
        let drifted = |n: u32| Drifted {
            kind: DriftKind::At255Bytes,
            field: format!("evar{n}"),
            at: at - Duration::from_secs(90),
            before: 0.0,
            now: 0.001,
            example: None,
            round: 1,
        };
        let mut with = |number| {
            let drifted = (0..number).map(drifted).collect();
            producer.snapshot.as_mut().unwrap().drift =
                Some(Box::new(DriftSnapshot { drifted, ..DriftSnapshot::default() }));
            Dump::of(producer.clone(), ingester.clone(), at, u32::MAX)
        };
        assert!(!with(0).table().contains("drift"));
        let many = with(200);
        let table = many.table();
        assert!(
            table.contains("\ndrift     200 fields are not as before, first told 1m30s ago; `producer"),
            "{table}"
        );
        assert!(table.contains("evar11 and 188 others"), "{table}");
        let fitted = columns::fit(&table, columns::WIDTH);
        assert!(fitted.lines().all(|line| line.chars().count() <= columns::WIDTH), "{fitted}");
        assert!(!many.only_pending().table().contains("drift"));
    }

    #[test]
    fn that_nothing_is_pending_is_said_once() {
        let Dump { mut producer, mut ingester, at, .. } = dump();
        producer.snapshot.as_mut().unwrap().batches.clear();
        ingester.snapshot.as_mut().unwrap().loads.clear();
        let dump = Dump::of(producer, ingester, at, u32::MAX);
        assert!(dump.table().ends_with("no batches\n\nnothing is pending"), "{}", dump.table());
        let pending = dump.only_pending().table();
        assert_eq!(pending.matches("nothing is pending").count(), 1, "{pending}");
    }

    #[test]
    fn a_loaded_batch_is_not_pending_and_is_shown_only_if_all_is_asked_for() {
        let Dump { producer, mut ingester, at, .. } = dump();
        ingester.snapshot.as_mut().unwrap().loads[0].state = LoadState::Loaded { at };
        let dump = Dump::of(producer, ingester, at, u32::MAX);
        assert_eq!((dump.pending.batches, dump.pending.rows), (2, 20_000));
        let all = dump.table();
        assert!(all.contains("  loaded") && all.contains("received  31,234"), "{all}");
        let dump = dump.only_pending();
        let (table, json) = (dump.table(), serde_json::to_value(&dump).unwrap());
        assert!(!table.contains("loaded") && !table.contains("received  31,234"), "{table}");
        assert!(table.contains("pending  2 batches, 20,000 rows"), "{table}");
        assert_eq!(json["producer"]["snapshot"]["batches"].as_array().unwrap().len(), 2);
        assert_eq!(json["ingester"]["snapshot"]["loads"].as_array().unwrap().len(), 0);
    }
}
