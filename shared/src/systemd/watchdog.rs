//! The watchdog: the manager ends and starts again a service whose loops stand still.
//!
//! A loop is watched by polling it together with a timer in one task. It beats only while that task is polled: a loop that
//! hangs in a call to the disk, waits for a lock or turns without end does not beat. A loop that waits for an answer, such
//! as a COPY of half an hour, beats: its waits have limits of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::{Clock, Steady};
use crate::systemd::sender::Sender;

/// Stands for the time of the last beat once the loop has ended.
const ENDED: i64 = i64::MAX;
/// How many times to look, and each loop to beat, within the time that the manager waits.
const LOOKS: u32 = 8;

/// A loop that the service cannot do without.
#[derive(Debug, Clone, Default)]
pub struct Loop(Option<Watched>);

#[derive(Debug, Clone)]
pub(super) struct Watched {
    name: &'static str,
    beat: Arc<AtomicI64>,
    interval: Duration,
    clock: Clock,
}

impl Loop {
    pub(super) fn watched(watched: Watched) -> Self {
        Self(Some(watched))
    }

    /// Runs the loop, and beats while it is polled.
    pub async fn run<T>(self, turns: impl Future<Output = T>) -> T {
        let Some(watched) = self.0 else { return turns.await };
        // Also when the task is dropped in the middle.
        let _ended = Ended(&watched);
        let mut turns = std::pin::pin!(turns);
        loop {
            tokio::select! {
                // The timer first: a busy loop uses up what tokio lets a task do at once, and a timer behind it would never
                // come to its turn.
                biased;
                () = watched.clock.sleep(watched.interval) => watched.beats(),
                done = &mut turns => return done,
            }
        }
    }
}

struct Ended<'w>(&'w Watched);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.beat.store(ENDED, Ordering::Relaxed);
    }
}

impl Watched {
    pub(super) fn new(name: &'static str, limit: Duration, clock: Clock) -> Self {
        let watched = Self { name, beat: Arc::default(), interval: limit / LOOKS, clock };
        watched.beats();
        watched
    }

    fn beats(&self) {
        self.beat.store(self.clock.steady().millis(), Ordering::Relaxed);
    }

    /// For how long it has not been polled.
    fn silence(&self) -> Duration {
        match self.beat.load(Ordering::Relaxed) {
            ENDED => Duration::ZERO,
            beat => Steady::from_millis(beat).until(self.clock.steady()),
        }
    }
}

/// Sends `WATCHDOG=1` for as long as all loops beat. `limit` is how long the manager waits for it.
pub(super) async fn keep(sender: Sender, loops: impl Fn() -> Vec<Watched>, limit: Duration, clock: Clock) {
    let mut told = false;
    loop {
        let silent = loops().into_iter().find(|watched| watched.silence() >= limit / 2);
        match silent {
            None => {
                told = false;
                sender.send(&[NotifyState::Watchdog]);
            }
            Some(watched) if !told => {
                told = true;
                let seconds = watched.silence().as_secs();
                tracing::error!(
                    part = watched.name,
                    seconds,
                    "a loop of the service stands still; the service manager ends the service unless it goes on"
                );
            }
            Some(_) => {}
        }
        clock.sleep(limit / LOOKS).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use super::*;

    fn sent(sent: &std::sync::Mutex<Vec<String>>) -> usize {
        sent.lock().unwrap().iter().filter(|state| *state == "WATCHDOG=1").count()
    }

    /// Waits in real time, which a loop that blocks its thread is about.
    #[expect(clippy::disallowed_methods, reason = "a loop that hangs is no matter of the clock")]
    async fn until(what: &str, mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn the_manager_hears_of_loops_that_wait_and_of_busy_ones_and_not_of_one_that_hangs() {
        let (clock, limit) = (Clock::system(), Duration::from_secs(1));
        let (sender, messages) = Sender::recording();
        let watched = |name| Watched::new(name, limit, clock.clone());
        let (waits, busy, hangs) = (watched("waits"), watched("busy"), watched("hangs"));
        tokio::spawn(Loop::watched(waits.clone()).run(std::future::pending::<()>()));
        // Its channel is never empty, so it is never idle.
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let turning = async move {
            loop {
                let _ = send.send(());
                receive.recv().await;
            }
        };
        tokio::spawn(Loop::watched(busy.clone()).run(turning));
        let hang = Arc::new(AtomicBool::new(false));
        let held = hang.clone();
        let (poke, mut poked) = tokio::sync::mpsc::unbounded_channel::<()>();
        let hanging = async move {
            while poked.recv().await.is_some() {
                while held.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        };
        tokio::spawn(Loop::watched(hangs.clone()).run(hanging));
        let loops = move || vec![waits.clone(), busy.clone(), hangs.clone()];
        tokio::spawn(keep(sender, loops.clone(), limit, clock));
        until("it is told of all", || sent(&messages) >= 20).await;

        hang.store(true, Ordering::Relaxed);
        poke.send(()).unwrap();
        until("one stands still", || loops().iter().any(|watched| watched.silence() >= limit)).await;
        assert_eq!(
            loops().iter().filter(|watched| watched.silence() >= limit).count(),
            1,
            "the one that hangs"
        );
        let before = sent(&messages);
        until("nothing is told", || loops().iter().any(|watched| watched.silence() >= limit * 2)).await;
        assert_eq!(sent(&messages), before);

        hang.store(false, Ordering::Relaxed);
        until("it is told again", || sent(&messages) > before).await;
        hang.store(true, Ordering::Relaxed);
        drop(poke);
        until("a loop that has ended is not missed", || sent(&messages) >= before + 20).await;
    }
}
