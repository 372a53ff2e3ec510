//! Keeps one target up to date: sends what is due, again and again until the target takes it.

use std::time::Duration;

use shared::clock::Clock;
use shared::config::AlertTarget;
use shared::human;
use shared::retry::Backoff;
use shared::shutdown::Shutdown;
use tokio::sync::watch;

use crate::alerts::kept::{Keeper, Kept};
use crate::alerts::message::{Origin, body};
use crate::alerts::outbox::{Due, Outbox};
use crate::alerts::send::{NotTaken, Sender};
use crate::status::activity::Reporter;

const FIRST_WAIT: Duration = Duration::from_secs(1);
/// An operator hears within a minute of a target that is back.
const MAX_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Target {
    pub(super) config: AlertTarget,
    pub(super) repeat: Duration,
    pub(super) origin: Origin,
    pub(super) sender: Sender,
    pub(super) keeper: Keeper,
    pub(super) reporter: Reporter,
    pub(super) clock: Clock,
}

impl Target {
    /// Sends until shutdown. `changed` tells that something else may be due.
    pub(super) async fn run(self, mut changed: watch::Receiver<u64>, shutdown: Shutdown) {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        loop {
            changed.mark_unchanged();
            let now = self.clock.wall();
            let due = self.outbox(|outbox| outbox.due(self.repeat, now)).flatten();
            let Some(due) = due else {
                let next = self.outbox(|outbox| outbox.next_repeat(self.repeat, now)).flatten();
                let repeat = async {
                    match next {
                        Some(next) => self.clock.sleep(next.max(FIRST_WAIT)).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = shutdown.stopping() => return,
                    () = repeat => {}
                    // The task that holds the other end stops with the same token.
                    Ok(()) = changed.changed() => {}
                }
                continue;
            };
            let message = body(&self.config, &self.origin, &due, now);
            let Some(answer) = shutdown.until(self.sender.post(&self.config, &message)).await else { return };
            match answer {
                Ok(_) => {
                    backoff.succeeded();
                    self.taken(&due);
                }
                Err(why) => {
                    let wait = backoff.failed();
                    self.not_taken(&due, &why, wait);
                    if shutdown.until(self.clock.sleep(wait)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    fn outbox<T>(&self, read: impl FnOnce(&Outbox) -> T) -> Option<T> {
        self.keeper.read(|kept| kept.targets.get(&self.config.name).map(read))
    }

    fn taken(&self, due: &Due) {
        let (to, alert) = (&self.config.name, &due.alert.name);
        let failing = self.reporter.failing().map(|failing| failing.failures);
        tracing::info!(%to, %alert, event = ?due.event, after_failures = failing, "alert sent");
        self.reporter.succeeded();
        let note = |outbox: &mut Outbox| outbox.taken(due, self.clock.wall());
        self.keeper.change(|kept| kept.targets.get_mut(to).map(note).is_some());
    }

    fn not_taken(&self, due: &Due, why: &NotTaken, wait: Duration) {
        let (to, alert, again) = (&self.config.name, &due.alert.name, human::duration(wait));
        // Once for each outage: `state dump` and the metrics show that it goes on.
        if self.reporter.failing().is_none() {
            tracing::error!(%to, %alert, %why, again, "an alert cannot be delivered; run `state alerts test`");
        } else {
            tracing::debug!(%to, %alert, %why, again, "the alert is still not delivered");
        }
        self.reporter.failed(&why.class, &format!("{to}: {why}"), Some(wait));
        // In memory: after a restart the oldest goes first again.
        let note = |kept: &mut Kept| {
            if let Some(outbox) = kept.targets.get_mut(to) {
                outbox.refused(due);
            }
            false
        };
        self.keeper.change(note);
    }
}
