//! What a service tells about its database: plain data, made from what the log and the loads tell. It is the same
//! whether a service answers for its database or somebody else opens it. `state dump --json` prints these types, so
//! they are an interface: see docs/STATE.md.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::exit::Failure;
use shared::ids::{BatchId, BatchPrefix, Instance};
use shared::seal::Counts;

use crate::loads::{LedgerMark, Load, Paused, Sums};
use crate::log::{BatchRecord, BatchStatus, Dedup, Figures, Gap, GapTotals, LogError, LogReader, Session};
use crate::status::activity::ComponentStatus;
use crate::status::alert::Alert;
use crate::status::configuration::ConfigurationStatus;
use crate::status::drift::DriftSnapshot;
use crate::status::history::Reading;

/// Version of the JSON; it grows when the meaning of a field changes or a field goes.
pub const SNAPSHOT_FORMAT: u32 = 2;

const SESSIONS_SHOWN: usize = 20;

/// The producer's log at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ProducerSnapshot {
    pub instance: Instance,
    /// Sums since the log was created.
    pub totals: Counts,
    /// Rows that are durable here and not yet in S3.
    pub rows_to_upload: u64,
    pub disk_bytes: u64,
    /// Bytes that wait for S3, which count against `max_bytes`; None when the producer does not run.
    #[serde(default)]
    pub waiting_bytes: Option<u64>,
    /// `log.max_bytes`.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    pub hits_remembered: u64,
    #[serde(default)]
    pub dedup: Dedup,
    /// Rejects that are not yet in S3.
    pub rejects_waiting: u64,
    /// Batches that are filling, sealed, or were published lately; oldest first.
    pub batches: Vec<BatchSnapshot>,
    #[serde(default)]
    pub connections: u64,
    /// The latest sessions of all connections; oldest first.
    pub sessions: Vec<Session>,
    #[serde(default)]
    pub gaps: GapsSnapshot,
    /// What each component of the service is doing; empty when it does not run.
    #[serde(default)]
    pub components: Vec<ComponentStatus>,
    /// What the service counted since it started; None when it does not run.
    #[serde(default)]
    pub counters: Option<CountersSnapshot>,
    /// What of the stream is not as it was; None when the service does not run.
    #[serde(default)]
    pub drift: Option<Box<DriftSnapshot>>,
    /// What needs an operator, as the service judges; empty when it does not run.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Which configuration the service runs with; None when it does not run.
    #[serde(default)]
    pub configuration: Option<ConfigurationStatus>,
}

/// What a producer counted since it started, and the log does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersSnapshot {
    /// When it started.
    pub since: DateTime<Utc>,
    /// Rows whose record was no valid text.
    pub mended: u64,
    /// Records dropped, by filter.
    pub filtered: BTreeMap<String, u64>,
    /// Rejects, by the short name of their reason.
    pub rejected: BTreeMap<String, u64>,
    /// Values that could not be stored as they were sent: by column, then by what was done to them.
    pub altered: BTreeMap<String, BTreeMap<String, u64>>,
    /// Values that were protected, by field as the configuration names it.
    #[serde(default)]
    pub protected: BTreeMap<String, ProtectedSnapshot>,
}

/// Values of a protected field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectedSnapshot {
    /// All of them.
    pub values: u64,
    /// Those that are not what their mask expects: they are dropped.
    pub unmaskable: u64,
}

/// Gaps of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapsSnapshot {
    /// Sums since the log was created.
    #[serde(flatten)]
    pub totals: GapTotals,
    /// Those before a session that is kept; oldest session first.
    pub list: Vec<GapSnapshot>,
}

/// Time in which the stream was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct GapSnapshot {
    pub session: u64,
    pub connection: u8,
    /// The last `receivedTimeGMT` before it.
    pub from: DateTime<Utc>,
    /// The first after it.
    pub to: DateTime<Utc>,
    pub seconds: u64,
    pub why: Option<String>,
}

impl GapSnapshot {
    fn before(session: &Session) -> Option<Self> {
        let gap = session.gap.clone()?;
        let (seconds, Gap { from, to, why }) = (gap.seconds(), gap);
        Some(Self { session: session.session, connection: session.connection, from, to, seconds, why })
    }
}

