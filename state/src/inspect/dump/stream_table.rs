//! The stream for people: records received, the log, connections and gaps.

use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::human::{bytes, count, duration};

use crate::inspect::columns::{age, outcomes};
use crate::log::{ENDED_WITHOUT_A_WORD, Session};
use crate::status::snapshot::{GapsSnapshot, ProducerSnapshot};

const GAPS_SHOWN: usize = 10;

pub(super) fn stream(out: &mut Vec<String>, producer: &ProducerSnapshot, running: bool, now: DateTime<Utc>) {
    let totals = &producer.totals;
    out.push(format!("\ninstance  {}\nreceived  {}", producer.instance, outcomes(totals)));
    if totals.without_id > 0 {
        out.push(format!("          {} of the rows have no hit id", count(totals.without_id)));
    }
    let (rows, disk) = (count(producer.rows_to_upload), bytes(producer.disk_bytes));
    let (hits, rejects) = (count(producer.hits_remembered), count(producer.rejects_waiting));
    out.push(format!(
        "log       {rows} rows not yet in S3, {disk} on disk, {hits} hit ids remembered, {rejects} rejects waiting"
    ));
    if producer.dedup.too_short {
        let text = "log.dedup_hits holds less than log.dedup_window: more is compared with the table";
        out.push(format!("          {text}"));
    }
    let sessions = latest_sessions(producer);
    if sessions.is_empty() {
        out.push("stream    never connected".to_owned());
    }
    let several = producer.connections > 1;
    out.extend(sessions.into_iter().map(|session| connection(session, several, running, now)));
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

fn connection(session: &Session, several: bool, running: bool, now: DateTime<Utc>) -> String {
    let lost = |since, why| format!("not connected for {}: {why}", age(now, since));
    let state = match session.ended {
        Some(ended) => lost(ended, session.why.as_deref().unwrap_or("unknown")),
        None if running => format!("connected for {}", age(now, session.connected)),
        None => lost(session.alive, ENDED_WITHOUT_A_WORD),
    };
    let connection = if several { format!("connection {}, ", session.connection) } else { String::new() };
    let records = count(session.records);
    format!("stream    {connection}session {}, {records} records, {state}", session.session)
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
        out.push(format!("          ({} older ones)", count(all - shown)));
    }
    for gap in gaps.list.iter().skip(hidden) {
        let (from, to) = (gap.from.format("%m-%d %H:%M:%S"), gap.to.format("%m-%d %H:%M:%S"));
        let (length, why) = (age(gap.to, gap.from), gap.why.as_deref().unwrap_or("unknown"));
        out.push(format!("          {from} to {to} UTC ({length}) before session {}: {why}", gap.session));
    }
}
