//! Snapshots for any number of clients, at a bounded cost to the service. All clients who ask while one snapshot is
//! made share the next one. Between two there is a pause in proportion to what one costs. No client gets a snapshot that
//! was begun before its question came.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::clock::{Clock, Steady};
use tokio::sync::Mutex;

/// The pause after a snapshot, in times of what it took: snapshots take about one part in 250 of a core.
const PAUSE: u32 = 256;
/// The pause at most, so that no client waits long.
const PAUSE_MAX: Duration = Duration::from_millis(800);

#[derive(Debug)]
pub(super) struct SnapshotCache {
    clock: Clock,
    begun: AtomicU64,
    latest: Mutex<Option<Latest>>,
}

#[derive(Debug)]
struct Latest {
    number: u64,
    /// When the next one may begin.
    next: Steady,
    line: Arc<[u8]>,
}

impl SnapshotCache {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, begun: AtomicU64::new(0), latest: Mutex::default() }
    }

    /// A line that was begun after this call; `make` makes one, and may block.
    pub(super) async fn line(
        &self,
        make: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static,
    ) -> io::Result<Arc<[u8]>> {
        let before = self.begun.load(Ordering::SeqCst);
        let mut latest = self.latest.lock().await;
        if let Some(latest) = &*latest {
            if latest.number > before {
                return Ok(latest.line.clone());
            }
            self.clock.sleep_until(latest.next).await;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let begun = self.clock.steady();
        let line: Arc<[u8]> = tokio::task::spawn_blocking(make).await??.into();
        let ended = self.clock.steady();
        let next = ended + (begun.until(ended) * PAUSE).min(PAUSE_MAX);
        *latest = Some(Latest { number, next, line: line.clone() });
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use chrono::DateTime;

    use super::*;

    #[tokio::test]
    async fn many_askers_share_what_is_begun_after_they_asked_and_nobody_gets_an_older_one() {
        let clock = Clock::by_hand(DateTime::UNIX_EPOCH);
        let (snapshots, made) = (Arc::new(SnapshotCache::new(clock)), Arc::new(AtomicU32::new(0)));
        let ask = || {
            let (snapshots, made) = (snapshots.clone(), made.clone());
            async move {
                let before = made.load(Ordering::SeqCst);
                let make = move || {
                    let number = made.fetch_add(1, Ordering::SeqCst) + 1;
                    std::thread::sleep(Duration::from_micros(100));
                    Ok(number.to_be_bytes().to_vec())
                };
                let line = snapshots.line(make).await.unwrap();
                let number = u32::from_be_bytes(line[..].try_into().unwrap());
                assert!(number > before, "made before it was asked for");
            }
        };
        for _ in 0..3 {
            let askers: Vec<_> = (0..50).map(|_| tokio::spawn(ask())).collect();
            for asker in askers {
                asker.await.unwrap();
            }
        }
        assert!(made.load(Ordering::SeqCst) <= 6, "{made:?} snapshots for 150 askers");
    }

    #[tokio::test]
    async fn a_pause_follows_a_snapshot_in_proportion_to_what_it_cost() {
        const COST: Duration = Duration::from_millis(1);
        let clock = Clock::by_hand(DateTime::UNIX_EPOCH);
        let snapshots = Arc::new(SnapshotCache::new(clock.clone()));
        let ask = || {
            let (snapshots, at_work) = (snapshots.clone(), clock.clone());
            let make = move || {
                at_work.advance(COST);
                Ok(Vec::new())
            };
            tokio::spawn(async move { snapshots.line(make).await.map(drop) })
        };
        ask().await.unwrap().unwrap();
        let mut next = ask();
        clock.advance(COST * (PAUSE - 1));
        tokio::time::timeout(Duration::from_millis(20), &mut next).await.unwrap_err();
        clock.advance(COST);
        next.await.unwrap().unwrap();
    }
}
