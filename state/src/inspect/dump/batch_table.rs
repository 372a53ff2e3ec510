//! One batch for people: what it is, its files, and what happened to it, reasons in full.

use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::human::{bytes, count, counted, duration};

use super::batch::{BatchDump, Event, Happening};
use super::load::{failures, loading, refused};
use crate::inspect::columns::{self, header, outcomes};
use crate::loads::{FAILURES_KEPT, Load, LoadState};
use crate::status::batch_detail::{BatchDetail, FileDetail};

impl BatchDump {
    /// The dump for people. The caller fits it to the terminal and adds the last line end.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = vec![header(self.at, &self.producer, &self.ingester)];
        out.push(format!("\nbatch        {}", self.batch));
        let made = self.producer.snapshot.as_ref().and_then(Option::as_ref);
        let load = self.ingester.snapshot.as_ref().and_then(Option::as_ref);
        match (made, load) {
            (Some(made), _) => in_log(&mut out, made),
            (None, Some(load)) => {
                let files = counted(load.files.into(), "file", "files");
                let (rows, size) = (count(load.rows), bytes(load.bytes));
                out.push(format!("instance     {}, which is not the producer of this log", load.instance));
                out.push(format!("rows         {rows} in {files}, {size} in S3"));
            }
            (None, None) => {}
        }
        match &self.place {
            Some(place) if place.chars().count() < columns::WIDTH - 13 => {
                out.push(format!("place        {place}"));
            }
            Some(place) => out.push(format!("place\n{}", columns::wrap(place, 4))),
            None => out.push("place        deleted from S3 after it was loaded".to_owned()),
        }
        match load {
            Some(load) => in_ledger(&mut out, load, self.at),
            None => out.push("load         not known to the ingester".to_owned()),
        }
        if let Some((load, quarantine)) = load.zip(self.quarantine.as_ref()) {
            let rows = counted(load.quarantined, "row", "rows");
            out.push(format!("quarantine   {rows}; `ingester replay --help` says what to do"));
            let first = load.quarantine.as_ref().and_then(|quarantine| quarantine.first.as_ref());
            out.extend(first.map(|first| columns::wrap(&refused(first), 4)));
            out.push(columns::wrap(quarantine, 4));
        }
        if let Some(seal) = &self.seal {
            out.push(format!("its files    see batch.json in S3:\n{}", columns::wrap(seal, 4)));
        } else if let Some(files) = made.and_then(|made| made.file_list.as_ref()) {
            out.push("\nfile  status        rows      bytes      in S3  crc32     etag".to_owned());
            out.extend(files.iter().map(file));
        }
        out.push("\ntime (UTC)                  after  event".to_owned());
        out.extend(self.timeline.iter().map(happened));
        if load.is_some_and(|load| load.failures.len() == FAILURES_KEPT) {
            out.push(format!("of failures the latest {FAILURES_KEPT} are kept"));
        }
        out.join("\n")
    }
}

fn in_log(out: &mut Vec<String>, made: &BatchDetail) {
    let batch = &made.summary;
    let (state, uploaded, files) = (batch.status.name(), batch.files_uploaded, batch.files);
    out.push(format!("instance     {}", made.instance));
    out.push(format!("state        {state}, {uploaded} of {} in S3", counted(files.into(), "file", "files")));
    out.push(format!("rows         {}, {} uncompressed", count(batch.rows), bytes(batch.bytes)));
    out.extend(made.counts.map(|counts| format!("received     {}", outcomes(&counts))));
    if let Some((first, last)) = made.first_received.zip(made.last_received) {
        let [first, last] = [first, last].map(|at| at.format("%Y-%m-%d %H:%M:%S"));
        out.push(format!("hits         received {first} to {last} UTC"));
    }
    out.push(format!("schema       {}", made.schema));
    out.push(format!("compression  {}", made.compression.name()));
}

fn in_ledger(out: &mut Vec<String>, load: &Load, now: DateTime<Utc>) {
    let attempts = load.attempts;
    let state = match &load.state {
        LoadState::Discovered => "found, not tried yet".to_owned(),
        LoadState::Loading => loading(load, None, now),
        LoadState::Retrying { next, class, .. } => {
            format!("retrying ({}): {}", class.name(), failures(load, *next, now))
        }
        LoadState::Loaded { .. } => format!("loaded, attempt {attempts}; not yet archived"),
        LoadState::Archived { .. } => format!("loaded, attempt {attempts}; archived"),
    };
    out.push(format!("load         {state}"));
    if !load.is_loaded() {
        return;
    }
    let loaded = load.rows.saturating_sub(load.quarantined.saturating_add(load.known));
    let [rows, loaded, quarantined, known] = [load.rows, loaded, load.quarantined, load.known].map(count);
    let staged = if load.staged { "; loaded staged" } else { "" };
    out.push(format!(
        "its rows     {rows} = {loaded} loaded + {quarantined} in quarantine + {known} already in the table{staged}"
    ));
    if let Some(id) = load.entered_as {
        out.push(format!("in ledger    as {id}: the ledger had another batch of its id"));
    }
}

fn file(file: &FileDetail) -> String {
    let FileDetail { no, status, uploaded, .. } = file;
    let (rows, size) = (count(file.rows), bytes(file.bytes));
    let (in_s3, crc32, etag) = match uploaded {
        Some(upload) => (bytes(upload.bytes), &upload.crc32[..], &upload.etag[..]),
        None => ("-".to_owned(), "-", "-"),
    };
    format!("{no:>4}  {status:8}  {rows:>8}  {size:>9}  {in_s3:>9}  {crc32:8}  {etag}")
}

fn happened(event: &Event) -> String {
    let what = match event.event {
        Happening::Started => "attempt started",
        Happening::Failed if event.attempt.is_none() => "attempt could not start",
        Happening::Failed => "attempt failed",
        Happening::FoundAgain => "found again in S3",
        Happening::Quarantined => "rows in quarantine",
        Happening::Opened => "opened",
        Happening::Sealed => "sealed",
        Happening::Published => "published",
        Happening::Discovered => "discovered",
        Happening::Loaded => "loaded",
        Happening::Archived => "archived",
        Happening::Replayed => "replayed",
    };
    let number = event.attempt.map(|attempt| format!(" #{attempt}")).unwrap_or_default();
    let class = event.class.map(|class| format!(": {}", class.name())).unwrap_or_default();
    let after = event.after_ms.map_or_else(|| "-".to_owned(), |ms| duration(Duration::from_millis(ms)));
    let at = event.at.format("%Y-%m-%d %H:%M:%S%.3f");
    let why = event.why.as_ref().map(|why| format!("\n{}", columns::wrap(why, 4))).unwrap_or_default();
    format!("{at}  {after:>8}  {what}{number}{class}{why}")
}
