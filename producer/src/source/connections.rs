//! All connections of the process to one stream. Each has a number, an HTTP connection, a decoding thread and a
//! back-off of its own; they share the token, and what they read goes into one log.
//!
//! In memory a connection costs eight pieces of the body (some ten KiB each), the inflater's window and output, a line
//! of at most `adobe.max_record_bytes`, one block of at most 1 MiB of rows, and the buffers of its transform. The blocks
//! that wait for the log are as many as with one connection.

use std::path::PathBuf;
use std::sync::Arc;

use shared::causes::causes;
use shared::config::Adobe;
use shared::exit::{Exit, Failure};
use shared::shutdown::Shutdown;
use state::log::KnownHits;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::append::FromStream;
use crate::counters::Counters;
use crate::source::connect;
use crate::source::connection::{Connection, Shared};
use crate::source::token::Tokens;
use crate::transform::Transform;

/// The connections of one stream, not connected.
pub struct Connections {
    tokens: Tokens,
    connections: Vec<Connection>,
}

impl Connections {
    /// As many as configured, with the token kept in `cache`. `known` are the hits of the log, `again` says whether the
    /// stream was read into it before.
    ///
    /// # Errors
    /// When the HTTP client cannot be made, or the credential's key cannot be used.
    pub fn new(
        config: &Adobe,
        cache: PathBuf,
        transform: &Transform,
        counters: Arc<Counters>,
        out: &mpsc::Sender<FromStream>,
        (known, again): (KnownHits, bool),
    ) -> Result<Self, Failure> {
        let http = connect::client(config).map_err(|error| {
            Failure::new(Exit::Config, anyhow::anyhow!("cannot set up HTTPS: {}", causes(&error)))
        })?;
        let tokens = Tokens::new(http.clone(), config, Some(cache))
            .map_err(|error| Failure::new(Exit::Config, error))?;
        let shared = Shared::new(config, http, tokens.clone(), counters, out.clone(), known);
        let connection = |number| Connection::new(number, shared.clone(), transform.clone(), again);
        Ok(Self { connections: (0..config.connections).map(connection).collect(), tokens })
    }

    /// Reads until shutdown. When one connection finds that only a person can help, all end, and `shutdown` is asked
    /// to stop.
    ///
    /// # Errors
    /// When the credential or the stream's address is wrong.
    pub async fn run(self, shutdown: &Shutdown) -> Result<(), Failure> {
        let mut connections = JoinSet::new();
        for connection in self.connections {
            let shutdown = shutdown.clone();
            connections.spawn(async move { connection.run(&shutdown).await });
        }
        let reading = async {
            let mut first = Ok(());
            while let Some(ended) = connections.join_next().await {
                let ended = ended.unwrap_or_else(|error| Err(Failure::new(Exit::Software, error)));
                // One that ends does so because it is stopped, because it failed, or because the log takes no more.
                shutdown.stop();
                first = first.and(ended);
            }
            first
        };
        // Dropped with the last connection.
        tokio::select! {
            biased;
            ended = reading => ended,
            () = renewing(&self.tokens, shutdown) => Ok(()),
        }
    }
}

/// Never ends before the connections do.
async fn renewing(tokens: &Tokens, shutdown: &Shutdown) {
    tokens.keep_fresh(shutdown).await;
    std::future::pending::<()>().await;
}
