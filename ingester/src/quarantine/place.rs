//! Where rows in quarantine go, and how many may.

use shared::config::Config;
use shared::ids::BatchId;

use super::set;

/// The folder of what a bad-row search writes, beside those of the sets of its batch.
pub(crate) const SCRATCH: &str = "sift/";

#[derive(Debug, Clone)]
pub(crate) struct Quarantine {
    /// `s3.quarantine`
    pub prefix: String,
    /// `quarantine.max_share`
    pub max_share: f64,
}

impl Quarantine {
    pub(crate) fn new(config: &Config) -> Self {
        Self { prefix: config.s3.quarantine.clone(), max_share: config.quarantine.max_share }
    }

    pub(crate) fn scratch(&self, batch: BatchId) -> String {
        format!("{}{SCRATCH}", set::batch_folder(&self.prefix, batch))
    }
}
