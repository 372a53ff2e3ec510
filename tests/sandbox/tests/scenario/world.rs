//! One scenario's stand-ins, services and judge.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redshift::Kind;
use sandbox::config::{Shape, pipeline};
use sandbox::judge::{self, Done, LEDGER, Narrow, Verdict};
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service, tail};
use sandbox::standins::{PASSWORD, Standins, USER, plan, session};
use state::status::feed;
use state::status::snapshot::ProducerSnapshot;
use tempfile::TempDir;
use tokio_postgres::Client;

/// Longer than any scenario needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
pub(crate) const STOP: Duration = Duration::from_secs(40);

pub(crate) struct World {
    pub(crate) standins: Standins,
    pub(crate) config: PathBuf,
    pub(crate) judge: Client,
    pub(crate) done: Done,
    dir: TempDir,
}

impl World {
    /// Stand-ins with a stream of `hits`, the tables created, nothing started.
    pub(crate) async fn new(hits: u64, shape: &Shape) -> Self {
        Self::with_rate(hits, None, shape).await
    }

    pub(crate) async fn with_rate(hits: u64, rate: Option<u64>, shape: &Shape) -> Self {
        Self::with(adobe::Options { rate, ..options(hits) }, shape).await
    }

    pub(crate) async fn with(adobe: adobe::Options, shape: &Shape) -> Self {
        Self::altered(adobe, shape, str::to_owned, None).await
    }

    /// With the configuration altered, and a column of the table narrower than the schema's.
    pub(crate) async fn altered(
        adobe: adobe::Options,
        shape: &Shape,
        configure: impl FnOnce(&str) -> String,
        narrow: Option<Narrow>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let standins = Standins::start(dir.path(), adobe).await.unwrap();
        let config = dir.path().join("pipeline.toml");
        let text = pipeline(dir.path(), &standins.endpoints(), shape);
        fs::write(&config, configure(&text)).unwrap();
        let ddl = service::run("ingester", &["ddl"], &config).unwrap();
        assert!(ddl.status.success(), "{}", String::from_utf8_lossy(&ddl.stderr));
        let client = session(standins.redshift.addr(), USER, PASSWORD).await.unwrap();
        let mut ddl = String::from_utf8(ddl.stdout).unwrap();
        if let Some(Narrow { column, bytes }) = narrow {
            let wide = ddl.clone();
            ddl =
                ddl.replace(&format!("\"{column}\" varchar(255)"), &format!("\"{column}\" varchar({bytes})"));
            assert_ne!(ddl, wide, "{column} is not as it was");
        }
        client.batch_execute(&ddl).await.unwrap();
        let judge = judge::connect(&standins.endpoints().postgres).await.unwrap();
        Self { standins, config, judge, dir, done: Done { narrow, ..Done::default() } }
    }

    /// Starts one more ingester on the same bucket, with a folder of its own.
    pub(crate) fn start_ingester(&self, name: &str) -> Service {
        self.start_another("ingester", name)
    }

    /// Starts one more service of a kind, with a folder of its own that is called like it.
    pub(crate) fn start_another(&self, kind: &'static str, name: &str) -> Service {
        let config = self.config_of(kind, name);
        Service::start(kind, &config, &self.path(&format!("logs-{name}"))).unwrap()
    }

    /// A configuration that differs in the folder of a kind of service.
    pub(crate) fn config_of(&self, kind: &str, name: &str) -> PathBuf {
        let text = fs::read_to_string(&self.config).unwrap();
        let dir = |name: &str| format!("\"{}\"", self.path(name).display());
        let config = self.path(&format!("{name}.toml"));
        assert!(text.contains(&dir(kind)), "{text}");
        fs::write(&config, text.replace(&dir(kind), &dir(name))).unwrap();
        config
    }

