//! Batches that the producer has begun to write in another place than the configuration now names.

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::ids::{BatchId, BatchPrefix};

use crate::inspect::dump::overview::ask_producer;
use crate::status::feed::{Owner, Question};
use crate::status::service::Service;

/// A batch of which some files stand in another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfWritten {
    /// Which one.
    pub batch: BatchId,
    /// Where its files stand, as `s3://bucket/prefix`.
    pub place: String,
}

/// The oldest batch of which some files stand elsewhere than in `place`; None inside if there is none, None if there is no
/// log. Asks the producer, or reads its log.
pub async fn half_written_elsewhere(
    config: &Config,
    clock: &Clock,
    place: &str,
) -> Result<Option<Option<HalfWritten>>, Failure> {
    let Some(snapshot) = ask_producer(config, clock).await?.snapshot else { return Ok(None) };
    for batch in snapshot.batches.iter().filter(|batch| batch.published.is_none() && batch.files_uploaded > 0)
    {
        let prefix = BatchPrefix::from(batch.batch);
        let question = Question::Batch(prefix.clone());
        let found = Service::producer(config, clock).ask(&question, |log| Owner::batch(log, &prefix)).await?;
        let detail = found.snapshot.and_then(|found| found.batch);
        if let Some(detail) = detail.filter(|detail| detail.place != place) {
            return Ok(Some(Some(HalfWritten { batch: batch.batch, place: detail.place })));
        }
    }
    Ok(Some(None))
}