impl LogReader {
    /// The log at this moment, for people and programs.
    pub fn snapshot(&self) -> Result<ProducerSnapshot, LogError> {
        let Figures { instance, totals, disk_bytes, room, hits, dedup, rejects, connections, gaps } =
            self.figures()?;
        let known = self.batches_with_uploads()?;
        let waiting = known.iter().filter(|(record, _)| record.status != BatchStatus::Published);
        let rows_to_upload = waiting.map(|(record, done)| record.rows.saturating_sub(done.rows)).sum();
        let sessions = self.sessions(SESSIONS_SHOWN)?;
        let list = sessions.iter().filter_map(GapSnapshot::before).collect();
        Ok(ProducerSnapshot {
            instance,
            totals,
            rows_to_upload,
            disk_bytes,
            waiting_bytes: room.map(|(bytes, _)| bytes),
            max_bytes: room.map(|(_, max)| max),
            hits_remembered: hits,
            dedup,
            rejects_waiting: rejects,
            batches: known.iter().map(|(record, done)| BatchSnapshot::new(record, done.files)).collect(),
            connections,
            gaps: GapsSnapshot { totals: gaps, list },
            sessions,
            components: Vec::new(),
            counters: None,
            drift: None,
            alerts: Vec::new(),
            configuration: None,
        })
    }
}

impl ProducerSnapshot {
    /// What a history keeps of it.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading { total: self.totals.received, newest: self.newest_hit(), waiting_rows: self.rows_to_upload }
    }

    /// When Adobe received the newest hit of the sessions that are remembered. A hit may come with a time in the future: it
    /// was received while its session was alive.
    #[must_use]
    pub fn newest_hit(&self) -> Option<DateTime<Utc>> {
        self.sessions.iter().filter_map(|session| Some(session.last_received?.min(session.alive))).max()
    }
}

/// A batch in the producer's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct BatchSnapshot {
    pub batch: BatchId,
    pub status: BatchStatus,
    pub files: u32,
    /// Files in S3.
    pub files_uploaded: u32,
    pub rows: u64,
    /// Bytes of its rows, uncompressed.
    pub bytes: u64,
    pub opened: DateTime<Utc>,
    pub sealed: Option<DateTime<Utc>>,
    /// When S3 confirmed its seal.
    pub published: Option<DateTime<Utc>>,
}

/// The batches whose id begins with a prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Matching<T> {
    /// Their ids.
    pub ids: Vec<BatchId>,
    /// The batch, if exactly one matches.
    pub batch: Option<T>,
}

impl<T> Matching<T> {
    pub(crate) fn find<R>(
        batches: impl Iterator<Item = (BatchId, R)>,
        prefix: &BatchPrefix,
        read: impl FnOnce(R) -> Result<T, Failure>,
    ) -> Result<Self, Failure> {
        let (ids, mut found): (Vec<_>, Vec<_>) = batches.filter(|(id, _)| prefix.begins(*id)).unzip();
        let only = if ids.len() == 1 { found.pop() } else { None };
        Ok(Self { ids, batch: only.map(read).transpose()? })
    }
}

impl BatchSnapshot {
    /// A batch of which so many files stand in S3 and have their record still.
    pub(super) fn new(record: &BatchRecord, uploaded: u32) -> Self {
        let published = record.status == BatchStatus::Published;
        Self {
            batch: record.id,
            status: record.status,
            files: record.files,
            files_uploaded: if published { record.files } else { uploaded },
            rows: record.rows,
            bytes: record.bytes,
            opened: record.opened,
            sealed: record.sealed,
            published: record.published,
        }
    }
}

impl IngesterSnapshot {
    /// How many producers made the batches it remembers.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.loads.iter().map(|load| &load.instance).collect::<BTreeSet<_>>().len()
    }
}

