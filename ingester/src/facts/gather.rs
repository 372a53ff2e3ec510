//! Gathers what log, S3, ledger and load store say, a day at a time, so that memory holds one day's batches however
//! long the time is that is compared.
//!
//! The order of reading matters. A batch goes from log to `to_ingest` to ledger to `ingested`, and leaves `to_ingest`
//! only when the ledger has it. Read in the order log, `to_ingest`, ledger, a batch that moves meanwhile is seen twice
//! rather than never: none that is well is taken for lost. `ingested` is read before the ledger, so that what is
//! archived is loaded.
//!
//! For quarantine no order does: a load puts a set there before the ledger counts it, a replay deletes it after the
//! ledger counts it no more. Read after the ledger, only a replay in between looks like damage, and that only once: a
//! second reading finds it done.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures_util::StreamExt;
use shared::config::{Archive, Config};
use shared::content::Content;
use shared::ids::BatchId;
use shared::layout;
use shared::object_store::{ObjectStore, ObjectStoreError, ObjectStoreErrorKind};
use shared::seal::Seal;
use state::loads::{ErrorClass, Load, LoadState};
use state::log::BatchStatus;
use state::status::snapshot::ProducerSnapshot;

use crate::facts::batch::{Facts, InFolder, InLoadStore, InLog, InQuarantine, unnamed_schema};
use crate::facts::folder::{SealRead, read_seal};
use crate::facts::listing::{batches_of_day, list_folders};
use crate::failure::LoadFailure;
use crate::quarantine::{SCRATCH, is_of_search, set};
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::ledger::LedgerRow;
use crate::redshift::ledger_lookup::derived_id;
use crate::redshift::{Session, Target, ledger};

/// Longer than a search for refused rows takes: older objects are left over from a search that was cut short.
const SEARCHED: TimeDelta = TimeDelta::hours(1);

/// What the two databases said before S3 was read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Databases {
    /// The batches of the log; None if it could not be asked.
    pub log: Option<BTreeMap<BatchId, InLog>>,
    pub loads: HashMap<BatchId, Load>,
}

pub(crate) fn in_log(snapshot: &ProducerSnapshot) -> BTreeMap<BatchId, InLog> {
    let of = |status, rows| match status {
        BatchStatus::Filling => InLog::Filling,
        BatchStatus::Sealed => InLog::Sealed(rows),
        BatchStatus::Published => InLog::Published(rows),
    };
    snapshot.batches.iter().map(|batch| (batch.batch, of(batch.status, batch.rows))).collect()
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Seals<'s> {
    /// Of batches that are to be loaded or archived.
    Open,
    /// Also of archived batches that the log does not know.
    OpenAndUnlogged,
    /// Of every batch, or of every one of these. S3 refusing one ends the reading.
    All(Option<&'s BTreeSet<BatchId>>),
}

pub(crate) struct Sources<'a> {
    pub store: &'a ObjectStore,
    pub config: &'a Config,
    pub target: &'a Target,
    pub session: &'a Session,
    /// The present: what a search wrote may be in use while it is young.
    pub now: DateTime<Utc>,
}

/// A part of a day: from the first moment to before the second.
pub(crate) type Part = (DateTime<Utc>, DateTime<Utc>);

