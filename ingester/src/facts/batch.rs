//! What is known of a batch, as plain values. [`super::gather`] fills it in, [`super::judge`] and [`super::faults`]
//! decide by it.

use shared::ids::BatchId;
use shared::seal::Seal;
use state::loads::ErrorClass;

use crate::redshift::ledger::LedgerRow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InLog {
    /// Nothing: the log could not be asked.
    NotAsked,
    Unknown,
    Filling,
    /// Sealed with so many rows, and not noted as published.
    Sealed(u64),
    /// S3 confirmed the seal, with so many rows.
    Published(u64),
}

/// What stands in the folder of the batch below a prefix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum InFolder {
    Absent,
    NoSeal,
    /// A seal that was not read. Of archived folders nobody checks that it is there.
    Sealed,
    Read(Box<Seal>),
    /// The seal of another batch than the one that the ledger has under this id. `schema`: as [`unnamed_schema`]. `id`:
    /// derived from its content; under it the batch is loaded. `loaded`: whether the ledger has that id.
    Other {
        schema: Option<String>,
        id: BatchId,
        loaded: bool,
    },
    /// A seal in an archive class, which cannot be read now: what S3 said.
    InArchive(String),
    Unusable(String),
}

impl InFolder {
    pub(crate) fn seal(&self) -> Option<&Seal> {
        if let Self::Read(seal) = self { Some(seal) } else { None }
    }
}

/// The fingerprint of the columns, if the seal does not name them. One that names them any ingester can load.
pub(crate) fn unnamed_schema(seal: &Seal) -> Option<String> {
    seal.columns.is_none().then(|| seal.schema.clone())
}

/// What stands in the folder below `s3.quarantine`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct InQuarantine {
    /// The set that the ledger names; any set, if the ledger names none.
    pub sets: bool,
    /// What a search for refused rows left over, or a set beside the one that the ledger names.
    pub left_over: bool,
}

/// What the load store of this ingester says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InLoadStore {
    /// Nothing, or that it was archived.
    Nothing,
    UnderWay,
    /// Its latest attempts failed for a reason that time alone does not mend.
    Stuck(ErrorClass, String),
}

/// What is known of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    pub batch: BatchId,
    pub log: InLog,
    /// The folder below `s3.to_ingest`.
    pub to_ingest: InFolder,
    /// The folder below `s3.ingested`.
    pub ingested: InFolder,
    pub quarantine: InQuarantine,
    pub ledger: Option<LedgerRow>,
    /// Rows of each batch that the ledger has under another id with the same time. The log may mean one of these.
    pub alike: Vec<u64>,
    pub load_store: InLoadStore,
    pub counts: Counts,
}

/// What an audit counts in S3 and in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// The seal is missing where it must be.
    pub no_seal: Option<String>,
    pub objects: Vec<String>,
    /// Of each file that was read its name, and its rows or why they cannot be counted.
    pub files: Vec<(String, Result<u64, String>)>,
    /// Rows of the set in quarantine that the ledger names.
    pub quarantined: u64,
    /// Rows in the table; None when its rows do not tell their batch.
    pub table: Option<u64>,
    /// Whether its rows in the table may not name it ([`super::faults::is_unmarked`]).
    pub unmarked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Deleted when it was archived, or by a lifecycle rule; or it never was there.
    Nowhere,
    ToIngest,
    Ingested,
}

impl Facts {
    pub(crate) fn nothing_of(batch: BatchId) -> Self {
        Self {
            batch,
            log: InLog::NotAsked,
            to_ingest: InFolder::Absent,
            ingested: InFolder::Absent,
            quarantine: InQuarantine::default(),
            ledger: None,
            alike: Vec::new(),
            load_store: InLoadStore::Nothing,
            counts: Counts::default(),
        }
    }

    pub(crate) fn place(&self) -> Place {
        match (&self.ingested, &self.to_ingest) {
            (InFolder::Absent, InFolder::Absent | InFolder::Other { .. }) => Place::Nowhere,
            (InFolder::Absent, _) => Place::ToIngest,
            _ => Place::Ingested,
        }
    }

    pub(crate) fn folder(&self) -> &InFolder {
        match self.place() {
            Place::Nowhere => &InFolder::Absent,
            Place::ToIngest => &self.to_ingest,
            Place::Ingested => &self.ingested,
        }
    }

    /// Whether another batch of the same id waits below `s3.to_ingest`, to be loaded under an id of its own.
    pub(crate) fn other_waits(&self) -> bool {
        matches!(self.to_ingest, InFolder::Other { loaded: false, .. }) && self.place() == Place::Nowhere
    }

    /// Whether its rows cannot be counted in the table, because they do not name it there.
    pub(crate) fn is_not_counted(&self) -> bool {
        let loaded = self.ledger.as_ref().is_some_and(|row| row.rows_loaded > 0);
        self.counts.unmarked && loaded && self.counts.table == Some(0)
    }
}
