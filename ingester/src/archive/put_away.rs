//! Puts the folder of a loaded batch where the configuration wants it: moved, deleted, or left.
//!
//! The order makes every crash harmless. Copies come first, the seal's last: an archived folder that has a seal is whole.
//! Then the originals are deleted, the seal FIRST:
//!
//! - a crash before the seal is deleted leaves a whole batch that the ledger knows. When it is found again it is archived
//!   again, not loaded, and the copies write the same bytes over themselves;
//! - a crash after it leaves a folder without seal, which is no batch. The archive is complete by then. The load store
//!   says *loaded*, so the next start repeats the whole: it copies and deletes what is left. Should the load store be
//!   lost too, the first listing asks the ledger about folders without seal (see [`crate::facts::unknown_folders`]), and
//!   they are archived the same way.
//!
//! In any other order a crash would leave a seal whose files are gone, like the seal of a damaged batch.
//!
//! Only the files, the manifest and the seal of a batch are moved or deleted, by their names. Other objects in the folder
//! stay where they are, in each mode.
//!
//! A batch that is archived already, and of which rows were forgotten since, is not copied: its folder is deleted, the seal
//! first. So rows that were taken out of an archive do not come back to it.
//!
//! Nothing that is archived is overwritten with other content ([`super::occupied`]). A folder goes below the id under
//! which the ledger has it: another one, if the ledger has another batch of the same id. Should other content stand even
//! there (a ledger that was trimmed does not know it), the folder goes below the id that is derived from its own content;
//! its seal is then written with that id, so that it is a batch like any other.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use shared::config::{Archive, Config};
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::{Object, ObjectStore, ObjectStoreError, ObjectStoreErrorKind};
use shared::seal::Seal;
use state::loads::ErrorClass;

use crate::archive::occupied::{Occupied, Source, occupied};
use crate::failure::LoadFailure;
use crate::redshift::ledger_lookup::derived_id;

/// Why a folder was not put away.
#[derive(Debug, thiserror::Error)]
pub enum NotPutAway {
    /// S3 refused.
    #[error(transparent)]
    Store(#[from] ObjectStoreError),
    /// Something else stands where it would go.
    #[error("{0} is archived already, with other content, and is not written over")]
    Occupied(String),
}

const OCCUPIED_ADVICE: &str = "look at both folders, and move one of them away";

impl NotPutAway {
    /// What an operator can do about it; None if it passes by itself.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Occupied(_) => Some(OCCUPIED_ADVICE),
            Self::Store(error) => {
                (error.kind() == ObjectStoreErrorKind::Configuration).then_some(error.advice())
            }
        }
    }
}

