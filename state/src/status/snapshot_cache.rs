//! SnapshotCache for any number of askers, at a bounded cost to the service: all who ask while one is being made share
//! the next, and between two there is a pause in proportion to what one costs. Nobody gets a snapshot that was begun
//! before the question came.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// The pause after a snapshot, in times of what it took: under steady asking a snapshot is being made for less than
/// one part in 250 of the time, or little more, on one core.
const PAUSE: u32 = 256;
/// The pause at most, so that nobody waits long.
const PAUSE_MAX: Duration = Duration::from_millis(800);

#[derive(Debug, Default)]
pub(crate) struct SnapshotCache {
    latest: Mutex<Option<Turn>>,
}

#[derive(Debug)]
struct Turn {
    begun: Instant,
    ended: Instant,
    line: Arc<[u8]>,
}

impl SnapshotCache {
    /// A line that was begun after this call; `make` makes one, on a thread where blocking is allowed.
    pub(crate) async fn line(
        &self,
        make: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static,
    ) -> io::Result<Arc<[u8]>> {
        let asked = Instant::now();
        let mut latest = self.latest.lock().await;
        if let Some(turn) = &*latest {
            if turn.begun >= asked {
                return Ok(turn.line.clone());
            }
            let cost = turn.ended - turn.begun;
            tokio::time::sleep_until(turn.ended + (cost * PAUSE).min(PAUSE_MAX)).await;
        }
        let begun = Instant::now();
        let line: Arc<[u8]> = tokio::task::spawn_blocking(make).await.map_err(io::Error::other)??.into();
        *latest = Some(Turn { begun, ended: Instant::now(), line: line.clone() });
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_askers_share_what_is_begun_after_they_asked_and_nobody_gets_an_older_one() {
        let (snapshots, made) = (Arc::new(SnapshotCache::default()), Arc::new(AtomicU32::new(0)));
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
}
