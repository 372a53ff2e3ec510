//! Whether the counts of a batch add up. Decides only.
//!
//! `received = rows + duplicates + filtered + rejected` in the seal and in the ledger, `rows = loaded + quarantined`
//! between them, and what is counted in S3 and in the table is what they say.

use serde::Serialize;
use shared::ids::BatchId;
use shared::seal::Seal;

use crate::warehouse::ledger::{Counted, LedgerRow};

/// Where the folder of a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: deleted when it was archived, or by a lifecycle rule; or it never was there.
    Nowhere,
    /// Below `s3.to_ingest`.
    ToIngest,
    /// Below `s3.ingested`.
    Ingested,
}

/// What is known of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
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
}

/// What does not add up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
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
pub fn faults(facts: &Facts) -> Vec<Fault> {
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
    let (loaded, quarantined) = (ledger.rows_loaded, ledger.rows_quarantined);
    if ledger.times > 1 {
        faults.push(Fault::LedgerTwice { times: ledger.times });
    }
    if let Some(sealed) =
        seal.map(|seal| seal.rows).filter(|rows| *rows != loaded.saturating_add(quarantined))
    {
        faults.push(Fault::LedgerRows { sealed, loaded, quarantined });
    }
    if let Some(Counted { received, duplicates, filtered, rejected }) = ledger.counted {
        let sum =
            [loaded, quarantined, duplicates, filtered, rejected].into_iter().fold(0, u64::saturating_add);
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
    if let Some(counted) = facts.table.filter(|counted| *counted != loaded) {
        faults.push(Fault::TableRows { loaded, counted });
    }
}

impl Fault {
    /// The same for people.
    #[must_use]
    pub fn what(&self) -> String {
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
            Self::LedgerRows { sealed, loaded, quarantined } => {
                format!(
                    "{sealed} rows were sealed, the ledger says {loaded} loaded and {quarantined} quarantined"
                )
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
mod tests {
    use super::*;
    use crate::verify::tests::seal;

    fn good() -> Facts {
        let seal = seal();
        let ledger = LedgerRow {
            batch: seal.batch,
            times: 1,
            instance: "web-1".to_owned(),
            rows_loaded: 19,
            rows_quarantined: 1,
            bytes: 200,
            files: 2,
            first_received: None,
            last_received: None,
            copy_query: None,
            counted: Some(Counted { received: 23, duplicates: 2, filtered: 1, rejected: 0 }),
            set: Some("a1".to_owned()),
        };
        Facts {
            batch: seal.batch,
            place: Place::Ingested,
            counted: seal.files.iter().map(|file| (file.name.clone(), Ok(10))).collect(),
            seal: Ok(Some(seal)),
            objects: Vec::new(),
            quarantine: 1,
            ledger: Some(ledger),
            table: Some(19),
        }
    }

    fn altered(alter: impl FnOnce(&mut Facts)) -> Vec<Fault> {
        let mut facts = good();
        alter(&mut facts);
        faults(&facts)
    }

    fn ledger(alter: impl FnOnce(&mut LedgerRow)) -> Vec<Fault> {
        altered(|facts| alter(facts.ledger.as_mut().unwrap()))
    }

    fn sealed(alter: impl FnOnce(&mut Seal)) -> Vec<Fault> {
        altered(|facts| alter(facts.seal.as_mut().unwrap().as_mut().unwrap()))
    }

    #[test]
    fn what_adds_up_has_no_fault_however_much_of_it_is_known() {
        assert_eq!(faults(&good()), []);
        assert_eq!(altered(|facts| facts.table = None), []);
        assert_eq!(altered(|facts| facts.counted.clear()), []);
        let gone = |facts: &mut Facts| {
            (facts.place, facts.seal) = (Place::Nowhere, Ok(None));
            facts.counted.clear();
        };
        assert_eq!(altered(gone), []);
        let waiting = |facts: &mut Facts| {
            (facts.place, facts.ledger, facts.table) = (Place::ToIngest, None, Some(0));
            facts.quarantine = 0;
        };
        assert_eq!(altered(waiting), []);
        assert_eq!(ledger(|row| row.counted = None), []);
    }

    #[test]
    fn every_side_that_does_not_add_up_is_named() {
        let loaded = Fault::TableRows { loaded: 19, counted: 38 };
        assert_eq!(altered(|facts| facts.table = Some(38)), [loaded]);
        assert_eq!(altered(|facts| facts.quarantine = 0), [Fault::Quarantine { ledger: 1, counted: 0 }]);
        assert_eq!(ledger(|row| row.times = 2), [Fault::LedgerTwice { times: 2 }]);
        let counts = |received, sum| Fault::LedgerCounts { received, sum, sealed: Some(23) };
        let other = Counted { received: 24, duplicates: 3, filtered: 1, rejected: 0 };
        assert_eq!(ledger(|row| row.counted = Some(other)), [counts(24, 24)]);
        let short = Counted { received: 23, duplicates: 1, filtered: 1, rejected: 0 };
        assert_eq!(ledger(|row| row.counted = Some(short)), [counts(23, 22)]);
        let rows = Fault::LedgerRows { sealed: 20, loaded: 18, quarantined: 1 };
        let table = Fault::TableRows { loaded: 18, counted: 19 };
        assert_eq!(ledger(|row| row.rows_loaded = 18), [rows, counts(23, 22), table]);
        assert_eq!(sealed(|seal| seal.counts.rows = 21)[0], Fault::SealCounts { received: 23, sum: 24 });
        let twenty = |facts: &mut Facts| facts.counted[1].1 = Ok(11);
        let file = "1.csv.zst".to_owned();
        assert_eq!(altered(twenty), [Fault::FileRows { file: file.clone(), sealed: 10, counted: 11 }]);
        let cut = |facts: &mut Facts| facts.counted[1].1 = Err("cut".to_owned());
        assert_eq!(altered(cut), [Fault::File { file, why: "cut".to_owned() }]);
        let gone = |facts: &mut Facts| facts.objects.push("f/1.csv is missing".to_owned());
        assert_eq!(altered(gone), [Fault::Object { why: "f/1.csv is missing".to_owned() }]);
        assert_eq!(altered(|facts| facts.seal = Err("x".to_owned())), [Fault::Seal { why: "x".to_owned() }]);
        let unknown = |facts: &mut Facts| facts.ledger = None;
        assert_eq!(altered(unknown), [Fault::NotInLedger, Fault::TableRows { loaded: 0, counted: 19 }]);
    }
}
