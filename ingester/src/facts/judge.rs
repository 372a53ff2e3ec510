//! What is to be said of a batch by what log, S3 and ledger know of it. Decides only.
//!
//! | ledger | `to_ingest` | `ingested` | log | verdict |
//! |---|---|---|---|---|
//! | twice | | | | a person: its rows may stand twice |
//! | other rows than sealed | | | | a person |
//! | another batch of its id | sealed | any | | load it under an id of its own; archive it so, once the ledger has that |
//! | yes | | | filling | a person: it was loaded before it was whole |
//! | yes, rows quarantined | quarantine absent | | | a person |
//! | yes | left-overs in quarantine | | | delete them |
//! | yes | there, and not to be kept | any | | archive |
//! | yes | absent | absent | | agrees: archived by deleting, or a lifecycle rule |
//! | yes | absent | there | | agrees |
//! | no | sealed | any | | load; a person if its schema is another or it waits for more than time |
//! | no | seal unreadable | any | | upload once more, else a person |
//! | no | no seal | there | | a person |
//! | no | no seal | absent | unfinished | agrees: in the making |
//! | no | no seal | absent | published | upload once more, else a person |
//! | no | no seal | absent | unknown, not asked | agrees while it is young, then a person |
//! | no | absent | there | | a person: archived and not loaded |
//! | no | absent | absent | published | upload once more, else LOST |
//! | no | absent | absent | unfinished | agrees: in the log |
//! | no | absent, in quarantine only | absent | unknown, not asked | a person |

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use shared::config::Archive;
use shared::ids::BatchId;
use state::loads::ErrorClass;

/// What the producer's log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InLog {
    /// Nothing: it could not be asked.
    NotAsked,
    /// It does not know the batch.
    Unknown,
    /// It is filling.
    Filling,
    /// It is sealed with so many rows, and not noted as published.
    Sealed(u64),
    /// Its seal was confirmed by S3, with so many rows.
    Published(u64),
}

/// What stands in the folder below `s3.to_ingest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InFolder {
    /// Nothing.
    Absent,
    /// Objects, and no seal.
    NoSeal,
    /// A seal that was not read.
    Sealed,
    /// A seal.
    Read {
        /// Its rows.
        rows: u64,
        /// The fingerprint of their columns; None if it names these, so that any ingester can load them.
        schema: Option<String>,
    },
    /// A seal of another batch than the one that the ledger has under this id.
    Other {
        /// The fingerprint of its columns; None if it names these.
        schema: Option<String>,
        /// The id that is derived from its content, under which it is loaded.
        id: BatchId,
        /// Whether the ledger has it.
        loaded: bool,
    },
    /// A seal that cannot be used, and why.
    Unusable(String),
}

/// What stands in the folder below `s3.quarantine`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct InQuarantine {
    /// Rows, with their reasons: the set that the ledger names, or any if it names none.
    pub sets: bool,
    /// What a search for refused rows left over, or a set beside the one that the ledger names.
    pub left_over: bool,
}

/// What the ledger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InLedger {
    /// Ledger rows with its id.
    pub times: u64,
    /// Rows loaded.
    pub loaded: u64,
    /// Rows quarantined.
    pub quarantined: u64,
    /// Rows that the table had already.
    pub known: u64,
}

impl InLedger {
    /// All rows it accounts for.
    #[must_use]
    pub(crate) fn rows(&self) -> u64 {
        self.loaded.saturating_add(self.quarantined).saturating_add(self.known)
    }
}

/// What this machine's ingester says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InBook {
    /// Nothing, or that it was archived.
    Nothing,
    /// It is going to load or archive it.
    UnderWay,
    /// Its latest attempts failed for a reason that time alone does not mend.
    Stuck(ErrorClass, String),
}

