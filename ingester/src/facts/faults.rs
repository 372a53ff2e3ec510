//! Whether the counts of a batch add up. Pure: `audit` reports the result.
//!
//! `received = rows + duplicates + filtered + rejected` in the seal and in the ledger, `rows = loaded + quarantined +
//! known` between them (known: in the table already), and what is counted in S3 and in the table is what they say.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::ids::BatchId;
use shared::seal::Seal;

use crate::facts::batch::{Facts, InFolder, Place};
use crate::redshift::ledger::{Counted, LedgerRow};

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
        why: String,
    },
    /// The counts of the seal contradict each other; `sum`: what became of the records received, summed up.
    SealCounts {
        received: u64,
        sum: u64,
    },
    /// An object is missing, or not as sealed: what is wrong, with its key.
    Object {
        why: String,
    },
    /// A file has other rows than sealed.
    FileRows {
        file: String,
        sealed: u64,
        counted: u64,
    },
    /// A file cannot be read to its end.
    File {
        file: String,
        why: String,
    },
    /// It is archived, and the ledger does not know it.
    NotInLedger,
    LedgerTwice {
        times: u64,
    },
    /// The ledger accounts for other rows than sealed; `known`: in the table already.
    LedgerRows {
        sealed: u64,
        loaded: u64,
        quarantined: u64,
        known: u64,
    },
    /// The ledger has other rows than sealed, by their checksums.
    Content {
        sealed: String,
        ledger: String,
    },
    /// The counts of the ledger do not add up, or are not those of the seal, which says `sealed` were received.
    LedgerCounts {
        received: u64,
        sum: u64,
        sealed: Option<u64>,
    },
    /// The quarantine in S3 has other rows than the ledger counts.
    Quarantine {
        ledger: u64,
        counted: u64,
    },
    /// The table has other rows than the ledger says are loaded.
    TableRows {
        loaded: u64,
        counted: u64,
    },
}

