//! Reads one file after the other, and waits until all that was read is in S3.

use std::time::Duration;

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};
use shared::blocking::blocking;
use shared::clock::Clock;
use shared::exit::{Exit, Failure};
use shared::human::counted;
use shared::shutdown::Shutdown;
use state::log::LogReader;
use state::status::snapshot::ProducerSnapshot;
use tokio::sync::mpsc;

use crate::append::ConnectionEvent;
use crate::commands::replay::input::Input;
use crate::commands::replay::journal::Journal;
use crate::commands::replay::read::{Reader, Stop};
use crate::commands::replay::summary::Summary;

const POLL_INTERVAL: Duration = Duration::from_millis(100);
const PIECES_WAITING: usize = 4;

pub(super) struct Replay<'s> {
    pub(super) log: LogReader,
    pub(super) journal: Journal,
    /// Records the log had received when it was opened.
    pub(super) received_before: u64,
    pub(super) reader: Option<Reader>,
    pub(super) stream: mpsc::Sender<ConnectionEvent>,
    pub(super) summary: &'s mut Summary,
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
}

impl Replay<'_> {
    pub(super) async fn files(&mut self, inputs: Vec<Input>) -> Result<(), Failure> {
        let bar = bar(inputs.iter().map(|input| input.bytes));
        let mut whole = Vec::new();
        for input in inputs {
            let name = input.name.clone();
            if self.file(input, &bar).await? {
                whole.push(name);
            }
        }
        bar.set_message("waiting for S3");
        // The log keeps the order: when this one is taken, so is everything before it.
        let _ = self.stream.send(ConnectionEvent::Complete).await;
        self.shutdown.until(self.in_s3()).await.transpose()?.ok_or_else(unfinished)?;
        self.journal.forget(whole.iter().map(String::as_str))?;
        bar.finish_and_clear();
        self.summary.damage()
    }

    /// Reads one file; false when it is damaged or refused.
    async fn file(&mut self, input: Input, bar: &ProgressBar) -> Result<bool, Failure> {
        let name = input.name.clone();
        let opening = self.shutdown.until(input.open(&self.clock)).await;
        let mut opened = opening.transpose()?.ok_or_else(unfinished)?;
        let mut reader = self.reader.take().ok_or_else(unfinished)?;
        let skipped =
            self.journal.begin(&name, opened.stamp.clone(), self.received_before + reader.sent())?;
        if skipped > 0 {
            tracing::info!(file = name, records = skipped, "taken in before by a run that did not end");
        }
        let (to_reader, pieces) = mpsc::channel(PIECES_WAITING);
        let records_bar = bar.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let report = |records| records_bar.set_message(counted(records, "record", "records"));
            let ended = reader.read(pieces, skipped, report);
            (reader, ended)
        });
        // At shutdown the sender is dropped without the last piece: then the reader stops too.
        let pumped = self.shutdown.until(opened.pump(to_reader, bar, &self.clock)).await;
        let (reader, ended) = reading.await.map_err(|error| Failure::new(Exit::Software, error))?;
        self.reader = Some(reader);
        pumped.ok_or_else(unfinished)??;
        let (records, whole) = match ended {
            Ok(records) => (records, true),
            Err(Stop::Damaged { records, why }) => {
                self.summary.damaged(&name, records, &why);
                (records, false)
            }
            Err(Stop::NotLines(why)) => {
                self.summary.refused(&name, why);
                (0, false)
            }
            Err(Stop::Cut) => return Err(unfinished()),
            // The log has failed, and reports that itself.
            Err(Stop::Closed) => std::future::pending().await,
        };
        self.summary.skipped += skipped.min(records);
        Ok(whole)
    }

    /// Returns when all that was sent is durable, in S3 and published, and every reject uploaded.
    async fn in_s3(&self) -> Result<(), Failure> {
        let received = self.received_before + self.reader.as_ref().map_or(0, Reader::sent);
        loop {
            let log = self.log.clone();
            let ProducerSnapshot { totals, rejects_waiting, batches, .. } =
                blocking(move || log.snapshot()).await??;
            let published = batches.iter().all(|batch| batch.published.is_some());
            if totals.received == received && rejects_waiting == 0 && published {
                return Ok(());
            }
            self.clock.sleep(POLL_INTERVAL).await;
        }
    }
}

pub(super) fn unfinished() -> Failure {
    let error = anyhow!(
        "stopped before the end; the same command goes on where this one was, and takes in nothing twice"
    );
    Failure::new(Exit::Unfinished, error)
}

/// The bar of all files. It is drawn on a terminal only.
fn bar(sizes: impl Iterator<Item = Option<u64>>) -> ProgressBar {
    let bar = sizes.sum::<Option<u64>>().map_or_else(ProgressBar::no_length, ProgressBar::new);
    let style = "{elapsed_precise} {bar:24} {binary_bytes} of {binary_total_bytes}  {msg}";
    bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
