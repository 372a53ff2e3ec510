//! The quarantine: of each batch the set that its ledger row names is searched, and another takes its place without the rows
//! of the person. What the ledger does not name is deleted as it always is ([`crate::quarantine::tidy`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::blocking::blocking;
use shared::clock::Clock;
use shared::exit::Failure;
use shared::ids::BatchId;
use shared::layout;
use shared::object_store::ObjectStoreError;

use crate::commands::connect::store_failed;
use crate::failure::LoadFailure;
use crate::quarantine::set::{self, BadSet, Refusal, Set};
use crate::quarantine::{Quarantine, SCRATCH, csv, is_of_search, tidy};
use crate::redshift::quarantine_forget;
use crate::redshift::quarantine_release::{Entry, fetch_entries};
use crate::sought::Sought;

use super::report::Place;
use super::rows::is_of;
use super::task::{Task, unreadable};

/// Batches whose ledger rows are asked for at once.
const ASKED_AT_ONCE: usize = 200;
/// Rows of a set that are read at most when no ledger row says how many there are.
const MAX_UNKNOWN: u64 = 1_000_000;
/// How often the ledger row of a batch may have changed before it is given up.
const CHANGES: u32 = 10;

/// What stands in the quarantine of a batch: the objects of each set, and of searches.
#[derive(Debug, Default, PartialEq, Eq)]
struct There {
    sets: BTreeMap<String, u64>,
    scratch: u64,
}

