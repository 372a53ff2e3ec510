//! What the connections of a process share.

use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Client;
use shared::causes::causes;
use shared::clock::Clock;
use shared::config::Adobe;
use shared::exit::{Exit, Failure};
use state::log::KnownHits;
use tokio::sync::{mpsc, watch};

use crate::append::ConnectionEvent;
use crate::counters::Counters;
use crate::decode::seen::SeenRecords;
use crate::source::catch_up_times::CatchUpTimes;
use crate::source::connect;
use crate::source::token::Tokens;

/// What the connections of a process share.
#[derive(Clone)]
pub struct Shared {
    /// `[adobe]`
    pub config: Adobe,
    /// The client for IMS and Livestream.
    pub http: Client,
    /// The token.
    pub tokens: Tokens,
    /// What is counted on the way.
    pub counters: Arc<Counters>,
    /// The way to the log.
    pub out: mpsc::Sender<ConnectionEvent>,
    /// The hits that the log has.
    pub known: KnownHits,
    pub(crate) clock: Clock,
    /// How often a connection broke. What was under way on it is lost, and Adobe may give its visitors to another
    /// connection before it is back. So all connections start again, each with `reset`, and nothing is missing.
    pub(crate) broken: watch::Sender<u64>,
    pub(crate) catch_up_times: CatchUpTimes,
    /// The unreadable records that ended sessions.
    pub(crate) seen: SeenRecords,
}

impl Shared {
    /// For connections that are not connected yet. The token is kept in the file `cache`, if there is one.
    pub fn new(
        config: &Adobe,
        cache: Option<PathBuf>,
        counters: Arc<Counters>,
        out: mpsc::Sender<ConnectionEvent>,
        known: KnownHits,
        clock: Clock,
    ) -> Result<Self, Failure> {
        let http = connect::client(config).map_err(|error| {
            Failure::new(Exit::Config, anyhow::anyhow!("cannot set up HTTPS: {}", causes(&error)))
        })?;
        let tokens = Tokens::new(http.clone(), config, cache, clock.clone())
            .map_err(|error| Failure::new(Exit::Config, error))?;
        let (broken, catch_up_times, seen) = Default::default();
        let config = config.clone();
        Ok(Self { config, http, tokens, counters, out, known, clock, broken, catch_up_times, seen })
    }
}
