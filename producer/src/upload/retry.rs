//! Every job is retried until it is done: what is in the log must get to S3, however long that takes.

use std::time::Duration;

use shared::clock::Clock;
use shared::human;
use shared::retry::Backoff;
use shared::shutdown::Shutdown;
use state::log::LogError;

use crate::upload::error::UploadError;

#[derive(Debug, Clone)]
pub(super) struct Retry {
    pub(super) clock: Clock,
    pub(super) shutdown: Shutdown,
}

impl Retry {
    /// Runs `job` until it succeeds. None when the process ends before.
    ///
    /// # Errors
    /// When the log cannot be read: damage does not pass.
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
