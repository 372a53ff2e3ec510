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
        rows_forgotten: 0,
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
    assert_eq!(altered(|facts| facts.counts.quarantined = 0), [Fault::Quarantine { ledger: 1, counted: 0 }]);
    assert_eq!(ledger(|row| row.times = 2), [Fault::LedgerTwice { times: 2 }]);
    let counts = |received, sum| Fault::LedgerCounts { received, sum, sealed: Some(23) };
    let other = Counted { received: 24, duplicates: 3, filtered: 1, rejected: 0 };
    assert_eq!(ledger(|row| row.counted = Some(other)), [counts(24, 24)]);
    let short = Counted { received: 23, duplicates: 1, filtered: 1, rejected: 0 };
    assert_eq!(ledger(|row| row.counted = Some(short)), [counts(23, 22)]);
    let rows = Fault::LedgerRows { sealed: 20, loaded: 14, quarantined: 1, known: 4, forgotten: 0 };
    let table = Fault::TableRows { loaded: 14, counted: 15 };
    assert_eq!(ledger(|row| row.rows_loaded = 14), [rows, counts(23, 22), table]);
    let rows = Fault::LedgerRows { sealed: 20, loaded: 15, quarantined: 1, known: 3, forgotten: 0 };
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
    let unmarked = |seal: Option<&Seal>, fingerprint: &str| is_unmarked(&row, seal, "batch_id", fingerprint);
    assert!(!unmarked(None, &own) && !unmarked(Some(&with(Some(&["a"]))), &own));
    assert!(unmarked(None, "other") && unmarked(Some(&with(None)), "other"));
    assert!(unmarked(Some(&with(Some(&["a", "b"]))), "other"));
    assert!(!unmarked(Some(&with(Some(&["a", "batch_id"]))), "other"));
    let silent = LedgerRow { schema: None, ..row.clone() };
    assert!(!is_unmarked(&silent, None, "batch_id", "other"), "entered by hand");
}
