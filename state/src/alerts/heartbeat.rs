//! Calls a dead man's switch while all is well. When the calls stop, it is the switch that tells somebody: because this
//! process is dead or hangs, because a critical alert stands, or because a target does not take what it is sent.

use std::time::Duration;

use shared::clock::{Clock, Steady};
use shared::human;
use shared::retry::Backoff;
use shared::secret::Secret;
use shared::shutdown::Shutdown;
use tokio::sync::watch;

use crate::alerts::send::Sender;
use crate::status::activity::Reporter;

/// What was seen longer ago says nothing of now.
const FRESH: Duration = Duration::from_secs(30);
/// How often to look whether all is well again.
const LOOK: Duration = Duration::from_secs(1);
/// A call that failed is made again after so long, and then ever later, up to the interval.
const FIRST_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Heartbeat {
    pub(super) address: Secret,
    pub(super) interval: Duration,
    pub(super) sender: Sender,
    /// Where it reports itself.
    pub(super) reporter: Reporter,
    /// Where each target reports.
    pub(super) targets: Vec<Reporter>,
    pub(super) clock: Clock,
}

impl Heartbeat {
    /// Calls until shutdown. `well` is when the service was last seen without a critical alert.
    pub(super) async fn run(self, well: watch::Receiver<Option<Steady>>, shutdown: Shutdown) {
        let mut next = self.clock.steady();
        let mut backoff = Backoff::new(FIRST_WAIT, self.interval);
        loop {
            let now = self.clock.steady();
            let is_seen = well.borrow().is_some_and(|seen| seen.until(now) < FRESH);
            let is_well = is_seen && self.targets.iter().all(|target| target.failing().is_none());
            if now >= next && is_well {
                let Some(answer) = shutdown.until(self.sender.call(&self.address)).await else { return };
                match answer {
                    Ok(_) => {
                        backoff.succeeded();
                        self.reporter.succeeded();
                        next = now + self.interval;
                    }
                    Err(why) => {
                        // One lost packet must not look like a dead service.
                        let wait = backoff.failed();
                        next = self.clock.steady() + wait;
                        let again = human::duration(wait);
                        if self.reporter.failing().is_none() {
                            tracing::error!(%why, again, "the heartbeat cannot be called");
                        }
                        self.reporter.failed(&why.class, &format!("heartbeat: {why}"), Some(wait));
                    }
                }
            }
            if !is_well && self.reporter.failing().is_some() {
                // It is not called, so it does not fail: what keeps it is shown where it stands.
                self.reporter.succeeded();
                next = now;
            }
            if shutdown.until(self.clock.sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }
}
