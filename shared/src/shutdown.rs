//! What signals ask of a process. One stop token, passed down. The first SIGTERM or Ctrl-C asks for an orderly stop; a second one ends the
//! process at once, which loses nothing either: every durable step may have a crash behind it. SIGHUP asks a service to read
//! its configuration again; from its first moment on it ends no service.

use std::io;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// Exit code after a second signal: 128 + SIGINT, as shells report it.
const ENDED_AT_ONCE: i32 = 130;

/// Tells every part of a service that it should stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A token that is bound to no signal.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that SIGTERM and SIGINT ask to stop; the second of them ends the process.
    pub fn on_signals() -> io::Result<Self> {
        Self::listen(&[SIGTERM, SIGINT], || ())
    }

    /// The same for a service, which SIGHUP asks to read its configuration again.
    pub fn of_service() -> io::Result<(Self, ReloadRequests)> {
        let (asked, requests) = watch::channel(());
        let shutdown = Self::listen(&[SIGTERM, SIGINT, SIGHUP], move || {
            let _ = asked.send(());
        })?;
        Ok((shutdown, ReloadRequests(requests)))
    }

    fn listen(signals: &[i32], hung_up: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shutdown = Self::new();
        let token = shutdown.token.clone();
        let mut signals = Signals::new(signals)?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    hung_up();
                    continue;
                }
                if token.is_cancelled() {
                    tracing::warn!(signal, "second signal: ending at once");
                    std::process::exit(ENDED_AT_ONCE);
                }
                tracing::info!(signal, "stopping in order; a second signal ends at once");
                token.cancel();
            }
        })?;
        Ok(shutdown)
    }

    /// A token that stops with this one, and can be stopped alone.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }

    /// Asks every part to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Whether a stop was requested.
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when a stop is requested.
    pub async fn stopping(&self) {
        self.token.cancelled().await;
    }

    /// Runs `work` until it is done or a stop is requested; None if it was cancelled.
    pub async fn until<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.token.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Runs `work` until it is done, but after a stop is requested for no longer than `patience`; None if that has passed.
    pub async fn within<T>(
        &self,
        patience: Duration,
        clock: &Clock,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let impatient = async {
            self.token.cancelled().await;
            clock.sleep(patience).await;
        };
        tokio::select! {
            done = work => Some(done),
            () = impatient => None,
        }
    }
}

/// Requests to read the configuration again. Those that come while one is served, or before the first is waited for, are one.
#[derive(Debug)]
pub struct ReloadRequests(watch::Receiver<()>);

impl ReloadRequests {
    /// None ever comes.
    pub fn none() -> Self {
        Self(watch::channel(()).1)
    }

    /// Returns when the configuration is to be read, once for all requests since it returned last.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // No signal comes any more.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_under_way_at_a_stop_has_the_patience_of_the_stop_and_no_longer() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let (shutdown, patience) = (Shutdown::new(), Duration::from_secs(20));
        clock.advance(patience * 9);
        let done = shutdown.within(patience, &clock, async { 1 }).await;
        assert_eq!(done, Some(1));
        let hanging = tokio::spawn({
            let (shutdown, clock) = (shutdown.clone(), clock.clone());
            async move { shutdown.within(patience, &clock, std::future::pending::<()>()).await }
        });
        for _ in 0..10 {
            clock.advance(patience);
            tokio::task::yield_now().await;
        }
        assert!(!hanging.is_finished(), "nobody has asked for a stop");
        shutdown.stop();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        clock.advance(patience - Duration::from_secs(1));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!hanging.is_finished(), "it has a second left");
        clock.advance(Duration::from_secs(1));
        assert_eq!(hanging.await.unwrap(), None);
    }
}
