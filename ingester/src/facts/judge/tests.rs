use shared::seal::Seal;

use super::*;
use crate::facts::{faults::tests::good, folder::tests::seal};

const OURS: &str = "0123456789abcdef";

/// What the clock says in these tests: the present, since ids of batches are made by it.
fn now() -> DateTime<Utc> {
    shared::clock::Clock::system().wall()
}

fn rules() -> Rules {
    Rules {
        archive: Archive::Move,
        fingerprint: OURS.to_owned(),
        now: now() + TimeDelta::hours(1),
        young: TimeDelta::minutes(20),
    }
}

fn nothing() -> Facts {
    Facts { log: InLog::Unknown, ..Facts::nothing_of(BatchId::new()) }
}

const SETS: InQuarantine = InQuarantine { sets: true, left_over: false };

pub(crate) fn row(rows_loaded: u64, rows_quarantined: u64, rows_known: u64) -> LedgerRow {
    LedgerRow { rows_loaded, rows_quarantined, rows_known, ..good().ledger.unwrap() }
}

fn entry(loaded: u64, quarantined: u64) -> Option<LedgerRow> {
    Some(row(loaded, quarantined, 0))
}

fn read(schema: &str) -> InFolder {
    InFolder::Read(Box::new(Seal { rows: 10, schema: schema.to_owned(), ..seal() }))
}

fn archived(there: bool) -> InFolder {
    if there { InFolder::Sealed } else { InFolder::Absent }
}

#[track_caller]
fn is(facts: &Facts, verdict: &Verdict) {
    assert_eq!(judge(facts, &rules()), *verdict, "{facts:?}");
}

/// The rows of the table above [`judge`], in their order.
#[test]
fn each_row_of_the_table_has_its_verdict() {
    use InFolder::{Absent, NoSeal, Sealed};
    let (published, filling) = (InLog::Published(10), InLog::Filling);
    let twice = Some(LedgerRow { times: 2, ..row(10, 0, 0) });
    let id = BatchId::new();
    let other = |loaded| InFolder::Other { schema: None, id, loaded };
    let unreadable = || InFolder::Unusable("no JSON".to_owned());
    let left_over = InQuarantine { sets: false, left_over: true };
    let none = InQuarantine::default();
    let differ = Matter::RowsDiffer { sealed: 10, loaded: 9, quarantined: 0, known: 0, forgotten: 0 };
    let unusable = Matter::SealUnusable { why: "no JSON".to_owned() };
    let (agrees, mend, decide) = (Verdict::Agrees, Verdict::Mend, Verdict::Decide);
    let archive = |id| Verdict::Mend(Mend::Archive(id));
    let batch = BatchId::new();
    for (ledger, to_ingest, ingested, log, quarantine, verdict) in [
        (twice, Absent, Absent, InLog::Unknown, none, decide(Matter::LedgerTwice { times: 2 })),
        (entry(9, 0), read(OURS), Absent, InLog::Unknown, none, decide(differ.clone())),
        (entry(9, 0), Absent, Sealed, published, none, decide(differ)),
        (entry(9, 0), other(false), Absent, published, none, mend(Mend::Load)),
        (entry(9, 0), other(true), Absent, published, none, archive(id)),
        (entry(10, 0), Sealed, Absent, filling, none, decide(Matter::LoadedWhileFilling)),
        (entry(9, 1), Absent, Sealed, published, none, decide(Matter::QuarantineGone { rows: 1 })),
        (entry(10, 0), Absent, Sealed, published, left_over, mend(Mend::Tidy)),
        (entry(10, 0), Sealed, Absent, published, none, archive(batch)),
        (entry(10, 0), Absent, Absent, published, none, agrees(Agreed::LoadedAndGone)),
        (entry(10, 0), Absent, Sealed, published, none, agrees(Agreed::Loaded)),
        (None, Sealed, Absent, published, none, mend(Mend::Load)),
        (None, unreadable(), Absent, published, none, mend(Mend::Republish(unusable))),
        (None, NoSeal, Sealed, published, none, decide(Matter::ArchivedNotLoaded)),
        (None, NoSeal, Absent, filling, none, agrees(Agreed::InTheMaking)),
        (None, NoSeal, Absent, published, none, mend(Mend::Republish(Matter::SealGone))),
        (None, NoSeal, Absent, InLog::Unknown, none, decide(Matter::NoSeal { asked: true })),
        (None, NoSeal, Absent, InLog::NotAsked, none, decide(Matter::NoSeal { asked: false })),
        (None, Absent, Sealed, published, none, decide(Matter::ArchivedNotLoaded)),
        (None, Absent, Absent, published, none, mend(Mend::Republish(Matter::Lost { rows: 10 }))),
        (None, Absent, Absent, filling, none, agrees(Agreed::InTheMaking)),
        (None, Absent, Absent, InLog::Unknown, SETS, decide(Matter::QuarantineUncounted)),
    ] {
        is(&Facts { ledger, to_ingest, ingested, log, quarantine, ..Facts::nothing_of(batch) }, &verdict);
    }
}