    /// Leaves everything where it is, for a person to look at.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// Leaves nothing behind after all.
    pub(crate) fn forget(&mut self) {
        self.dir.disable_cleanup(false);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn start(&self, name: &'static str) -> Service {
        Service::start(name, &self.config, &self.path("logs")).unwrap()
    }

    /// Replaces a piece of the configuration.
    #[track_caller]
    pub(crate) fn configure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&self.config, text.replace(from, to)).unwrap();
    }

    /// Hits that must end in the table, or in quarantine if it refuses them.
    pub(crate) fn wanted(&self) -> u64 {
        let generator = self.standins.adobe.generator();
        generator.counts(0..generator.plan().hits).hits
    }

    /// Rows that the ledger says are loaded, or in quarantine.
    pub(crate) async fn loaded(&self) -> u64 {
        self.count(&format!("coalesce(sum(rows_loaded + rows_quarantined), 0)::bigint FROM {LEDGER}")).await
    }

    /// Batches in the ledger.
    pub(crate) async fn batches(&self) -> u64 {
        self.count(&format!("count(*) FROM {LEDGER}")).await
    }

    /// The number that `SELECT` of this gives.
    pub(crate) async fn count(&self, of: &str) -> u64 {
        let number: i64 = self.judge.query_one(&format!("SELECT {of}"), &[]).await.unwrap().get(0);
        u64::try_from(number).unwrap()
    }

    /// COPYs into a temporary table so far, and those into the table itself.
    pub(crate) fn staged_and_plain(&self) -> (usize, usize) {
        let statements = self.standins.redshift.faults().statements();
        let copies =
            statements.iter().filter(|seen| seen.kind == Kind::Copy && !seen.sql.contains(" NOLOAD"));
        let (staged, plain): (Vec<_>, Vec<_>) =
            copies.partition(|seen| seen.sql.contains("livestream_stage_"));
        (staged.len(), plain.len())
    }

    /// A session of a person who has the ingester's user.
    pub(crate) async fn person(&self) -> Client {
        self.session(USER, PASSWORD).await
    }

    /// A session of Redshift.
    pub(crate) async fn session(&self, user: &str, password: &str) -> Client {
        session(self.standins.redshift.addr(), user, password).await.unwrap()
    }

    /// Runs a command of the ingester to its end: its code, and everything it said.
    pub(crate) fn ask(&self, args: &[&str]) -> (Option<i32>, String) {
        ask(&self.config, args)
    }

    /// What `state dump` shows.
    pub(crate) fn dump(&self) -> String {
        self.dump_as(&[])
    }

    pub(crate) fn dump_as(&self, args: &[&str]) -> String {
        let output = service::run("state", &[&["dump"], args].concat(), &self.config).unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) async fn snapshot(&self) -> Option<ProducerSnapshot> {
        self.snapshot_of("producer").await
    }

    /// The same of a producer whose folder is called so.
    pub(crate) async fn snapshot_of(&self, name: &str) -> Option<ProducerSnapshot> {
        let socket = self.path(name).join("feed.sock");
        feed::snapshot(&socket).await.ok().map(|answer| answer.snapshot)
    }

    /// Waits until `done`, looking at the services all the while.
    pub(crate) async fn until<F>(
        &self,
        what: &str,
        services: &mut [&mut Service],
        mut done: impl FnMut() -> F,
    ) where
        F: Future<Output = bool>,
    {
        let begun = Instant::now();
        while !done().await {
            services.iter_mut().for_each(|service| service.look().unwrap());
            if begun.elapsed() > PATIENCE {
                let said: Vec<_> = services.iter().map(|service| tail(&service.said())).collect();
                panic!("not within {PATIENCE:?}: {what}\n{}", said.join("\n----\n"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn until_loaded(&self, rows: u64, services: &mut [&mut Service]) {
        self.until(&format!("{rows} rows loaded"), services, async || self.loaded().await >= rows).await;
    }

    /// Waits for so many rows more than are durable now, and returns how many there are.
    pub(crate) async fn until_more_durable(&self, rows: u64, services: &mut [&mut Service]) -> u64 {
        let answers = async || self.snapshot().await.is_some();
        self.until("the producer answers", services, answers).await;
        let before = self.snapshot().await.map_or(0, |snapshot| snapshot.totals.rows);
        self.until_durable(before + rows, services).await;
        before + rows
    }

    pub(crate) async fn until_durable(&self, rows: u64, services: &mut [&mut Service]) {
        let durable = async || self.snapshot().await.is_some_and(|snapshot| snapshot.totals.rows >= rows);
        self.until(&format!("{rows} rows durable"), services, durable).await;
    }

    /// Waits until everything sent stands in S3, sealed, and every reject with it.
    pub(crate) async fn until_published(&self, producer: &mut Service) {
        let wanted = self.wanted();
        self.until_published_by("producer", wanted, &mut [producer]).await;
    }

    /// The same of a producer whose folder is called so, which has so many rows in the end.
    pub(crate) async fn until_published_by(&self, name: &str, rows: u64, services: &mut [&mut Service]) {
        let published = async || {
            self.snapshot_of(name).await.is_some_and(|snapshot| {
                snapshot.totals.rows >= rows
                    && snapshot.rejects_waiting == 0
                    && snapshot.batches.iter().all(|batch| batch.published.is_some())
            })
        };
        self.until("everything published", services, published).await;
    }

    /// Everything sent stands in S3, sealed, and the producer has stopped.
    pub(crate) async fn publish(&self) {
        let mut producer = self.start("producer");
        self.until_published(&mut producer).await;
        producer.stop(STOP).await.unwrap();
    }

    /// Waits until everything sent is loaded and every reject shipped, stops both services and judges.
    pub(crate) async fn finish(&self, mut producer: Service, mut ingester: Service) -> Verdict {
        let wanted = self.wanted();
        self.until_loaded(wanted, &mut [&mut producer, &mut ingester]).await;
        self.end(producer, ingester).await
    }

    /// Waits until every object is put away: then everything that was published is loaded.
    pub(crate) async fn until_put_away(&self, services: &mut [&mut Service]) {
        let folder = self.path("s3").join(BUCKET).join("ToIngest");
        let done = async || judge::files_below(&folder).unwrap().is_empty();
        self.until("everything published is put away", services, done).await;
    }

    /// Waits until every reject is shipped, stops both services and judges.
    pub(crate) async fn end(&self, mut producer: Service, mut ingester: Service) -> Verdict {
        let generator = self.standins.adobe.generator();
        let sent_all = || self.standins.adobe.distinct_sent() == generator.plan().hits;
        let quiet = async || {
            sent_all() && self.snapshot().await.is_some_and(|snapshot| snapshot.rejects_waiting == 0)
        };
        self.until("every reject shipped", &mut [&mut producer, &mut ingester], quiet).await;
        producer.stop(STOP).await.unwrap();
        ingester.stop(STOP).await.unwrap();
        self.verdict().await
    }

    pub(crate) async fn verdict(&self) -> Verdict {
        let endpoints = self.standins.endpoints();
        let generator = self.standins.adobe.generator();
        judge::judge_after(&generator, &endpoints.postgres, &self.path("s3"), self.done).await.unwrap()
    }
}

/// Runs a command of the ingester of a configuration to its end: its code, and everything it said.
pub(crate) fn ask(config: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = service::run("ingester", args, config).unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// A stream of `hits` that starts now.
pub(crate) fn options(hits: u64) -> adobe::Options {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    adobe::Options { plan: plan(7, hits, now), ..adobe::Options::default() }
}

/// Nothing lost, doubled or altered, and everything that was sent accounted for.
#[track_caller]
pub(crate) fn assert_clean(verdict: &Verdict) {
    assert!(verdict.is_clean(), "{verdict:#?}");
    assert_eq!(verdict.sent, verdict.loaded + verdict.quarantined + verdict.filtered, "{verdict:#?}");
}

/// A text without its line ends and columns, since both depend on what else it tells.
pub(crate) fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
