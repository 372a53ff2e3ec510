//! One batch for people: what it is, its files, and what happened to it, reasons in full.

use std::fmt::Write;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::human::{bytes, count, duration};
use shared::layout::Compression;

use crate::inspect::columns;
use crate::inspect::dump::batch::{BatchDump, Event, Happening};
use crate::inspect::dump::table::{age, class_name, header};
use crate::loads::{FAILURES_KEPT, Load, LoadState};
use crate::log::BatchStatus;
use crate::status::snapshot::BatchDetail;

pub(super) fn render(dump: &BatchDump) -> String {
    let mut out = String::new();
    header(&mut out, dump.at, &dump.producer, &dump.ingester);
    let _ = writeln!(out, "\nbatch        {}", dump.batch);
    let made = dump.producer.snapshot.as_ref().and_then(Option::as_ref);
    let load = dump.ingester.snapshot.as_ref().and_then(Option::as_ref);
    if let Some(made) = made {
        made_here(&mut out, made);
    } else if let Some(load) = load {
        let (files, rows, size) = (load.files, count(load.rows), bytes(load.bytes));
        let _ = writeln!(out, "instance     {}, which is not the producer of this log", load.instance);
        let _ = writeln!(out, "rows         {rows} in {files} files, {size} in S3");
    }
    let state = load.map_or_else(|| "not known to the ingester".to_owned(), |load| load_state(load, dump.at));
    let _ = writeln!(out, "load         {state}");
    if let Some(load) = load.filter(|load| load.is_settled()) {
        entered(&mut out, load);
    }
    if let Some((load, quarantine)) = load.zip(dump.quarantine.as_ref()) {
        let refused = count(load.quarantined);
        let _ = writeln!(out, "quarantine   {refused} rows; `ingester replay --help` says what to do");
        let _ = writeln!(out, "{}", columns::wrap(quarantine, 4));
    }
    match &dump.seal {
        Some(seal) => {
            let _ = writeln!(out, "its files    see batch.json in S3:\n{}", columns::wrap(seal, 4));
        }
        None => files(&mut out, made),
    }
    let _ = writeln!(out, "\ntime (UTC)                  after  event");
    for event in &dump.timeline {
        happened(&mut out, event);
    }
    if load.is_some_and(|load| load.failures.len() == FAILURES_KEPT) {
        let _ = writeln!(out, "of failures the latest {FAILURES_KEPT} are kept");
    }
    columns::cut(&out)
}

fn made_here(out: &mut String, made: &BatchDetail) {
    let batch = &made.summary;
    let state = match batch.status {
        BatchStatus::Filling => "filling",
        BatchStatus::Sealed => "sealed",
        BatchStatus::Published => "published",
    };
    let (uploaded, files) = (batch.files_uploaded, batch.files);
    let _ = writeln!(out, "instance     {}", made.instance);
    let _ = writeln!(out, "state        {state}, {uploaded} of {files} files in S3");
    let _ = writeln!(out, "rows         {}, {} uncompressed", count(batch.rows), bytes(batch.bytes));
    if let Some(counts) = made.counts {
        let _ = writeln!(
            out,
            "received     {} = {} rows + {} duplicates + {} filtered + {} rejected",
            count(counts.received),
            count(counts.rows),
            count(counts.duplicates),
            count(counts.filtered),
            count(counts.rejected),
        );
    }
    if let (Some(first), Some(last)) = (made.first_received, made.last_received) {
        let _ = writeln!(out, "hits         received {} to {} UTC", seconds(first), seconds(last));
    }
    let _ = writeln!(out, "schema       {}", made.schema);
    let compression = match made.compression {
        Compression::Zstd => "zstd",
        Compression::Gzip => "gzip",
        Compression::None => "none",
    };
    let _ = writeln!(out, "compression  {compression}");
    let _ = writeln!(out, "place        {}", made.place);
}

fn load_state(load: &Load, now: DateTime<Utc>) -> String {
    let attempts = load.attempts;
    match &load.state {
        LoadState::Discovered => format!("found, {attempts} attempts so far"),
        LoadState::Loading => format!("attempt {attempts} is under way"),
        LoadState::Retrying { next, class, .. } => {
            let (class, wait) = (class_name(*class), age(*next, now));
            format!("retrying ({class}), next attempt in {wait}, {attempts} so far")
        }
        LoadState::Loaded { .. } => format!("loaded, attempt {attempts}; not yet archived"),
        LoadState::Archived { .. } => format!("loaded, attempt {attempts}; archived"),
    }
}

/// How the ledger has it.
fn entered(out: &mut String, load: &Load) {
    let Load { rows, quarantined, known, .. } = load;
    let loaded = rows.saturating_sub(quarantined.saturating_add(*known));
    let _ = writeln!(
        out,
        "its rows     {} = {} loaded + {} in quarantine + {} already in the table{}",
        count(*rows),
        count(loaded),
        count(*quarantined),
        count(*known),
        if load.staged { "; loaded staged" } else { "" },
    );
    if let Some(id) = load.entered_as {
        let _ = writeln!(out, "in ledger    as {id}: the ledger had another batch of its id");
    }
}

fn files(out: &mut String, made: Option<&BatchDetail>) {
    let Some(list) = made.and_then(|made| made.file_list.as_ref()) else { return };
    let _ = writeln!(
        out,
        "\n{:>4}  {:8}  {:>8}  {:>9}  {:>9}  {:8}  etag",
        "file", "status", "rows", "bytes", "in S3", "crc32"
    );
    for file in list {
        let size = file.uploaded.as_ref().map_or_else(|| "-".to_owned(), |upload| bytes(upload.bytes));
        let (crc32, etag) = file.uploaded.as_ref().map_or(("-", "-"), |upload| (&upload.crc32, &upload.etag));
        let _ = writeln!(
            out,
            "{:>4}  {:8}  {:>8}  {:>9}  {size:>9}  {crc32:8}  {etag}",
            file.no,
            file.status,
            count(file.rows),
            bytes(file.bytes),
        );
    }
}

fn happened(out: &mut String, event: &Event) {
    let what = match event.event {
        Happening::Opened => "opened",
        Happening::Sealed => "sealed",
        Happening::Published => "published",
        Happening::Discovered => "discovered",
        Happening::Started => "attempt started",
        Happening::Failed if event.attempt.is_none() => "attempt could not start",
        Happening::Failed => "attempt failed",
        Happening::Loaded => "loaded",
        Happening::Archived => "archived",
        Happening::FoundAgain => "found again in S3",
    };
    let number = event.attempt.map(|attempt| format!(" #{attempt}")).unwrap_or_default();
    let class = event.class.map(|class| format!(": {}", class_name(class))).unwrap_or_default();
    let after = event.after_ms.map_or_else(|| "-".to_owned(), |ms| duration(Duration::from_millis(ms)));
    let at = event.at.format("%Y-%m-%d %H:%M:%S%.3f");
    let _ = writeln!(out, "{at}  {after:>8}  {what}{number}{class}");
    if let Some(why) = &event.why {
        let _ = writeln!(out, "{}", columns::wrap(why, 4));
    }
}

fn seconds(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
