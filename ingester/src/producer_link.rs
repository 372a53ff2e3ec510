//! What the ingester has to say to the producer of this machine, over its socket: that a batch is loaded, and that one
//! is not in S3 as it was sealed. A producer that is not here loses nothing by not hearing it.

use std::path::PathBuf;
use std::time::Duration;

use shared::ids::BatchId;
use state::loads::ErrorClass;
use state::status::feed::{self, Question, Republish};

use crate::failure::LoadFailure;

/// Longest wait for an answer, which takes a producer no time to speak of.
const PATIENCE: Duration = Duration::from_secs(5);

/// The producer of this machine, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Producer {
    socket: PathBuf,
}

impl Producer {
    /// The producer that answers on `socket`.
    #[must_use]
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Tells that a batch is loaded and archived: nobody will ask for it again. Does not wait for that.
    pub(crate) fn loaded(&self, batch: BatchId) {
        let socket = self.socket.clone();
        tokio::spawn(async move {
            let question = Question::Loaded(batch);
            let told = tokio::time::timeout(PATIENCE, feed::ask::<bool>(&socket, &question)).await;
            if !matches!(told, Ok(Ok(_))) {
                tracing::debug!(%batch, "no producer to tell that the batch is loaded");
            }
        });
    }

    /// Asks for a batch to be uploaded once more.
    ///
    /// # Errors
    /// With the reason why nobody does.
    pub(crate) async fn republish(&self, batch: BatchId) -> Result<Republish, String> {
        let question = Question::Republish(batch);
        let asked = tokio::time::timeout(PATIENCE, feed::ask(&self.socket, &question)).await;
        match asked {
            Ok(Ok(answer)) => Ok(answer.snapshot),
            Ok(Err(error)) => Err(format!("asked on {}, {error}", self.socket.display())),
            Err(_) => Err(format!("{} does not answer", self.socket.display())),
        }
    }

    /// Has the producer mend a batch that is not in S3 as it was sealed, and says in the trouble what comes of it.
    pub(crate) async fn mend(&self, batch: BatchId, trouble: LoadFailure) -> LoadFailure {
        if trouble.class != ErrorClass::Incomplete {
            return trouble;
        }
        let answer = self.republish(batch).await;
        let why = format!("{} ({})", trouble.why, outlook(&answer));
        LoadFailure { advice: trouble.advice, ..LoadFailure::of_batch(ErrorClass::Incomplete, why) }
    }
}

/// What is to be expected, and done, after the producer's answer.
#[must_use]
pub(crate) fn outlook(answer: &Result<Republish, String>) -> String {
    match answer {
        Ok(Republish::UnderWay) => "its producer uploads it once more".to_owned(),
        Ok(Republish::NotPublished) => "its producer has not finished it yet, and will".to_owned(),
        Ok(Republish::Gone) => {
            "its producer has no copy of it any more: restore what is named from an older version or a copy of the \
             bucket"
                .to_owned()
        }
        Ok(Republish::Unknown) => {
            "the producer of this machine does not know it: restore what is named from an older version or a copy of \
             the bucket, or let its own producer's machine run an ingester"
                .to_owned()
        }
        Err(why) => format!(
            "its producer cannot be asked to upload it once more: {why}; start it here, or restore what is named from \
             an older version or a copy of the bucket"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_can_mend_says_what_to_do_and_other_trouble_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let producer = Producer::new(dir.path().join("feed.sock"));
        let lost = LoadFailure::of_batch(ErrorClass::Incomplete, "f/0.csv is missing");
        let told = producer.mend(BatchId::new(), lost).await;
        assert!(told.why.starts_with("f/0.csv is missing (its producer cannot be asked"), "{told}");
        assert!(told.why.contains("restore what is named"), "{told}");
        let other = LoadFailure::of_batch(ErrorClass::Data, "a load error");
        assert_eq!(producer.mend(BatchId::new(), other.clone()).await, other);
    }
}
