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
use shared::human::counted;
use shared::ids::BatchId;
use shared::seal::Seal;
use state::loads::ErrorClass;

use crate::facts::batch::{Facts, InFolder, InLoadStore, InLog, InQuarantine, unnamed_schema};
use crate::facts::wording;
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

/// Up to this age a batch may be in the making: seals are written within moments of its limit, unless S3 is away.
pub(crate) fn young(config: &Config) -> TimeDelta {
    let age = TimeDelta::from_std(config.batch.max_batch_age.0.saturating_mul(2)).unwrap_or(TimeDelta::MAX);
    age.checked_add(&TimeDelta::minutes(10)).unwrap_or(TimeDelta::MAX)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Agrees(Agreed),
    Mend(Mend),
    Decide(Matter),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreed {
    /// Its producer is writing it.
    InTheMaking,
    /// It is going to be loaded or archived.
    UnderWay,
    Loaded,
    LoadedAndGone,
}

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

/// What an operator has to decide about, with the text for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "matter", rename_all = "snake_case")]
pub(crate) enum Matter {
    #[error("LOST: the producer published {}; neither the ledger nor S3 has them", counted(*.rows, "row", "rows"))]
    Lost { rows: u64 },
    #[error("its producer published it, and its folder has no seal any more")]
    SealGone,
    /// `asked`: whether this machine's producer was asked.
    #[error(
        "a folder without seal, {}",
        if *.asked { "of which the producer of this machine knows nothing" } else { "whose producer could not be asked here" }
    )]
    NoSeal { asked: bool },
    #[error("{}", wording::seal_unusable(.why))]
    SealUnusable { why: String },
    #[error("{}", wording::ARCHIVED_NOT_LOADED)]
    ArchivedNotLoaded,
    #[error(
        "its rows were made for schema {schema}, its seal does not name their columns, and this ingester has another schema"
    )]
    OtherSchema { schema: String },
    #[error("it waits: {why}")]
    Stuck { class: ErrorClass, why: String },
    #[error("the ledger has it {times} times: its rows may stand in the table as often")]
    LedgerTwice { times: u64 },
    /// `sealed`: by the seal or the log.
    #[error("{}", wording::rows_differ(*.sealed, *.loaded, *.quarantined, *.known, *.forgotten))]
    RowsDiffer { sealed: u64, loaded: u64, quarantined: u64, known: u64, forgotten: u64 },
    #[error("the ledger has it, and its producer still adds rows to it: they would not be loaded")]
    LoadedWhileFilling,
    /// The rest of it is nowhere.
    #[error("rows of it are in quarantine in S3, and the ledger does not know the batch")]
    QuarantineUncounted,
    #[error("the ledger counts {rows} quarantined rows, and there are none in S3")]
    QuarantineGone { rows: u64 },
}

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
    let by_seal = facts.to_ingest.seal().or(facts.ingested.seal()).map(Seal::sealed_rows);
    // With another batch of its id about, the log may mean that one.
    let other = matches!(facts.to_ingest, InFolder::Other { .. });
    let by_log = match facts.log {
        InLog::Sealed(rows) | InLog::Published(rows) if !other && !facts.alike.contains(&rows) => Some(rows),
        _ => None,
    };
    let (loaded, quarantined) = (ledger.rows_loaded, ledger.rows_quarantined);
    let (known, forgotten) = (ledger.rows_known, ledger.rows_forgotten);
    if let Some(sealed) = [by_seal, by_log].into_iter().flatten().find(|sealed| *sealed != ledger.rows()) {
        return Some(Matter::RowsDiffer { sealed, loaded, quarantined, known, forgotten });
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
        (InFolder::Unusable(why) | InFolder::InArchive(why), _) => {
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
pub(crate) mod tests;
