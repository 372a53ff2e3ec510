//! What log, S3 and ledger say, brought together a day at a time, so that memory holds one day's batches however long
//! the time is that is compared.
//!
//! The order of reading matters. A batch goes from log to `to_ingest` to ledger to `ingested`, and leaves `to_ingest`
//! only when the ledger has it. Read in the order log, `to_ingest`, ledger, one that moves meanwhile is seen twice rather
//! than never: none that is well is taken for lost. `ingested` is read before the ledger, so that what is archived is
//! loaded.
//!
//! For quarantine no order does: a load puts a set there before the ledger counts it, a replay deletes it after the
//! ledger counts it no more. Read after the ledger, only a replay in between looks like damage, and that only once: a
//! second reading finds it done.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use futures_util::StreamExt;
use shared::config::{Archive, Config};
use shared::content::Content;
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::{ObjectStore, SMALL, StoreError, StoreErrorKind};
use shared::seal::Seal;
use state::loads::{Load, LoadState};
use state::log::BatchStatus;
use state::status::snapshot::ProducerSnapshot;

use crate::facts::judge::{Facts, InBook, InFolder, InLedger, InLog, InQuarantine};
use crate::failure::LoadFailure;
use crate::quarantine::{SCRATCH, is_of_search, set};
use crate::redshift::look::derived_id;
use crate::redshift::{Session, Target, errors, ledger};

/// Longer than a search for refused rows takes: what is older was left over by one that was cut short.
const SEARCHED: TimeDelta = TimeDelta::hours(1);

/// What was read of the two databases before S3 was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The batches of the log; None when it could not be asked.
    pub log: Option<BTreeMap<BatchId, InLog>>,
    /// The loads of the ingester's bookkeeping.
    pub loads: HashMap<BatchId, Load>,
}

/// The batches of a log.
#[must_use]
pub(crate) fn in_log(snapshot: &ProducerSnapshot) -> BTreeMap<BatchId, InLog> {
    let of = |status, rows| match status {
        BatchStatus::Filling => InLog::Filling,
        BatchStatus::Sealed => InLog::Sealed(rows),
        BatchStatus::Published => InLog::Published(rows),
    };
    snapshot.batches.iter().map(|batch| (batch.batch, of(batch.status, batch.rows))).collect()
}

/// Where to look.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    /// The bucket.
    pub store: &'a ObjectStore,
    /// The prefixes.
    pub config: &'a Config,
    /// The ledger.
    pub target: &'a Target,
    /// Whether the seals of archived batches are read, of whose rows the log knows nothing.
    pub seals: bool,
}

