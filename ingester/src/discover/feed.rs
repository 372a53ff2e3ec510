//! Follows the producer's feed. It only names batches sooner; without it a listing finds them.

use std::path::PathBuf;
use std::time::Duration;

use shared::clock::Clock;
use shared::retry::Backoff;
use shared::shutdown::Shutdown;
use state::status::feed::follow;
use tokio::sync::mpsc;

use crate::facts::unknown_folders::Hint;

/// A producer that restarts is followed again within seconds; asking an absent one costs next to nothing.
const FIRST: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Follower {
    socket: PathBuf,
    hints: mpsc::Sender<Hint>,
    backoff: Backoff,
    clock: Clock,
}

impl Follower {
    pub(crate) fn new(socket: PathBuf, hints: mpsc::Sender<Hint>, clock: Clock) -> Self {
        Self { socket, hints, backoff: Backoff::new(FIRST, MAX), clock }
    }

    /// Follows for as long as the producer is there. Returns how long to wait before connecting again.
    pub(crate) async fn step(&mut self) -> Duration {
        let mut followed = match follow(&self.socket).await {
            Ok(followed) => followed,
            Err(error) => {
                tracing::debug!(socket = %self.socket.display(), %error, "producer feed unavailable; listing S3 instead");
                return self.backoff.failed();
            }
        };
        tracing::info!(socket = %self.socket.display(), "following the producer's feed");
        self.backoff.succeeded();
        let why = loop {
            match followed.next().await {
                Ok(Some(published)) => {
                    if self.hints.send(Hint::Folder(published.batch)).await.is_err() {
                        break "nobody listens any more".to_owned();
                    }
                }
                Ok(None) => break "it hung up".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        tracing::info!(%why, "the producer's feed went away; S3 is listed at once");
        // The feed may have ended before its last batch was sent.
        let _ = self.hints.send(Hint::List).await;
        self.backoff.failed()
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        while let Some(wait) = shutdown.until(self.step()).await {
            if shutdown.until(self.clock.sleep(wait)).await.is_none() {
                break;
            }
        }
    }
}
