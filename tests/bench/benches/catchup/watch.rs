//! How far the rows are, again and again, and the rates that follow.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bench::machine::Usage;
use bench::world::World;
use sandbox::judge::files_below;
use sandbox::s3::BUCKET;
use sandbox::service::{Service, tail};

use crate::stand_ins::nanos;

const LOADED: &str = "SELECT coalesce(sum(rows_loaded), 0)::bigint FROM public.livestream_ledger";
/// Between two looks. The producer itself makes no more than one snapshot in 0.8 seconds when many batches wait.
const EVERY: Duration = Duration::from_millis(100);
/// Nothing here takes as long.
const LONGEST: Duration = Duration::from_secs(1_800);

/// Where the rows were at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// When the answer had come, in nanoseconds since 1970: what it says was true a little earlier.
    pub(crate) at: u64,
    /// Rows durable in the log, since its beginning.
    pub(crate) durable: u64,
    /// Those of them that are in S3.
    pub(crate) in_s3: u64,
    /// Rows that the ledger says are loaded.
    pub(crate) loaded: u64,
    /// Bytes of the log on disk.
    pub(crate) disk: u64,
    pub(crate) usage: Usage,
}

/// The most memory of each program until a moment, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Peaks {
    pub(crate) producer: u64,
    pub(crate) ingester: u64,
}

/// Both programs under observation.
pub(crate) struct Watch {
    pub(crate) world: World,
    pub(crate) producer: Service,
    pub(crate) ingester: Service,
    pub(crate) samples: Vec<Sample>,
}

impl Watch {
    /// Looks until something is so, and returns the sample in which it is.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Sample) -> bool) -> Sample {
        let begun = Instant::now();
        loop {
            let sample = self.look().await;
            if done(&sample) {
                return sample;
            }
            assert!(
                begun.elapsed() < LONGEST,
                "not within {LONGEST:?}: {what}\n{}",
                tail(&self.producer.said())
            );
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Looks for so long.
    pub(crate) async fn during(&mut self, time: Duration) {
        let begun = Instant::now();
        self.until("time passes", |_| begun.elapsed() >= time).await;
    }

    /// Waits until the ingester has put everything away.
    pub(crate) async fn until_put_away(&mut self, dir: &Path) {
        let folder = dir.join("s3").join(BUCKET).join("ToIngest");
        let empty = |_: &Sample| files_below(&folder).unwrap().is_empty();
        self.until("everything is put away", empty).await;
    }

    /// The most memory of both until now.
    pub(crate) fn peaks(&self) -> Peaks {
        Peaks { producer: self.producer.peak_rss(), ingester: self.ingester.peak_rss() }
    }

    pub(crate) async fn look(&mut self) -> Sample {
        self.producer.look().unwrap();
        self.ingester.look().unwrap();
        let loaded = self.world.number(LOADED).await.unwrap();
        let snapshot = match self.world.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // A producer that has ended says why; one that lives did not answer.
                tokio::time::sleep(EVERY).await;
                self.producer.look().unwrap();
                panic!("{error:#}");
            }
        };
        let at = nanos(SystemTime::now());
        let session = snapshot.sessions.last();
        assert!(
            session.is_none_or(|session| session.ended.is_none()),
            "the stream broke: {}",
            tail(&self.producer.said())
        );
        let durable = snapshot.totals.rows;
        let sample = Sample {
            at,
            durable,
            // The two are read one after the other, while rows come.
            in_s3: durable.saturating_sub(snapshot.rows_to_upload),
            loaded,
            disk: snapshot.disk_bytes,
            usage: Usage::now(),
        };
        self.samples.push(sample);
        sample
    }

    /// The samples between two of them.
    pub(crate) fn between(&self, from: &Sample, to: &Sample) -> &[Sample] {
        let place = |at: u64| self.samples.partition_point(|sample| sample.at < at);
        &self.samples[place(from.at)..=place(to.at)]
    }
}

pub(crate) fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

/// Rows a second between the first samples at which a count has reached these shares of its way from the first to the last.
pub(crate) fn rate(samples: &[Sample], count: impl Fn(&Sample) -> u64, shares: (f64, f64)) -> f64 {
    let (first, last) = (count(&samples[0]), count(&samples[samples.len() - 1]));
    let reached = |share: f64| {
        let wanted = first as f64 + (last - first) as f64 * share;
        samples.iter().find(|sample| count(sample) as f64 >= wanted).unwrap()
    };
    let (from, to) = (reached(shares.0), reached(shares.1));
    (count(to) - count(from)) as f64 / seconds(from.at, to.at)
}
