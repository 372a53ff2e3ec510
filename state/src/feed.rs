//! How a running service is asked about its database, which no other process can open: a Unix socket, mode 0600,
//! one JSON line as question. `snapshot` is answered by one line; `follow` by a line for each batch published, the
//! recent ones at once and the others as they come, until either side hangs up.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::ids::BatchId;
use shared::shutdown::Shutdown;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;

/// A question is one short line; more than this is not ours.
const MAX_QUESTION: u64 = 1024;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// Everything, at this moment.
    Snapshot,
    /// Batches as they are published.
    Follow,
}

/// A batch that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The batch.
    pub batch: BatchId,
}

/// An answer to `snapshot`: who answers, and what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer<T> {
    /// The process that answers.
    pub pid: u32,
    /// What was asked for.
    pub snapshot: T,
}

/// What the owner of a database answers with.
pub trait Owner: Send + Sync + 'static {
    /// What `snapshot` shows.
    type Snapshot: Serialize + Send + Sync;

    /// Reads the database; called on a thread where blocking is allowed.
    ///
    /// # Errors
    /// When it cannot be read.
    fn snapshot(&self) -> anyhow::Result<Self::Snapshot>;

    /// Batches published lately, and the channel of those to come; None for an owner that publishes nothing.
    fn follow(&self) -> Option<(Vec<Published>, broadcast::Receiver<Published>)> {
        None
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
    while let Some(accepted) = shutdown.until(listener.accept()).await {
        let (stream, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: it passes.
                tracing::warn!(%error, "feed: cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (owner, shutdown) = (owner.clone(), shutdown.clone());
        tokio::spawn(async move {
            if let Some(Err(error)) = shutdown.until(answer(stream, owner)).await {
                tracing::debug!(%error, "feed: an asker went away");
            }
        });
    }
    let _ = fs::remove_file(socket);
    Ok(())
}

async fn answer<O: Owner>(stream: UnixStream, owner: Arc<O>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_QUESTION)).read_line(&mut line).await?;
    match serde_json::from_str(&line) {
        Ok(Question::Snapshot) => {
            let snapshot =
                tokio::task::spawn_blocking(move || owner.snapshot()).await.map_err(io::Error::other)?;
            let snapshot = snapshot.map_err(io::Error::other)?;
            write_line(&mut write, &Answer { pid: std::process::id(), snapshot }).await
        }
        Ok(Question::Follow) => {
            let Some((recent, mut coming)) = owner.follow() else { return Ok(()) };
            for published in recent {
                write_line(&mut write, &published).await?;
            }
            // A slow follower that missed some is cut off; it asks again and gets the recent ones.
            while let Ok(published) = coming.recv().await {
                write_line(&mut write, &published).await?;
            }
            Ok(())
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

async fn write_line<T: Serialize>(to: &mut (impl AsyncWriteExt + Unpin), value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
    line.push(b'\n');
    to.write_all(&line).await
}

async fn ask(socket: &Path, question: Question) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket).await?;
    write_line(&mut stream, &question).await?;
    Ok(stream)
}

/// Asks the owner behind `socket` for its snapshot.
///
/// # Errors
/// When nobody answers there (then nobody owns the database), or the answer is not understood.
pub async fn snapshot<T: DeserializeOwned>(socket: &Path) -> io::Result<Answer<T>> {
    let mut text = Vec::new();
    ask(socket, Question::Snapshot).await?.read_to_end(&mut text).await?;
    serde_json::from_slice(&text).map_err(io::Error::other)
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
pub async fn follow(socket: &Path) -> io::Result<Followed> {
    let stream = ask(socket, Question::Follow).await?;
    Ok(Followed { lines: BufReader::new(stream).lines() })
}