/// What is known of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The batch.
    pub batch: BatchId,
    /// The producer's log.
    pub log: InLog,
    /// The folder below `s3.to_ingest`.
    pub folder: InFolder,
    /// Whether there is a folder below `s3.ingested`.
    pub archived: bool,
    /// Rows by the seal in that folder, if it was read.
    pub archived_rows: Option<u64>,
    /// The folder below `s3.quarantine`.
    pub quarantine: InQuarantine,
    /// The ledger.
    pub ledger: Option<InLedger>,
    /// Rows of batches that the ledger has under ids with the same time: of another batch of this id, perhaps, which the
    /// log may mean.
    pub alike: Vec<u64>,
    /// The ingester's bookkeeping.
    pub load_store: InBook,
}

/// What it is judged by.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// What becomes of loaded folders.
    pub archive: Archive,
    /// The columns this ingester loads.
    pub fingerprint: String,
    /// The present.
    pub now: DateTime<Utc>,
    /// Until a batch is so old its producer, on another machine perhaps, may still be at it.
    pub young: TimeDelta,
}

/// What is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is to be done.
    Agrees(Agreed),
    /// This is to be done.
    Mend(Mend),
    /// A person decides.
    Decide(Matter),
}

/// Why nothing is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreed {
    /// Its producer is at it.
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
    /// Load it.
    Load,
    /// Put its folder away.
    Archive,
    /// Put its folder away under this id: the ledger has another batch of its own.
    ArchiveAs(BatchId),
    /// Delete what is in quarantine and not counted by the ledger.
    Tidy,
    /// Have its producer upload it once more; if nobody can, this is for a person.
    Republish(Matter),
}

/// What a person has to decide about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "matter", rename_all = "snake_case")]
pub(crate) enum Matter {
    /// Published, not loaded, and nowhere in S3.
    Lost {
        /// Its rows.
        rows: u64,
    },
    /// Published, and its folder has no seal any more.
    SealGone,
    /// A folder without seal of which no producer is known.
    NoSeal {
        /// Whether this machine's producer was asked.
        asked: bool,
    },
    /// Its seal cannot be used.
    SealUnusable {
        /// Why.
        why: String,
    },
    /// Archived, and the ledger does not know it.
    ArchivedNotLoaded,
    /// Its rows were made for other columns.
    OtherSchema {
        /// Their fingerprint.
        schema: String,
    },
    /// It waits for something that time does not mend.
    Stuck {
        /// What kind it is.
        class: ErrorClass,
        /// What.
        why: String,
    },
    /// The ledger has it several times.
    LedgerTwice {
        /// How often.
        times: u64,
    },
    /// The ledger has other rows than were sealed.
    RowsDiffer {
        /// By the seal, or the log.
        sealed: u64,
        /// By the ledger.
        loaded: u64,
        /// By the ledger.
        quarantined: u64,
        /// By the ledger: in the table already.
        known: u64,
    },
    /// The ledger has it, and its producer still adds rows to it.
    LoadedWhileFilling,
    /// There are quarantined rows in S3, the ledger does not know the batch, and the rest of it is nowhere.
    QuarantineUncounted,
    /// The ledger counts quarantined rows, there are none in S3.
    QuarantineGone {
        /// How many.
        rows: u64,
    },
}

/// The verdict on a batch.
#[must_use]
pub(crate) fn judge(facts: &Facts, rules: &Rules) -> Verdict {
    match &facts.ledger {
        Some(ledger) => loaded(facts, *ledger, rules),
        None => not_loaded(facts, rules),
    }
}

