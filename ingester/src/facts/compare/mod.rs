//! Whether the counts of a batch add up. Decides only.
//!
//! `received = rows + duplicates + filtered + rejected` in the seal and in the ledger, `rows = loaded + quarantined +
//! known` between them (known: in the table already), and what is counted in S3 and in the table is what they say.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::ids::BatchId;
use shared::seal::Seal;

use crate::redshift::ledger::{Counted, LedgerRow};

/// Where the folder of a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: deleted when it was archived, or by a lifecycle rule; or it never was there.
    Nowhere,
    /// Below `s3.to_ingest`.
    ToIngest,
    /// Below `s3.ingested`.
    Ingested,
}

/// What is known of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    /// The batch.
    pub batch: BatchId,
    /// Its folder.
    pub place: Place,
    /// Its seal, if there is one; or why it cannot be used.
    pub seal: Result<Option<Seal>, String>,
    /// Objects that are not as sealed.
    pub objects: Vec<String>,
    /// Files whose rows were counted: name, and how many there are or why they cannot be counted.
    pub counted: Vec<(String, Result<u64, String>)>,
    /// Rows of its quarantine in S3: of the set that the ledger names.
    pub quarantine: u64,
    /// The ledger.
    pub ledger: Option<LedgerRow>,
    /// Rows in the table; None when nobody can tell.
    pub table: Option<u64>,
    /// Whether its rows in the table may not name it ([`is_unmarked`]).
    pub unmarked: bool,
    /// Whether another batch of the same id waits below `s3.to_ingest`: it is loaded under an id of its own.
    pub other_waits: bool,
}

impl Facts {
    /// Whether its rows cannot be counted in the table, because they do not name it there.
    #[must_use]
    pub(crate) fn is_not_counted(&self) -> bool {
        let loaded = self.ledger.as_ref().is_some_and(|row| row.rows_loaded > 0);
        self.unmarked && loaded && self.table == Some(0)
    }
}

/// Whether the rows of a batch may stand in the table without naming it in the column `mark`, which they have NULL in: they
/// were made for another schema than the one of this fingerprint, and one without that column, as far as their seal tells.
#[must_use]
pub(crate) fn is_unmarked(ledger: &LedgerRow, seal: Option<&Seal>, mark: &str, fingerprint: &str) -> bool {
    let of_other = ledger.schema.as_deref().is_some_and(|schema| schema != fingerprint);
    let columns = seal.and_then(|seal| seal.columns.as_ref());
    of_other && columns.is_none_or(|columns| columns.iter().all(|column| column != mark))
}

/// What does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub(crate) enum Fault {
    /// The seal cannot be used.
    Seal {
        /// Why.
        why: String,
    },
    /// The counts of the seal contradict each other.
    SealCounts {
        /// Records received.
        received: u64,
        /// What became of them, summed up.
        sum: u64,
    },
    /// An object is missing, or not as sealed.
    Object {
        /// What is wrong, with its key.
        why: String,
    },
    /// A file has other rows than sealed.
    FileRows {
        /// Its name.
        file: String,
        /// By the seal.
        sealed: u64,
        /// In the file.
        counted: u64,
    },
    /// A file cannot be read to its end.
    File {
        /// Its name.
        file: String,
        /// Why.
        why: String,
    },
    /// It is archived, and the ledger does not know it.
    NotInLedger,
    /// The ledger has it several times.
    LedgerTwice {
        /// How often.
        times: u64,
    },
    /// The ledger accounts for other rows than sealed.
    LedgerRows {
        /// By the seal.
        sealed: u64,
        /// By the ledger.
        loaded: u64,
        /// By the ledger.
        quarantined: u64,
        /// By the ledger: in the table already.
        known: u64,
    },
    /// The ledger has other rows than sealed, by their checksums.
    Content {
        /// By the seal.
        sealed: String,
        /// By the ledger.
        ledger: String,
    },
    /// The counts of the ledger are not those of the seal, or do not add up.
    LedgerCounts {
        /// Records received, by the ledger.
        received: u64,
        /// What became of them by the ledger, summed up.
        sum: u64,
        /// Records received, by the seal.
        sealed: Option<u64>,
    },
    /// The quarantine in S3 has other rows than the ledger counts.
    Quarantine {
        /// By the ledger.
        ledger: u64,
        /// In S3.
        counted: u64,
    },
    /// The table has other rows than the ledger says are loaded.
    TableRows {
        /// By the ledger.
        loaded: u64,
        /// In the table.
        counted: u64,
    },
}

