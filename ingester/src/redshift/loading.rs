//! What an attempt loads, and what it comes to.

use shared::ids::BatchId;
use shared::layout::Compression;
use shared::seal::Seal;

use crate::redshift::stage_reason::StageReason;

/// What one COPY loads: the files a manifest names, and the batches they belong to.
#[derive(Debug, Clone)]
pub struct Loading {
    /// Key of the manifest in the bucket.
    pub manifest: String,
    /// Of all the files.
    pub compression: Compression,
    /// The batches, oldest first; there is at least one.
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone)]
pub struct Part {
    pub seal: Seal,
    /// The id under which the ledger shall have it, if rows of it are in quarantine: the set there has that name.
    pub id: BatchId,
    /// Rows of the seal that were taken out of what the manifest names, because Redshift refused them.
    pub quarantined: u64,
    /// The set of objects that holds those rows, if there are any; the ledger names it.
    pub set: Option<String>,
}

impl Part {
    pub(crate) fn whole(seal: Seal) -> Self {
        Self { id: seal.batch, seal, quarantined: 0, set: None }
    }

    /// Rows that COPY must find.
    pub(crate) fn rows(&self) -> u64 {
        self.seal.rows.saturating_sub(self.quarantined)
    }
}

impl Loading {
    /// Rows that COPY must find.
    pub(crate) fn rows(&self) -> u64 {
        self.parts.iter().map(Part::rows).sum()
    }

    pub(crate) fn batches(&self) -> Vec<BatchId> {
        self.parts.iter().map(|part| part.seal.batch).collect()
    }
}

/// By whom a batch was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By this attempt.
    Applied,
    /// By an earlier attempt, or by another ingester.
    Before,
}

/// A batch that the ledger has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedBatch {
    pub batch: BatchId,
    /// The id under which the ledger has it: its own, unless that is another batch's there.
    pub entered: BatchId,
    pub how: How,
    /// Rows that the table had already.
    pub known: u64,
    /// Why this attempt loaded it the staged way, if it did.
    pub staged: Option<StageReason>,
}

impl LoadedBatch {
    pub(crate) fn before(batch: BatchId, entered: BatchId, known: u64) -> Self {
        Self { batch, entered, how: How::Before, known, staged: None }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// The ledger has all of these; or, if it had some of them before the attempt, only those, and nothing was loaded.
    Batches(Vec<LoadedBatch>),
    /// Nothing was loaded: these must be loaded alone, the staged way.
    Isolated(Vec<(BatchId, StageReason)>),
}
