//! When files close and batches seal in a turn, and how long the turn must be to see it happen.

use std::path::Path;

use shared::config::{Config, Secrets};

const LOW_LATENCY: &str = include_str!("../../../../deploy/low_latency.toml");
/// The keys of `[batch]` that count are the same in every configuration that does not set them.
const EXAMPLE: &str = include_str!("../../../../deploy/pipeline.example.toml");

/// A turn sends at least so many seconds, at 10 hits a second and at more.
const AT_LEAST: (u64, u64) = (25, 15);
/// A batch that takes longer to fill is waited for once, a shorter one twice, in each of two turns.
const LONG: f64 = 60.0;
/// Seconds beyond the batches that are waited for, so that the last of them is sealed while the stream goes on.
const BEYOND: u64 = 5;

/// One way to batch.
pub(crate) struct Batching {
    name: &'static str,
    /// The keys that differ from the defaults.
    pub(crate) fragment: &'static str,
}

impl Batching {
    pub(crate) fn default_of_the_product() -> Self {
        Self { name: "default", fragment: "" }
    }

    pub(crate) fn low_latency() -> Self {
        Self { name: "low latency", fragment: LOW_LATENCY }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_low_latency(&self) -> bool {
        !self.fragment.is_empty()
    }

    /// Turns at this rate.
    pub(crate) fn turns(&self, rate: u64) -> usize {
        if self.batch_seconds(rate) > LONG { 1 } else { 2 }
    }

    /// Seconds that a turn at this rate sends.
    #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "some seconds")]
    pub(crate) fn seconds(&self, rate: u64) -> u64 {
        let batch = self.batch_seconds(rate);
        let batches = if batch > LONG { 1.0 } else { 2.0 };
        let least = if rate < 100 { AT_LEAST.0 } else { AT_LEAST.1 };
        least.max((batches * batch).ceil() as u64 + BEYOND)
    }

    /// After how many seconds a batch is sealed at this rate.
    fn batch_seconds(&self, rate: u64) -> f64 {
        let batch = self.config().batch;
        let rows = u64::from(batch.records_per_file) * u64::from(batch.files_per_batch);
        let [least, most] = [batch.min_batch_age, batch.max_batch_age].map(|age| age.0.as_secs_f64());
        (rows as f64 / rate as f64).max(least).min(most)
    }

    fn config(&self) -> Config {
        let mut text: toml::Table = EXAMPLE.parse().unwrap();
        text.remove("batch");
        bench::world::merge(&mut text, self.fragment.parse().unwrap());
        Config::parse(&text.to_string(), Path::new("example"), std::iter::empty(), Secrets::Unused).unwrap()
    }
}
