//! How a running service is asked about its database, which no other process can open: a Unix socket, mode 0600,
//! one JSON line as question. `follow` is answered by a line for each batch published, the recent ones at once and the
//! others as they come, until either side hangs up; every other question by one line: what was asked for, or why not.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::exit::{Exit, Failure};
use shared::ids::{BatchId, BatchPrefix};
use shared::shutdown::Shutdown;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast};

use crate::loads::{Pause, Pausing};
use crate::status::snapshot::Matching;
use crate::status::snapshot_cache::SnapshotCache;
use crate::verdict::Checked;

/// A question is one short line; more than this is not ours.
const MAX_QUESTION: u64 = 1024;
/// Who has connected asks within this time, or is hung up on.
const QUESTION_TIME: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// Everything, at this moment.
    Snapshot,
    /// Batches as they are published.
    Follow,
    /// All about one batch.
    Batch(BatchPrefix),
    /// Whether everything in the database is as it was written.
    Verify,
    /// Not to load for a while; durable before it is answered.
    Pause(Pause),
    /// To load again.
    Resume,
    /// To upload a published batch once more: something of it is missing in S3, or altered.
    Republish(BatchId),
    /// Nothing: the batch is loaded, and its producer need not keep copies of it.
    Loaded(BatchId),
}

/// What a producer answers when a batch shall be uploaded once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Republish {
    /// It is on its way, and will be told as published.
    UnderWay,
    /// It was never published: it goes up as soon as it can.
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
#[derive(Debug, Clone, Serialize)]
pub struct Answer<T> {
    /// The process that answers.
    pub pid: u32,
    /// What was asked for.
    pub snapshot: T,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens: no service runs, or it is not for this user to ask.
    #[error("nobody answers: {0}")]
    Nobody(io::Error),
    /// The service answered that it cannot.
    #[error("{0}")]
    Refused(Failure),
    /// It hung up, or said something that is not understood.
    #[error("it did not answer: {0}; it may be of another version, or is ending")]
    Broken(io::Error),
}

/// What the owner of a database answers with.
pub trait Owner: Send + Sync + 'static {
    /// What `snapshot` shows.
    type Snapshot: Serialize + Send;
    /// What is told of one batch.
    type Batch: Serialize + Send;

    /// Reads the database; called on a thread where blocking is allowed.
    ///
    /// # Errors
    /// When it cannot be read.
    fn snapshot(&self) -> Result<Self::Snapshot, Failure>;

    /// Looks up one batch; called on a thread where blocking is allowed.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<Self::Batch>, Failure>;

    /// Reads and checks the whole database, while it is written; called on a thread where blocking is allowed.
    ///
    /// # Errors
    /// When the disk fails. Damage is no error, but what is reported.
    fn verify(&self) -> Result<Vec<Checked>, Failure>;

    /// Pauses, or ends a pause with None; called on a thread where blocking is allowed. What holds afterwards.
    ///
    /// # Errors
    /// When it cannot be stored, or there is nothing to pause.
    fn set_pause(&self, _pause: Option<Pause>) -> Result<Pausing, Failure> {
        refusal("only an ingester can be paused")
    }

    /// Begins to upload a batch once more; called on a thread where blocking is allowed.
    ///
    /// # Errors
    /// When the database cannot be read, or its owner uploads nothing.
    fn republish(&self, _batch: BatchId) -> Result<Republish, Failure> {
        refusal("nothing is uploaded here")
    }

    /// Takes note that a batch is loaded; called on a thread where blocking is allowed.
    fn loaded(&self, _batch: BatchId) {}

    /// Batches published lately, and the channel of those to come; None for an owner that publishes nothing.
    fn follow(&self) -> Option<(Vec<Published>, broadcast::Receiver<Published>)> {
        None
    }
}

