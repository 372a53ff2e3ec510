//! `producer run --drain`: brings everything in the log to S3, and reads nothing from the stream. Nothing is half written
//! when it ends, so bucket, prefix and machine may change.

use std::time::Duration;

use anyhow::anyhow;
use shared::blocking::blocking;
use shared::clock::Clock;
use shared::exit::{Exit, Failure};
use shared::shutdown::Shutdown;
use state::log::LogReader;
use state::status::snapshot::ProducerSnapshot;
use tokio::sync::mpsc;

use crate::append::ConnectionEvent;

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often to log what is left.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Seals everything, and returns when it is published and every reject is in S3.
pub(crate) async fn drain(
    log: LogReader,
    stream: mpsc::Sender<ConnectionEvent>,
    clock: Clock,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    // The log fails by itself, and says why.
    let _ = stream.send(ConnectionEvent::Complete).await;
    shutdown.until(until_empty(log, &clock)).await.unwrap_or_else(|| {
        let error = anyhow!("stopped before the log was empty; the same command, or a plain start, goes on");
        Err(Failure::new(Exit::Unfinished, error))
    })
}

async fn until_empty(log: LogReader, clock: &Clock) -> Result<(), Failure> {
    let mut told = None;
    loop {
        let reader = log.clone();
        let ProducerSnapshot { rows_to_upload: rows, rejects_waiting: rejects, batches, .. } =
            blocking(move || reader.snapshot()).await??;
        let batches = batches.iter().filter(|batch| batch.published.is_none()).count();
        if batches == 0 && rejects == 0 {
            tracing::info!("the log is drained: nothing in it waits for S3");
            return Ok(());
        }
        let now = clock.steady();
        if told.is_none_or(|told: shared::clock::Steady| told.until(now) >= PROGRESS_INTERVAL) {
            tracing::info!(batches, rows, rejects, "draining the log: so much waits for S3");
            told = Some(now);
        }
        clock.sleep(POLL_INTERVAL).await;
    }
}
