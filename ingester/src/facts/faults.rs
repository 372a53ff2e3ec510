//! Whether the counts of a batch add up. Pure: `audit` reports the result.
//!
//! `received = rows + duplicates + filtered + rejected` in the seal and in the ledger, `rows = loaded + quarantined +
//! known + forgotten` between them (known: in the table already; forgotten: taken out since), and what is counted in S3 and
//! in the table is what they say.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::ids::BatchId;
use shared::seal::Seal;

use crate::facts::batch::{Facts, InFolder, Place};
use crate::facts::wording;
use crate::redshift::ledger::{Counted, LedgerRow};

/// Whether the rows of a batch may have NULL in the column `mark`: they were made for another schema than that of
/// this fingerprint, and one without that column, as far as their seal tells.
pub(crate) fn is_unmarked(ledger: &LedgerRow, seal: Option<&Seal>, mark: &str, fingerprint: &str) -> bool {
    let of_other = ledger.schema.as_deref().is_some_and(|schema| schema != fingerprint);
    let columns = seal.and_then(|seal| seal.columns.as_ref());
    of_other && columns.is_none_or(|columns| columns.iter().all(|column| column != mark))
}

/// What does not add up, with the text for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub(crate) enum Fault {
    #[error("{}", wording::seal_unusable(.why))]
    Seal { why: String },
    /// `sum`: what became of the records received, summed up.
    #[error("its seal counts {received} records received, and accounts for {sum}")]
    SealCounts { received: u64, sum: u64 },
    /// An object is missing, or not as sealed: what is wrong, with its key.
    #[error("{why}")]
    Object { why: String },
    #[error("{file} has {counted} rows, the seal says {sealed}")]
    FileRows { file: String, sealed: u64, counted: u64 },
    #[error("{file}: {why}")]
    File { file: String, why: String },
    #[error("{}", wording::ARCHIVED_NOT_LOADED)]
    NotInLedger,
    #[error("the ledger has it {times} times")]
    LedgerTwice { times: u64 },
    #[error("{}", wording::rows_differ(*.sealed, *.loaded, *.quarantined, *.known, *.forgotten))]
    LedgerRows { sealed: u64, loaded: u64, quarantined: u64, known: u64, forgotten: u64 },
    #[error("it has other rows than the ledger: checksum {sealed}, in the ledger {ledger}")]
    Content { sealed: String, ledger: String },
    /// `sealed`: what the seal says was received.
    #[error("the ledger counts {received} records received, and accounts for {sum}{}", as_sealed(*.sealed))]
    LedgerCounts { received: u64, sum: u64, sealed: Option<u64> },
    #[error("the ledger counts {ledger} quarantined rows, S3 has {counted}")]
    Quarantine { ledger: u64, counted: u64 },
    #[error("the table has {counted} rows of it, the ledger says {loaded}")]
    TableRows { loaded: u64, counted: u64 },
}

fn as_sealed(sealed: Option<u64>) -> String {
    sealed.map_or_else(String::new, |sealed| format!("; the seal says {sealed} received"))
}

pub(crate) fn faults(facts: &Facts) -> Vec<Fault> {
    let (mut faults, folder) = (Vec::new(), facts.folder());
    let seal = folder.seal();
    if let (InFolder::Unusable(why), _) | (_, Some(why)) = (folder, &facts.counts.no_seal) {
        faults.push(Fault::Seal { why: why.clone() });
    }
    if let Some(seal) = seal {
        let counts = seal.counts;
        let sum = [counts.rows, counts.duplicates, counts.filtered, counts.rejected]
            .into_iter()
            .fold(0, u64::saturating_add);
        if counts.received != sum || counts.rows != seal.sealed_rows() {
            faults.push(Fault::SealCounts { received: counts.received, sum });
        }
        for (name, counted) in &facts.counts.files {
            let sealed = seal.files.iter().find(|file| file.name == *name).map_or(0, |file| file.rows);
            let file = name.clone();
            match counted {
                Ok(counted) if *counted == sealed => {}
                Ok(counted) => faults.push(Fault::FileRows { file, sealed, counted: *counted }),
                Err(why) => faults.push(Fault::File { file, why: why.clone() }),
            }
        }
    }
    faults.extend(facts.counts.objects.iter().map(|why| Fault::Object { why: why.clone() }));
    match &facts.ledger {
        Some(ledger) => of_ledger(&mut faults, facts, ledger, seal),
        None => {
            if facts.place() == Place::Ingested {
                faults.push(Fault::NotInLedger);
            }
            if let Some(counted @ 1..) = facts.counts.table {
                faults.push(Fault::TableRows { loaded: 0, counted });
            }
        }
    }
    faults
}

fn of_ledger(faults: &mut Vec<Fault>, facts: &Facts, ledger: &LedgerRow, seal: Option<&Seal>) {
    let (loaded, quarantined) = (ledger.rows_loaded, ledger.rows_quarantined);
    let (known, forgotten) = (ledger.rows_known, ledger.rows_forgotten);
    let rows = ledger.rows();
    if ledger.times > 1 {
        faults.push(Fault::LedgerTwice { times: ledger.times });
    }
    if let Some(sealed) = seal.map(Seal::sealed_rows).filter(|sealed| *sealed != rows) {
        faults.push(Fault::LedgerRows { sealed, loaded, quarantined, known, forgotten });
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
    if quarantined != facts.counts.quarantined {
        faults.push(Fault::Quarantine { ledger: quarantined, counted: facts.counts.quarantined });
    }
    if let Some(counted) = facts.counts.table.filter(|counted| *counted != loaded && !facts.is_not_counted())
    {
        faults.push(Fault::TableRows { loaded, counted });
    }
}

/// Shares the counted rows out among batches of the same time, if together they are as many as the ledger says: a batch
/// that is entered under another id than its own has rows that name the first id.
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

#[cfg(test)]
pub(crate) mod tests;