/// Everything that does not add up.
#[must_use]
pub(crate) fn faults(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    let seal = match &facts.seal {
        Ok(seal) => seal.as_ref(),
        Err(why) => {
            faults.push(Fault::Seal { why: why.clone() });
            None
        }
    };
    if let Some(seal) = seal {
        let counts = seal.counts;
        let sum = [counts.rows, counts.duplicates, counts.filtered, counts.rejected]
            .into_iter()
            .fold(0, u64::saturating_add);
        if counts.received != sum || counts.rows != seal.rows {
            faults.push(Fault::SealCounts { received: counts.received, sum });
        }
        for (name, counted) in &facts.counted {
            let sealed = seal.files.iter().find(|file| file.name == *name).map_or(0, |file| file.rows);
            let file = name.clone();
            match counted {
                Ok(counted) if *counted == sealed => {}
                Ok(counted) => faults.push(Fault::FileRows { file, sealed, counted: *counted }),
                Err(why) => faults.push(Fault::File { file, why: why.clone() }),
            }
        }
    }
    faults.extend(facts.objects.iter().map(|why| Fault::Object { why: why.clone() }));
    match &facts.ledger {
        Some(ledger) => of_ledger(&mut faults, facts, ledger, seal),
        None => {
            if facts.place == Place::Ingested {
                faults.push(Fault::NotInLedger);
            }
            if let Some(counted @ 1..) = facts.table {
                faults.push(Fault::TableRows { loaded: 0, counted });
            }
        }
    }
    faults
}

fn of_ledger(faults: &mut Vec<Fault>, facts: &Facts, ledger: &LedgerRow, seal: Option<&Seal>) {
    let (loaded, quarantined, known) = (ledger.rows_loaded, ledger.rows_quarantined, ledger.rows_known);
    let rows = [quarantined, known].into_iter().fold(loaded, u64::saturating_add);
    if ledger.times > 1 {
        faults.push(Fault::LedgerTwice { times: ledger.times });
    }
    if let Some(sealed) = seal.map(|seal| seal.rows).filter(|sealed| *sealed != rows) {
        faults.push(Fault::LedgerRows { sealed, loaded, quarantined, known });
    }
    if let Some((sealed, ledger)) = seal.and_then(|seal| seal.content).zip(ledger.content)
        && sealed != ledger
    {
        faults.push(Fault::Content { sealed: sealed.to_string(), ledger: ledger.to_string() });
    }
    if let Some(Counted { received, duplicates, filtered, rejected }) = ledger.counted {
        let sum = [duplicates, filtered, rejected].into_iter().fold(rows, u64::saturating_add);
        let by_seal = seal.map(|seal| seal.counts);
        let as_sealed = by_seal.is_none_or(|counts| {
            (counts.received, counts.duplicates, counts.filtered, counts.rejected)
                == (received, duplicates, filtered, rejected)
        });
        if received != sum || !as_sealed {
            let sealed = by_seal.map(|counts| counts.received);
            faults.push(Fault::LedgerCounts { received, sum, sealed });
        }
    }
    if quarantined != facts.quarantine {
        faults.push(Fault::Quarantine { ledger: quarantined, counted: facts.quarantine });
    }
    if let Some(counted) = facts.table.filter(|counted| *counted != loaded && !facts.is_not_counted()) {
        faults.push(Fault::TableRows { loaded, counted });
    }
}

/// Shares the rows that were counted in the table out among batches whose ids bear the same time, if together they are
/// as many as the ledger says. A batch that is entered under an id of its own, because the ledger had another batch of
/// its id, has rows that still name the first id.
pub(crate) fn share_out(counts: &mut BTreeMap<BatchId, u64>, ledger: &BTreeMap<BatchId, LedgerRow>) {
    let mut alike: BTreeMap<_, Vec<&LedgerRow>> = BTreeMap::new();
    for (batch, row) in ledger {
        alike.entry(batch.opened_at()).or_default().push(row);
    }
    for rows in alike.into_values().filter(|rows| rows.len() > 1) {
        let counted: u64 = rows.iter().filter_map(|row| counts.get(&row.batch)).sum();
        let loaded: u64 = rows.iter().map(|row| row.rows_loaded).sum();
        if counted == loaded {
            counts.extend(rows.iter().map(|row| (row.batch, row.rows_loaded)));
        }
    }
}

impl Fault {
    /// The same for people.
    #[must_use]
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Seal { why } => format!("its seal cannot be used: {why}"),
            Self::SealCounts { received, sum } => {
                format!("its seal counts {received} records received, and accounts for {sum}")
            }
            Self::Object { why } => why.clone(),
            Self::FileRows { file, sealed, counted } => {
                format!("{file} has {counted} rows, the seal says {sealed}")
            }
            Self::File { file, why } => format!("{file}: {why}"),
            Self::NotInLedger => "it is archived, and the ledger does not know it".to_owned(),
            Self::LedgerTwice { times } => format!("the ledger has it {times} times"),
            Self::LedgerRows { sealed, loaded, quarantined, known } => format!(
                "{sealed} rows were sealed, the ledger says {loaded} loaded, {quarantined} quarantined and {known} \
                 in the table already"
            ),
            Self::Content { sealed, ledger } => {
                format!("it has other rows than the ledger: checksum {sealed}, in the ledger {ledger}")
            }
            Self::LedgerCounts { received, sum, sealed } => {
                let sealed =
                    sealed.map_or(String::new(), |sealed| format!("; the seal says {sealed} received"));
                format!("the ledger counts {received} records received, and accounts for {sum}{sealed}")
            }
            Self::Quarantine { ledger, counted } => {
                format!("the ledger counts {ledger} quarantined rows, S3 has {counted}")
            }
            Self::TableRows { loaded, counted } => {
                format!("the table has {counted} rows of it, the ledger says {loaded}")
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