impl Places<'_> {
    /// The days on which there may be something to compare: every one since `since`, and the earlier ones of which a
    /// folder still waits or the log still has a batch that is not published.
    ///
    /// # Errors
    /// When S3 cannot be asked.
    pub(crate) async fn days(
        &self,
        known: &Known,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<BTreeSet<NaiveDate>, StoreError> {
        let mut days: BTreeSet<NaiveDate> =
            since.date_naive().iter_days().take_while(|day| *day <= now.date_naive()).collect();
        let unfinished = known.log.iter().flatten().filter(|(_, log)| !matches!(log, InLog::Published(_)));
        days.extend(unfinished.map(|(batch, _)| batch.day()));
        let waiting = known.loads.values().filter(|load| !matches!(load.state, LoadState::Archived { .. }));
        days.extend(waiting.map(|load| load.batch.day()));
        if self.config.ingester.archive != Archive::Keep {
            let prefix = &self.config.s3.to_ingest;
            let folders = self.store.folders(prefix).await?;
            days.extend(folders.iter().filter_map(|folder| day_of(prefix, folder)));
        }
        Ok(days)
    }

    /// All batches of one day, opened at `since` or later if they are where they belong.
    ///
    /// # Errors
    /// When S3 or Redshift cannot be asked.
    pub(crate) async fn day(
        &self,
        day: NaiveDate,
        known: &Known,
        session: &Session,
    ) -> Result<Vec<Facts>, LoadFailure> {
        let s3 = &self.config.s3;
        let mut folders = self.sealed_or_not(day).await?;
        // Before the ledger: what is archived by now is in it.
        let archived = self.batches_below(&s3.ingested, day).await?;
        let from = day.and_time(NaiveTime::MIN).and_utc();
        let rows = ledger::read(session, self.target, from, from + TimeDelta::days(1)).await;
        let rows = rows.map_err(|error| errors::trouble(&error, "reading the ledger"))?;
        let mut ledger: BTreeMap<BatchId, InLedger> = BTreeMap::new();
        let mut contents: BTreeMap<BatchId, Content> = BTreeMap::new();
        // The folders of the sets that count.
        let mut named: BTreeMap<BatchId, String> = BTreeMap::new();
        for row in rows {
            let (loaded, quarantined, known) = (row.rows_loaded, row.rows_quarantined, row.rows_known);
            ledger.insert(row.batch, InLedger { times: row.times, loaded, quarantined, known });
            contents.extend(row.content.map(|content| (row.batch, content)));
            if quarantined > 0
                && let Some(set) = row.set
            {
                named.insert(row.batch, set::folder(&s3.quarantine, row.batch, &set));
            }
        }
        let mut quarantine: BTreeMap<BatchId, InQuarantine> = BTreeMap::new();
        for batch in self.batches_below(&s3.quarantine, day).await? {
            let mut there = InQuarantine::default();
            let own = layout::folder(&s3.quarantine, batch);
            for folder in self.store.folders(&own).await? {
                if folder.ends_with(SCRATCH) {
                    let before = Utc::now() - SEARCHED;
                    let ours = |key: &str| key.strip_prefix(&folder).is_some_and(is_of_search);
                    there.left_over |= !self.store.list_older(&folder, before, ours).await?.is_empty();
                } else if set::name_of(&own, &folder).is_some() {
                    note_set(&mut there, &folder, named.get(&batch).map(String::as_str));
                }
            }
            // What else lies there is somebody else's, and says nothing of a batch.
            if there.sets || there.left_over {
                quarantine.insert(batch, there);
            }
        }

        // Only of what is to be loaded or put away is the seal needed.
        let keep = self.config.ingester.archive == Archive::Keep;
        let unread: Vec<BatchId> = folders
            .iter()
            .filter(|(batch, folder)| **folder == InFolder::Sealed && !(keep && ledger.contains_key(*batch)))
            .map(|(batch, _)| *batch)
            .collect();
        for (batch, seal) in self.seals(&s3.to_ingest, unread).await? {
            let folder = match seal {
                Ok(seal) if ledger.contains_key(&batch) => {
                    in_folder(&seal, contents.get(&batch), |id| ledger.contains_key(&id))
                }
                Ok(seal) => InFolder::Read { rows: seal.rows, schema: unnamed(&seal) },
                Err(why) => InFolder::Unusable(why),
            };
            folders.insert(batch, folder);
        }
        let logged = known.log.iter().flatten().filter(|(batch, _)| batch.day() == day);
        let logged: BTreeMap<BatchId, InLog> = logged.map(|(batch, log)| (*batch, *log)).collect();
        let mut archived_rows = BTreeMap::new();
        if self.seals {
            let unread =
                archived.iter().filter(|batch| ledger.contains_key(*batch) && !logged.contains_key(*batch));
            for (batch, seal) in self.seals(&s3.ingested, unread.copied().collect()).await? {
                if let Ok(seal) = seal {
                    archived_rows.insert(batch, seal.rows);
                }
            }
        }
        let all: BTreeSet<BatchId> = folders
            .keys()
            .chain(&archived)
            .chain(quarantine.keys())
            .chain(ledger.keys())
            .chain(logged.keys())
            .copied()
            .collect();
        let unknown = if known.log.is_some() { InLog::Unknown } else { InLog::NotAsked };
        let facts = all.into_iter().map(|batch| Facts {
            batch,
            log: logged.get(&batch).copied().unwrap_or(unknown),
            folder: folders.remove(&batch).unwrap_or(InFolder::Absent),
            archived: archived.contains(&batch),
            archived_rows: archived_rows.get(&batch).copied(),
            quarantine: quarantine.get(&batch).copied().unwrap_or_default(),
            ledger: ledger.get(&batch).copied(),
            alike: alike(&ledger, batch),
            load_store: in_book(known.loads.get(&batch)),
        });
        Ok(facts.collect())
    }

    async fn sealed_or_not(&self, day: NaiveDate) -> Result<BTreeMap<BatchId, InFolder>, StoreError> {
        let prefix = &self.config.s3.to_ingest;
        let mut folders = BTreeMap::new();
        let (of_day, mut from) = (layout::day_folder(prefix, day), None);
        loop {
            let (page, next) = self.store.list_page(&of_day, from.as_ref()).await?;
            for object in &page {
                let Some((batch, name)) = layout::parse_key(prefix, &object.key) else { continue };
                if !layout::is_of_batch(name) {
                    continue;
                }
                let folder = folders.entry(batch).or_insert(InFolder::NoSeal);
                if name == SEAL {
                    *folder = InFolder::Sealed;
                }
            }
            if next.is_none() {
                return Ok(folders);
            }
            from = next;
        }
    }

    async fn batches_below(&self, prefix: &str, day: NaiveDate) -> Result<BTreeSet<BatchId>, StoreError> {
        let day = layout::day_folder(prefix, day);
        let folders = self.store.folders(&day).await?;
        let id = |folder: &String| folder.strip_prefix(&day)?.strip_suffix('/')?.parse().ok();
        Ok(folders.iter().filter_map(id).collect())
    }

    /// Reads the seals of these batches, several at once, or says why one cannot be used; those that are gone are left
    /// out.
    async fn seals(
        &self,
        prefix: &str,
        batches: Vec<BatchId>,
    ) -> Result<Vec<(BatchId, Result<Seal, String>)>, StoreError> {
        let seals = batches.into_iter().map(|batch| async move {
            let key = format!("{}{SEAL}", layout::folder(prefix, batch));
            (batch, self.store.get_at_most(&key, SMALL).await)
        });
        let mut seals = futures_util::stream::iter(seals).buffer_unordered(self.config.s3.uploads);
        let mut read = Vec::new();
        while let Some((batch, answer)) = seals.next().await {
            match answer {
                Ok(json) => read.push((batch, Seal::read(batch, &json).map_err(|error| error.to_string()))),
                Err(error) if error.is_not_found() => {}
                Err(error) if error.kind() == StoreErrorKind::Passing => return Err(error),
                // Of this object alone: the listing worked. An archived one may sleep in an archive class.
                Err(error) => read.push((batch, Err(error.to_string()))),
            }
        }
        Ok(read)
    }
}