#[test]
fn a_loaded_batch_agrees_wherever_its_folder_belongs() {
    let loaded = Facts { ledger: entry(10, 0), log: InLog::Published(10), ..nothing() };
    is(&loaded, &Verdict::Agrees(Agreed::LoadedAndGone));
    is(&Facts { ingested: InFolder::Sealed, ..loaded.clone() }, &Verdict::Agrees(Agreed::Loaded));
    // The producer was killed between the seal and its note.
    is(
        &Facts { log: InLog::Sealed(10), ingested: InFolder::Sealed, ..loaded.clone() },
        &Verdict::Agrees(Agreed::Loaded),
    );
    let kept = Facts { to_ingest: InFolder::Sealed, ..loaded };
    let keep = Rules { archive: Archive::Keep, ..rules() };
    assert_eq!(judge(&kept, &keep), Verdict::Agrees(Agreed::Loaded));
}

#[test]
fn a_loaded_batch_whose_folder_still_waits_is_archived_unless_the_ingester_is_at_it() {
    for folder in
        [InFolder::Sealed, InFolder::NoSeal, read(OURS), read("ffff"), InFolder::Unusable(String::new())]
    {
        for there in [false, true] {
            let facts = Facts {
                to_ingest: folder.clone(),
                ingested: archived(there),
                ledger: entry(10, 0),
                ..nothing()
            };
            is(&facts, &Verdict::Mend(Mend::Archive(facts.batch)));
            is(&Facts { load_store: InLoadStore::UnderWay, ..facts }, &Verdict::Agrees(Agreed::UnderWay));
        }
    }
}

#[test]
fn other_rows_than_sealed_are_named_whoever_knows_them() {
    let matter = |loaded, quarantined| {
        Verdict::Decide(Matter::RowsDiffer { sealed: 10, loaded, quarantined, known: 0, forgotten: 0 })
    };
    is(&Facts { ledger: entry(9, 0), log: InLog::Published(10), ..nothing() }, &matter(9, 0));
    is(&Facts { ledger: entry(9, 2), to_ingest: read(OURS), ..nothing() }, &matter(9, 2));
    is(&Facts { ledger: entry(11, 0), ingested: read(OURS), ..nothing() }, &matter(11, 0));
    let adds_up = Facts { ledger: entry(9, 1), log: InLog::Published(10), quarantine: SETS, ..nothing() };
    is(&adds_up, &Verdict::Agrees(Agreed::LoadedAndGone));
    let known = Some(row(6, 1, 3));
    is(&Facts { ledger: known, ..adds_up.clone() }, &Verdict::Agrees(Agreed::LoadedAndGone));
    let short = Some(row(6, 1, 2));
    let matter = Matter::RowsDiffer { sealed: 10, loaded: 6, quarantined: 1, known: 2, forgotten: 0 };
    is(&Facts { ledger: short, ..adds_up }, &Verdict::Decide(matter));
}

#[test]
fn another_batch_of_its_id_is_loaded_and_put_away_under_an_id_of_its_own() {
    let id = BatchId::new();
    let other = |loaded| InFolder::Other { schema: Some(OURS.to_owned()), id, loaded };
    // The log was restored: it means the other one.
    let waits =
        Facts { ledger: entry(9, 0), to_ingest: other(false), log: InLog::Published(10), ..nothing() };
    is(&waits, &Verdict::Mend(Mend::Load));
    is(&Facts { load_store: InLoadStore::UnderWay, ..waits.clone() }, &Verdict::Agrees(Agreed::UnderWay));
    let loaded = Facts { to_ingest: other(true), ..waits.clone() };
    is(&loaded, &Verdict::Mend(Mend::Archive(id)));
    let keep = Rules { archive: Archive::Keep, ..rules() };
    assert_eq!(judge(&loaded, &keep), Verdict::Agrees(Agreed::Loaded));
    assert_eq!(judge(&waits, &keep), Verdict::Mend(Mend::Load));
    let away = Facts { to_ingest: InFolder::Absent, ingested: InFolder::Sealed, alike: vec![10], ..loaded };
    is(&away, &Verdict::Agrees(Agreed::Loaded));
    let lost =
        Verdict::Decide(Matter::RowsDiffer { sealed: 10, loaded: 9, quarantined: 0, known: 0, forgotten: 0 });
    is(&Facts { alike: vec![7], ..away }, &lost);
    let foreign = InFolder::Other { schema: Some("ffff".to_owned()), id, loaded: false };
    let matter = Matter::OtherSchema { schema: "ffff".to_owned() };
    is(&Facts { to_ingest: foreign, ..waits }, &Verdict::Decide(matter));
}

#[test]
fn a_ledger_that_contradicts_itself_or_the_log_is_named() {
    let twice = Some(LedgerRow { times: 2, ..row(10, 0, 0) });
    is(&Facts { ledger: twice, ..nothing() }, &Verdict::Decide(Matter::LedgerTwice { times: 2 }));
    let early = Facts { ledger: entry(10, 0), log: InLog::Filling, ..nothing() };
    is(&early, &Verdict::Decide(Matter::LoadedWhileFilling));
}

