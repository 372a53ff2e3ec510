//! The verdict on a batch. Pure: `reconcile` acts on it.
//!
//! | ledger | `to_ingest` | `ingested` | log | verdict |
//! |---|---|---|---|---|
//! | twice | | | | an operator: its rows may stand twice |
//! | other rows than sealed | | | | an operator |
//! | another batch of its id | sealed | any | | load it under an id of its own; archive it so, once the ledger has that |
//! | yes | | | filling | an operator: it was loaded before it was whole |
//! | yes, rows quarantined | quarantine absent | | | an operator |
//! | yes | left-overs in quarantine | | | delete them |
//! | yes | there, and not to be kept | any | | archive |
//! | yes | absent | absent | | agrees: archived by deleting, or a lifecycle rule |
//! | yes | absent | there | | agrees |
//! | no | sealed | any | | load; an operator if its schema is another or it waits for more than time |
//! | no | seal unreadable | any | | upload once more, else an operator |
//! | no | no seal | there | | an operator |
//! | no | no seal | absent | unfinished | agrees: in the making |
//! | no | no seal | absent | published | upload once more, else an operator |
//! | no | no seal | absent | unknown, not asked | agrees while it is young, then an operator |
//! | no | absent | there | | an operator: archived and not loaded |
//! | no | absent | absent | published | upload once more, else LOST |
//! | no | absent | absent | unfinished | agrees: in the log |
//! | no | absent, in quarantine only | absent | unknown, not asked | an operator |

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use shared::config::{Archive, Config};
use shared::ids::BatchId;
use state::loads::ErrorClass;

use crate::facts::batch::{Facts, InFolder, InLoadStore, InLog, InQuarantine, unnamed_schema};
use crate::redshift::ledger::LedgerRow;

/// What a verdict depends on beside the facts.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub archive: Archive,
    /// The columns this ingester loads.
    pub fingerprint: String,
    pub now: DateTime<Utc>,
    /// Up to this age a producer, perhaps on another machine, may still be writing a batch.
    pub young: TimeDelta,
}

/// The age up to which a batch may still be in the making: files go up and seals are written within moments of the
/// limit, unless S3 is away.
#[must_use]
pub(crate) fn young(config: &Config) -> TimeDelta {
    let age = TimeDelta::from_std(config.batch.max_batch_age.0.saturating_mul(2)).unwrap_or(TimeDelta::MAX);
    age.checked_add(&TimeDelta::minutes(10)).unwrap_or(TimeDelta::MAX)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is to be done.
    Agrees(Agreed),
    Mend(Mend),
    /// An operator decides.
    Decide(Matter),
}

/// Why nothing is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreed {
    /// Its producer is writing it.
    InTheMaking,
    /// It is going to be loaded or archived.
    UnderWay,
    /// It is loaded, and where it belongs.
    Loaded,
    /// It is loaded, and nothing of it is left in S3.
    LoadedAndGone,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mend {
    Load,
    /// Archive its folder under this id: another one than its own, if the ledger has another batch of that.
    Archive(BatchId),
    /// Delete what is in quarantine and not counted by the ledger.
    Tidy,
    /// Have its producer upload it once more; if nobody can, an operator decides.
    Republish(Matter),
}

/// What an operator has to decide about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "matter", rename_all = "snake_case")]
pub(crate) enum Matter {
    /// Published, not loaded, and nowhere in S3.
    Lost {
        rows: u64,
    },
    /// Published, and its folder has no seal any more.
    SealGone,
    /// A folder without seal of which no producer is known; `asked`: whether this machine's producer was asked.
    NoSeal {
        asked: bool,
    },
    SealUnusable {
        why: String,
    },
    /// Archived, and the ledger does not know it.
    ArchivedNotLoaded,
    /// Its rows were made for other columns, of this fingerprint.
    OtherSchema {
        schema: String,
    },
    /// It waits for something that time does not mend.
    Stuck {
        class: ErrorClass,
        why: String,
    },
    LedgerTwice {
        times: u64,
    },
    /// The ledger has other rows than were sealed, by the seal or the log.
    RowsDiffer {
        sealed: u64,
        loaded: u64,
        quarantined: u64,
        known: u64,
    },
    /// The ledger has it, and its producer still adds rows to it.
    LoadedWhileFilling,
    /// There are quarantined rows in S3, the ledger does not know the batch, and the rest of it is nowhere.
    QuarantineUncounted,
    /// The ledger counts quarantined rows, there are none in S3.
    QuarantineGone {
        rows: u64,
    },
}

/// The verdict on a batch.
#[must_use]
pub(crate) fn judge(facts: &Facts, rules: &Rules) -> Verdict {
    match &facts.ledger {
        Some(ledger) => contradiction(facts, ledger)
            .map_or_else(|| loaded(facts, ledger.rows_quarantined, rules), Verdict::Decide),
        None => not_loaded(facts, rules),
    }
}

/// What the ledger says that cannot be true of this batch.
fn contradiction(facts: &Facts, ledger: &LedgerRow) -> Option<Matter> {
    if ledger.times > 1 {
        return Some(Matter::LedgerTwice { times: ledger.times });
    }
    let by_seal = facts.to_ingest.seal().or(facts.ingested.seal()).map(|seal| seal.rows);
    // With another batch of its id about, the log may mean that one.
    let other = matches!(facts.to_ingest, InFolder::Other { .. });
    let by_log = match facts.log {
        InLog::Sealed(rows) | InLog::Published(rows) if !other && !facts.alike.contains(&rows) => Some(rows),
        _ => None,
    };
    let (loaded, quarantined, known) = (ledger.rows_loaded, ledger.rows_quarantined, ledger.rows_known);
    if let Some(sealed) = [by_seal, by_log].into_iter().flatten().find(|sealed| *sealed != ledger.rows()) {
        return Some(Matter::RowsDiffer { sealed, loaded, quarantined, known });
    }
    if facts.log == InLog::Filling {
        return Some(Matter::LoadedWhileFilling);
    }
    (quarantined > 0 && !facts.quarantine.sets).then_some(Matter::QuarantineGone { rows: quarantined })
}

