//! The page of one service.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::admin::{File, Site};
use shared::blocking::blocking;
use shared::boxed::Boxed;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::{BatchPrefix, NotABatchPrefix};
use shared::metrics::Page;

use super::cache::Cache;
use super::files;
use super::neighbour::Neighbour;
use crate::inspect::dump::{BatchDump, Dump};
use crate::status::feed::Question;
use crate::status::history::{History, Samples};
use crate::status::service::{Part, Service};
use crate::status::snapshot::{IngesterSnapshot, ProducerSnapshot, SNAPSHOT_FORMAT};

/// The other service has so long to answer: longer than its pause between two snapshots, and no longer than somebody who
/// looks at a page waits.
const WITHIN: Duration = Duration::from_secs(3);
/// An answer about everything serves so long.
const STATUS: Duration = Duration::from_secs(1);
/// An answer about the past serves so long: its samples are further apart.
const PAST: Duration = Duration::from_secs(5);

/// What a service shows of itself besides its snapshot.
#[allow(missing_docs, reason = "the names say it")]
pub struct Own {
    pub config: Config,
    pub clock: Clock,
    pub history: History,
    /// Its figures for Prometheus. May block.
    pub figures: Box<dyn Fn() -> Result<Page, Failure> + Send + Sync>,
    /// What keeps it from its work.
    pub missing: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

type Read<T> = Arc<dyn Fn() -> Result<T, Failure> + Send + Sync>;

enum Side {
    Producer(Read<ProducerSnapshot>, Neighbour<IngesterSnapshot>),
    Ingester(Read<IngesterSnapshot>, Neighbour<ProducerSnapshot>),
}

/// The page of a service, with what the other one of the machine says.
pub struct Board {
    own: Own,
    side: Side,
    status: Cache,
    past: Cache,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("service", &self.service()).finish_non_exhaustive()
    }
}

/// The past of both services.
#[derive(Serialize)]
struct Past {
    format: u32,
    at: DateTime<Utc>,
    service: &'static str,
    alert_after: u32,
    producer: Option<Samples>,
    ingester: Option<Samples>,
}

impl Board {
    /// The page of a producer; `read` makes its snapshot and may block.
    pub fn of_producer(
        own: Own,
        read: impl Fn() -> Result<ProducerSnapshot, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self::new(own, Side::Producer(Arc::new(read), Neighbour::new()))
    }

    /// The page of an ingester; `read` makes its snapshot and may block.
    pub fn of_ingester(
        own: Own,
        read: impl Fn() -> Result<IngesterSnapshot, Failure> + Send + Sync + 'static,
    ) -> Self {
        Self::new(own, Side::Ingester(Arc::new(read), Neighbour::new()))
    }

    fn new(own: Own, side: Side) -> Self {
        let cache = |serves| Cache::new(own.clock.clone(), serves);
        Self { status: cache(STATUS), past: cache(PAST), own, side }
    }

    fn service(&self) -> &'static str {
        match self.side {
            Side::Producer(..) => "producer",
            Side::Ingester(..) => "ingester",
        }
    }

    async fn status(&self) -> Result<Bytes, Failure> {
        let Own { config, clock, .. } = &self.own;
        let (producer, ingester) = match &self.side {
            Side::Producer(read, neighbour) => {
                let other = Service::ingester(config, clock);
                let other = other.ask_running(&Question::Snapshot, WITHIN);
                let (own, other) = tokio::join!(own(read, &config.log.dir), other);
                (own?, neighbour.completed(other))
            }
            Side::Ingester(read, neighbour) => {
                let other = Service::producer(config, clock);
                let other = other.ask_running(&Question::Snapshot, WITHIN);
                let (own, other) = tokio::join!(own(read, &config.ingester.dir), other);
                (neighbour.completed(other), own?)
            }
        };
        let (at, alert_after) = (clock.wall(), config.ingester.alert_after);
        blocking(move || json(&Dump::of(producer, ingester, at, alert_after))).await?
    }

    async fn past(&self) -> Result<Bytes, Failure> {
        let Own { config, clock, history, .. } = &self.own;
        let own = Some(history.samples());
        let (producer, ingester) = match self.side {
            Side::Producer(..) => {
                let other = Service::ingester(config, clock);
                (own, other.ask_running(&Question::History, WITHIN).await.snapshot)
            }
            Side::Ingester(..) => {
                let other = Service::producer(config, clock);
                (other.ask_running(&Question::History, WITHIN).await.snapshot, own)
            }
        };
        let (at, service, alert_after) = (clock.wall(), self.service(), config.ingester.alert_after);
        json(&Past { format: SNAPSHOT_FORMAT, at, service, alert_after, producer, ingester })
    }

    async fn batch(&self, id: &str) -> Result<Bytes, Failure> {
        let prefix: BatchPrefix =
            id.parse().map_err(|error: NotABatchPrefix| Failure::new(Exit::Usage, error))?;
        let Own { config, clock, .. } = &self.own;
        json(&BatchDump::of_running(config, clock, &prefix, WITHIN).await?)
    }
}

impl Site for Board {
    fn figures(&self) -> Result<Page, Failure> {
        (self.own.figures)()
    }

    fn missing(&self) -> Vec<String> {
        (self.own.missing)()
    }

    fn file(&self, path: &str) -> Option<File> {
        files::file(path)
    }

    fn login(&self, was_wrong: bool) -> File {
        files::login(was_wrong)
    }

    fn data<'a>(&'a self, path: &'a str) -> Boxed<'a, Option<Result<Bytes, Failure>>> {
        Box::pin(async move {
            match path {
                "/api/status" => Some(self.status.answer(self.status()).await),
                "/api/history" => Some(self.past.answer(self.past()).await),
                path => Some(self.batch(path.strip_prefix("/api/batch/")?).await),
            }
        })
    }
}

async fn own<T: Send + 'static>(read: &Read<T>, dir: &Path) -> Result<Part<T>, Failure> {
    let read = read.clone();
    let snapshot = blocking(move || read()).await??;
    Ok(Part { pid: Some(std::process::id()), stopped: None, ..Part::read(dir, Some(snapshot)) })
}

fn json(value: &impl Serialize) -> Result<Bytes, Failure> {
    let text = serde_json::to_vec(value).map_err(|error| Failure::new(Exit::Software, error))?;
    Ok(Bytes::from(text))
}