/// Clients that are served at once. The others wait to be accepted: each holds a task and an answer in memory.
pub const CLIENTS: usize = 64;
/// A client takes in what it is sent within this time, or is disconnected.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The largest answer a client believes: the snapshot of the largest log is far smaller.
const MAX_ANSWER: u64 = 256 << 20;
/// The pause after an answer about a batch, in times of what it took, and at most.
const BATCH_PAUSE: u32 = 16;
const BATCH_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Keeps those who ask from keeping the service from its work.
struct Asking {
    snapshot: SnapshotCache,
    batch: Semaphore,
    verify: Arc<Semaphore>,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            snapshot: SnapshotCache::default(),
            batch: Semaphore::new(1),
            verify: Arc::new(Semaphore::new(1)),
        }
    }
}

/// Answers questions on `socket` until shutdown. The caller owns the database, so a socket file left behind by an
/// earlier owner is dead and is replaced.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve<O: Owner>(socket: &Path, owner: Arc<O>, shutdown: Shutdown) -> io::Result<()> {
    match fs::symlink_metadata(socket) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(socket)?,
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else stands in its place"));
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    let asking = Arc::new(Asking::default());
    let room = Arc::new(Semaphore::new(CLIENTS));
    while let Some(Ok(place)) = shutdown.until(room.clone().acquire_owned()).await {
        let Some(accepted) = shutdown.until(listener.accept()).await else { break };
        let (stream, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: it passes.
                tracing::warn!(%error, "feed: cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (owner, shutdown, asking) = (owner.clone(), shutdown.clone(), asking.clone());
        tokio::spawn(async move {
            if let Some(Err(error)) = shutdown.until(answer(stream, owner, asking)).await {
                tracing::debug!(%error, "feed: an asker went away");
            }
            drop(place);
        });
    }
    let _ = fs::remove_file(socket);
    Ok(())
}

async fn answer<O: Owner>(stream: UnixStream, owner: Arc<O>, asking: Arc<Asking>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(MAX_QUESTION));
    tokio::time::timeout(QUESTION_TIME, read.read_line(&mut line)).await??;
    match serde_json::from_str(&line) {
        Ok(Question::Snapshot) => {
            let line = asking.snapshot.line(move || answer_line(owner.snapshot())).await?;
            send(&mut write, &line).await
        }
        Ok(Question::Batch(prefix)) => {
            let _alone = asking.batch.acquire().await;
            let begun = Instant::now();
            tell(&mut write, move || owner.batch(&prefix)).await?;
            // As between snapshots: however many ask, the service has better things to do.
            tokio::time::sleep((begun.elapsed() * BATCH_PAUSE).min(BATCH_PAUSE_MAX)).await;
            Ok(())
        }
        Ok(Question::Verify) => {
            // It reads everything and cannot be cut short: one at a time, also when its asker has gone away.
            let alone = asking.verify.clone().try_acquire_owned();
            tell(&mut write, move || match alone {
                Ok(_alone) => owner.verify(),
                Err(_) => refusal("it is being verified already: ask again when that has ended"),
            })
            .await
        }
        Ok(Question::Pause(pause)) => tell(&mut write, move || owner.set_pause(Some(pause))).await,
        Ok(Question::Resume) => tell(&mut write, move || owner.set_pause(None)).await,
        Ok(Question::Republish(batch)) => tell(&mut write, move || owner.republish(batch)).await,
        Ok(Question::Loaded(batch)) => {
            tell(&mut write, move || {
                owner.loaded(batch);
                Ok(true)
            })
            .await
        }
        Ok(Question::Follow) => {
            let followed = tokio::task::spawn_blocking(move || owner.follow()).await;
            let Some((recent, mut coming)) = followed.map_err(io::Error::other)? else { return Ok(()) };
            for published in recent {
                write_line(&mut write, &published).await?;
            }
            // A slow follower that missed some is cut off; it asks again and gets the recent ones.
            loop {
                let published = tokio::select! {
                    published = coming.recv() => published,
                    // It says nothing more: it is gone, and its place is free.
                    _ = read.read_u8() => return Ok(()),
                };
                let Ok(published) = published else { return Ok(()) };
                write_line(&mut write, &published).await?;
            }
        }
        Err(error) => tell::<()>(&mut write, move || refusal(&format!("unknown question: {error}"))).await,
    }
}