impl Sources<'_> {
    /// Every day since `since`, and the earlier ones of which a folder waits or the log has a batch that is not published.
    pub(crate) async fn days(
        &self,
        known: &Databases,
        since: DateTime<Utc>,
    ) -> Result<BTreeSet<NaiveDate>, ObjectStoreError> {
        let mut days: BTreeSet<NaiveDate> =
            since.date_naive().iter_days().take_while(|day| *day <= self.now.date_naive()).collect();
        let unfinished = known.log.iter().flatten().filter(|(_, log)| !matches!(log, InLog::Published(_)));
        days.extend(unfinished.map(|(batch, _)| batch.day()));
        let waiting = known.loads.values().filter(|load| !matches!(load.state, LoadState::Archived { .. }));
        days.extend(waiting.map(|load| load.batch.day()));
        if self.config.ingester.archive != Archive::Keep {
            let prefix = &self.config.s3.to_ingest;
            let folders = self.store.folders(prefix, |name| layout::parse_day(name).is_some()).await?;
            for folder in folders {
                let day =
                    folder.strip_prefix(prefix).and_then(|name| layout::parse_day(name.strip_suffix('/')?));
                // Whoever writes to the bucket may make days without end: one without a batch costs one request.
                if let Some(day) = day.filter(|day| !days.contains(day))
                    && !batches_of_day(self.store, &folder).await?.is_empty()
                {
                    days.insert(day);
                }
            }
        }
        Ok(days)
    }

    /// All batches of a day. The ledger is read only of those that were opened in this part of it.
    pub(crate) async fn batches(
        &self,
        (from, to): Part,
        known: &Databases,
        seals: Seals<'_>,
    ) -> Result<BTreeMap<BatchId, Facts>, LoadFailure> {
        let (s3, day) = (&self.config.s3, from.date_naive());
        let of_day = layout::day_folder(&s3.to_ingest, day);
        let (listed, _) = list_folders(self.store, &s3.to_ingest, &of_day, None).await?;
        let folder = |seal| if seal { InFolder::Sealed } else { InFolder::NoSeal };
        let listed = listed.into_iter().map(|found| (found.batch, folder(found.seal.is_some())));
        let mut to_ingest: BTreeMap<_, _> = listed.collect();
        // Before the ledger: what is archived by now is in it.
        let archived = batches_of_day(self.store, &layout::day_folder(&s3.ingested, day)).await?;
        let mut ingested: BTreeMap<_, _> =
            archived.into_iter().map(|batch| (batch, InFolder::Sealed)).collect();
        let rows = ledger::read(self.session, self.target, from, to).await;
        let rows = rows.doing(Doing::ReadLedger)?;
        let ledger: BTreeMap<BatchId, LedgerRow> = rows.into_iter().map(|row| (row.batch, row)).collect();
        let quarantine = self.list_quarantine(day, &ledger).await?;
        let logged = known.log.iter().flatten().filter(|(batch, _)| batch.day() == day);
        let logged: BTreeMap<BatchId, InLog> = logged.map(|(batch, log)| (*batch, *log)).collect();

        let keep = self.config.ingester.archive == Archive::Keep;
        let chosen = |only: Option<&BTreeSet<BatchId>>, batch: &BatchId| {
            (from..to).contains(&batch.opened_at()) && only.is_none_or(|only| only.contains(batch))
        };
        let open = |batch: &BatchId| match seals {
            Seals::Open | Seals::OpenAndUnlogged => !(keep && ledger.contains_key(batch)),
            Seals::All(only) => chosen(only, batch) && !ingested.contains_key(batch),
        };
        let unread = to_ingest.iter().filter(|(batch, folder)| **folder == InFolder::Sealed && open(batch));
        let unread: Vec<BatchId> = unread.map(|(batch, _)| *batch).collect();
        self.read_seals(&s3.to_ingest, unread, seals, &mut to_ingest).await?;
        let archived = |batch: &BatchId| match seals {
            Seals::Open => false,
            Seals::OpenAndUnlogged => ledger.contains_key(batch) && !logged.contains_key(batch),
            Seals::All(only) => chosen(only, batch),
        };
        let unread = ingested.keys().filter(|batch| archived(batch)).copied().collect();
        self.read_seals(&s3.ingested, unread, seals, &mut ingested).await?;

        let mut all: BTreeSet<BatchId> = to_ingest.keys().chain(ingested.keys()).copied().collect();
        all.extend(quarantine.keys().chain(ledger.keys()).chain(logged.keys()));
        let unknown = if known.log.is_some() { InLog::Unknown } else { InLog::NotAsked };
        let facts = all.into_iter().map(|batch| {
            let row = ledger.get(&batch);
            let folder = to_ingest.remove(&batch).unwrap_or(InFolder::Absent);
            let facts = Facts {
                log: logged.get(&batch).copied().unwrap_or(unknown),
                to_ingest: match (folder, row) {
                    (InFolder::Read(seal), Some(row)) => {
                        told_apart(seal, row.content.as_ref(), |id| ledger.contains_key(&id))
                    }
                    (folder, _) => folder,
                },
                ingested: ingested.remove(&batch).unwrap_or(InFolder::Absent),
                quarantine: quarantine.get(&batch).copied().unwrap_or_default(),
                ledger: row.cloned(),
                alike: alike(&ledger, batch),
                load_store: in_load_store(known.loads.get(&batch)),
                ..Facts::nothing_of(batch)
            };
            (batch, facts)
        });
        Ok(facts.collect())
    }

    /// What stands in quarantine of the batches of a day. Objects of other programs say nothing of a batch.
    async fn list_quarantine(
        &self,
        day: NaiveDate,
        ledger: &BTreeMap<BatchId, LedgerRow>,
    ) -> Result<BTreeMap<BatchId, InQuarantine>, ObjectStoreError> {
        let prefix = &self.config.s3.quarantine;
        let mut quarantine = BTreeMap::new();
        for batch in batches_of_day(self.store, &layout::day_folder(prefix, day)).await? {
            let counts = ledger.get(&batch).filter(|row| row.rows_quarantined > 0);
            let named = counts.and_then(|row| Some(set::folder(prefix, batch, row.set.as_deref()?)));
            let mut there = InQuarantine::default();
            let own = layout::folder(prefix, batch);
            let is_set_or_scratch =
                |name: &str| set::is_hash(name) || SCRATCH.strip_suffix('/') == Some(name);
            for folder in self.store.folders(&own, is_set_or_scratch).await? {
                if folder.ends_with(SCRATCH) {
                    let ours = |key: &str| key.strip_prefix(&folder).is_some_and(is_of_search);
                    let old = self.store.list_older(&folder, self.now - SEARCHED, ours).await?;
                    there.left_over |= !old.is_empty();
                } else if set::name_of(&own, &folder).is_some() {
                    note_set(&mut there, &folder, named.as_deref());
                }
            }
            if there != InQuarantine::default() {
                quarantine.insert(batch, there);
            }
        }
        Ok(quarantine)
    }

    /// Reads the seals of these batches, several at once. A folder whose seal has just gone from `to_ingest` stays as the
    /// listing showed it.
    async fn read_seals(
        &self,
        prefix: &str,
        batches: Vec<BatchId>,
        seals: Seals<'_>,
        folders: &mut BTreeMap<BatchId, InFolder>,
    ) -> Result<(), ObjectStoreError> {
        let read = batches.into_iter().map(|batch| async move {
            (batch, read_seal(self.store, &layout::folder(prefix, batch), batch).await)
        });
        let mut read = futures_util::stream::iter(read).buffer_unordered(self.config.s3.uploads);
        while let Some((batch, answer)) = read.next().await {
            let folder = match answer {
                Ok(SealRead::Usable(seal)) if matches!(seals, Seals::All(_)) => InFolder::Read(seal),
                Ok(SealRead::Usable(seal)) => InFolder::Read(without_names(seal)),
                Ok(SealRead::Unusable(why)) => InFolder::Unusable(why),
                Ok(SealRead::Missing) if prefix == self.config.s3.ingested => InFolder::NoSeal,
                Ok(SealRead::Missing) => continue,
                Err(error) if error.is_in_archive() => InFolder::InArchive(error.to_string()),
                Err(error) if error.kind() == ObjectStoreErrorKind::Passing => return Err(error),
                Err(error) if matches!(seals, Seals::All(_)) && !error.is_too_large() => return Err(error),
                // Of this object alone: the listing worked.
                Err(error) => InFolder::Unusable(error.to_string()),
            };
            folders.insert(batch, folder);
        }
        Ok(())
    }
}

