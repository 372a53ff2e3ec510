//! What became of the records of a replay.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::anyhow;
use shared::exit::{Exit, Failure};
use shared::human::{count, counted};
use shared::seal::Counts;
use state::status::feed::Published;
use tokio::sync::broadcast::{self, error::TryRecvError};

use crate::counters::Counters;
use crate::transform::ColumnCounts;

#[derive(Debug, Default)]
pub(super) struct Summary {
    counters: Arc<Counters>,
    counts: Counts,
    batches: u64,
    /// Records skipped, because a run that did not end took them in.
    pub(super) skipped: u64,
    damaged: Vec<String>,
    refused: Vec<String>,
}

impl Summary {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, ..Self::default() }
    }

    pub(super) fn damaged(&mut self, name: &str, records: u64, why: &str) {
        self.damaged
            .push(format!("{name} is damaged after {}: {why}", counted(records, "record", "records")));
        tracing::error!("{}", self.damaged.last().map_or("", String::as_str));
    }

    pub(super) fn refused(&mut self, name: &str, why: &str) {
        tracing::error!("cannot replay {name}: {why}");
        self.refused.push(format!("{name}: {why}"));
    }

    /// Notes what the log made durable, and the batches that were published.
    pub(super) fn end(&mut self, counts: Counts, published: &mut broadcast::Receiver<Published>) {
        self.counts = counts;
        loop {
            match published.try_recv() {
                Ok(_) => self.batches += 1,
                Err(TryRecvError::Lagged(missed)) => self.batches += missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
    }

    /// Fails if records were rejected: a script that replays must not take them for taken in.
    pub(super) fn rejects(&self) -> Result<(), Failure> {
        let Counts { rejected, received, .. } = self.counts;
        if rejected == 0 {
            return Ok(());
        }
        let error = anyhow!(
            "{} of {} rejected; they stand below `s3.rejected`, each with its reason: correct what is wrong, then replay \
             those objects",
            count(rejected),
            counted(received, "record", "records")
        );
        Err(Failure::new(Exit::Data, error))
    }

    pub(super) fn damage(&self) -> Result<(), Failure> {
        let files: Vec<_> = self.refused.iter().chain(&self.damaged).map(String::as_str).collect();
        let advice = match (self.refused.is_empty(), self.damaged.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => {
                "what came before is taken in; replay what can be saved of the rest as a file of its own"
            }
            (false, _) => "nothing of it is taken in",
        };
        Err(Failure::new(Exit::Data, anyhow!("{}; {advice}", files.join("; "))))
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "records   {}", self.counts)?;
        for (filter, records) in self.counters.by_filter().into_iter().filter(|(_, records)| *records > 0) {
            writeln!(out, "filtered  {} by {filter}", count(records))?;
        }
        for (reason, records) in self.counters.by_reason().into_iter().filter(|(_, records)| *records > 0) {
            writeln!(out, "rejected  {} as {reason}", count(records))?;
        }
        let mended = self.counters.mended.load(Ordering::Relaxed);
        if mended > 0 {
            let what = "of records with invalid UTF-8 or raw control characters";
            writeln!(out, "mended    {} {what}", counted(mended, "row", "rows"))?;
        }
        for (column, counts) in self.counters.by_column() {
            let ColumnCounts { cut, nulled, rounded, nuls, replaced, invalid, delimiters, rejected } = counts;
            let kinds = [
                (cut, "cut"),
                (nulled, "stored as NULL"),
                (rounded, "rounded"),
                (nuls, "NUL characters left out"),
                (replaced, "halves of surrogate pairs replaced"),
                (invalid, "invalid UTF-8 replaced"),
                (delimiters, "joined by a comma"),
                (rejected, "made their records rejects"),
            ];
            let kinds = kinds.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n)));
            writeln!(out, "altered   {column}: {}", kinds.collect::<Vec<_>>().join(", "))?;
        }
        if self.skipped > 0 {
            writeln!(
                out,
                "skipped   {}, taken in before by a run that did not end",
                counted(self.skipped, "record", "records")
            )?;
        }
        writeln!(out, "batches   {} published", count(self.batches))
    }
}
