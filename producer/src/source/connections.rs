//! All connections of the process to one stream. Each has a number, an HTTP connection, decoding threads and a back-off
//! of its own. They share the token, and write into one log.
//!
//! In memory a connection costs eight pieces of the body (some ten KiB each), the inflater's window and output, a line
//! of at most `adobe.max_record_bytes`, one block of at most 1 MiB of rows, and the buffers of its transform. The blocks
//! that wait for the log are as many as with one connection.

use shared::exit::{Exit, Failure};
use shared::shutdown::Shutdown;
use tokio::task::JoinSet;

use crate::source::connection::Connection;
use crate::source::shared_state::Shared;
use crate::transform::Transform;

/// Reads as many connections as configured until shutdown. When one connection needs an operator, all end, and
/// `shutdown` is asked to stop. `resuming` says whether this log has read the stream before.
pub async fn run_connections(
    shared: Shared,
    transform: Transform,
    resuming: bool,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let mut connections = JoinSet::new();
    for number in 0..shared.config.connections {
        let connection = Connection::new(number, shared.clone(), transform.clone(), resuming);
        let shutdown = shutdown.clone();
        connections.spawn(async move { connection.run(&shutdown).await });
    }
    let tokens = shared.tokens.clone();
    // Only the connections send to the log from here on.
    drop(shared);
    let renewing = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { tokens.keep_fresh(&shutdown).await }
    });
    let mut first = Ok(());
    while let Some(ended) = connections.join_next().await {
        let ended = ended.unwrap_or_else(|error| Err(Failure::new(Exit::Software, error)));
        // It was stopped, it failed, or the log takes no more.
        shutdown.stop();
        first = first.and(ended);
    }
    renewing.abort();
    first
}
