//! One stop token, passed down. The first SIGTERM or Ctrl-C asks for an orderly stop; a second one ends the
//! process at once, which loses nothing either: every durable step may have a crash behind it.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio_util::sync::CancellationToken;

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
        let shutdown = Self::new();
        let token = shutdown.token.clone();
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
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
}
