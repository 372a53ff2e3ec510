//! The answers of the two databases. Each service adds what only it knows.

use shared::exit::Failure;
use shared::ids::BatchPrefix;

use crate::loads::{Load, Loads};
use crate::log::LogReader;
use crate::status::feed::Owner;
use crate::status::snapshot::{BatchDetail, IngesterSnapshot, Matching, ProducerSnapshot};
use crate::verdict::Checked;

impl Owner for LogReader {
    type Snapshot = ProducerSnapshot;
    type Batch = BatchDetail;

    fn snapshot(&self) -> Result<ProducerSnapshot, Failure> {
        Ok(self.snapshot()?)
    }

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<BatchDetail>, Failure> {
        Ok(self.matching(prefix)?)
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Ok(self.verify()?)
    }
}

impl Owner for Loads {
    type Snapshot = IngesterSnapshot;
    type Batch = Load;

    fn snapshot(&self) -> Result<IngesterSnapshot, Failure> {
        // Whether loading is paused is known to the service, not to its database.
        Ok(self.snapshot_with(None)?)
    }

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<Load>, Failure> {
        Ok(self.matching(prefix)?)
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Ok(self.verify()?)
    }
}