fn loaded(facts: &Facts, ledger: InLedger, rules: &Rules) -> Verdict {
    let InLedger { times, loaded, quarantined, known } = ledger;
    if times > 1 {
        return Verdict::Decide(Matter::LedgerTwice { times });
    }
    let by_seal = match facts.folder {
        InFolder::Read { rows, .. } => Some(rows),
        _ => facts.archived_rows,
    };
    // With another batch of its id about, the log may mean that one.
    let other = matches!(facts.folder, InFolder::Other { .. });
    let by_log = match facts.log {
        InLog::Sealed(rows) | InLog::Published(rows) if !other && !facts.alike.contains(&rows) => Some(rows),
        _ => None,
    };
    for sealed in [by_seal, by_log].into_iter().flatten() {
        if ledger.rows() != sealed {
            return Verdict::Decide(Matter::RowsDiffer { sealed, loaded, quarantined, known });
        }
    }
    if facts.log == InLog::Filling {
        return Verdict::Decide(Matter::LoadedWhileFilling);
    }
    match (quarantined, facts.quarantine) {
        (1.., InQuarantine { sets: false, .. }) => {
            return Verdict::Decide(Matter::QuarantineGone { rows: quarantined });
        }
        // A replay that was cut short after its COMMIT.
        (0, InQuarantine { sets: true, .. }) | (_, InQuarantine { left_over: true, .. }) => {
            return Verdict::Mend(Mend::Tidy);
        }
        _ => {}
    }
    match (&facts.folder, &facts.load_store) {
        (InFolder::Other { loaded: false, schema, .. }, load_store) => {
            to_load(schema.as_deref(), load_store, rules)
        }
        (InFolder::Absent, _) if facts.archived => Verdict::Agrees(Agreed::Loaded),
        (InFolder::Absent, _) => Verdict::Agrees(Agreed::LoadedAndGone),
        _ if rules.archive == Archive::Keep => Verdict::Agrees(Agreed::Loaded),
        (_, InBook::UnderWay) => Verdict::Agrees(Agreed::UnderWay),
        (InFolder::Other { id, .. }, _) => Verdict::Mend(Mend::ArchiveAs(*id)),
        _ => Verdict::Mend(Mend::Archive),
    }
}

/// A batch that has a seal and is not loaded.
fn to_load(schema: Option<&str>, load_store: &InBook, rules: &Rules) -> Verdict {
    match (schema, load_store) {
        (Some(schema), _) if *schema != rules.fingerprint => {
            Verdict::Decide(Matter::OtherSchema { schema: schema.to_owned() })
        }
        (_, InBook::Stuck(class, why)) => Verdict::Decide(Matter::Stuck { class: *class, why: why.clone() }),
        (_, InBook::UnderWay) => Verdict::Agrees(Agreed::UnderWay),
        (_, InBook::Nothing) => Verdict::Mend(Mend::Load),
    }
}

