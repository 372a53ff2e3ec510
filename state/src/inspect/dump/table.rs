//! The dump for people: aligned, what is pending last so that it stands above the prompt.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::human::{bytes, count, duration};
use shared::ids::BatchId;
use shared::seal::Counts;

use crate::inspect::columns;
use crate::inspect::dump::{Dump, loads_of};
use crate::loads::{ErrorClass, Load, LoadState, Paused, Sums};
use crate::log::{BatchStatus, ENDED_WITHOUT_A_WORD, Session};
use crate::status::service::Part;
use crate::status::snapshot::{BatchSnapshot, GapsSnapshot, ProducerSnapshot};

/// Batches shown that have reached their end.
const FINISHED_SHOWN: usize = 10;
/// Batches shown that have rows in quarantine.
const QUARANTINED_SHOWN: usize = 10;
/// Gaps shown.
const GAPS_SHOWN: usize = 10;

/// A batch as both services know it.
struct Line<'d> {
    id: BatchId,
    made: Option<&'d BatchSnapshot>,
    load: Option<&'d Load>,
}

pub(super) fn render(dump: &Dump) -> String {
    let mut out = String::new();
    header(&mut out, dump.at, &dump.producer, &dump.ingester);
    if let Some(producer) = dump.producer.snapshot.as_ref().filter(|_| !dump.only_pending) {
        stream(&mut out, producer, dump.producer.pid.is_some(), dump.at);
    }
    batches(&mut out, dump);
    quarantine(&mut out, dump);
    ledger(&mut out, dump);
    let pending = dump.pending;
    let _ = write!(out, "pending  {} batches, {} rows", count(pending.batches), count(pending.rows));
    if let Some(paused) = paused(dump) {
        let _ = write!(out, "\npaused   {}", paused.told());
    }
    columns::cut(&out)
}

fn paused(dump: &Dump) -> Option<&Paused> {
    dump.ingester.snapshot.as_ref()?.paused.as_ref()
}

pub(super) fn header<P, I>(out: &mut String, at: DateTime<Utc>, producer: &Part<P>, ingester: &Part<I>) {
    let at = at.format("%Y-%m-%d %H:%M:%S UTC");
    let _ = writeln!(out, "{at}\nproducer  {}\ningester  {}", producer.origin(), ingester.origin());
}

fn stream(out: &mut String, producer: &ProducerSnapshot, running: bool, now: DateTime<Utc>) {
    let totals = &producer.totals;
    let _ = writeln!(
        out,
        "\ninstance  {}\nreceived  {} = {} rows + {} duplicates + {} filtered + {} rejected",
        producer.instance,
        count(totals.received),
        count(totals.rows),
        count(totals.duplicates),
        count(totals.filtered),
        count(totals.rejected),
    );
    unusual(out, totals);
    let _ = writeln!(
        out,
        "log       {} rows not yet in S3, {} on disk, {} hit ids remembered, {} rejects waiting",
        count(producer.rows_to_upload),
        bytes(producer.disk_bytes),
        count(producer.hits_remembered),
        count(producer.rejects_waiting),
    );
    if producer.dedup.too_short {
        out.push_str(
            "          log.dedup_hits holds less than log.dedup_window: more is compared with the table\n",
        );
    }
    // The latest session of each connection; of none that is no longer used.
    let latest = |connection: u64| {
        producer.sessions.iter().rev().find(|session| u64::from(session.connection) == connection)
    };
    let mut sessions: Vec<_> = (0..producer.connections.max(1)).filter_map(latest).collect();
    if sessions.is_empty() {
        sessions.extend(producer.sessions.last());
    }
    if sessions.is_empty() {
        out.push_str("stream    never connected\n");
    }
    let several = producer.connections > 1;
    sessions.into_iter().for_each(|session| stream_state(out, session, several, running, now));
    gaps(out, &producer.gaps);
}

/// What of the rows is worth a second look.
fn unusual(out: &mut String, totals: &Counts) {
    if totals.without_id > 0 {
        let _ = writeln!(out, "          {} of the rows have no hit id", count(totals.without_id));
    }
}