/// Notes a set by its folder. While the ledger names none, any may come to count; `named` is the folder of the one
/// that does.
fn note_set(there: &mut InQuarantine, folder: &str, named: Option<&str>) {
    if named.is_none_or(|named| named == folder) {
        there.sets = true;
    } else {
        there.left_over = true;
    }
}

/// What stands in the folder of a batch that the ledger has, perhaps with this content: that batch, or another one of
/// the same id.
fn in_folder(seal: &Seal, content: Option<&Content>, in_ledger: impl Fn(BatchId) -> bool) -> InFolder {
    let id = derived_id(seal);
    let loaded = in_ledger(id);
    let other = seal.content.as_ref().zip(content).is_some_and(|(ours, theirs)| ours != theirs);
    // Of batches without checksum the ledger tells, once it has the other.
    if loaded || other {
        InFolder::Other { schema: unnamed(seal), id, loaded }
    } else {
        InFolder::Read { rows: seal.rows, schema: unnamed(seal) }
    }
}

/// The fingerprint of the columns, where the seal does not name them.
fn unnamed(seal: &Seal) -> Option<String> {
    seal.columns.is_none().then(|| seal.schema.clone())
}

/// Rows of the batches that the ledger has under other ids with the time of this one.
fn alike(ledger: &BTreeMap<BatchId, InLedger>, batch: BatchId) -> Vec<u64> {
    let at = batch.opened_at();
    let same_time = ledger.range(BatchId::floor(at)..).take_while(|(id, _)| id.opened_at() == at);
    same_time.filter(|(id, _)| **id != batch).map(|(_, entry)| entry.rows()).collect()
}

fn in_book(load: Option<&Load>) -> InBook {
    match load.map(|load| (&load.state, load.attempts.max(load.failed))) {
        None | Some((LoadState::Archived { .. }, _)) => InBook::Nothing,
        // What one attempt met may be mended by the next.
        Some((LoadState::Retrying { class, why, .. }, 2..))
            if *class != state::loads::ErrorClass::Passing =>
        {
            InBook::Stuck(*class, why.clone())
        }
        Some(_) => InBook::UnderWay,
    }
}

fn day_of(prefix: &str, folder: &str) -> Option<NaiveDate> {
    let day = folder.strip_prefix(prefix)?.strip_suffix('/')?;
    NaiveDate::parse_from_str(day, "%Y%m%d").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::folder::tests::seal;

    #[test]
    fn another_batch_of_an_id_is_told_by_its_content_or_by_the_ledger_that_has_it() {
        let (ours, theirs) = (Content::of_rows(b"a"), Content::of_rows(b"b"));
        let with = |content| Seal { content, ..seal() };
        let is_other = |seal: &Seal, content: Option<&Content>, has: bool| matches!(in_folder(seal, content, |_| has), InFolder::Other { loaded, .. } if loaded == has);
        assert!(!is_other(&with(Some(ours)), Some(&ours), false));
        assert!(is_other(&with(Some(ours)), Some(&theirs), false));
        assert!(is_other(&with(Some(ours)), Some(&theirs), true));
        assert!(!is_other(&with(None), Some(&theirs), false), "nobody knows");
        assert!(is_other(&with(None), None, true));
    }

    #[test]
    fn batches_alike_bear_the_same_time() {
        let batch: BatchId = "019caeda-ca6f-73aa-8f0b-91c6d2e85f03".parse().unwrap();
        let twin: BatchId = "019caeda-ca6f-7000-8f0b-91c6d2e85f04".parse().unwrap();
        let later: BatchId = "019caeda-ca70-7000-8f0b-91c6d2e85f04".parse().unwrap();
        let entry = |loaded| InLedger { times: 1, loaded, quarantined: 1, known: 2 };
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
