//! What `state dump` shows: the producer's log and the ingester's bookkeeping side by side, asked of the running
//! services or, where none runs, read from their databases.

mod table;

use std::io;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::config::Config;
use shared::exit::{Exit, Failure};

use crate::feed;
use crate::loads::{ARCHIVED_KEPT, LoadState, Loads};
use crate::log::{BatchStatus, LogReader};
use crate::snapshot::{BatchSnapshot, IngesterSnapshot, ProducerSnapshot, SNAPSHOT_FORMAT};
use crate::store::StoreError;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Both services at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Dump {
    /// [`SNAPSHOT_FORMAT`]
    pub format: u32,
    /// When.
    pub at: DateTime<Utc>,
    /// The producer's log.
    pub producer: Part<ProducerSnapshot>,
    /// The ingester's bookkeeping.
    pub ingester: Part<IngesterSnapshot>,
    /// What has not reached its end.
    pub pending: Pending,
}

/// One service.
#[derive(Debug, Clone, Serialize)]
pub struct Part<T> {
    /// Its process, if it runs.
    pub pid: Option<u32>,
    /// What it has; None when it has never run with this configuration.
    pub snapshot: Option<T>,
}

/// What has not reached its end, as far as these two databases know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Batches that are filling, sealed, or published and not known to be loaded.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
}

/// Looks at both services.
///
/// # Errors
/// When a database can neither be asked for nor read.
pub async fn look(config: &Config) -> Result<Dump, Failure> {
    let producer = part(&config.producer_socket(), &config.log.dir, |dir| {
        LogReader::look(dir)?.snapshot().map_err(Failure::from)
    })
    .await?;
    let ingester = part(&config.ingester_socket(), &config.ingester.dir, |dir| {
        Ok(IngesterSnapshot { loads: Loads::look(dir)?.all()? })
    })
    .await?;
    let pending = pending(producer.snapshot.as_ref(), ingester.snapshot.as_ref());
    Ok(Dump { format: SNAPSHOT_FORMAT, at: Utc::now(), producer, ingester, pending })
}

async fn part<T, F>(socket: &Path, dir: &Path, read: F) -> Result<Part<T>, Failure>
where
    T: DeserializeOwned,
    F: Fn(&Path) -> Result<T, Failure>,
{
    match tokio::time::timeout(PATIENCE, feed::snapshot(socket)).await {
        Ok(Ok(answer)) => return Ok(Part { pid: Some(answer.pid), snapshot: Some(answer.snapshot) }),
        Ok(Err(_)) => {}
        Err(_) => {
            let text = format!("{} does not answer: its service is stopped or overloaded", socket.display());
            return Err(Failure::new(Exit::Unavailable, anyhow::anyhow!(text)));
        }
    }
    let exists = dir.join("sled").try_exists();
    match exists {
        Ok(true) => read(dir).map(|snapshot| Part { pid: None, snapshot: Some(snapshot) }),
        Ok(false) => Ok(Part { pid: None, snapshot: None }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Part { pid: None, snapshot: None }),
        Err(error) => Err(StoreError::Io { path: dir.to_owned(), error }.into()),
    }
}

fn is_loaded(state: &LoadState) -> bool {
    matches!(state, LoadState::Loaded { .. } | LoadState::Archived { .. })
}

/// Whether a batch of the producer has not reached its end, as far as these two databases know.
fn is_pending(batch: &BatchSnapshot, ingester: Option<&IngesterSnapshot>) -> bool {
    let known = ingester.and_then(|ingester| ingester.loads.iter().find(|load| load.batch == batch.batch));
    match (known, batch.status) {
        (Some(load), _) => !is_loaded(&load.state),
        (None, BatchStatus::Filling | BatchStatus::Sealed) => true,
        // Published, and not met by the ingester of this configuration, if there is one; or met so long ago that
        // it has forgotten it.
        (None, BatchStatus::Published) => ingester.is_some_and(|ingester| {
            let oldest = ingester.loads.first().map(|load| load.batch);
            ingester.loads.len() < ARCHIVED_KEPT || oldest.is_none_or(|oldest| batch.batch > oldest)
        }),
    }
}

fn pending(producer: Option<&ProducerSnapshot>, ingester: Option<&IngesterSnapshot>) -> Pending {
    let loads = ingester.map(|ingester| &ingester.loads[..]).unwrap_or_default();
    let batches = producer.map(|producer| &producer.batches[..]).unwrap_or_default();
    let here = batches.iter().filter(|batch| is_pending(batch, ingester));
    let elsewhere = loads
        .iter()
        .filter(|load| !is_loaded(&load.state) && !batches.iter().any(|batch| batch.batch == load.batch));
    let rows = here.clone().map(|batch| batch.rows).sum::<u64>()
        + elsewhere.clone().map(|load| load.rows).sum::<u64>();
    Pending { batches: (here.count() + elsewhere.count()) as u64, rows }
}

impl Dump {
    /// The dump for people, at most 100 columns wide. The caller adds the last line end.
    #[must_use]
    pub fn table(&self) -> String {
        table::render(self)
    }
}