fn gaps(out: &mut String, gaps: &GapsSnapshot) {
    if gaps.totals.gaps == 0 && gaps.list.is_empty() {
        return;
    }
    let sum = duration(Duration::from_secs(gaps.totals.seconds));
    let _ = writeln!(
        out,
        "gaps      {}, {sum} together; hits received in them are missing",
        count(gaps.totals.gaps)
    );
    let hidden = gaps.list.len().saturating_sub(GAPS_SHOWN);
    let shown = (gaps.list.len() - hidden) as u64;
    if gaps.totals.gaps > shown {
        let _ = writeln!(out, "          ({} older ones)", count(gaps.totals.gaps - shown));
    }
    for gap in gaps.list.iter().skip(hidden) {
        let (from, to) = (gap.from.format("%m-%d %H:%M:%S"), gap.to.format("%m-%d %H:%M:%S"));
        let (length, why) = (age(gap.to, gap.from), gap.why.as_deref().unwrap_or("unknown"));
        let _ =
            writeln!(out, "          {from} to {to} UTC ({length}) before session {}: {why}", gap.session);
    }
}

fn stream_state(out: &mut String, session: &Session, several: bool, running: bool, now: DateTime<Utc>) {
    let records = count(session.records);
    let state = match (session.ended, &session.why) {
        (Some(ended), why) => {
            format!("not connected for {}: {}", age(now, ended), why.as_deref().unwrap_or("unknown"))
        }
        (None, _) if running => format!("connected for {}", age(now, session.connected)),
        (None, _) => format!("not connected for {}: {ENDED_WITHOUT_A_WORD}", age(now, session.alive)),
    };
    let connection = if several { format!("connection {}, ", session.connection) } else { String::new() };
    let _ = writeln!(out, "stream    {connection}session {}, {records} records, {state}", session.session);
}

fn batches(out: &mut String, dump: &Dump) {
    let loads = loads_of(dump.ingester.snapshot.as_ref());
    let line = |made: Option<_>, id| (id, Line { id, made, load: loads.get(&id).copied() });
    // Pending elsewhere, and over them those of the producer.
    let mut lines: BTreeMap<BatchId, Line<'_>> = dump.waiting.iter().map(|id| line(None, *id)).collect();
    let made = dump.producer.snapshot.iter().flat_map(|producer| &producer.batches);
    lines.extend(made.map(|batch| line(Some(batch), batch.batch)));
    if lines.is_empty() {
        let none = if dump.only_pending { "nothing is pending" } else { "no batches" };
        let _ = writeln!(out, "\n{none}\n");
        return;
    }
    // Of those that have reached their end only the latest.
    let finished = |line: &Line<'_>| !dump.waiting.contains(&line.id);
    let hidden = lines.values().filter(|line| finished(line)).count().saturating_sub(FINISHED_SHOWN);
    let mut to_hide = hidden;
    lines.retain(|_, line| {
        let hide = to_hide > 0 && finished(line);
        to_hide -= usize::from(hide);
        !hide
    });
    let _ = writeln!(
        out,
        "\n{:36}  {:9}  {:>5}  {:>7}  {:>9}  {:>6}  load",
        "batch", "state", "files", "rows", "bytes", "age"
    );
    if hidden > 0 {
        let end = if dump.ingester.snapshot.is_some() { "loaded" } else { "published" };
        let _ = writeln!(out, "({} older ones that are {end})", count(hidden as u64));
    }
    for line in lines.values() {
        batch(out, line, (dump.alert_after, paused(dump).is_some()), dump.at);
    }
    out.push('\n');
}

/// What waits for a person: rows that Redshift refused.
fn quarantine(out: &mut String, dump: &Dump) {
    let loads = dump.ingester.snapshot.iter().flat_map(|ingester| &ingester.loads);
    let quarantined: Vec<_> = loads.filter(|load| load.quarantined > 0).collect();
    if quarantined.is_empty() {
        return;
    }
    let rows = quarantined.iter().map(|load| load.quarantined).sum();
    let _ = writeln!(
        out,
        "in quarantine  {} rows of {} batches; `ingester replay --help` says what to do",
        count(rows),
        count(quarantined.len() as u64),
    );
    let hidden = quarantined.len().saturating_sub(QUARANTINED_SHOWN);
    if hidden > 0 {
        let _ = writeln!(out, "    ({} older batches)", count(hidden as u64));
    }
    for load in quarantined.iter().skip(hidden) {
        let _ = writeln!(out, "    {}  {} of {} rows", load.batch, count(load.quarantined), count(load.rows));
    }
    out.push('\n');
}

