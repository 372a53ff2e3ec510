//! The stand-ins for Adobe and S3, and a producer that is killed and started again.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use adobe::{Adobe, Options, Plan};
use fastrand::Rng;
use sandbox::config::{Shape, pipeline};
use sandbox::s3::S3;
use sandbox::service::{self, Service, tail};
use sandbox::standins::{CLIENT_ID, CLIENT_SECRET, Endpoints};
use state::status::feed;
use state::status::snapshot::ProducerSnapshot;
use tempfile::TempDir;

use crate::oracle::Found;

/// Longer than the long run needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1_800);
const STOP: Duration = Duration::from_secs(40);
/// Times the producer is killed.
const KILLS: u64 = 8;

/// Few columns: what is looked at here is whether a hit is there.
const SCHEMA: &str = r#"
[[column]]
name = "hitidhigh"
path = "hitIdHigh"
kind = "unsigned"
type = "decimal(20,0)"

[[column]]
name = "hitidlow"
path = "hitIdLow"
kind = "unsigned"
type = "decimal(20,0)"

[[column]]
name = "receivedtimegmt"
path = "receivedTimeGMT"
kind = "timestamp"
type = "timestamp"
"#;

pub(crate) struct World {
    pub(crate) adobe: Adobe,
    producer: Service,
    config: PathBuf,
    dir: TempDir,
    connections: u8,
    _s3: S3,
}

impl World {
    pub(crate) async fn new(plan: Plan, connections: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let s3 = S3::start(&dir.path().join("s3")).await.unwrap();
        let adobe = Adobe::start(Options {
            plan,
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned(),
            hold: crate::script::hold(&plan),
            ..Options::default()
        })
        .unwrap();
        let endpoints = Endpoints {
            token_url: adobe.token_url(),
            stream_url: adobe.stream_url(),
            redirect_host: adobe.redirect_host().to_owned(),
            s3: s3.endpoint().to_owned(),
            // The producer never asks these.
            redshift: SocketAddr::from(([127, 0, 0, 1], 1)),
            postgres: String::new(),
        };
        let schema = dir.path().join("schema.toml");
        fs::write(&schema, SCHEMA).unwrap();
        let text = pipeline(dir.path(), &endpoints, &Shape { records_per_file: 10_000, ..Shape::default() });
        // Only one connection meets stalls. Several are to be seen quiet side by side at the end, before one of them is
        // taken for broken and stays away.
        let idle_timeout = if connections == 1 { "1s" } else { "10s" };
        // An hour in minutes: waits are shorter, and the window is a part of the hour, so that replays reach past it.
        let text = text
            .replace(
                "[adobe]\n",
                &format!(
                    "[adobe]\nidle_timeout = \"{idle_timeout}\"\nretry_max = \"500ms\"\nmax_connections = {connections}\n\
                     connections = {connections}\n"
                ),
            )
            .replace("[log]\n", "[log]\ndedup_window = \"5m\"\ngap_tolerance = \"30s\"\n");
        let config = dir.path().join("pipeline.toml");
        fs::write(&config, format!("{text}\n[schema]\nfile = \"{}\"\n", schema.display())).unwrap();
        let producer = Service::start("producer", &config, &dir.path().join("logs")).unwrap();
        Self { adobe, producer, config, dir, connections, _s3: s3 }
    }

    /// Lets the stream run to its end, killing the producer now and then. Says how often.
    pub(crate) async fn run_with_kills(&mut self, seed: u64) -> u64 {
        let mut random = Rng::with_seed(seed ^ 0x6b69_6c6c);
        let (hits, begun) = (self.adobe.generator().plan().hits, Instant::now());
        let mut kills = 0;
        loop {
            let sent = self.adobe.sent();
            if kills < KILLS && sent > (kills + 1) * hits / (KILLS + 2) {
                self.producer.kill().unwrap();
                kills += 1;
                tokio::time::sleep(Duration::from_millis(random.u64(0..400))).await;
                self.producer.start_again().unwrap();
            }
            if sent >= hits && self.adobe.faults().pending() == 0 && self.is_quiet().await {
                return kills;
            }
            self.producer.look().unwrap();
            assert!(
                begun.elapsed() < PATIENCE,
                "{sent} of {hits} sent, {} faults to come\n{}",
                self.adobe.faults().pending(),
                tail(&self.producer.said())
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether all connections read, nothing more comes, and all that came is in S3.
    async fn is_quiet(&self) -> bool {
        if self.adobe.connections() != usize::from(self.connections) {
            return false;
        }
        let Some(before) = self.snapshot().await else { return false };
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Some(snapshot) = self.snapshot().await else { return false };
        snapshot.totals == before.totals
            && snapshot.rows_to_upload == 0
            && snapshot.rejects_waiting == 0
            && snapshot.batches.iter().all(|batch| batch.published.is_some())
    }

    async fn snapshot(&self) -> Option<ProducerSnapshot> {
        let socket = self.dir.path().join("producer/feed.sock");
        feed::snapshot(&socket).await.ok().map(|answer| answer.snapshot)
    }

    /// Stops the producer and reads what it left in S3 and in its log.
    pub(crate) async fn stop_and_look(mut self) -> (Adobe, Found) {
        self.producer.stop(STOP).await.unwrap();
        let dump = service::run("state", &["dump", "--json"], &self.config).unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        let found = Found::read(&self.dir.path().join("s3"), &dump.stdout);
        (self.adobe, found)
    }
}