fn not_loaded(facts: &Facts, rules: &Rules) -> Verdict {
    let decide = Verdict::Decide;
    match (&facts.folder, &facts.load_store, facts.log) {
        (InFolder::Unusable(why), ..) => {
            Verdict::Mend(Mend::Republish(Matter::SealUnusable { why: why.clone() }))
        }
        (InFolder::Read { schema, .. } | InFolder::Other { schema, .. }, load_store, _) => {
            to_load(schema.as_deref(), load_store, rules)
        }
        (InFolder::Sealed, load_store, _) => to_load(None, load_store, rules),
        (InFolder::NoSeal | InFolder::Absent, _, _) if facts.archived => decide(Matter::ArchivedNotLoaded),
        (InFolder::NoSeal | InFolder::Absent, _, InLog::Filling | InLog::Sealed(_)) => {
            Verdict::Agrees(Agreed::InTheMaking)
        }
        (InFolder::NoSeal, _, InLog::Published(_)) => Verdict::Mend(Mend::Republish(Matter::SealGone)),
        (InFolder::NoSeal, _, log) => {
            let young = rules.now - facts.batch.opened_at() < rules.young;
            let asked = log == InLog::Unknown;
            if young { Verdict::Agrees(Agreed::InTheMaking) } else { decide(Matter::NoSeal { asked }) }
        }
        (InFolder::Absent, _, InLog::Published(rows)) => {
            Verdict::Mend(Mend::Republish(Matter::Lost { rows }))
        }
        (InFolder::Absent, _, InLog::NotAsked | InLog::Unknown) => decide(Matter::QuarantineUncounted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "0123456789abcdef";

    fn rules() -> Rules {
        Rules {
            archive: Archive::Move,
            fingerprint: OURS.to_owned(),
            now: Utc::now() + TimeDelta::hours(1),
            young: TimeDelta::minutes(20),
        }
    }

    fn nothing() -> Facts {
        Facts {
            batch: BatchId::new(),
            log: InLog::Unknown,
            folder: InFolder::Absent,
            archived: false,
            archived_rows: None,
            quarantine: InQuarantine::default(),
            ledger: None,
            alike: Vec::new(),
            load_store: InBook::Nothing,
        }
    }

    const SETS: InQuarantine = InQuarantine { sets: true, left_over: false };

    fn entry(loaded: u64, quarantined: u64) -> Option<InLedger> {
        Some(InLedger { times: 1, loaded, quarantined, known: 0 })
    }

    fn read(schema: &str) -> InFolder {
        InFolder::Read { rows: 10, schema: Some(schema.to_owned()) }
    }

    #[track_caller]
    fn is(facts: &Facts, verdict: &Verdict) {
        assert_eq!(judge(facts, &rules()), *verdict, "{facts:?}");
    }

    #[test]
    fn a_loaded_batch_agrees_wherever_its_folder_belongs() {
        let loaded = Facts { ledger: entry(10, 0), log: InLog::Published(10), ..nothing() };
        is(&loaded, &Verdict::Agrees(Agreed::LoadedAndGone));
        is(&Facts { archived: true, ..loaded.clone() }, &Verdict::Agrees(Agreed::Loaded));
        // The producer was killed between the seal and its note.
        is(
            &Facts { log: InLog::Sealed(10), archived: true, ..loaded.clone() },
            &Verdict::Agrees(Agreed::Loaded),
        );
        let kept = Facts { folder: InFolder::Sealed, ..loaded };
        let keep = Rules { archive: Archive::Keep, ..rules() };
        assert_eq!(judge(&kept, &keep), Verdict::Agrees(Agreed::Loaded));
    }

    #[test]
    fn a_loaded_batch_whose_folder_still_waits_is_archived_unless_the_ingester_is_at_it() {
        for folder in
            [InFolder::Sealed, InFolder::NoSeal, read(OURS), read("ffff"), InFolder::Unusable(String::new())]
        {
            for archived in [false, true] {
                let facts = Facts { folder: folder.clone(), archived, ledger: entry(10, 0), ..nothing() };
                is(&facts, &Verdict::Mend(Mend::Archive));
                is(&Facts { load_store: InBook::UnderWay, ..facts }, &Verdict::Agrees(Agreed::UnderWay));
            }
        }
    }

    #[test]
    fn other_rows_than_sealed_are_named_whoever_knows_them() {
        let matter = |loaded, quarantined| {
            Verdict::Decide(Matter::RowsDiffer { sealed: 10, loaded, quarantined, known: 0 })
        };
        is(&Facts { ledger: entry(9, 0), log: InLog::Published(10), ..nothing() }, &matter(9, 0));
        is(&Facts { ledger: entry(9, 2), folder: read(OURS), ..nothing() }, &matter(9, 2));
        is(
            &Facts { ledger: entry(11, 0), archived: true, archived_rows: Some(10), ..nothing() },
            &matter(11, 0),
        );
        let adds_up = Facts { ledger: entry(9, 1), log: InLog::Published(10), quarantine: SETS, ..nothing() };
        is(&adds_up, &Verdict::Agrees(Agreed::LoadedAndGone));
        let known = Some(InLedger { times: 1, loaded: 6, quarantined: 1, known: 3 });
        is(&Facts { ledger: known, ..adds_up.clone() }, &Verdict::Agrees(Agreed::LoadedAndGone));
        let short = Some(InLedger { times: 1, loaded: 6, quarantined: 1, known: 2 });
        let matter = Matter::RowsDiffer { sealed: 10, loaded: 6, quarantined: 1, known: 2 };
        is(&Facts { ledger: short, ..adds_up }, &Verdict::Decide(matter));
    }

    #[test]
    fn another_batch_of_its_id_is_loaded_and_put_away_under_an_id_of_its_own() {
        let id = BatchId::new();
        let other = |loaded| InFolder::Other { schema: Some(OURS.to_owned()), id, loaded };
        // The log was restored: it means the other one.
        let waits =
            Facts { ledger: entry(9, 0), folder: other(false), log: InLog::Published(10), ..nothing() };
        is(&waits, &Verdict::Mend(Mend::Load));
        is(&Facts { load_store: InBook::UnderWay, ..waits.clone() }, &Verdict::Agrees(Agreed::UnderWay));
        let loaded = Facts { folder: other(true), ..waits.clone() };
        is(&loaded, &Verdict::Mend(Mend::ArchiveAs(id)));
        let keep = Rules { archive: Archive::Keep, ..rules() };
        assert_eq!(judge(&loaded, &keep), Verdict::Agrees(Agreed::Loaded));
        assert_eq!(judge(&waits, &keep), Verdict::Mend(Mend::Load));
        let away = Facts { folder: InFolder::Absent, archived: true, alike: vec![10], ..loaded };
        is(&away, &Verdict::Agrees(Agreed::Loaded));
        let lost = Verdict::Decide(Matter::RowsDiffer { sealed: 10, loaded: 9, quarantined: 0, known: 0 });
        is(&Facts { alike: vec![7], ..away }, &lost);
        let foreign = InFolder::Other { schema: Some("ffff".to_owned()), id, loaded: false };
        let matter = Matter::OtherSchema { schema: "ffff".to_owned() };
        is(&Facts { folder: foreign, ..waits }, &Verdict::Decide(matter));
    }

    #[test]
    fn a_ledger_that_contradicts_itself_or_the_log_is_named() {
        let twice = Some(InLedger { times: 2, loaded: 10, quarantined: 0, known: 0 });
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
        let before_its_load = Facts { quarantine: SETS, folder: read(OURS), ..nothing() };
        is(&before_its_load, &Verdict::Mend(Mend::Load));
    }

    #[test]
    fn a_sealed_batch_is_loaded_unless_it_cannot_be() {
        for folder in [read(OURS), InFolder::Sealed] {
            for archived in [false, true] {
                let facts = Facts { folder: folder.clone(), archived, ..nothing() };
                is(&facts, &Verdict::Mend(Mend::Load));
            }
            let facts = Facts { folder: folder.clone(), ..nothing() };
            is(&Facts { load_store: InBook::UnderWay, ..facts.clone() }, &Verdict::Agrees(Agreed::UnderWay));
            let why = || "0.csv is missing".to_owned();
            let stuck = Facts { load_store: InBook::Stuck(ErrorClass::Incomplete, why()), ..facts };
            let matter = Matter::Stuck { class: ErrorClass::Incomplete, why: why() };
            is(&stuck, &Verdict::Decide(matter));
        }
        let other = Matter::OtherSchema { schema: "ffff".to_owned() };
        is(&Facts { folder: read("ffff"), ..nothing() }, &Verdict::Decide(other));
        let named = Facts { folder: InFolder::Read { rows: 10, schema: None }, ..nothing() };
        is(&named, &Verdict::Mend(Mend::Load));
        let unusable = Facts { folder: InFolder::Unusable("no JSON".to_owned()), ..nothing() };
        let matter = Matter::SealUnusable { why: "no JSON".to_owned() };
        is(&unusable, &Verdict::Mend(Mend::Republish(matter)));
    }

    #[test]
    fn a_folder_without_seal_is_its_producers_while_there_is_one() {
        let open = Facts { folder: InFolder::NoSeal, ..nothing() };
        for log in [InLog::Filling, InLog::Sealed(10)] {
            is(&Facts { log, ..open.clone() }, &Verdict::Agrees(Agreed::InTheMaking));
        }
        let published = Facts { log: InLog::Published(10), ..open.clone() };
        is(&published, &Verdict::Mend(Mend::Republish(Matter::SealGone)));
        for (log, asked) in [(InLog::Unknown, true), (InLog::NotAsked, false)] {
            let facts = Facts { log, ..open.clone() };
            is(&facts, &Verdict::Decide(Matter::NoSeal { asked }));
            let young = Rules { now: Utc::now(), ..rules() };
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
            let facts = Facts { folder, log, archived: true, ..nothing() };
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
