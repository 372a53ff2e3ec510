//! A start that takes long: a large log is read as a whole. The manager would end it after `TimeoutStartSec`.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::systemd::sender::{Sender, one_line};

/// How often to see whether the start goes on.
const INTERVAL: Duration = Duration::from_secs(10);
/// How much time each sign of progress gives it.
const EXTENSION: Duration = Duration::from_secs(60);
/// Ticks of processor time in an interval that show a start that computes or reads: 50 ms. A process that only waits takes
/// none, and one that reads a disk takes more.
const WORKING_TICKS: u64 = 5;

/// A start under way. Dropping it ends its prolongation, so a start that fails is told by the end of the process.
#[derive(Debug, Default)]
pub struct Start(Option<Inner>);

#[derive(Debug)]
struct Inner {
    sender: Sender,
    /// Waits for a neighbour, whose answer has a time limit of its own.
    waiting: Arc<AtomicBool>,
    extending: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.extending.abort();
    }
}

impl Start {
    pub(super) fn begin(sender: Option<Sender>, what: &str, clock: Clock) -> Self {
        Self::with(sender, what, clock, processor_ticks)
    }

    /// `ticks` is the processor time that the process has taken.
    fn with(sender: Option<Sender>, what: &str, clock: Clock, ticks: fn() -> Option<u64>) -> Self {
        let Some(sender) = sender else { return Self(None) };
        sender.status(what);
        let waiting = Arc::new(AtomicBool::new(false));
        let extending = tokio::spawn(extend(sender.clone(), waiting.clone(), clock, ticks));
        Self(Some(Inner { sender, waiting, extending }))
    }

    /// Waits for `answer`, which has a time limit of its own. `what` says so in the status line.
    pub async fn waiting_for<T>(&self, what: &str, answer: impl Future<Output = T>) -> T {
        let Some(Inner { sender, waiting, .. }) = &self.0 else { return answer.await };
        sender.status(what);
        waiting.store(true, Ordering::Relaxed);
        sender.extend(EXTENSION);
        let answer = answer.await;
        waiting.store(false, Ordering::Relaxed);
        answer
    }

    /// The service is ready, and does what `status` says.
    pub fn ready(self, status: &str) {
        if let Some(inner) = &self.0 {
            let status = one_line(status);
            inner.sender.send(&[NotifyState::Ready, NotifyState::Status(&status)]);
        }
    }
}

async fn extend(sender: Sender, waiting: Arc<AtomicBool>, clock: Clock, ticks: fn() -> Option<u64>) {
    let mut before = ticks();
    loop {
        clock.sleep(INTERVAL).await;
        let now = ticks();
        let worked = now.zip(before).is_some_and(|(now, before)| now >= before + WORKING_TICKS);
        if worked || waiting.load(Ordering::Relaxed) {
            sender.extend(EXTENSION);
        }
        before = now;
    }
}

/// Processor time of this process, in hundredths of a second.
fn processor_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may have blanks and parentheses. `utime` and `stime` are the 12th and 13th
    // behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    static TICKS: AtomicU64 = AtomicU64::new(0);

    async fn pass(clock: &Clock) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        clock.advance(INTERVAL);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_start_is_prolonged_while_it_works_or_waits_for_a_neighbour_and_not_while_it_hangs() {
        let clock = Clock::by_hand("2026-03-02T12:00:00Z".parse().unwrap());
        let (sender, sent) = Sender::recording();
        let start = Start::with(Some(sender), "opening the log", clock.clone(), || {
            Some(TICKS.load(Ordering::Relaxed))
        });
        let extensions =
            || sent.lock().unwrap().iter().filter(|state| *state == "EXTEND_TIMEOUT_USEC=60000000").count();
        pass(&clock).await;
        assert_eq!(extensions(), 0, "it hangs");
        TICKS.fetch_add(WORKING_TICKS, Ordering::Relaxed);
        pass(&clock).await;
        assert_eq!(extensions(), 1, "it works");
        pass(&clock).await;
        assert_eq!(extensions(), 1, "it hangs again");
        let answer = start.waiting_for("waiting for Redshift", async {
            pass(&clock).await;
            7
        });
        assert_eq!((answer.await, extensions()), (7, 3), "it waits for an answer");
        pass(&clock).await;
        assert_eq!(extensions(), 3);
        start.ready("reading");
        let states = sent.lock().unwrap().clone();
        assert_eq!(states.first().unwrap(), "STATUS=opening the log");
        assert_eq!(states[states.len() - 2..], ["READY=1", "STATUS=reading"]);
        TICKS.fetch_add(100, Ordering::Relaxed);
        pass(&clock).await;
        assert_eq!(extensions(), 3, "a start that is over is not prolonged");
    }

    #[test]
    fn the_processor_time_of_this_process_grows_as_it_computes() {
        let before = processor_ticks().unwrap();
        let mut sum = 0_u64;
        while processor_ticks().unwrap() < before + 2 {
            sum = (0..1_000_000).fold(sum, |sum: u64, n| sum.wrapping_mul(31).wrapping_add(n));
        }
        assert_ne!(sum, 1);
    }
}
