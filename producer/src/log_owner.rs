//! Answers on the status socket, and tells subscribers which batches are published.

use std::path::PathBuf;
use std::sync::Arc;

use shared::clock::Clock;
use shared::exit::{Exit, Failure};
use shared::ids::{BatchId, BatchPrefix};
use shared::shutdown::Shutdown;
use state::Checked;
use state::log::{BatchStatus, LogError};
use state::status::batch_detail::BatchDetail;
use state::status::drift::SeenFields;
use state::status::feed::{self, Owner, Published, Republish};
use state::status::history::Samples;
use state::status::snapshot::{Matching, ProducerSnapshot};
use state::status::tap::{Tap, Tapping, Wanted};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::shown::Shown;
use crate::upload::copies::UploadCopies;

/// How many batches a subscriber may be behind before it is disconnected and has to subscribe again.
const FEED_BACKLOG: usize = 1024;
/// How many published batches a new subscriber is sent at once. It lists S3 too, at its start and whenever the feed is
/// gone: more would only make it look for archived folders.
const FEED_RECENT: usize = 20;

struct LogOwner {
    shown: Shown,
    feed: broadcast::Sender<Published>,
    copies: UploadCopies,
    republish: mpsc::Sender<BatchId>,
    tap: Tap,
}

/// Starts to answer on the socket, until shutdown. Returns the sender that tells subscribers of each published batch.
pub(crate) fn start(
    shown: Shown,
    copies: UploadCopies,
    republish: mpsc::Sender<BatchId>,
    tap: Tap,
    socket: PathBuf,
    clock: Clock,
    shutdown: Shutdown,
) -> (JoinHandle<()>, broadcast::Sender<Published>) {
    let (feed, _) = broadcast::channel(FEED_BACKLOG);
    let owner = Arc::new(LogOwner { shown, feed: feed.clone(), copies, republish, tap });
    let serving = tokio::spawn(async move {
        if let Err(error) = feed::serve(&socket, owner, clock, shutdown).await {
            tracing::error!(
                %error, socket = %socket.display(),
                "status socket failed; `state dump` and the ingester cannot reach this producer"
            );
        }
    });
    (serving, feed)
}

impl Owner for LogOwner {
    type Snapshot = ProducerSnapshot;
    type Batch = BatchDetail;

    fn snapshot(&self) -> Result<ProducerSnapshot, Failure> {
        self.shown.snapshot()
    }

    fn history(&self) -> Result<Samples, Failure> {
        Ok(self.shown.history.samples())
    }

    fn seen(&self) -> Result<SeenFields, Failure> {
        Ok(self.shown.counters.drift.seen())
    }

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<BatchDetail>, Failure> {
        Owner::batch(&self.shown.log, prefix)
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Owner::verify(&self.shown.log)
    }

    fn republish(&self, batch: BatchId) -> Result<Republish, Failure> {
        let batches = self.shown.log.batches().map_err(LogError::from)?;
        match batches.iter().find(|(_, known)| known.id == batch).map(|(_, known)| known.status) {
            Some(BatchStatus::Filling | BatchStatus::Sealed) => return Ok(Republish::NotPublished),
            known => {
                if let Err(why) = self.copies.seal(batch) {
                    tracing::warn!(%batch, why, "cannot upload the batch once more: no copy of it is left");
                    return Ok(if known.is_some() { Republish::Gone } else { Republish::Unknown });
                }
            }
        }
        if self.copies.begin_republish(batch) && self.republish.try_send(batch).is_err() {
            self.copies.end_republish(batch);
            let busy = anyhow::anyhow!("too many batches are being uploaded once more; retry later");
            return Err(Failure::new(Exit::Unavailable, busy));
        }
        Ok(Republish::UnderWay)
    }

    fn loaded(&self, batch: BatchId) {
        self.copies.forget(batch);
    }

    fn copies(&self) -> Result<Vec<BatchId>, Failure> {
        Ok(self.copies.on_disk()?)
    }

    fn tap(&self, wanted: Wanted) -> Result<Tapping, Failure> {
        self.tap.open(wanted).ok_or_else(|| {
            let full =
                anyhow::anyhow!("as many tap this producer as may; end another `state tap`, then retry");
            Failure::new(Exit::Unavailable, full)
        })
    }

    fn follow(&self) -> Option<(Vec<Published>, broadcast::Receiver<Published>)> {
        // Subscribe before reading the log: a batch published in between is sent twice rather than never.
        let coming = self.feed.subscribe();
        let batches = self.shown.log.batches().unwrap_or_default();
        let published = batches.iter().filter(|(_, batch)| batch.status == BatchStatus::Published);
        let mut recent: Vec<_> =
            published.rev().take(FEED_RECENT).map(|(_, batch)| Published { batch: batch.id }).collect();
        recent.reverse();
        Some((recent, coming))
    }
}
