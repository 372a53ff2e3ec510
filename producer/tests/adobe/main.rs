//! The producer's front against the stand-in for Adobe, and against a server that answers as a test says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod closed_at_once;
mod connections;
mod flapping;
mod import;
mod opening;
mod server;
mod session;
mod tokens;

use std::path::Path;

use producer::{Tokens, Transform};
use shared::clock::Clock;
use shared::config::{Config, Secrets};

/// What `[adobe]` needs besides the addresses.
pub(crate) const CREDENTIAL: &str = "client_id = \"client-id\"\nclient_secret = \"client-secret\"\n";

/// A configuration whose `[adobe]` has these lines.
pub(crate) fn config(adobe: &str) -> Config {
    let text = format!(
        "[instance]\nname = \"test\"\n[adobe]\nredirect_hosts = [\"localhost\", \"127.0.0.1\"]\n{adobe}\n\
         [s3]\nbucket = \"b\"\nregion = \"eu-central-1\"\n\
         [redshift]\nhost = \"h\"\ndatabase = \"d\"\nuser = \"u\"\niam_role = \"default\"\n"
    );
    Config::parse(&text, Path::new("test"), std::iter::empty(), Secrets::Producer).unwrap()
}

/// A configuration for the stand-in.
pub(crate) fn at(adobe: &adobe::Adobe, more: &str) -> Config {
    let (token, stream) = (adobe.token_url(), adobe.stream_url());
    config(&format!("{CREDENTIAL}token_url = \"{token}\"\nstream_url = \"{stream}\"\n{more}"))
}

pub(crate) fn http(config: &Config) -> reqwest::Client {
    shared::tls::install();
    producer::client(&config.adobe).unwrap()
}

/// Tokens that are kept in memory only.
pub(crate) fn tokens(config: &Config, clock: &Clock) -> Tokens {
    Tokens::new(http(config), &config.adobe, None, clock.clone()).unwrap()
}

/// A clock that the test sets.
pub(crate) fn by_hand() -> Clock {
    Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap())
}

pub(crate) fn transform(config: &Config) -> Transform {
    producer::transform(config, &config.schema.load().unwrap()).unwrap()
}
