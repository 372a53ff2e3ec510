//! The command, and the steps on this machine and in S3.

use std::io::Write;

use bytes::Bytes;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure, io_exit};
use shared::object_store::{ObjectStore, REFUSED_ADVICE, SMALL, StoreErrorKind};
use shared::report::{Outcome, Report};

use crate::commands::check::adobe::adobe;

/// Tries every step and reports how it ended. Leaves nothing behind.
pub async fn check(config: &Config, clock: &Clock, out: &mut impl Write) -> Result<(), Failure> {
    let mut report = Report::new(out);
    report.line("schema and filters", schema(config))?;
    report.line("log directory", log_dir(config))?;
    report.line("network", Ok(network(config)))?;
    adobe(config, clock, &mut report).await?;
    report.line("S3", bucket(config).await)?;
    report.end()
}

/// Whether requests go through a proxy.
fn network(config: &Config) -> String {
    let (token, stream) = (config.adobe.token_url.clone(), config.adobe.stream_url.clone());
    config
        .s3
        .egress
        .report([("Adobe token", token), ("Livestream", stream)].into_iter().chain(config.s3.addresses()))
}

fn schema(config: &Config) -> Outcome {
    let wrong = |error: Failure| (error.exit(), error.to_string());
    let schema = config.schema.load().map_err(wrong)?;
    crate::run::transform(config, &schema).map_err(wrong)?;
    Ok(format!("{} columns, {} filters", schema.columns.len(), config.filters.len()))
}

fn log_dir(config: &Config) -> Outcome {
    let dir = &config.log.dir;
    match dir.try_exists() {
        Ok(false) => return Ok(format!("{} is not there yet: the first start makes it", dir.display())),
        Ok(true) => {}
        Err(error) => return Err((io_exit(&error), format!("{}: {error}", dir.display()))),
    }
    let probe = dir.join(".check");
    match std::fs::write(&probe, b"probe").and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => Ok(format!("{} can be written", dir.display())),
        Err(error) => Err((
            io_exit(&error),
            format!("{}: {error}; give it to the user the producer runs as", dir.display()),
        )),
    }
}

async fn bucket(config: &Config) -> Outcome {
    let store = ObjectStore::connect(&config.s3).await;
    // The key has not the form of a batch, so that no ingester loads it.
    let key = format!("{}.check-{}", config.s3.to_ingest, config.instance.name);
    let tried = async {
        store.put(&key, Bytes::from_static(b"written by `producer check`, which deletes it again")).await?;
        store.get_at_most(&key, SMALL).await?;
        store.delete(&key).await
    };
    match tried.await {
        Ok(()) => Ok(format!("put, got and deleted s3://{}/{key}", store.bucket())),
        Err(error) => {
            let (exit, advice) = match error.kind() {
                StoreErrorKind::Configuration | StoreErrorKind::NotFound | StoreErrorKind::InArchive => {
                    (Exit::Config, REFUSED_ADVICE)
                }
                StoreErrorKind::Passing => (
                    Exit::Unavailable,
                    "is s3.endpoint right, and reachable on the way that \"network\" names?",
                ),
            };
            Err((exit, format!("{error}: {advice}")))
        }
    }
}
