//! Discovery and archiving against an S3 in memory that counts requests and can refuse from the n-th on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod archive;
mod bounds;
mod discovery;
mod foreign;
mod policies;
mod proxy;
mod store;
mod terms;

use ingester::{LoadStore, Services};
use sandbox::config::{Shape, pipeline};
use sandbox::standins::Endpoints;
use shared::clock::Clock;
use shared::config::{Config, Secrets};
use shared::object_store::ObjectStore;
use shared::shutdown::Shutdown;
use state::status::activity::Activity;
use tempfile::TempDir;

use store::Memory;

/// A configuration for this store, with these lines in `[ingester]`.
fn config(dir: &TempDir, store: &Memory, ingester: &str) -> Config {
    let alter = |text: String| text.replace("[ingester]", &format!("[ingester]\n{ingester}"));
    parse(dir, store.endpoint(), alter, &[])
}

/// What the tasks of an ingester share.
fn services(config: &Config, store: ObjectStore, load_store: LoadStore, clock: Clock) -> Services {
    let activity = Activity::new(clock.clone());
    Services::new(config.clone(), store, load_store, activity, clock, Shutdown::new()).unwrap()
}

/// A configuration for the store at this address, with these lines in `[s3]` and these variables.
fn config_at(dir: &TempDir, endpoint: &str, s3: &str, env: &[(&str, &str)]) -> Config {
    let mut config = parse(dir, endpoint, |text| text.replace("[s3]", &format!("[s3]\n{s3}")), env);
    config.s3.egress.read_authorities().unwrap();
    config.adobe.egress = config.s3.egress.clone();
    config
}

fn parse(
    dir: &TempDir,
    endpoint: &str,
    alter: impl FnOnce(String) -> String,
    env: &[(&str, &str)],
) -> Config {
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let at = Endpoints {
        token_url: "http://127.0.0.1:9/token".to_owned(),
        stream_url: "http://127.0.0.1:9/stream".to_owned(),
        redirect_host: "localhost".to_owned(),
        s3: endpoint.to_owned(),
        redshift: nowhere,
        postgres: String::new(),
    };
    let text = alter(pipeline(dir.path(), &at, &Shape::default()));
    let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::parse(&text, dir.path(), env.into_iter(), Secrets::Ingester).unwrap()
}
