//! One answer for all who ask at about the same time: ten browsers cost the service no more than one.

use std::time::Duration;

use bytes::Bytes;
use shared::clock::{Clock, Steady};
use shared::exit::Failure;
use tokio::sync::Mutex;

/// An answer serves so many times as long as it took to make: answers take at most one part in 50 of a core.
const COST: u32 = 50;
/// But no longer than this.
const OLDEST: Duration = Duration::from_secs(5);

pub(super) struct Cache {
    clock: Clock,
    /// An answer serves at least so long.
    serves: Duration,
    latest: Mutex<Option<Latest>>,
}

struct Latest {
    until: Steady,
    answer: Bytes,
}

impl Cache {
    pub(super) fn new(clock: Clock, serves: Duration) -> Self {
        Self { clock, serves, latest: Mutex::default() }
    }

    /// The latest answer, or the one that `make` makes. Whoever asks meanwhile waits for it. A failure serves nobody else.
    pub(super) async fn answer(
        &self,
        make: impl Future<Output = Result<Bytes, Failure>>,
    ) -> Result<Bytes, Failure> {
        let mut latest = self.latest.lock().await;
        let begun = self.clock.steady();
        if let Some(Latest { until, answer }) = &*latest
            && begun < *until
        {
            return Ok(answer.clone());
        }
        let answer = make.await?;
        let made = self.clock.steady();
        let serves = self.serves.max((begun.until(made) * COST).min(OLDEST));
        *latest = Some(Latest { until: made + serves, answer: answer.clone() });
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use chrono::DateTime;
    use shared::exit::Exit;

    use super::*;

    #[tokio::test]
    async fn all_who_ask_within_a_second_get_one_answer_and_a_costly_one_serves_longer() {
        let clock = Clock::by_hand(DateTime::UNIX_EPOCH);
        let (cache, made) = (Cache::new(clock.clone(), Duration::from_secs(1)), AtomicU32::new(0));
        let ask = async |cost: Duration| {
            let make = async {
                clock.advance(cost);
                Ok(Bytes::from((made.fetch_add(1, Ordering::Relaxed) + 1).to_string()))
            };
            cache.answer(make).await.unwrap()
        };
        for _ in 0..10 {
            assert_eq!(ask(Duration::ZERO).await, "1");
        }
        clock.advance(Duration::from_millis(1_001));
        assert_eq!(ask(Duration::from_millis(60)).await, "2");
        clock.advance(Duration::from_millis(2_900));
        assert_eq!(ask(Duration::ZERO).await, "2");
        clock.advance(Duration::from_millis(200));
        assert_eq!(ask(Duration::from_secs(60)).await, "3");
        clock.advance(OLDEST);
        assert_eq!(ask(Duration::ZERO).await, "4");
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let cache = Cache::new(Clock::by_hand(DateTime::UNIX_EPOCH), Duration::from_secs(1));
        let failed = cache.answer(async { Err(Failure::new(Exit::Io, anyhow::anyhow!("no"))) }).await;
        assert!(failed.is_err());
        assert_eq!(cache.answer(async { Ok(Bytes::from("yes")) }).await.unwrap(), "yes");
    }
}