impl From<NotPutAway> for LoadFailure {
    fn from(why: NotPutAway) -> Self {
        match why {
            NotPutAway::Store(error) => error.into(),
            NotPutAway::Occupied(_) => {
                Self { advice: OCCUPIED_ADVICE, ..Self::of_batch(ErrorClass::Incomplete, why) }
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    Copy { from: String, to: String },
    Put { key: String, content: Bytes },
    Delete(String),
}

/// The acts of a phase go in any order, the phases one after another. `renamed` is written in the place of the seal.
fn phases(mode: Archive, from: &str, to: &str, objects: &[Object], renamed: Option<&Bytes>) -> Vec<Vec<Act>> {
    let (seal, others): (Vec<&str>, Vec<&str>) =
        objects.iter().filter_map(|object| object.key.strip_prefix(from)).partition(|name| *name == SEAL);
    let copy = |name: &&str| match renamed.filter(|_| *name == SEAL) {
        Some(content) => Act::Put { key: format!("{to}{name}"), content: content.clone() },
        None => Act::Copy { from: format!("{from}{name}"), to: format!("{to}{name}") },
    };
    let copies = |names: &[&str]| names.iter().map(copy).collect::<Vec<_>>();
    let deletes = |names: &[&str]| names.iter().map(|name| Act::Delete(format!("{from}{name}"))).collect();
    let all = match mode {
        Archive::Keep => vec![],
        Archive::Delete => vec![deletes(&seal), deletes(&others)],
        Archive::Move => vec![copies(&others), copies(&seal), deletes(&seal), deletes(&others)],
    };
    all.into_iter().filter(|phase| !phase.is_empty()).collect()
}

/// Where the folders of loaded batches go.
#[derive(Debug, Clone, Copy)]
pub struct Archiving<'a> {
    /// What becomes of them.
    pub mode: Archive,
    /// The prefix they are loaded from.
    pub from: &'a str,
    /// The prefix they are moved to.
    pub to: &'a str,
    /// Requests at once.
    pub at_once: usize,
}

impl<'a> Archiving<'a> {
    pub(crate) fn of(config: &'a Config) -> Self {
        let s3 = &config.s3;
        Self { mode: config.ingester.archive, from: &s3.to_ingest, to: &s3.ingested, at_once: s3.uploads }
    }
}

/// Puts the folder of a batch that is loaded where `archiving` wants it; with *move*, below `id`, under which the ledger has
/// it. Repeating it goes on where it ended.
pub async fn put_away(
    store: &ObjectStore,
    archiving: Archiving<'_>,
    batch: BatchId,
    id: BatchId,
) -> Result<(), NotPutAway> {
    let Archiving { mode, from, to, at_once } = archiving;
    if mode == Archive::Keep {
        return Ok(());
    }
    let folder = layout::folder(from, batch);
    let objects = store.list_folder(&folder, layout::is_of_batch).await?;
    let (source, mut id, mut mode) = (Source { folder, batch, objects }, id, mode);
    if mode == Archive::Move {
        let mut there = occupied(store, &source, to, id).await?;
        if let Occupied::Other(key) = there {
            id = match source.seal(store).await?.map(|seal| derived_id(&seal)) {
                Some(derived) if derived != id => derived,
                _ => return Err(NotPutAway::Occupied(key)),
            };
            there = occupied(store, &source, to, id).await?;
            if let Occupied::Other(key) = there {
                return Err(NotPutAway::Occupied(key));
            }
            tracing::warn!(%batch, %id, "{key} is archived already, with other content: this folder goes below its own id");
        }
        if there == Occupied::Forgotten {
            tracing::info!(%batch, %id, "it is archived already, and rows of it were forgotten: this folder is deleted");
            mode = Archive::Delete;
        }
    }
    let renamed = if id == batch || mode != Archive::Move {
        None
    } else {
        let seal = source.seal(store).await?;
        seal.and_then(|seal| serde_json::to_vec(&Seal { batch: id, ..seal }).ok()).map(Bytes::from)
    };
    let Source { folder, objects, .. } = &source;
    for phase in phases(mode, folder, &layout::folder(to, id), objects, renamed.as_ref()) {
        let acts = phase.into_iter().map(|one| act(store, one));
        stream::iter(acts).buffer_unordered(at_once).try_collect::<()>().await?;
    }
    Ok(())
}

async fn act(store: &ObjectStore, act: Act) -> Result<(), ObjectStoreError> {
    match act {
        Act::Delete(key) => store.delete(&key).await,
        Act::Put { key, content } => store.put(&key, content).await.map(|_| ()),
        Act::Copy { from, to } => match store.copy(&from, &to).await {
            // Another ingester archives the same folder and was faster.
            Err(error) if error.is_not_found() => match store.size(&to).await {
                Ok(_) => Ok(()),
                Err(of_target) if of_target.is_not_found() => Err(error),
                Err(of_target) => Err(of_target),
            },
            outcome => outcome,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const FROM: &str = "ToIngest/d/b/";
    const TO: &str = "Ingested/d/b/";
    const NAMES: [&str; 4] = ["0.csv.zst", "1.csv.zst", "batch.json", "manifest.json"];

    fn listing(keys: &BTreeSet<String>) -> Vec<Object> {
        let below = keys.iter().filter(|key| key.starts_with(FROM));
        below.map(|key| Object { key: key.clone(), size: 1, etag: String::new() }).collect()
    }

    fn apply(keys: &mut BTreeSet<String>, act: &Act) {
        match act {
            Act::Copy { from, to } => {
                assert!(keys.contains(from), "{from} is copied after it was deleted");
                keys.insert(to.clone());
            }
            Act::Put { key, .. } => assert!(keys.insert(key.clone()), "{key} is put twice"),
            Act::Delete(key) => assert!(keys.remove(key), "{key} is deleted twice"),
        }
    }

    fn whole() -> BTreeSet<String> {
        NAMES.iter().map(|name| format!("{FROM}{name}")).collect()
    }

    fn acts(mode: Archive, keys: &BTreeSet<String>) -> Vec<Act> {
        phases(mode, FROM, TO, &listing(keys), None).concat()
    }

    #[test]
    fn a_seal_of_another_id_is_written_in_the_place_of_its_copy_and_still_last() {
        let renamed = Bytes::from_static(b"{}");
        let planned = phases(Archive::Move, FROM, TO, &listing(&whole()), Some(&renamed));
        let put = Act::Put { key: format!("{TO}{SEAL}"), content: renamed };
        assert_eq!(planned[1], [put]);
        assert!(planned[0].iter().all(|act| matches!(act, Act::Copy { to, .. } if !to.ends_with(SEAL))));
    }

    #[test]
    fn a_seal_always_stands_beside_all_its_files() {
        for mode in [Archive::Move, Archive::Delete] {
            let mut keys = whole();
            for act in acts(mode, &whole()) {
                apply(&mut keys, &act);
                for folder in [FROM, TO] {
                    let files = NAMES.iter().filter(|name| keys.contains(&format!("{folder}{name}"))).count();
                    assert!(
                        !keys.contains(&format!("{folder}{SEAL}")) || files == NAMES.len(),
                        "{mode:?} {keys:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_move_cut_short_anywhere_ends_the_same_when_repeated() {
        let moved: BTreeSet<String> = NAMES.iter().map(|name| format!("{TO}{name}")).collect();
        for (mode, end) in
            [(Archive::Move, moved), (Archive::Delete, BTreeSet::new()), (Archive::Keep, whole())]
        {
            let planned = acts(mode, &whole());
            for cut in 0..=planned.len() {
                let mut keys = whole();
                planned.iter().take(cut).for_each(|act| apply(&mut keys, act));
                for act in acts(mode, &keys.clone()) {
                    apply(&mut keys, &act);
                }
                assert_eq!(keys, end, "{mode:?} cut after {cut}");
                assert!(mode == Archive::Keep || acts(mode, &keys).is_empty(), "nothing is left to do");
            }
        }
    }
}
