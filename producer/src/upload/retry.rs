//! Tries a job until it is done, and knows together with the other jobs whether S3 is away.
//!
//! A job that fails waits with a back-off of its own, so that few ask while S3 is away. As soon as one job succeeds, all
//! that wait try again at once. One that did so in vain sits out its next wait: S3 may take most requests and refuse this
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use shared::clock::{Clock, Steady};
use shared::human;
use shared::lock::locked;
use shared::retry::Backoff;
use shared::shutdown::Shutdown;
use state::log::LogError;
use state::status::activity::Reporter;
use tokio::sync::watch;

use crate::upload::context::UploadError;

const FIRST_WAIT: Duration = Duration::from_millis(500);
/// An alert about S3 is over within a minute of its end.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// What the tries under way do, as far as it is seen.
const STEP: &str = "waiting for S3";
/// While S3 is away, one line so often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Every job is retried until it is done: what is in the log must get to S3, however long that takes. Clones share what
/// they know of S3.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    pub(super) clock: Clock,
    shutdown: Shutdown,
    reporter: Reporter,
    outage: Arc<Mutex<Outage>>,
    successes: watch::Sender<u64>,
}

/// The jobs whose latest try failed. The default is none: S3 takes everything.
#[derive(Debug, Default)]
struct Outage {
    /// When each tries again.
    failing: BTreeMap<String, Steady>,
    classes: BTreeSet<&'static str>,
    logged: Option<Steady>,
    /// Tries under way.
    running: usize,
}

impl Retry {
    pub(super) fn new(reporter: Reporter, clock: Clock, shutdown: Shutdown) -> Self {
        Self { clock, shutdown, reporter, outage: Arc::default(), successes: watch::Sender::new(0) }
    }

    /// Runs `job` until it succeeds, or the log cannot be read. None when the process ends before. `what` names the job.
    pub(super) async fn until_done<T, F>(
        &self,
        what: &str,
        job: impl Fn() -> F,
    ) -> Result<Option<T>, LogError>
    where
        F: Future<Output = Result<T, UploadError>>,
    {
        self.until_sent(what, job, |_| true).await
    }