/// Memory holds the seals of a day, and whoever writes to the bucket may fill each with names. Nothing that is compared needs one.
fn without_names(mut seal: Box<Seal>) -> Box<Seal> {
    // Without a checksum of its content a batch is told from another one by those of its files.
    if seal.content.is_some() {
        seal.files = Vec::new();
    }
    seal.columns = seal.columns.map(|_| Vec::new());
    seal.forgotten.iter_mut().for_each(|forgotten| forgotten.replaced = Vec::new());
    seal.compared.iter_mut().for_each(|compared| compared.known = Vec::new());
    seal
}

/// While the ledger names no set, any may come to count; `named` is the folder of the one that does.
fn note_set(there: &mut InQuarantine, folder: &str, named: Option<&str>) {
    if named.is_none_or(|named| named == folder) {
        there.sets = true;
    } else {
        there.left_over = true;
    }
}

/// Whether a seal in the folder of a batch that the ledger has is of that batch, or of another one of the same id.
fn told_apart(seal: Box<Seal>, content: Option<&Content>, in_ledger: impl Fn(BatchId) -> bool) -> InFolder {
    let id = derived_id(&seal);
    let loaded = in_ledger(id);
    let other = seal.content.as_ref().zip(content).is_some_and(|(ours, theirs)| ours != theirs);
    // Of batches without checksum the ledger tells, once it has the other.
    if loaded || other {
        InFolder::Other { schema: unnamed_schema(&seal), id, loaded }
    } else {
        InFolder::Read(seal)
    }
}