/// What concerns all loads: rows that the table had already, and what the ledger speaks for.
fn ledger(out: &mut String, dump: &Dump) {
    let Some(ingester) = &dump.ingester.snapshot else { return };
    let Sums { staged_loads, known_rows } = ingester.sums;
    if staged_loads > 0 && !dump.only_pending {
        let _ = writeln!(
            out,
            "staged   {} loads compared their rows with the table, which had {} of them already",
            count(staged_loads),
            count(known_rows)
        );
    }
    let Some(mark) = &ingester.ledger else { return };
    match mark.knows_from {
        None => out.push_str(
            "ledger   speaks for no time yet: every load is staged until `ingester ledger knows-from` is told\n",
        ),
        Some(from) if from > DateTime::UNIX_EPOCH && !dump.only_pending => {
            let from = from.format("%Y-%m-%d %H:%M:%S");
            let _ = writeln!(out, "ledger   speaks for rows received since {from} UTC; older ones load staged");
        }
        Some(_) => {}
    }
}

fn batch(out: &mut String, line: &Line<'_>, (alert_after, paused): (u32, bool), now: DateTime<Utc>) {
    let (state, files, rows, size, since) = match (line.made, line.load) {
        (Some(made), _) => {
            let state = match made.status {
                BatchStatus::Filling => "filling",
                BatchStatus::Sealed => "sealed",
                BatchStatus::Published => "published",
            };
            let files = match made.status {
                BatchStatus::Sealed => format!("{}/{}", made.files_uploaded, made.files),
                BatchStatus::Filling | BatchStatus::Published => made.files.to_string(),
            };
            (state, files, made.rows, made.bytes, made.opened)
        }
        (None, Some(load)) => {
            ("in S3", load.files.to_string(), load.rows, load.bytes, load.batch.opened_at())
        }
        (None, None) => return,
    };
    let (load, why) = line.load.map_or(("-".to_owned(), None), |load| load_state(load, paused, now));
    let _ = writeln!(
        out,
        "{:36}  {state:9}  {files:>5}  {rows:>7}  {:>9}  {:>6}  {load}",
        line.id.to_string(),
        bytes(size),
        age(now, since)
    );
    if let Some(why) = why {
        let alert = if line.load.is_some_and(|load| load.is_alarming(alert_after)) { "ALERT " } else { "" };
        let _ = writeln!(out, "    {alert}{why}");
    }
}

fn load_state(load: &Load, paused: bool, now: DateTime<Utc>) -> (String, Option<String>) {
    match &load.state {
        LoadState::Discovered if paused => ("paused".to_owned(), None),
        LoadState::Discovered => ("found".to_owned(), None),
        LoadState::Loading => (format!("loading #{}", load.attempts), None),
        LoadState::Retrying { next, class, why } => {
            let class = class_name(*class);
            let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
            (format!("#{} next {}", load.attempts, age(*next, now)), Some(format!("{class}: {why}")))
        }
        LoadState::Loaded { .. } => ("loaded".to_owned(), None),
        LoadState::Archived { .. } => ("archived".to_owned(), None),
    }
}

pub(super) fn class_name(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Passing => "passing",
        ErrorClass::Incomplete => "incomplete",
        ErrorClass::Configuration => "configuration",
        ErrorClass::Data => "data",
        ErrorClass::Unknown => "unknown",
    }
}