/// Everything that does not add up.
#[must_use]
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
        if counts.received != sum || counts.rows != seal.rows {
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
    let (loaded, quarantined, known) = (ledger.rows_loaded, ledger.rows_quarantined, ledger.rows_known);
    let rows = ledger.rows();
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
    if quarantined != facts.counts.quarantined {
        faults.push(Fault::Quarantine { ledger: quarantined, counted: facts.counts.quarantined });
    }
    if let Some(counted) = facts.counts.table.filter(|counted| *counted != loaded && !facts.is_not_counted())
    {
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
pub(crate) mod tests {
    use shared::content::Content;

    use super::*;
    use crate::facts::batch::Counts;
    use crate::facts::folder::tests::seal;

    /// A batch that adds up.
    pub(crate) fn good() -> Facts {
        let seal = seal();
        let ledger = LedgerRow {
            batch: seal.batch,
            times: 1,
            instance: "web-1".to_owned(),
            rows_loaded: 15,
            rows_quarantined: 1,
            rows_known: 4,
            run: None,
            batch_number: None,
            content: seal.content,
            schema: Some(seal.schema.clone()),
            bytes: 200,
            files: 2,
            first_received: None,
            last_received: None,
            copy_query: None,
            counted: Some(Counted { received: 23, duplicates: 2, filtered: 1, rejected: 0 }),
            set: Some("a1".to_owned()),
        };
        Facts {
            ingested: InFolder::Read(Box::new(seal.clone())),
            counts: Counts {
                files: seal.files.iter().map(|file| (file.name.clone(), Ok(10))).collect(),
                quarantined: 1,
                table: Some(15),
                ..Counts::default()
            },
            ledger: Some(ledger),
            ..Facts::nothing_of(seal.batch)
        }
    }

    fn sealed_in(facts: &mut Facts) -> &mut Seal {
        match &mut facts.ingested {
            InFolder::Read(seal) => seal,
            other => panic!("{other:?}"),
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
        altered(|facts| alter(sealed_in(facts)))
    }

    #[test]
    fn what_adds_up_has_no_fault_however_much_of_it_is_known() {
        assert_eq!(faults(&good()), []);
        assert_eq!(altered(|facts| facts.counts.table = None), []);
        assert_eq!(altered(|facts| facts.counts.files.clear()), []);
        let gone = |facts: &mut Facts| {
            facts.ingested = InFolder::Absent;
            facts.counts.files.clear();
        };
        assert_eq!(altered(gone), []);
        let waiting = |facts: &mut Facts| {
            std::mem::swap(&mut facts.to_ingest, &mut facts.ingested);
            (facts.ledger, facts.counts.table) = (None, Some(0));
            facts.counts.quarantined = 0;
        };
        assert_eq!(altered(waiting), []);
        assert_eq!(ledger(|row| row.counted = None), []);
        assert_eq!(ledger(|row| row.content = None), [], "entered by an earlier version");
    }

    #[test]
    fn rows_of_another_content_are_named_by_their_checksums() {
        let (ours, theirs) = (Content::of_rows(b"a"), Content::of_rows(b"b"));
        let other = altered(|facts| {
            sealed_in(facts).content = Some(ours);
            facts.ledger.as_mut().unwrap().content = Some(theirs);
        });
        assert_eq!(other, [Fault::Content { sealed: ours.to_string(), ledger: theirs.to_string() }]);
    }

    #[test]
    fn rows_that_name_the_first_id_are_shared_out_if_all_of_them_are_there() {
        let row = good().ledger.unwrap();
        let first = row.batch;
        let mut other = first.to_string();
        other.replace_range(35.., if other.ends_with('0') { "1" } else { "0" });
        let other: BatchId = other.parse().unwrap();
        let ledger = [
            (first, LedgerRow { rows_loaded: 15, ..row.clone() }),
            (other, LedgerRow { batch: other, rows_loaded: 4, ..row }),
        ];
        let ledger = BTreeMap::from(ledger);
        let shared = |counted| {
            let mut counts = BTreeMap::from([(first, counted)]);
            share_out(&mut counts, &ledger);
            (counts.get(&first).copied(), counts.get(&other).copied())
        };
        assert_eq!(shared(19), (Some(15), Some(4)));
        assert_eq!(shared(18), (Some(18), None), "one is missing");
    }

    #[test]
    fn every_side_that_does_not_add_up_is_named() {
        let loaded = Fault::TableRows { loaded: 15, counted: 19 };
        assert_eq!(
            altered(|facts| facts.counts.table = Some(19)),
            [loaded],
            "what was there already does not count"
        );
        assert_eq!(
            altered(|facts| facts.counts.quarantined = 0),
            [Fault::Quarantine { ledger: 1, counted: 0 }]
        );
        assert_eq!(ledger(|row| row.times = 2), [Fault::LedgerTwice { times: 2 }]);
        let counts = |received, sum| Fault::LedgerCounts { received, sum, sealed: Some(23) };
        let other = Counted { received: 24, duplicates: 3, filtered: 1, rejected: 0 };
        assert_eq!(ledger(|row| row.counted = Some(other)), [counts(24, 24)]);
        let short = Counted { received: 23, duplicates: 1, filtered: 1, rejected: 0 };
        assert_eq!(ledger(|row| row.counted = Some(short)), [counts(23, 22)]);
        let rows = Fault::LedgerRows { sealed: 20, loaded: 14, quarantined: 1, known: 4 };
        let table = Fault::TableRows { loaded: 14, counted: 15 };
        assert_eq!(ledger(|row| row.rows_loaded = 14), [rows, counts(23, 22), table]);
        let rows = Fault::LedgerRows { sealed: 20, loaded: 15, quarantined: 1, known: 3 };
        assert_eq!(ledger(|row| row.rows_known = 3), [rows, counts(23, 22)]);
        assert_eq!(sealed(|seal| seal.counts.rows = 21)[0], Fault::SealCounts { received: 23, sum: 24 });
        let twenty = |facts: &mut Facts| facts.counts.files[1].1 = Ok(11);
        let file = "1.csv.zst".to_owned();
        assert_eq!(altered(twenty), [Fault::FileRows { file: file.clone(), sealed: 10, counted: 11 }]);
        let cut = |facts: &mut Facts| facts.counts.files[1].1 = Err("cut".to_owned());
        assert_eq!(altered(cut), [Fault::File { file, why: "cut".to_owned() }]);
        let gone = |facts: &mut Facts| facts.counts.objects.push("f/1.csv is missing".to_owned());
        assert_eq!(altered(gone), [Fault::Object { why: "f/1.csv is missing".to_owned() }]);
        assert_eq!(
            altered(|facts| facts.ingested = InFolder::Unusable("x".to_owned())),
            [Fault::Seal { why: "x".to_owned() }]
        );
        let unknown = |facts: &mut Facts| facts.ledger = None;
        assert_eq!(altered(unknown), [Fault::NotInLedger, Fault::TableRows { loaded: 0, counted: 15 }]);
    }

    #[test]
    fn rows_of_another_schema_that_do_not_name_their_batch_are_not_missed_in_the_table() {
        let none = |facts: &mut Facts| (facts.counts.unmarked, facts.counts.table) = (true, Some(0));
        assert_eq!(altered(none), []);
        let mut facts = good();
        assert!(!facts.is_not_counted());
        none(&mut facts);
        assert!(facts.is_not_counted());
        // Where some rows name it, all should.
        let some = |facts: &mut Facts| (facts.counts.unmarked, facts.counts.table) = (true, Some(14));
        assert_eq!(altered(some), [Fault::TableRows { loaded: 15, counted: 14 }]);
        let gone = |facts: &mut Facts| facts.counts.table = Some(0);
        assert_eq!(altered(gone), [Fault::TableRows { loaded: 15, counted: 0 }], "of our own schema");
        let lost = |facts: &mut Facts| {
            none(facts);
            facts.counts.quarantined = 0;
        };
        assert_eq!(altered(lost), [Fault::Quarantine { ledger: 1, counted: 0 }], "all else is compared");
    }

    #[test]
    fn rows_may_not_name_their_batch_if_neither_schema_nor_seal_says_that_they_do() {
        let row = good().ledger.unwrap();
        let own = row.schema.clone().unwrap();
        let with = |columns: Option<&[&str]>| {
            let columns = columns.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            Seal { columns, ..seal() }
        };
        let unmarked =
            |seal: Option<&Seal>, fingerprint: &str| is_unmarked(&row, seal, "batch_id", fingerprint);
        assert!(!unmarked(None, &own) && !unmarked(Some(&with(Some(&["a"]))), &own));
        assert!(unmarked(None, "other") && unmarked(Some(&with(None)), "other"));
        assert!(unmarked(Some(&with(Some(&["a", "b"]))), "other"));
        assert!(!unmarked(Some(&with(Some(&["a", "batch_id"]))), "other"));
        let silent = LedgerRow { schema: None, ..row.clone() };
        assert!(!is_unmarked(&silent, None, "batch_id", "other"), "entered by hand");
    }
}
