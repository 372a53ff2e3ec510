//! `producer check`: each step against the real thing, and what to do about the first that fails.

use bytes::Bytes;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::object_store::ObjectStore;

use crate::connect;
use crate::reaction::{Reaction, to_status};
use crate::token::Tokens;

/// Tries every step, printing a line for each.
///
/// # Errors
/// When one fails; the others are tried all the same.
pub async fn check(config: &Config) -> Result<(), Failure> {
    let mut failed = 0;
    let mut say = |step: &str, result: Result<String, String>| match result {
        Ok(done) => println!("ok      {step}: {done}"),
        Err(why) => {
            failed += 1;
            println!("FAILED  {step}: {why}");
        }
    };
    say("schema", schema(config));
    say("log directory", log_dir(config));
    let http = connect::client(&config.adobe).map_err(|error| Failure::new(Exit::Config, error))?;
    let mut tokens = Tokens::new(http.clone(), &config.adobe);
    let token = tokens.get().await;
    let stream = match &token {
        Ok(token) => stream(config, &http, token).await,
        Err(_) => Err("not tried, for want of a token".to_owned()),
    };
    say("Adobe token", token.map(|_| "granted".to_owned()).map_err(|error| error.to_string()));
    say("Livestream", stream);
    say("S3", bucket(config).await);
    match failed {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Unavailable, anyhow::anyhow!("one step failed"))),
        _ => Err(Failure::new(Exit::Unavailable, anyhow::anyhow!("{failed} steps failed"))),
    }
}

fn schema(config: &Config) -> Result<String, String> {
    let schema = config.schema.load().map_err(|error| error.to_string())?;
    crate::run::transform(config, &schema).map_err(|error| error.to_string())?;
    Ok(format!("{} columns, {} filters", schema.columns.len(), config.filters.len()))
}

fn log_dir(config: &Config) -> Result<String, String> {
    let dir = &config.log.dir;
    let probe = dir.join(".probe");
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&probe, b"probe"))
        .and_then(|()| std::fs::remove_file(&probe))
        .map(|()| format!("{} can be written", dir.display()))
        .map_err(|error| format!("{}: {error}; create it for the user the producer runs as", dir.display()))
}

async fn stream(
    config: &Config,
    http: &reqwest::Client,
    token: &shared::secret::Secret,
) -> Result<String, String> {
    // Without `reset`: a look must not move where a running producer reads.
    match connect::open(http, &config.adobe, token, None).await {
        Ok(response) => Ok(format!("open at {}", response.url().host_str().unwrap_or_default())),
        Err(error @ connect::ConnectError::Refused { status, .. }) => Err(match to_status(status) {
            Reaction::Stop(advice) => format!("{error}; {advice}"),
            Reaction::NewToken => {
                format!("{error}; the technical account lacks the Livestream product, or its clock is off")
            }
            Reaction::Wait(_) => {
                format!("{error}; a running producer may hold the connection: try again in a minute")
            }
            Reaction::Backoff => error.to_string(),
        }),
        Err(error) => Err(error.to_string()),
    }
}

async fn bucket(config: &Config) -> Result<String, String> {
    let store = ObjectStore::connect(&config.s3).await;
    let key = format!("{}.probe-{}", config.s3.to_ingest, config.instance.name);
    let tried = async {
        store.put(&key, Bytes::from_static(b"probe")).await?;
        store.get(&key).await?;
        store.delete(&key).await
    };
    match tried.await {
        Ok(()) => Ok(format!("put, got and deleted s3://{}/{key}", store.bucket())),
        Err(error) => Err(format!("{error}; check [s3], and the policy in deploy/iam-producer.json")),
    }
}