pub(super) fn age(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    duration(Duration::from_secs(u64::try_from((now - then).num_seconds()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use shared::ids::Instance;

    use super::*;
    use crate::loads::{LedgerMark, PausedBy};
    use crate::log::{Dedup, GapTotals};
    use crate::status::snapshot::{GapSnapshot, IngesterSnapshot};

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
            hits_remembered: 30_000,
            rejects_waiting: 34,
            batches,
            sessions: vec![],
            connections: 1,
            dedup: Dedup { too_short: true, ..Dedup::default() },
            gaps: gaps(12),
        };
        let ingester = IngesterSnapshot { loads, ..IngesterSnapshot::default() };
        Dump::of(part(Some(7), producer), part(None, ingester), at)
    }

    fn part<T>(pid: Option<u32>, snapshot: T) -> Part<T> {
        Part { pid, dir: "/var/lib/livestream/".repeat(6), snapshot: Some(snapshot) }
    }

    #[test]
    fn the_table_fits_100_columns_and_shows_attempt_next_try_and_reason() {
        let table = dump().table();
        assert!(table.lines().all(|line| line.chars().count() <= columns::WIDTH), "{table}");
        for part in [
            "ingester  not running: read from its database in /var/lib",
            "#3 next 9s",
            "passing: 1023 Serializable",
            "4/10",
            "pending  3 batches, 30,000 rows",
            "process 7",
            "5 of the rows have no hit id",
            "log.dedup_hits holds less",
            "gaps      15, 1h19m together",
            "(5 older ones)",
            "01-15 08:00:00 to 01-15 08:05:18 UTC (5m18s) before session 11: a reason",
        ] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
    }

    #[test]
    fn a_pause_is_told_last_and_beside_the_batches_that_wait_for_it() {
        let Dump { producer, mut ingester, at, .. } = dump();
        let snapshot = ingester.snapshot.as_mut().unwrap();
        snapshot.loads[0].state = LoadState::Discovered;
        let why = format!("by `ingester pause` since then: {}", "a long reason ".repeat(20));
        snapshot.paused = Some(Paused { by: PausedBy::Hand, until: None, why });
        let table = Dump::of(producer, ingester, at).table();
        assert!(table.lines().any(|line| line.ends_with("  paused")), "{table}");
        let last = table.lines().last().unwrap();
        assert!(
            last.starts_with("paused   until `ingester resume`, by `ingester pause` since then: a"),
            "{last}"
        );
        assert!(last.chars().count() <= columns::WIDTH, "{last}");
    }

    #[test]
    fn what_a_person_should_look_at_is_marked() {
        let table = |failed| {
            let mut dump = dump();
            dump.ingester.snapshot.as_mut().unwrap().loads[0].failed = failed;
            dump.alerting_after(5).table()
        };
        assert!(table(5).contains("    ALERT passing: 1023") && !table(4).contains("ALERT"));
    }

    #[test]
    fn rows_in_quarantine_are_shown_until_they_are_loaded() {
        let Dump { producer, mut ingester, at, .. } = dump();
        let load = &mut ingester.snapshot.as_mut().unwrap().loads[0];
        (load.state, load.quarantined) = (LoadState::Archived { at }, 37);
        let batch = load.batch;
        let table = Dump::of(producer, ingester, at).only_pending().table();
        assert!(table.contains("in quarantine  37 rows of 1 batches; `ingester replay"), "{table}");
        assert!(table.contains(&format!("    {batch}  37 of 10,000 rows")), "{table}");
        assert!(!dump().table().contains("quarantine"));
    }

    #[test]
    fn what_the_ledger_does_not_speak_for_is_told_and_what_the_table_had_already() {
        let Dump { producer, mut ingester, at, .. } = dump();
        let snapshot = ingester.snapshot.as_mut().unwrap();
        snapshot.sums = Sums { staged_loads: 3, known_rows: 1_200 };
        let mark = |knows_from| LedgerMark { pipeline: String::new(), table: "t".to_owned(), knows_from };
        snapshot.ledger = Some(mark(None));
        let told = Dump::of(producer.clone(), ingester.clone(), at);
        let table = told.table();
        assert!(table.contains("staged   3 loads") && table.contains("had 1,200 of them"), "{table}");
        assert!(table.contains("ledger   speaks for no time yet"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= columns::WIDTH), "{table}");
        let pending = told.only_pending().table();
        assert!(pending.contains("speaks for no time yet") && !pending.contains("staged   3"), "{pending}");
        let mut with = |knows_from| {
            ingester.snapshot.as_mut().unwrap().ledger = Some(mark(Some(knows_from)));
            Dump::of(producer.clone(), ingester.clone(), at).table()
        };
        assert!(with(at).contains("ledger   speaks for rows received since"));
        assert!(!with(DateTime::UNIX_EPOCH).contains("ledger  "), "it speaks for all");
    }

    #[test]
    fn a_loaded_batch_is_not_pending_and_is_shown_only_if_all_is_asked_for() {
        let Dump { producer, mut ingester, at, .. } = dump();
        ingester.snapshot.as_mut().unwrap().loads[0].state = LoadState::Loaded { at };
        let dump = Dump::of(producer, ingester, at);
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
