//! What server and client share, questions, answers and their form on the wire, and the client.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::exit::{Exit, Failure};
use shared::ids::{BatchId, BatchPrefix};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;

use crate::loads::Pause;
use crate::status::tap::Wanted;

/// The peer must take in what it is sent within this time, or is disconnected.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// A question to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Question {
    Snapshot,
    Follow,
    Batch(BatchPrefix),
    History,
    Verify,
    /// Stop loading for a while. The pause is durable before it is answered.
    Pause(Pause),
    Resume,
    /// Upload a published batch once more: something of it is missing in S3, or altered.
    Republish(BatchId),
    /// The batch is loaded: its producer need not keep copies of it.
    Loaded(BatchId),
    /// Which batches a producer keeps copies of.
    Copies,
    /// A replay has left so many rows in quarantine of the batch that the ledger has under this id.
    Replayed {
        batch: BatchId,
        left: u64,
    },
    /// Show records as they pass, with what becomes of them.
    Tap(Wanted),
    /// Which fields the stream brings.
    Seen,
}

/// A producer's answer to [`Question::Republish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Republish {
    /// The upload has begun; followers are told when the batch is published.
    UnderWay,
    /// The batch was never published; it is uploaded in its turn.
    NotPublished,
    /// The log knows the batch, and no copy of all its files is left.
    Gone,
    /// The log does not know the batch.
    Unknown,
}

/// A batch that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The batch.
    pub batch: BatchId,
}

/// An answer: who answers, and what.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The process that answers.
    pub pid: u32,
    /// The answer itself.
    pub snapshot: T,
}

/// An answer on the wire: with a `snapshot`, or with an `error` and the `exit` code it stands for.
#[derive(Serialize, Deserialize)]
pub(super) struct Reply<T> {
    pub(super) pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) snapshot: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exit: Option<Exit>,
}

pub(super) fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), line: &[u8]) -> io::Result<()> {
    tokio::time::timeout(WRITE_TIME, to.write_all(line)).await?
}

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

pub(super) async fn put(socket: &Path, question: &Question) -> Result<UnixStream, AskError> {
    let mut stream = UnixStream::connect(socket).await.map_err(AskError::Nobody)?;
    let line = line(question).map_err(AskError::Broken)?;
    send(&mut stream, &line).await.map_err(AskError::Broken)?;
    Ok(stream)
}

/// How long [`running`] waits.
const ANSWER_TIME: Duration = Duration::from_secs(5);

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

/// The process of the service behind `socket`; None when nobody answers there. Waits at most [`ANSWER_TIME`]: the process may
/// be stopped.
pub async fn running(socket: &Path) -> Result<Option<u32>, AskError> {
    match tokio::time::timeout(ANSWER_TIME, snapshot::<serde_json::Value>(socket)).await {
        Ok(Ok(answer)) => Ok(Some(answer.pid)),
        Ok(Err(AskError::Nobody(_))) => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(AskError::Broken(io::ErrorKind::TimedOut.into())),
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
