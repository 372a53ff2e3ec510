//! The manager, as a service sees it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::Clock;
use crate::lock::locked;
use crate::shutdown::Shutdown;
use crate::systemd::sender::{Sender, extension};
use crate::systemd::start::Start;
use crate::systemd::watchdog::{self, Loop, Watched};

/// How often to see whether the status line has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// What an orderly stop may take beyond `shutdown.timeout`, for the end of the process.
const STOP_SLACK: Duration = Duration::from_secs(15);

/// Whoever started this process and is told how it does: systemd, or nobody.
#[derive(Debug, Clone)]
pub struct ServiceManager {
    sender: Option<Sender>,
    /// How long the manager waits for a sign of life.
    limit: Option<Duration>,
    loops: Arc<Mutex<Vec<Watched>>>,
    clock: Clock,
}

impl ServiceManager {
    /// The one that `NOTIFY_SOCKET` and `WATCHDOG_USEC` name.
    pub fn of_environment(clock: Clock) -> Self {
        let sender = Sender::of_environment();
        let limit =
            sender.as_ref().and_then(|_| sd_notify::watchdog_enabled()).filter(|limit| !limit.is_zero());
        Self { sender, limit, loops: Arc::default(), clock }
    }

    /// The start begins with `what`. It is prolonged while it goes on. Within a runtime.
    pub fn begin_start(&self, what: &str) -> Start {
        Start::begin(self.sender.clone(), what, self.clock.clone())
    }

    /// A loop that the manager is to hear of, from now on.
    pub fn watch(&self, name: &'static str) -> Loop {
        let Some(limit) = self.limit else { return Loop::default() };
        let watched = Watched::new(name, limit, self.clock.clone());
        locked(&self.loops).push(watched.clone());
        Loop::watched(watched)
    }

    /// The configuration is read again. The time tells the manager's requests apart.
    pub fn begins_reload(&self) {
        let Some(sender) = &self.sender else { return };
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            sender.send(&[NotifyState::Reloading, now]);
        }
    }

    /// The configuration was read, whatever came of it.
    pub fn ends_reload(&self) {
        if let Some(sender) = &self.sender {
            sender.send(&[NotifyState::Ready]);
        }
    }

    /// Tells the manager that the loops go round, what the service does (by `status`, which may block), and that it stops,
    /// which may take `stop`. Within a runtime.
    pub fn keep_told(
        &self,
        status: impl Fn() -> Option<String> + Send + Sync + 'static,
        stop: Duration,
        shutdown: Shutdown,
    ) {
        let Some(sender) = self.sender.clone() else { return };
        if let Some(limit) = self.limit {
            let loops = self.loops.clone();
            let loops = move || locked(&loops).clone();
            tokio::spawn(watchdog::keep(sender.clone(), loops, limit, self.clock.clone()));
        }
        let clock = self.clock.clone();
        tokio::spawn(async move {
            shutdown.until(show_status(&sender, Arc::new(status), &clock)).await;
            sender.send(&[
                NotifyState::Stopping,
                extension(stop + STOP_SLACK),
                NotifyState::Status("stopping"),
            ]);
        });
    }
}

async fn show_status(
    sender: &Sender,
    status: Arc<impl Fn() -> Option<String> + Send + Sync + 'static>,
    clock: &Clock,
) {
    let mut shown = None;
    loop {
        clock.sleep(STATUS_INTERVAL).await;
        let status = status.clone();
        let text = tokio::task::spawn_blocking(move || status()).await.ok().flatten();
        if text.is_some() && text != shown {
            sender.status(text.as_deref().unwrap_or_default());
            shown = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn let_others_run() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_status_is_told_when_it_changes_and_a_stop_with_the_time_that_it_may_take() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let (sender, sent) = Sender::recording();
        let manager =
            ServiceManager { sender: Some(sender), limit: None, loops: Arc::default(), clock: clock.clone() };
        assert_eq!(
            manager.watch("append").run(async { 5 }).await,
            5,
            "without a watchdog nothing is watched"
        );
        let line = Arc::new(Mutex::new(Some("reading".to_owned())));
        let (shown, shutdown) = (line.clone(), Shutdown::new());
        manager.keep_told(move || shown.lock().unwrap().clone(), Duration::from_secs(30), shutdown.clone());
        for text in [Some("reading"), Some("reading"), None, Some("3 batches wait for S3")] {
            *line.lock().unwrap() = text.map(str::to_owned);
            let_others_run().await;
            clock.advance(STATUS_INTERVAL);
            let_others_run().await;
        }
        shutdown.stop();
        let_others_run().await;
        let expected = [
            "STATUS=reading",
            "STATUS=3 batches wait for S3",
            "STOPPING=1",
            "EXTEND_TIMEOUT_USEC=45000000",
            "STATUS=stopping",
        ];
        assert_eq!(*sent.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn without_a_manager_nothing_happens() {
        let clock = Clock::system();
        let manager = ServiceManager { sender: None, limit: None, loops: Arc::default(), clock };
        manager.keep_told(|| Some("reading".to_owned()), Duration::ZERO, Shutdown::new());
        let start = manager.begin_start("opening the log");
        assert_eq!(start.waiting_for("Redshift", async { 1 }).await, 1);
        start.ready("reading");
    }
}
