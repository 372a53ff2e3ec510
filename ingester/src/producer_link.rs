//! What the ingester sends to the producer of this machine over its socket: that a batch is loaded, or that one is not in
//! S3 as it was sealed. A producer elsewhere loses nothing by not hearing it.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use shared::ids::BatchId;
use state::loads::ErrorClass;
use state::status::feed::{self, Question, Republish};

use crate::failure::LoadFailure;

/// Longest wait for an answer, which takes a producer no time to speak of.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(crate) struct Producer {
    socket: PathBuf,
}

impl Producer {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Reports that a batch is loaded and archived, so that its copies may go. Does not wait for the answer.
    pub(crate) fn loaded(&self, batch: BatchId) {
        let socket = self.socket.clone();
        tokio::spawn(async move {
            let question = Question::Loaded(batch);
            let answer = tokio::time::timeout(PATIENCE, feed::ask::<bool>(&socket, &question)).await;
            if !matches!(answer, Ok(Ok(_))) {
                tracing::debug!(%batch, "no producer to report to that the batch is loaded");
            }
        });
    }

    /// The batches of which it keeps copies; why it does not say, otherwise.
    pub(crate) async fn copies(&self) -> Result<Vec<BatchId>, String> {
        self.answer(&Question::Copies).await
    }

    /// Has it drop the copies of a batch that is loaded; why it does not answer, otherwise.
    pub(crate) async fn drop_copies(&self, batch: BatchId) -> Result<(), String> {
        self.answer::<bool>(&Question::Loaded(batch)).await.map(drop)
    }

    async fn answer<T: DeserializeOwned>(&self, question: &Question) -> Result<T, String> {
        match tokio::time::timeout(PATIENCE, feed::ask(&self.socket, question)).await {
            Ok(Ok(answer)) => Ok(answer.snapshot),
            Ok(Err(error)) => Err(format!("asked on {}, {error}", self.socket.display())),
            Err(_) => Err(format!("{} does not answer", self.socket.display())),
        }
    }

    /// Asks for a batch to be uploaded once more; why it is not, otherwise.
    pub(crate) async fn republish(&self, batch: BatchId) -> Result<Republish, String> {
        self.answer(&Question::Republish(batch)).await
    }

    /// Has the producer upload a batch again that is not in S3 as it was sealed, and adds to the failure what comes of it.
    pub(crate) async fn request_upload(&self, batch: BatchId, failure: LoadFailure) -> LoadFailure {
        if failure.class != ErrorClass::Incomplete {
            return failure;
        }
        let answer = self.republish(batch).await;
        let why = format!("{} ({})", failure.why, outlook(&answer));
        LoadFailure { advice: failure.advice, ..LoadFailure::of_batch(ErrorClass::Incomplete, why) }
    }
}

/// What follows from the producer's answer, and what to do.
pub(crate) fn outlook(answer: &Result<Republish, String>) -> String {
    let outlook = match answer {
        Ok(Republish::UnderWay) => "its producer uploads it once more",
        Ok(Republish::NotPublished) => "its producer has not finished it yet, and will",
        Ok(Republish::Gone) => {
            "its producer has no copy of it any more: restore what is named from an older version or a copy of the bucket"
        }
        Ok(Republish::Unknown) => {
            "the producer of this machine does not know it: restore what is named from an older version or a copy of \
             the bucket, or let its own producer's machine run an ingester"
        }
        Err(why) => &format!(
            "its producer cannot be asked to upload it once more: {why}; start it here, or restore what is named from \
             an older version or a copy of the bucket"
        ),
    };
    outlook.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_can_mend_says_what_to_do_and_other_failures_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let producer = Producer::new(dir.path().join("feed.sock"));
        let lost = LoadFailure::of_batch(ErrorClass::Incomplete, "f/0.csv is missing");
        let failure = producer.request_upload(BatchId::new(), lost).await;
        assert!(failure.why.starts_with("f/0.csv is missing (its producer cannot be asked"), "{failure}");
        assert!(failure.why.contains("restore what is named"), "{failure}");
        let other = LoadFailure::of_batch(ErrorClass::Data, "a load error");
        assert_eq!(producer.request_upload(BatchId::new(), other.clone()).await, other);
    }
}