#[test]
fn quarantined_rows_and_their_count_belong_together() {
    let uncounted = Facts { ledger: entry(10, 0), quarantine: SETS, ..nothing() };
    is(&uncounted, &Verdict::Mend(Mend::Tidy));
    let left_over = InQuarantine { sets: true, left_over: true };
    let searched = Facts { ledger: entry(9, 1), quarantine: left_over, ..nothing() };
    is(&searched, &Verdict::Mend(Mend::Tidy));
    let gone = Facts { ledger: entry(9, 1), ..nothing() };
    is(&gone, &Verdict::Decide(Matter::QuarantineGone { rows: 1 }));
    // Another set than the named one is all there is: it may be of use to who restores that.
    let other = InQuarantine { sets: false, left_over: true };
    let replaced = Facts { quarantine: other, ..gone };
    is(&replaced, &Verdict::Decide(Matter::QuarantineGone { rows: 1 }));
    is(&Facts { quarantine: SETS, ..nothing() }, &Verdict::Decide(Matter::QuarantineUncounted));
    let before_its_load = Facts { quarantine: SETS, to_ingest: read(OURS), ..nothing() };
    is(&before_its_load, &Verdict::Mend(Mend::Load));
}

#[test]
fn a_sealed_batch_is_loaded_unless_it_cannot_be() {
    for folder in [read(OURS), InFolder::Sealed] {
        for there in [false, true] {
            let facts = Facts { to_ingest: folder.clone(), ingested: archived(there), ..nothing() };
            is(&facts, &Verdict::Mend(Mend::Load));
        }
        let facts = Facts { to_ingest: folder.clone(), ..nothing() };
        is(&Facts { load_store: InLoadStore::UnderWay, ..facts.clone() }, &Verdict::Agrees(Agreed::UnderWay));
        let why = || "0.csv is missing".to_owned();
        let stuck = Facts { load_store: InLoadStore::Stuck(ErrorClass::Incomplete, why()), ..facts };
        let matter = Matter::Stuck { class: ErrorClass::Incomplete, why: why() };
        is(&stuck, &Verdict::Decide(matter));
    }
    let other = Matter::OtherSchema { schema: "ffff".to_owned() };
    is(&Facts { to_ingest: read("ffff"), ..nothing() }, &Verdict::Decide(other));
    let named = Facts {
        to_ingest: InFolder::Read(Box::new(Seal {
            columns: Some(Vec::new()),
            schema: "ffff".to_owned(),
            ..seal()
        })),
        ..nothing()
    };
    is(&named, &Verdict::Mend(Mend::Load));
    let unusable = Facts { to_ingest: InFolder::Unusable("no JSON".to_owned()), ..nothing() };
    let matter = Matter::SealUnusable { why: "no JSON".to_owned() };
    is(&unusable, &Verdict::Mend(Mend::Republish(matter)));
}

#[test]
fn a_folder_without_seal_is_its_producers_while_there_is_one() {
    let open = Facts { to_ingest: InFolder::NoSeal, ..nothing() };
    for log in [InLog::Filling, InLog::Sealed(10)] {
        is(&Facts { log, ..open.clone() }, &Verdict::Agrees(Agreed::InTheMaking));
    }
    let published = Facts { log: InLog::Published(10), ..open.clone() };
    is(&published, &Verdict::Mend(Mend::Republish(Matter::SealGone)));
    for (log, asked) in [(InLog::Unknown, true), (InLog::NotAsked, false)] {
        let facts = Facts { log, ..open.clone() };
        is(&facts, &Verdict::Decide(Matter::NoSeal { asked }));
        let young = Rules { now: now(), ..rules() };
        assert_eq!(judge(&facts, &young), Verdict::Agrees(Agreed::InTheMaking));
    }
}

#[test]
fn what_is_archived_and_not_loaded_is_for_a_person_whatever_else_is_known() {
    for (folder, log) in [
        (InFolder::Absent, InLog::Unknown),
        (InFolder::Absent, InLog::Published(10)),
        (InFolder::NoSeal, InLog::Published(10)),
    ] {
        let facts = Facts { to_ingest: folder, log, ingested: InFolder::Sealed, ..nothing() };
        is(&facts, &Verdict::Decide(Matter::ArchivedNotLoaded));
    }
}

#[test]
fn what_was_published_and_is_nowhere_is_lost_unless_its_producer_has_it() {
    let gone = Facts { log: InLog::Published(10), ..nothing() };
    is(&gone, &Verdict::Mend(Mend::Republish(Matter::Lost { rows: 10 })));
    for log in [InLog::Filling, InLog::Sealed(10)] {
        is(&Facts { log, ..nothing() }, &Verdict::Agrees(Agreed::InTheMaking));
    }
}
