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
        let batches = self.batches()?.into_iter().map(|(seq, record)| (record.id, (seq, record)));
        Matching::find(batches, prefix, |(seq, record)| Ok(BatchDetail::read(self, seq, record)?))
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Ok(self.verify()?)
    }
}

impl Owner for Loads {
    type Snapshot = IngesterSnapshot;
    type Batch = Load;

    fn snapshot(&self) -> Result<IngesterSnapshot, Failure> {
        // The pauses in force are known to the service, not to its database.
        let (loads, sums, ledger) = (self.all()?, self.sums()?, self.ledger_mark()?);
        Ok(IngesterSnapshot { loads, paused: None, sums, ledger })
    }

    fn batch(&self, prefix: &BatchPrefix) -> Result<Matching<Load>, Failure> {
        Matching::find(self.all()?.into_iter().map(|load| (load.batch, load)), prefix, Ok)
    }

    fn verify(&self) -> Result<Vec<Checked>, Failure> {
        Ok(self.verify()?)
    }
}
