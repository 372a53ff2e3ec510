//! What `state` shows of real logs and load stores: running or not, whole or broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod board;
mod broken;
mod command;
mod dump;
mod socket;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use shared::clock::Clock;
use shared::config::{Config, Secrets};
use state::log::{HitId, Log, Upload};
use support::few_rows as settings;

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

fn now() -> DateTime<Utc> {
    Clock::system().wall()
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
        log.stage_row(0, Some(hit), Some(now), &row(n), now);
        if log.commit_is_due() {
            log.commit(now).unwrap();
        }
    }
    log.commit(now).unwrap();
}

fn upload(n: u64) -> Upload {
    Upload { bytes: 1_000 + n, crc32: "AAAAAA==".to_owned(), etag: format!("\"{n:032x}\""), content: None }
}