    /// As [`Self::until_done`], for a job that may find nothing to send: then its success says nothing of S3.
    pub(super) async fn until_sent<T, F>(
        &self,
        what: &str,
        job: impl Fn() -> F,
        sent: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, LogError>
    where
        F: Future<Output = Result<T, UploadError>>,
    {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        let mut successes = self.successes.subscribe();
        let mut may_be_woken = true;
        loop {
            successes.mark_unchanged();
            self.begins();
            let tried = self.shutdown.until(job()).await;
            self.outage().running -= 1;
            match tried {
                None | Some(Err(UploadError::Closed)) => return Ok(None),
                Some(Ok(done)) => {
                    if sent(&done) {
                        self.succeeded(what);
                    } else if self.outage().running == 0 {
                        self.reporter.waits();
                    }
                    return Ok(Some(done));
                }
                Some(Err(UploadError::Log(error))) => return Err(error),
                Some(Err(error)) => {
                    let wait = backoff.failed();
                    self.failed(what, &error, wait);
                    let waking = async {
                        match may_be_woken {
                            // The sender is in `self`.
                            true => {
                                let _ = successes.changed().await;
                            }
                            false => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        on = self.sleep(wait) => match on {
                            true => may_be_woken = true,
                            false => return Ok(None),
                        },
                        () = waking => may_be_woken = false,
                    }
                }
            }
        }
    }

    /// False when the process ends before the wait is over.
    pub(super) async fn sleep(&self, wait: Duration) -> bool {
        self.shutdown.until(self.clock.sleep(wait)).await.is_some()
    }

    fn begins(&self) {
        let mut outage = self.outage();
        outage.running += 1;
        if outage.running == 1 {
            self.reporter.begins(STEP);
        }
    }

    /// The step lasts since the latest try that ended, so that it grows while S3 answers none of them.
    fn report_step(&self) {
        match self.outage().running {
            0 => self.reporter.waits(),
            _ => self.reporter.begins(STEP),
        }
    }

    fn failed(&self, what: &str, error: &UploadError, wait: Duration) {
        let (class, advice) = explain(error);
        let now = self.clock.steady();
        let mut outage = self.outage();
        outage.failing.insert(what.to_owned(), now + wait);
        let next = outage.failing.values().min().map_or(wait, |next| now.until(*next));
        self.reporter.failed(class, &format!("{what}: {error}{advice}"), Some(next));
        let is_due = outage.logged.is_none_or(|logged| logged.until(now) >= LOG_INTERVAL);
        if outage.classes.insert(class) || is_due {
            outage.logged = Some(now);
            let failures = self.reporter.failing().map_or(1, |failing| failing.failures);
            let (jobs, again) = (outage.failing.len(), human::duration(next));
            tracing::error!(class, %error, failures, jobs, "{what} failed; again in {again}{advice}");
        }
        drop(outage);
        self.report_step();
    }

    fn succeeded(&self, what: &str) {
        let mut outage = self.outage();
        outage.failing.remove(what);
        if outage.failing.is_empty() {
            if let Some(failing) = self.reporter.failing() {
                let lasted = shared::clock::age(failing.since, self.clock.wall());
                let (failures, lasted) = (failing.failures, human::duration(lasted));
                tracing::info!(failures, lasted, "S3 takes uploads again");
            }
            *outage = Outage { running: outage.running, ..Outage::default() };
            self.reporter.succeeded();
        }
        drop(outage);
        self.report_step();
        self.successes.send_modify(|successes| *successes += 1);
    }

    /// For values that a panic leaves whole.
    fn outage(&self) -> MutexGuard<'_, Outage> {
        locked(&self.outage)
    }
}

/// The class of a failure in the metrics, and what to do about it.
fn explain(error: &UploadError) -> (&'static str, String) {
    let UploadError::Store(error) = error else { return ("other", String::new()) };
    let advice = if error.advice().is_empty() { String::new() } else { format!("; {}", error.advice()) };
    (error.kind().name(), advice)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use chrono::DateTime;
    use state::status::activity::{Activity, Component};

    use super::*;

    fn retry(clock: &Clock) -> Retry {
        Retry::new(Activity::new(clock.clone()).reporter(Component::Upload), clock.clone(), Shutdown::new())
    }

    fn by_hand() -> Clock {
        Clock::by_hand(DateTime::UNIX_EPOCH)
    }

    fn failure() -> UploadError {
        io::Error::other("not yet").into()
    }

    /// Lets every task do what it can without the clock.
    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_job_that_fails_is_retried_after_a_pause_that_grows_to_half_a_minute() {
        let clock = by_hand();
        let retry = retry(&clock);
        let tries = Arc::new(AtomicU32::new(0));
        let job = tokio::spawn({
            let tries = tries.clone();
            async move {
                retry
                    .until_done("a job", || {
                        let tries = tries.fetch_add(1, Ordering::SeqCst) + 1;
                        async move { if tries < 20 { Err(failure()) } else { Ok(tries) } }
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
        assert!(pauses[0] < Duration::from_secs(1) && pauses[18] > Duration::from_secs(14), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(31)), "{pauses:?}");
    }

    #[tokio::test]
    async fn a_pause_ends_when_the_process_stops_and_so_does_a_damaged_log() {
        let retry = retry(&by_hand());
        let damaged = || async { Err::<(), _>(UploadError::Log(LogError::Missing("a file".to_owned()))) };
        assert!(retry.until_done("a job", damaged).await.is_err());
        let (stopping, failing) = (retry.clone(), || async { Err::<(), _>(failure()) });
        let job = tokio::spawn(async move { stopping.until_done("a job", failing).await });
        tokio::task::yield_now().await;
        retry.shutdown.stop();
        assert!(job.await.unwrap().unwrap().is_none());
    }

    #[tokio::test]
    async fn one_success_wakes_all_that_wait_and_the_outage_ends_with_the_last_of_them() {
        let clock = by_hand();
        let retry = retry(&clock);
        let (away, tries) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
        let start = |name: String| {
            let (retry, away, tries) = (retry.clone(), away.clone(), tries.clone());
            tokio::spawn(async move {
                let job = || {
                    tries.fetch_add(1, Ordering::SeqCst);
                    let away = away.load(Ordering::SeqCst);
                    async move { if away { Err(failure()) } else { Ok(()) } }
                };
                retry.until_done(&name, job).await
            })
        };
        let jobs: Vec<_> = (0..8).map(|number| start(format!("job {number}"))).collect();
        for _ in 0..120 {
            clock.advance(Duration::from_secs(1));
            settle().await;
        }
        let failing = retry.reporter.failing().unwrap();
        assert_eq!(failing.failures, u64::from(tries.load(Ordering::SeqCst)));
        assert!(failing.failures < 8 * 12 && failing.next.is_some(), "{failing:?}");
        away.store(false, Ordering::SeqCst);
        // Nothing but another job's success, at the same moment.
        start("the first after it".to_owned()).await.unwrap().unwrap();
        for job in jobs {
            assert_eq!(job.await.unwrap().unwrap(), Some(()));
        }
        assert_eq!(retry.reporter.failing(), None);
    }

    #[tokio::test]
    async fn a_job_that_is_refused_while_others_succeed_keeps_its_back_off_and_stays_shown() {
        let clock = by_hand();
        let retry = retry(&clock);
        let tries = Arc::new(AtomicU32::new(0));
        let refused = tokio::spawn({
            let (retry, tries) = (retry.clone(), tries.clone());
            async move {
                let job = || {
                    tries.fetch_add(1, Ordering::SeqCst);
                    async { Err::<(), _>(failure()) }
                };
                retry.until_done("upload of batch b, file 3", job).await
            }
        });
        for number in 0..600 {
            let fine = || async { Ok(()) };
            retry.until_done(&format!("job {number}"), fine).await.unwrap();
            settle().await;
            clock.advance(Duration::from_secs(1));
            settle().await;
        }
        let tries = tries.load(Ordering::SeqCst);
        assert!(tries > 10 && tries < 70, "{tries} tries in ten minutes");
        assert!(retry.reporter.failing().unwrap().why.starts_with("upload of batch b, file 3: "));
        // A job that found nothing to send says nothing of S3.
        let idle = || async { Ok(false) };
        retry.until_sent("rejects", idle, |sent| *sent).await.unwrap();
        refused.abort();
    }
}
