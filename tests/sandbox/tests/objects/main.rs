//! Discovery and archiving against an S3 in memory that counts requests and can refuse from the n-th on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod archive;
mod bounds;
mod discovery;
mod foreign;
mod store;

use sandbox::config::{Shape, pipeline};
use sandbox::standins::Endpoints;
use shared::config::{Config, Secrets};
use tempfile::TempDir;

use store::Memory;

/// A configuration for this store, with these lines in `[ingester]`.
fn config(dir: &TempDir, store: &Memory, ingester: &str) -> Config {
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let at = Endpoints {
        token_url: "http://127.0.0.1:9/token".to_owned(),
        stream_url: "http://127.0.0.1:9/stream".to_owned(),
        redirect_host: "localhost".to_owned(),
        s3: store.endpoint().to_owned(),
        redshift: nowhere,
        postgres: String::new(),
    };
    let text = pipeline(dir.path(), &at, &Shape::default());
    let text = text.replace("[ingester]", &format!("[ingester]\n{ingester}"));
    Config::parse(&text, dir.path(), std::iter::empty(), Secrets::Ingester).unwrap()
}