/// The ingester's load store at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IngesterSnapshot {
    /// Every load it remembers, oldest batch first.
    pub loads: Vec<Load>,
    /// The pause of loading; None while it loads.
    #[serde(default)]
    pub paused: Option<Paused>,
    /// Batches that are held back so that one COPY loads many; None when none is, or the service does not run.
    #[serde(default)]
    pub held_back: Option<HeldBack>,
    /// When loading was last paused or held back, as far as this run saw: what waits is late only from then on.
    #[serde(default)]
    pub idle_until: Option<DateTime<Utc>>,
    /// Sums over all staged loads.
    #[serde(default)]
    pub sums: Sums,
    /// The highest `receivedTimeGMT` of the loaded batches; None when it is known of none.
    #[serde(default)]
    pub newest_row: Option<DateTime<Utc>>,
    /// The mark of the ledger as the ingester saw it last; None if it never saw it.
    #[serde(default)]
    pub ledger: Option<LedgerMark>,
    /// What each component of the service is doing; empty when it does not run.
    #[serde(default)]
    pub components: Vec<ComponentStatus>,
    /// What needs an operator, as the service judges; empty when it does not run.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Which configuration the service runs with; None when it does not run.
    #[serde(default)]
    pub configuration: Option<ConfigurationStatus>,
}

/// Batches that wait for more of them (`ingester.load_interval`, `ingester.load_rows`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// How many.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// When they are loaded at the latest.
    pub until: DateTime<Utc>,
    /// So many rows are loaded at once.
    pub load_rows: u64,
}

impl IngesterSnapshot {
    /// The highest `receivedTimeGMT` of loaded batches, as far as it is known. A hit may come with a time in the future: it
    /// was received before its batch was found.
    #[must_use]
    pub fn newest_of(loads: &[Load]) -> Option<DateTime<Utc>> {
        let loaded = loads.iter().filter(|load| load.is_loaded());
        loaded.filter_map(|load| Some(load.last_received?.min(load.discovered))).max()
    }

    /// What a history keeps of it.
    #[must_use]
    pub fn reading(&self, loaded: &mut LoadedRows) -> Reading {
        let waiting = self.loads.iter().filter(|load| !load.is_loaded());
        Reading {
            total: loaded.count(&self.loads),
            newest: self.newest_row,
            waiting_rows: waiting.map(|load| load.rows).sum(),
        }
    }
}

/// Counts rows as they are loaded: the load store keeps no sum, and forgets what was archived long ago.
#[derive(Debug)]
pub struct LoadedRows {
    /// Loads up to here are counted, or were loaded before counting began.
    until: DateTime<Utc>,
    total: u64,
}

impl LoadedRows {
    /// Counts what is loaded after this.
    #[must_use]
    pub fn since(start: DateTime<Utc>) -> Self {
        Self { until: start, total: 0 }
    }

    fn count(&mut self, loads: &[Load]) -> u64 {
        let until = self.until;
        for load in loads {
            let Some(loaded) = load.loaded.filter(|loaded| *loaded > until) else { continue };
            self.total += load.rows.saturating_sub(load.quarantined).saturating_sub(load.known);
            self.until = self.until.max(loaded);
        }
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loads::LoadState;

    #[test]
    fn rows_are_counted_once_when_they_are_loaded_and_the_newest_row_is_of_a_loaded_batch() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let load = |rows, loaded: Option<i64>, received| {
            let instance = Instance::try_from("web-1".to_owned()).unwrap();
            let mut load = Load::new(BatchId::new(), instance, 1, rows, 9, at(97));
            load.last_received = Some(at(received));
            if let Some(loaded) = loaded {
                (load.loaded, load.state) = (Some(at(loaded)), LoadState::Loaded { at: at(loaded) });
            }
            load
        };
        let mut counted = LoadedRows::since(at(100));
        let loads = vec![load(5, Some(90), 80), load(7, Some(101), 95), load(11, None, 99)];
        assert_eq!(IngesterSnapshot::newest_of(&loads), Some(at(95)));
        let future = [load(5, Some(90), 99_999_999)];
        assert_eq!(IngesterSnapshot::newest_of(&future), Some(at(97)));
        let mut snapshot = IngesterSnapshot { loads, ..IngesterSnapshot::default() };
        let reading = snapshot.reading(&mut counted);
        assert_eq!((reading.total, reading.waiting_rows, reading.newest), (7, 11, None));
        assert_eq!(snapshot.reading(&mut counted).total, 7);
        snapshot.loads.push(Load { quarantined: 2, known: 1, ..load(13, Some(102), 99) });
        assert_eq!(snapshot.reading(&mut counted).total, 17);
    }
}
