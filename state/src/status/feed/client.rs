//! Asks a service over its socket.

use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use shared::exit::{Exit, Failure};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::UnixStream;

use super::protocol::{Answer, Published, Question, Reply, line, send};

/// The largest answer a client accepts: the snapshot of the largest log is far smaller.
const MAX_ANSWER: u64 = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No service listens on the socket: then none has the database. Or this user may not connect to it.
    #[error("nobody answers: {0}")]
    Nobody(io::Error),
    /// The service answered that it cannot.
    #[error("{0}")]
    Refused(Failure),
    /// The service hung up, or its answer is not understood.
    #[error("it did not answer: {0}; it may be of another version, or is ending")]
    Broken(io::Error),
}

async fn put(socket: &Path, question: &Question) -> Result<UnixStream, AskError> {
    let mut stream = UnixStream::connect(socket).await.map_err(AskError::Nobody)?;
    let line = line(question).map_err(AskError::Broken)?;
    send(&mut stream, &line).await.map_err(AskError::Broken)?;
    Ok(stream)
}

/// Asks the service behind `socket`.
pub async fn ask<T: DeserializeOwned>(socket: &Path, question: &Question) -> Result<Answer<T>, AskError> {
    let mut text = Vec::new();
    let answer = put(socket, question).await?;
    answer.take(MAX_ANSWER).read_to_end(&mut text).await.map_err(AskError::Broken)?;
    let reply: Reply<T> = serde_json::from_slice(&text).map_err(|error| AskError::Broken(error.into()))?;
    match reply.snapshot {
        Some(snapshot) => Ok(Answer { pid: reply.pid, snapshot }),
        None => {
            let error = anyhow::anyhow!("process {}: {}", reply.pid, reply.error.unwrap_or_default());
            Err(AskError::Refused(Failure::new(reply.exit.unwrap_or(Exit::Unavailable), error)))
        }
    }
}

/// Asks the service behind `socket` for its snapshot.
pub async fn snapshot<T: DeserializeOwned>(socket: &Path) -> Result<Answer<T>, AskError> {
    ask(socket, &Question::Snapshot).await
}

/// The batches a producer publishes, as they come.
#[derive(Debug)]
pub struct Followed {
    lines: Lines<BufReader<UnixStream>>,
}

impl Followed {
    /// The next batch; None when the producer has gone.
    pub async fn next(&mut self) -> io::Result<Option<Published>> {
        match self.lines.next_line().await? {
            None => Ok(None),
            Some(line) => Ok(Some(serde_json::from_str(&line)?)),
        }
    }
}

/// Follows the producer behind `socket`.
pub async fn follow(socket: &Path) -> Result<Followed, AskError> {
    let stream = put(socket, &Question::Follow).await?;
    Ok(Followed { lines: BufReader::new(stream).lines() })
}
