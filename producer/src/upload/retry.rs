//! Every job is retried until it is done: what is in the log must get to S3, however long that takes.

use std::time::Duration;

use shared::clock::Clock;
use shared::human;
use shared::object_store::StoreError;
use shared::retry::Backoff;
use shared::shutdown::Shutdown;
use state::log::LogError;

#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("compressing: {0}")]
    Compress(#[from] std::io::Error),
    #[error("its copies are not whole any more: {0}")]
    CopyGone(String),
    /// The process is ending.
    #[error("the log is closed")]
    Closed,
}

#[derive(Debug, Clone)]
pub(super) struct Retry {
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
}

impl Retry {
    /// Runs `job` until it succeeds, or the log cannot be read. None when the process ends before.
    pub(super) async fn until_done<T, F>(
        &self,
        what: &str,
        job: impl Fn() -> F,
    ) -> Result<Option<T>, LogError>
    where
        F: Future<Output = Result<T, UploadError>>,
    {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        loop {
            match self.shutdown.until(job()).await {
                None | Some(Err(UploadError::Closed)) => return Ok(None),
                Some(Ok(done)) => return Ok(Some(done)),
                Some(Err(UploadError::Log(error))) => return Err(error),
                Some(Err(error)) => {
                    let wait = backoff.failed();
                    let again = human::duration(wait);
                    tracing::error!(%error, failures = backoff.failures(), "{what} failed; again in {again}");
                    if !self.sleep(wait).await {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// False when the process ends before the wait is over.
    pub(super) async fn sleep(&self, wait: Duration) -> bool {
        self.shutdown.until(self.clock.sleep(wait)).await.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use chrono::DateTime;

    use super::*;

    #[tokio::test]
    async fn a_job_that_fails_is_retried_after_a_pause_that_grows_to_a_minute() {
        let clock = Clock::by_hand(DateTime::UNIX_EPOCH);
        let retry = Retry { clock: clock.clone(), shutdown: Shutdown::new() };
        let tries = Arc::new(AtomicU32::new(0));
        let job = tokio::spawn({
            let tries = tries.clone();
            async move {
                retry
                    .until_done("a job", || {
                        let tries = tries.fetch_add(1, Ordering::SeqCst) + 1;
                        async move {
                            if tries < 20 { Err(io::Error::other("not yet").into()) } else { Ok(tries) }
                        }
                    })
                    .await
            }
        });
        let mut pauses = Vec::new();
        for done in 1..20 {
            let begun = clock.steady();
            while tries.load(Ordering::SeqCst) <= done {
                tokio::task::yield_now().await;
                clock.advance(Duration::from_millis(10));
                tokio::task::yield_now().await;
            }
            pauses.push(begun.until(clock.steady()));
        }
        assert_eq!(job.await.unwrap().unwrap(), Some(20));
        assert!(pauses[0] < Duration::from_secs(1) && pauses[18] > Duration::from_secs(29), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(61)), "{pauses:?}");
    }

    #[tokio::test]
    async fn a_pause_ends_when_the_process_stops_and_so_does_a_damaged_log() {
        let retry = Retry { clock: Clock::by_hand(DateTime::UNIX_EPOCH), shutdown: Shutdown::new() };
        let damaged = || async { Err::<(), _>(UploadError::Log(LogError::Missing("a file".to_owned()))) };
        assert!(retry.until_done("a job", damaged).await.is_err());
        let (stopping, failing) = (retry.clone(), || async { Err::<(), _>(io::Error::other("no").into()) });
        let job = tokio::spawn(async move { stopping.until_done("a job", failing).await });
        tokio::task::yield_now().await;
        retry.shutdown.stop();
        assert!(job.await.unwrap().unwrap().is_none());
    }
}