fn refusal<T>(why: &str) -> Result<T, Failure> {
    Err(Failure::new(Exit::Unavailable, anyhow::anyhow!("{why}")))
}

#[derive(Serialize)]
struct Refusal {
    pid: u32,
    error: String,
    exit: Exit,
}

/// Answers with what `read` finds, made on a thread where blocking is allowed.
async fn tell<T: Serialize>(
    write: &mut (impl AsyncWriteExt + Unpin),
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> io::Result<()> {
    let line = tokio::task::spawn_blocking(move || answer_line(read()));
    send(write, &line.await.map_err(io::Error::other)??).await
}

fn answer_line<T: Serialize>(answer: Result<T, Failure>) -> io::Result<Vec<u8>> {
    let pid = std::process::id();
    match answer {
        Ok(snapshot) => line(&Answer { pid, snapshot }),
        Err(failure) => line(&Refusal { pid, error: failure.to_string(), exit: failure.exit() }),
    }
}

fn line<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

async fn write_line<T: Serialize>(to: &mut (impl AsyncWriteExt + Unpin), value: &T) -> io::Result<()> {
    send(to, &line(value)?).await
}

async fn send(to: &mut (impl AsyncWriteExt + Unpin), line: &[u8]) -> io::Result<()> {
    tokio::time::timeout(ANSWER_TIME, to.write_all(line)).await?
}

async fn put(socket: &Path, question: &Question) -> Result<UnixStream, AskError> {
    let mut stream = UnixStream::connect(socket).await.map_err(AskError::Nobody)?;
    write_line(&mut stream, question).await.map_err(AskError::Broken)?;
    Ok(stream)
}

/// Asks the owner behind `socket`.
///
/// # Errors
/// When nobody answers there (then nobody owns the database), or the question is refused or not understood.
pub async fn ask<T: DeserializeOwned>(socket: &Path, question: &Question) -> Result<Answer<T>, AskError> {
    #[derive(Deserialize)]
    struct Reply<T> {
        pid: u32,
        snapshot: Option<T>,
        error: Option<String>,
        exit: Option<Exit>,
    }
    let mut text = Vec::new();
    let answer = put(socket, question).await?;
    answer.take(MAX_ANSWER).read_to_end(&mut text).await.map_err(AskError::Broken)?;
    let reply: Reply<T> =
        serde_json::from_slice(&text).map_err(|error| AskError::Broken(io::Error::other(error)))?;
    match (reply.snapshot, reply.error) {
        (Some(snapshot), _) => Ok(Answer { pid: reply.pid, snapshot }),
        (None, error) => {
            let error = anyhow::anyhow!("process {}: {}", reply.pid, error.unwrap_or_default());
            Err(AskError::Refused(Failure::new(reply.exit.unwrap_or(Exit::Unavailable), error)))
        }
    }
}

/// Asks the owner behind `socket` for its snapshot.
///
/// # Errors
/// As [`ask`].
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
    ///
    /// # Errors
    /// When the connection breaks or says something that is not understood.
    pub async fn next(&mut self) -> io::Result<Option<Published>> {
        match self.lines.next_line().await? {
            None => Ok(None),
            Some(line) => serde_json::from_str(&line).map(Some).map_err(io::Error::other),
        }
    }
}

/// Follows the producer behind `socket`.
///
/// # Errors
/// When nobody answers there.
pub async fn follow(socket: &Path) -> Result<Followed, AskError> {
    let stream = put(socket, &Question::Follow).await?;
    Ok(Followed { lines: BufReader::new(stream).lines() })
}
