//! What server and client share: questions, answers and their form on the wire.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::exit::Exit;
use shared::ids::{BatchId, BatchPrefix};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::loads::Pause;

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
    Verify,
    /// Stop loading for a while. The pause is durable before it is answered.
    Pause(Pause),
    Resume,
    /// Upload a published batch once more: something of it is missing in S3, or altered.
    Republish(BatchId),
    /// The batch is loaded: its producer need not keep copies of it.
    Loaded(BatchId),
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
