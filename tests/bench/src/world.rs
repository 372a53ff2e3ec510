//! Both programs between the stand-ins, with the product's defaults but for what a benchmark sets.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sandbox::config::{Shape, pipeline};
use sandbox::judge;
use sandbox::service::{self, Service};
use sandbox::standins::{Endpoints, PASSWORD, USER, session};
use shared::config::{Config, Secrets};
use shared::schema::Schema;
use state::status::feed;
use state::status::snapshot::ProducerSnapshot;
use tokio_postgres::Client;
use toml::{Table, Value};

use crate::schema_file;

/// The ingester enters its mark into the ledger when it is ready to load.
const READY: &str = "SELECT count(*) FROM public.livestream_ledger";
/// A program is ready within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a benchmark has in its hands.
pub struct World {
    /// The configuration, as the programs read it.
    pub config: Config,
    /// A session of the PostgreSQL behind the Redshift stand-in.
    pub table: Client,
    file: PathBuf,
    logs: PathBuf,
}

impl World {
    /// Makes tables of this schema, and a configuration below `dir` in which the keys of each of `fragments` count over
    /// those before it.
    ///
    /// # Errors
    /// When a fragment does not fit, or a stand-in does not answer.
    pub async fn new(
        dir: &Path,
        endpoints: &Endpoints,
        schema: &Schema,
        fragments: &[&str],
    ) -> anyhow::Result<Self> {
        let schema_at = dir.join("schema.toml");
        fs::write(&schema_at, schema_file(schema))?;
        let mut text = defaults(dir, endpoints)?;
        merge(&mut text, format!("[schema]\nfile = '{}'", schema_at.display()).parse()?);
        for fragment in fragments {
            merge(&mut text, fragment.parse()?);
        }
        let file = dir.join("pipeline.toml");
        fs::write(&file, text.to_string())?;
        let config = Config::load(&file, Secrets::Unused)?;
        let ddl = service::run("ingester", &["ddl"], &file)?;
        ensure!(ddl.status.success(), "{}", String::from_utf8_lossy(&ddl.stderr));
        session(endpoints.redshift, USER, PASSWORD)
            .await?
            .batch_execute(&String::from_utf8(ddl.stdout)?)
            .await?;
        let table = judge::connect(&endpoints.postgres).await?;
        Ok(Self { config, table, file, logs: dir.join("logs") })
    }

    /// Starts the ingester, and waits until it is ready to load.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub async fn ingester(&self) -> anyhow::Result<Service> {
        let mut ingester = Service::start("ingester", &self.file, &self.logs)?;
        let begun = Instant::now();
        while self.number(READY).await? == 0 {
            ingester.look()?;
            ensure!(begun.elapsed() < PATIENCE, "the ingester is not ready: {}", ingester.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(ingester)
    }

    /// Starts the producer.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn producer(&self) -> anyhow::Result<Service> {
        Service::start("producer", &self.file, &self.logs)
    }

    /// What the producer says of its log.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn snapshot(&self) -> anyhow::Result<ProducerSnapshot> {
        Ok(feed::snapshot(&self.config.producer_socket()).await?.snapshot)
    }

    /// The number that a query gives.
    ///
    /// # Errors
    /// When it gives none.
    pub async fn number(&self, query: &str) -> anyhow::Result<u64> {
        let row = self.table.query_one(query, &[]).await?;
        u64::try_from(row.try_get::<_, i64>(0)?).context("a count below zero")
    }
}

/// The sandbox's configuration without what it changes for its short runs: batches, and how often the ingester looks.
fn defaults(dir: &Path, endpoints: &Endpoints) -> anyhow::Result<Table> {
    let mut text: Table = pipeline(dir, endpoints, &Shape::default()).parse()?;
    text.remove("batch");
    let ingester = text.get_mut("ingester").and_then(Value::as_table_mut).context("no [ingester]")?;
    ingester.remove("list_interval");
    ingester.remove("retry_max");
    Ok(text)
}

/// Puts the keys of `over` in the place of those of `into`, table by table.
pub fn merge(into: &mut Table, over: Table) {
    for (key, value) in over {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(over)) => merge(into, over),
            (_, value) => _ = into.insert(key, value),
        }
    }
}
