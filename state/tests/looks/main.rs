//! What `state` shows: of logs made by the log itself, running or not, whole or broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod broken;
mod command;
mod dump;
mod socket;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use shared::config::{Config, Secrets};
use shared::ids::Instance;
use shared::layout::Compression;
use state::log::{HitId, Log, Settings, Upload};

/// A producer's and an ingester's directory, and their configuration.
struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        let root = place.root.path().display();
        let toml = format!(
            r#"
            [instance]
            name = "test"
            [adobe]
            client_id = "0123456789abcdef0123456789abcdef"
            stream_url = "https://livestream.adobe.net/api/1/stream/test"
            [log]
            dir = "{root}/producer"
            [s3]
            bucket = "bucket"
            region = "eu-central-1"
            [redshift]
            host = "localhost"
            database = "analytics"
            user = "loader"
            table = "public.livestream"
            ledger = "public.ledger"
            iam_role = "arn:aws:iam::123456789012:role/copy"
            [ingester]
            dir = "{root}/ingester"
            "#
        );
        std::fs::write(place.toml(), toml).unwrap();
        place
    }

    fn toml(&self) -> PathBuf {
        self.root.path().join("pipeline.toml")
    }

    fn config(&self) -> Config {
        Config::load(&self.toml(), Secrets::Unused).unwrap()
    }

    fn producer(&self) -> PathBuf {
        self.root.path().join("producer")
    }

    fn ingester(&self) -> PathBuf {
        self.root.path().join("ingester")
    }
}

/// Files of 25 rows, batches of two files, commits of 10 rows.
fn settings(dir: &Path) -> Settings {
    Settings {
        dir: dir.to_owned(),
        instance: Instance::try_from("test".to_owned()).unwrap(),
        schema: "0123456789abcdef".to_owned(),
        compression: Compression::Zstd,
        place: "s3://bucket/ToIngest/".to_owned(),
        commit_rows: 10,
        commit_interval: Duration::from_millis(50),
        records_per_file: 25,
        max_file_bytes: 1 << 20,
        max_file_age: Duration::from_secs(60),
        files_per_batch: 2,
        max_batch_age: Duration::from_secs(300),
        max_bytes: 1 << 30,
        cache: 8 << 20,
        dedup_window: Duration::from_secs(7200),
        dedup_hits: 1_000_000,
    }
}

/// A row that compresses badly, so that a chunk of ten takes several pieces.
fn row(n: u64) -> Vec<u8> {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut noise = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        format!("{x:016x}")
    };
    format!("{n}~{}\n", (0..180).map(|_| noise()).collect::<String>()).into_bytes()
}

fn append(log: &mut Log, numbers: impl Iterator<Item = u64>, now: DateTime<Utc>) {
    for n in numbers {
        let hit = HitId { high: n.wrapping_mul(0x9e37_79b9_7f4a_7c15), low: n };
        log.stage_row(Some(hit), Some(now), &row(n), now);
        if log.commit_is_due() {
            log.commit(now).unwrap();
        }
    }
    log.commit(now).unwrap();
}

fn upload(n: u64) -> Upload {
    Upload { bytes: 1_000 + n, crc32: "AAAAAA==".to_owned(), etag: format!("\"{n:032x}\"") }
}