/// Rows of the batches that the ledger has under other ids with the time of this one.
fn alike(ledger: &BTreeMap<BatchId, LedgerRow>, batch: BatchId) -> Vec<u64> {
    let at = batch.opened_at();
    let same_time = ledger.range(BatchId::floor(at)..).take_while(|(id, _)| id.opened_at() == at);
    same_time.filter(|(id, _)| **id != batch).map(|(_, row)| row.rows()).collect()
}

fn in_load_store(load: Option<&Load>) -> InLoadStore {
    match load.map(|load| (&load.state, load.attempts.max(load.failed))) {
        None | Some((LoadState::Archived { .. }, _)) => InLoadStore::Nothing,
        // What one attempt met may be mended by the next.
        Some((LoadState::Retrying { class, why, .. }, 2..)) if *class != ErrorClass::Passing => {
            InLoadStore::Stuck(*class, why.clone())
        }
        Some(_) => InLoadStore::UnderWay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::folder::tests::seal;

    #[test]
    fn another_batch_of_an_id_is_told_by_its_content_or_by_the_ledger_that_has_it() {
        let (ours, theirs) = (Content::of_rows(b"a"), Content::of_rows(b"b"));
        let with = |content| Box::new(Seal { content, ..seal() });
        let is_other = |seal, content: Option<&Content>, has: bool| matches!(told_apart(seal, content, |_| has), InFolder::Other { loaded, .. } if loaded == has);
        assert!(!is_other(with(Some(ours)), Some(&ours), false));
        assert!(is_other(with(Some(ours)), Some(&theirs), false));
        assert!(is_other(with(Some(ours)), Some(&theirs), true));
        assert!(!is_other(with(None), Some(&theirs), false), "nobody knows");
        assert!(is_other(with(None), None, true));
    }

    #[test]
    fn what_is_held_of_a_seal_says_the_same_of_its_batch() {
        for content in [None, Some(Content::of_rows(b"a"))] {
            for columns in [None, Some(vec!["a".to_owned(), "b".to_owned()])] {
                let whole = Seal { content, columns, ..seal() };
                let held = without_names(Box::new(whole.clone()));
                assert_eq!(derived_id(&held), derived_id(&whole));
                assert_eq!(unnamed_schema(&held), unnamed_schema(&whole));
                assert_eq!((held.sealed_rows(), held.counts), (whole.sealed_rows(), whole.counts));
                assert_eq!(held.files.is_empty(), content.is_some());
            }
        }
    }

    #[test]
    fn batches_alike_bear_the_same_time() {
        let batch: BatchId = "019caeda-ca6f-73aa-8f0b-91c6d2e85f03".parse().unwrap();
        let twin: BatchId = "019caeda-ca6f-7000-8f0b-91c6d2e85f04".parse().unwrap();
        let later: BatchId = "019caeda-ca70-7000-8f0b-91c6d2e85f04".parse().unwrap();
        let entry = |loaded| crate::facts::judge::tests::row(loaded, 1, 2);
        let ledger = BTreeMap::from([(twin, entry(4)), (batch, entry(5)), (later, entry(6))]);
        assert_eq!(alike(&ledger, batch), [7]);
    }

    #[test]
    fn a_set_that_the_ledger_does_not_name_is_left_over_and_does_not_stand_for_the_one_it_names() {
        let noted = |folders: &[&str], named| {
            let mut there = InQuarantine::default();
            for folder in folders {
                note_set(&mut there, folder, named);
            }
            (there.sets, there.left_over)
        };
        assert_eq!(noted(&["q/a1/"], Some("q/a1/")), (true, false));
        assert_eq!(noted(&["q/a1/", "q/b2/"], Some("q/a1/")), (true, true));
        assert_eq!(noted(&["q/b2/"], Some("q/a1/")), (false, true));
        // Its load may be under way.
        assert_eq!(noted(&["q/a1/", "q/b2/"], None), (true, false));
    }
}