impl Task<'_> {
    pub(super) async fn quarantine(&self, clock: &Clock, place: &mut Place) -> Result<(), Failure> {
        place.searched = true;
        let quarantine = Quarantine::new(self.config);
        let there = self.list_quarantine(&quarantine.prefix).await.map_err(store_failed)?;
        let batches: Vec<BatchId> = there.keys().copied().collect();
        for some in batches.chunks(ASKED_AT_ONCE) {
            let entries = fetch_entries(self.session, self.target, some).await?;
            for batch in some {
                let entry = entries.iter().find(|entry| entry.batch == *batch);
                if let Some(there) = there.get(batch) {
                    self.quarantine_of(&quarantine, (*batch, there, entry), clock, place).await?;
                }
            }
        }
        Ok(())
    }

    async fn list_quarantine(&self, prefix: &str) -> Result<BTreeMap<BatchId, There>, ObjectStoreError> {
        let ours = |name: &str| layout::parse_key("", name).is_some_and(|(_, name)| is_ours(name));
        let mut all: BTreeMap<BatchId, There> = BTreeMap::new();
        for object in self.store.list_where(prefix, ours).await? {
            let Some((batch, name)) = layout::parse_key(prefix, &object.key) else { continue };
            let there = all.entry(batch).or_default();
            match name.split_once('/') {
                Some((set, _)) if !name.starts_with(SCRATCH) => {
                    *there.sets.entry(set.to_owned()).or_default() += 1;
                }
                _ => there.scratch += 1,
            }
        }
        Ok(all)
    }

    async fn quarantine_of(
        &self,
        quarantine: &Quarantine,
        (batch, there, entry): (BatchId, &There, Option<&Entry>),
        clock: &Clock,
        place: &mut Place,
    ) -> Result<(), Failure> {
        let Some(entry) = entry else {
            // Its rows are in its files too, which were searched if they are there.
            for set in there.sets.keys() {
                let key = set::folder(&quarantine.prefix, batch, set);
                match self.matching(&quarantine.prefix, batch, set, MAX_UNKNOWN).await? {
                    Ok(None) => {}
                    Ok(Some((_, rows))) if rows.is_empty() => {}
                    Ok(Some((_, rows))) => {
                        place.found(rows.len() as u64);
                        place.left(
                            key,
                            "the ledger does not know its batch: see `ingester reconcile`".to_owned(),
                        );
                    }
                    Err(why) => place.left(key, why),
                }
            }
            return Ok(());
        };
        let named = entry.set.clone().filter(|_| entry.rows > 0);
        if entry.rows > 0 && named.is_none() {
            let key = layout::folder(&quarantine.prefix, batch);
            place.left(key, "the ledger counts rows in quarantine and does not say which".to_owned());
            return Ok(());
        }
        let others = there.sets.iter().filter(|(set, _)| Some(*set) != named.as_ref());
        let left_overs = there.scratch + others.map(|(_, objects)| objects).sum::<u64>();
        place.left_overs += left_overs;
        let changed = match named {
            Some(set) => self.set(quarantine, batch, entry.clone(), set, place).await?,
            None => false,
        };
        if !self.apply || !(changed || left_overs > 0) {
            return Ok(());
        }
        let entry = tidy(self.session, self.target, self.store, quarantine, batch).await?;
        place.left_overs_removed += left_overs;
        if let Some(entry) = entry.filter(|_| changed)
            && let Err(failure) = state::status::note_replayed(self.config, clock, batch, entry.rows).await
        {
            tracing::debug!(%batch, %failure, "cannot tell the ingester of this machine");
        }
        Ok(())
    }

    /// Searches the set that the ledger names, and has another take its place. True if that was done.
    async fn set(
        &self,
        quarantine: &Quarantine,
        batch: BatchId,
        mut entry: Entry,
        mut name: String,
        place: &mut Place,
    ) -> Result<bool, Failure> {
        for _ in 0..CHANGES {
            let key = set::folder(&quarantine.prefix, batch, &name);
            let (set, rows) = match self.matching(&quarantine.prefix, batch, &name, entry.rows).await? {
                Ok(Some(found)) => found,
                // A replay may have been faster.
                Ok(None) if self.entry(batch).await?.as_ref() != Some(&entry) => {
                    match self.changed(batch, &mut entry).await? {
                        Some(set) => name = set,
                        None => return Ok(false),
                    }
                    continue;
                }
                Ok(None) => {
                    place.left(key, "it is gone, and the ledger counts its rows".to_owned());
                    return Ok(false);
                }
                Err(why) => {
                    place.left(key, why);
                    return Ok(false);
                }
            };
            if rows.is_empty() {
                return Ok(false);
            }
            let found = rows.len() as u64;
            if !self.apply {
                place.found(found);
                return Ok(false);
            }
            let left = without(&set, &rows);
            let put = async || match &left {
                Some(left) => left.put(self.store, &quarantine.prefix).await.map_err(LoadFailure::from),
                None => Ok(()),
            };
            let counts = left.as_ref().map(|left| (left.name.as_str(), left.description.rows));
            let change = (&entry, found, counts);
            let give_up = async || quarantine_forget::give_up(self.session, self.target, change, put).await;
            if self.locked(give_up).await? {
                place.found(found);
                place.removed(found);
                return Ok(true);
            }
            match self.changed(batch, &mut entry).await? {
                Some(set) => name = set,
                None => return Ok(false),
            }
        }
        let key = layout::folder(&quarantine.prefix, batch);
        place.left(key, "its ledger row changes again and again: a replay is at it".to_owned());
        Ok(false)
    }

    async fn entry(&self, batch: BatchId) -> Result<Option<Entry>, LoadFailure> {
        Ok(fetch_entries(self.session, self.target, &[batch]).await?.pop())
    }

    /// Reads the ledger row again: the set that it names now, if there is one.
    async fn changed(&self, batch: BatchId, entry: &mut Entry) -> Result<Option<String>, LoadFailure> {
        let Some(now) = self.entry(batch).await? else { return Ok(None) };
        *entry = now;
        Ok(entry.set.clone().filter(|_| entry.rows > 0))
    }

    /// A set of `most` rows at most, and the numbers of its rows of the person, from 0; None if there is no such set, and
    /// otherwise why it cannot be read.
    async fn matching(
        &self,
        prefix: &str,
        batch: BatchId,
        name: &str,
        most: u64,
    ) -> Result<Result<Option<(Set, Vec<usize>)>, String>, Failure> {
        let set = match Set::get(self.store, prefix, batch, name, most).await {
            Ok(set) => set,
            Err(BadSet::Store(error)) if error.is_not_found() => return Ok(Ok(None)),
            Err(BadSet::Store(error)) => return unreadable(error).map(Err),
            Err(damaged @ BadSet::Damaged(..)) => return Ok(Err(damaged.to_string())),
        };
        let sought = Arc::clone(&self.sought);
        let searched = blocking(move || {
            let rows = rows_of(&set, &sought);
            (set, rows)
        });
        let (set, rows) = searched.await?;
        Ok(rows.map(|rows| Some((set, rows))))
    }
}

