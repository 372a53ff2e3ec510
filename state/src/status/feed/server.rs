//! Answers questions on the socket of a service (mode 0600), while the service works.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use shared::clock::Clock;
use shared::exit::{Exit, Failure};
use shared::ids::{BatchId, BatchPrefix};
use shared::shutdown::Shutdown;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, broadcast};

use super::protocol::{Published, Question, Reply, Republish, line, send};
use super::snapshot_cache::SnapshotCache;
use super::tapping;
use crate::loads::{Load, LoadDatabase, Pause, Pausing};
use crate::log::LogReader;
use crate::status::batch_detail::BatchDetail;
use crate::status::drift::SeenFields;
use crate::status::history::Samples;
use crate::status::snapshot::{IngesterSnapshot, Matching, ProducerSnapshot};
use crate::status::tap::{Tapping, Wanted};
use crate::verdict::Checked;

/// Clients that are served at once. The others wait to be accepted: each holds a task and an answer in memory.
pub const CLIENTS: usize = 64;
/// Bytes of a question at most: it is one short line.
const MAX_QUESTION: u64 = 1024;
/// A client must send its question within this time or is disconnected.
const QUESTION_TIME: Duration = Duration::from_secs(10);
/// Pause after a client could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The pause after an answer about a batch, in times of what the answer took, and its limit.
const BATCH_PAUSE: u32 = 16;
const BATCH_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Answers for a database. Each method may block: the server calls it on a thread that may.
#[allow(missing_docs, reason = "the names say it")]
pub trait Owner: Send + Sync + 'static {
    type Snapshot: Serialize + Send;
    type Batch: Serialize + Send;

    fn snapshot(&self) -> Result<Self::Snapshot, Failure>;

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<Self::Batch>, Failure>;

    /// The figures of the last hours, which only a service has.
    fn history(&self) -> Result<Samples, Failure> {
        refusal("no history is kept here")
    }

    /// The fields of the stream, which only a producer has.
    fn seen(&self) -> Result<SeenFields, Failure> {
        refusal("records pass through a producer only")
    }

    /// Reads and checks the whole database, while it is written. Damage is no error; the result names it.
    fn verify(&self) -> Result<Vec<Checked>, Failure>;

    /// Pauses loading, or ends a pause with None. Returns what holds afterwards.
    fn set_pause(&self, _pause: Option<Pause>) -> Result<Pausing, Failure> {
        refusal("only an ingester can be paused")
    }

    fn republish(&self, _batch: BatchId) -> Result<Republish, Failure> {
        refusal("nothing is uploaded here")
    }

    fn loaded(&self, _batch: BatchId) {}

    /// The batches of which copies are kept.
    fn copies(&self) -> Result<Vec<BatchId>, Failure> {
        refusal("no copies are kept here")
    }

    /// Notes what a replay has left in quarantine. False when nothing of the batch is known to be there.
    fn replayed(&self, _batch: BatchId, _left: u64) -> Result<bool, Failure> {
        refusal("nothing is in quarantine here")
    }

    /// Shows records as they pass.
    fn tap(&self, _wanted: Wanted) -> Result<Tapping, Failure> {
        refusal("records pass through a producer only")
    }

    /// Batches published lately, and the channel of those to come; None when this service publishes nothing.
    fn follow(&self) -> Option<(Vec<Published>, broadcast::Receiver<Published>)> {
        None
    }
}

/// What all connections share. Its limits keep clients from slowing the service down.
struct Server<O> {
    owner: Arc<O>,
    clock: Clock,
    snapshot: SnapshotCache,
    batch: Semaphore,
    verify: Arc<Semaphore>,
}

/// Answers questions on `socket` until shutdown. The caller has the database: a socket that is there is left over.
pub async fn serve<O: Owner>(
    socket: &Path,
    owner: Arc<O>,
    clock: Clock,
    shutdown: Shutdown,
) -> io::Result<()> {
    let listener = bind(socket)?;
    let server = Arc::new(Server {
        owner,
        snapshot: SnapshotCache::new(clock.clone()),
        clock,
        batch: Semaphore::new(1),
        verify: Arc::new(Semaphore::new(1)),
    });
    let room = Arc::new(Semaphore::new(CLIENTS));
    while let Some(Ok(place)) = shutdown.until(room.clone().acquire_owned()).await {
        let Some(accepted) = shutdown.until(listener.accept()).await else { break };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Probably out of file descriptors; retry after a pause.
                tracing::warn!(%error, "feed: cannot accept a client");
                server.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (server, shutdown) = (server.clone(), shutdown.clone());
        tokio::spawn(async move {
            if let Some(Err(error)) = shutdown.until(server.answer(stream)).await {
                tracing::debug!(%error, "feed: a client went away");
            }
            drop(place);
        });
    }
    let _ = fs::remove_file(socket);
    Ok(())
}