fn loaded(facts: &Facts, quarantined: u64, rules: &Rules) -> Verdict {
    // Sets that the ledger does not count: a replay was cut short after its COMMIT.
    let InQuarantine { sets, left_over } = facts.quarantine;
    if left_over || (quarantined == 0 && sets) {
        return Verdict::Mend(Mend::Tidy);
    }
    match (&facts.to_ingest, &facts.load_store) {
        (InFolder::Other { loaded: false, schema, .. }, load_store) => {
            to_load(schema.as_deref(), load_store, rules)
        }
        (InFolder::Absent, _) if facts.ingested != InFolder::Absent => Verdict::Agrees(Agreed::Loaded),
        (InFolder::Absent, _) => Verdict::Agrees(Agreed::LoadedAndGone),
        _ if rules.archive == Archive::Keep => Verdict::Agrees(Agreed::Loaded),
        (_, InLoadStore::UnderWay) => Verdict::Agrees(Agreed::UnderWay),
        (InFolder::Other { id, .. }, _) => Verdict::Mend(Mend::Archive(*id)),
        _ => Verdict::Mend(Mend::Archive(facts.batch)),
    }
}

/// A batch that has a seal and is not loaded.
fn to_load(schema: Option<&str>, load_store: &InLoadStore, rules: &Rules) -> Verdict {
    match (schema, load_store) {
        (Some(schema), _) if *schema != rules.fingerprint => {
            Verdict::Decide(Matter::OtherSchema { schema: schema.to_owned() })
        }
        (_, InLoadStore::Stuck(class, why)) => {
            Verdict::Decide(Matter::Stuck { class: *class, why: why.clone() })
        }
        (_, InLoadStore::UnderWay) => Verdict::Agrees(Agreed::UnderWay),
        (_, InLoadStore::Nothing) => Verdict::Mend(Mend::Load),
    }
}

fn not_loaded(facts: &Facts, rules: &Rules) -> Verdict {
    let decide = Verdict::Decide;
    let archived = facts.ingested != InFolder::Absent;
    match (&facts.to_ingest, facts.log) {
        (InFolder::Unusable(why) | InFolder::Asleep(why), _) => {
            Verdict::Mend(Mend::Republish(Matter::SealUnusable { why: why.clone() }))
        }
        (InFolder::Read(seal), _) => to_load(unnamed_schema(seal).as_deref(), &facts.load_store, rules),
        (InFolder::Other { schema, .. }, _) => to_load(schema.as_deref(), &facts.load_store, rules),
        (InFolder::Sealed, _) => to_load(None, &facts.load_store, rules),
        (InFolder::NoSeal | InFolder::Absent, _) if archived => decide(Matter::ArchivedNotLoaded),
        (InFolder::NoSeal | InFolder::Absent, InLog::Filling | InLog::Sealed(_)) => {
            Verdict::Agrees(Agreed::InTheMaking)
        }
        (InFolder::NoSeal, InLog::Published(_)) => Verdict::Mend(Mend::Republish(Matter::SealGone)),
        (InFolder::NoSeal, log) => {
            let young = rules.now - facts.batch.opened_at() < rules.young;
            let asked = log == InLog::Unknown;
            if young { Verdict::Agrees(Agreed::InTheMaking) } else { decide(Matter::NoSeal { asked }) }
        }
        (InFolder::Absent, InLog::Published(rows)) => Verdict::Mend(Mend::Republish(Matter::Lost { rows })),
        (InFolder::Absent, InLog::NotAsked | InLog::Unknown) => decide(Matter::QuarantineUncounted),
    }
}

#[cfg(test)]
pub(crate) mod tests {
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
            Verdict::Decide(Matter::RowsDiffer { sealed: 10, loaded, quarantined, known: 0 })
        };
        is(&Facts { ledger: entry(9, 0), log: InLog::Published(10), ..nothing() }, &matter(9, 0));
        is(&Facts { ledger: entry(9, 2), to_ingest: read(OURS), ..nothing() }, &matter(9, 2));
        is(&Facts { ledger: entry(11, 0), ingested: read(OURS), ..nothing() }, &matter(11, 0));
        let adds_up = Facts { ledger: entry(9, 1), log: InLog::Published(10), quarantine: SETS, ..nothing() };
        is(&adds_up, &Verdict::Agrees(Agreed::LoadedAndGone));
        let known = Some(row(6, 1, 3));
        is(&Facts { ledger: known, ..adds_up.clone() }, &Verdict::Agrees(Agreed::LoadedAndGone));
        let short = Some(row(6, 1, 2));
        let matter = Matter::RowsDiffer { sealed: 10, loaded: 6, quarantined: 1, known: 2 };
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
        let away =
            Facts { to_ingest: InFolder::Absent, ingested: InFolder::Sealed, alike: vec![10], ..loaded };
        is(&away, &Verdict::Agrees(Agreed::Loaded));
        let lost = Verdict::Decide(Matter::RowsDiffer { sealed: 10, loaded: 9, quarantined: 0, known: 0 });
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
            is(
                &Facts { load_store: InLoadStore::UnderWay, ..facts.clone() },
                &Verdict::Agrees(Agreed::UnderWay),
            );
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
}