/// Whether an object of this name in the quarantine of a batch is one that this product writes.
fn is_ours(name: &str) -> bool {
    match name.split_once('/') {
        Some((folder, name)) if format!("{folder}/") == SCRATCH => is_of_search(name),
        Some((folder, name)) => set::is_hash(folder) && set::is_of_set(name),
        None => false,
    }
}

/// The rows of the person in a set.
fn rows_of(set: &Set, sought: &Sought) -> Result<Vec<usize>, String> {
    let most = set.refusals.len();
    let rows = csv::rows(&set.rows, most);
    if rows.len() != most {
        return Err(format!("it has {most} reasons, and another number of rows"));
    }
    let Some(column) = set.description.columns.iter().position(|column| column == sought.column()) else {
        return Ok(Vec::new());
    };
    let bytes = |row: &csv::Row| set.rows.get(row.start..row.end).unwrap_or_default();
    let found = rows.iter().enumerate().filter(|(_, row)| is_of(bytes(row), column, sought));
    Ok(found.map(|(number, _)| number).collect())
}

/// A set of the rows that are not among these; None if there are none.
fn without(set: &Set, rows: &[usize]) -> Option<Set> {
    let all = csv::rows(&set.rows, set.refusals.len());
    let (mut kept, mut reasons) = (Vec::new(), Vec::<Refusal>::new());
    for (number, (row, refusal)) in all.iter().zip(&set.refusals).enumerate() {
        if rows.binary_search(&number).is_err() {
            kept.extend_from_slice(set.rows.get(row.start..row.end).unwrap_or_default());
            reasons.push(refusal.clone());
        }
    }
    let set::Description { batch, schema, columns, compression, .. } = set.description.clone();
    (!reasons.is_empty()).then(|| Set::new(batch, schema, columns, compression, (kept, reasons)))
}

#[cfg(test)]
mod tests {
    use shared::layout::Compression;

    use super::*;
    use crate::sought::tests::sought;

    fn set(rows: &str, count: u64) -> Set {
        let refusal = |row| Refusal {
            file: "0.csv".to_owned(),
            row,
            line: row,
            column: None,
            value: None,
            code: None,
            reason: String::new(),
        };
        let columns = vec!["a".to_owned(), "mcvisid".to_owned()];
        let content = (rows.as_bytes().to_vec(), (1..=count).map(refusal).collect());
        Set::new(BatchId::new(), "0123456789abcdef".to_owned(), columns, Compression::None, content)
    }

    #[test]
    fn rows_go_with_their_reasons_and_the_others_stay_as_they_were() {
        let sought = sought(&["jane"]);
        let all = set("1~jane\n\"2\n~\"~\"joe\"\n3~\"jane\"\n", 3);
        let found = rows_of(&all, &sought).unwrap();
        assert_eq!(found, [0, 2]);
        let left = without(&all, &found).unwrap();
        assert_eq!((&left.rows[..], left.description.rows), (&b"\"2\n~\"~\"joe\"\n"[..], 1));
        assert_eq!(left.refusals[0].row, 2);
        assert_ne!(left.name, all.name);
        assert!(without(&all, &[0, 1, 2]).is_none());
        assert!(rows_of(&set("1~jane\n", 2), &sought).is_err());
    }

    #[test]
    fn what_others_put_there_is_not_counted() {
        for own in [
            "0123456789abcdef/rows.csv.zst",
            "0123456789abcdef/quarantine.json",
            "sift/0-0123456789abcdef.csv",
        ] {
            assert!(is_ours(own), "{own}");
        }
        for other in ["rows.csv", "notes/rows.csv", "0123456789abcdef/notes.txt", "sift/notes.txt"] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