fn bind(socket: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(socket) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(socket)?,
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else stands in its place"));
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl<O: Owner> Server<O> {
    async fn answer(&self, stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut text = String::new();
        let mut read = BufReader::new(read.take(MAX_QUESTION));
        tokio::time::timeout(QUESTION_TIME, read.read_line(&mut text)).await??;
        let owner = self.owner.clone();
        match serde_json::from_str(&text) {
            Ok(Question::Snapshot) => {
                let line = self.snapshot.line(move || reply(owner.snapshot())).await?;
                send(&mut write, &line).await
            }
            Ok(Question::Batch(prefix)) => {
                let _alone = self.batch.acquire().await;
                let begun = self.clock.steady();
                answer_with(&mut write, move || owner.batch(&prefix)).await?;
                // As between snapshots, so that the service has time for its work however many ask.
                let cost = begun.until(self.clock.steady());
                self.clock.sleep((cost * BATCH_PAUSE).min(BATCH_PAUSE_MAX)).await;
                Ok(())
            }
            Ok(Question::History) => answer_with(&mut write, move || owner.history()).await,
            Ok(Question::Seen) => answer_with(&mut write, move || owner.seen()).await,
            Ok(Question::Verify) => {
                // A verification reads everything and goes on when its client has gone away: one at a time.
                let alone = self.verify.clone().try_acquire_owned();
                answer_with(&mut write, move || match alone {
                    Ok(_alone) => owner.verify(),
                    Err(_) => refusal("a verification is already running; retry when it has finished"),
                })
                .await
            }
            Ok(Question::Pause(pause)) => answer_with(&mut write, move || owner.set_pause(Some(pause))).await,
            Ok(Question::Resume) => answer_with(&mut write, move || owner.set_pause(None)).await,
            Ok(Question::Republish(batch)) => answer_with(&mut write, move || owner.republish(batch)).await,
            Ok(Question::Loaded(batch)) => {
                let note = move || {
                    owner.loaded(batch);
                    Ok(true)
                };
                answer_with(&mut write, note).await
            }
            Ok(Question::Copies) => answer_with(&mut write, move || owner.copies()).await,
            Ok(Question::Replayed { batch, left }) => {
                answer_with(&mut write, move || owner.replayed(batch, left)).await
            }
            Ok(Question::Tap(wanted)) => match owner.tap(wanted) {
                // As of a follower.
                Ok(tapping) => {
                    let gone = async { drop(read.read_u8().await) };
                    tapping::serve(tapping, &self.clock, &mut write, gone).await
                }
                Err(failure) => answer_with::<()>(&mut write, move || Err(failure)).await,
            },
            Ok(Question::Follow) => {
                // A follower sends nothing more: when the read ends, it has gone and its place is free.
                follow(owner, &mut write, async { drop(read.read_u8().await) }).await
            }
            Err(error) => {
                let text = format!("unknown question: {error}");
                answer_with::<()>(&mut write, move || refusal(&text)).await
            }
        }
    }
}

/// Sends each published batch until the client hangs up. A slow client that missed some is disconnected.
async fn follow<O: Owner>(
    owner: Arc<O>,
    write: &mut (impl AsyncWrite + Unpin),
    gone: impl Future<Output = ()>,
) -> io::Result<()> {
    let followed = tokio::task::spawn_blocking(move || owner.follow()).await?;
    let Some((recent, mut coming)) = followed else { return Ok(()) };
    for published in recent {
        send(write, &line(&published)?).await?;
    }
    tokio::pin!(gone);
    loop {
        let published = tokio::select! {
            published = coming.recv() => published,
            () = &mut gone => return Ok(()),
        };
        let Ok(published) = published else { return Ok(()) };
        send(write, &line(&published)?).await?;
    }
}

fn refusal<T>(why: &str) -> Result<T, Failure> {
    Err(Failure::new(Exit::Unavailable, anyhow::anyhow!("{why}")))
}

async fn answer_with<T: Serialize>(
    write: &mut (impl AsyncWrite + Unpin),
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> io::Result<()> {
    let line = tokio::task::spawn_blocking(move || reply(read())).await??;
    send(write, &line).await
}

fn reply<T: Serialize>(answer: Result<T, Failure>) -> io::Result<Vec<u8>> {
    let pid = std::process::id();
    let reply = match answer {
        Ok(snapshot) => Reply { pid, snapshot: Some(snapshot), error: None, exit: None },
        Err(failure) => {
            let error = Some(failure.to_string());
            Reply { pid, snapshot: None, error, exit: Some(failure.exit()) }
        }
    };
    line(&reply)
}

impl Owner for LogReader {
    type Snapshot = ProducerSnapshot;
    type Batch = BatchDetail;

    fn snapshot(&self) -> Result<ProducerSnapshot, Failure> {
        Ok(self.snapshot()?)
    }

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<BatchDetail>, Failure> {
        let batches = self.batches()?.into_iter().map(|(seq, record)| (record.id, (seq, record)));
        Matching::find(batches, prefix, |(seq, record)| Ok(BatchDetail::read(self, seq, record)?))
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Ok(self.verify()?)
    }
}

impl Owner for LoadDatabase {
    type Snapshot = IngesterSnapshot;
    type Batch = Load;

    fn snapshot(&self) -> Result<IngesterSnapshot, Failure> {
        // The pauses in force are known to the service, not to its database.
        let (loads, sums, ledger) = (self.all()?, self.sums()?, self.ledger_mark()?);
        let newest_row = IngesterSnapshot::newest_of(&loads);
        Ok(IngesterSnapshot { loads, sums, newest_row, ledger, ..IngesterSnapshot::default() })
    }

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<Load>, Failure> {
        Matching::find(self.all()?.into_iter().map(|load| (load.batch, load)), prefix, Ok)
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Ok(self.verify()?)
    }
}
