//! Whether other content stands where a folder is to go.
//!
//! Copies that a crash cut short have the same content, and are repeated. Where both folders have a seal, the seals
//! decide: they hold a checksum of the rows. Where one has none, objects of the same name must be equal by size, and by
//! `ETag` or CRC-32. Usually nothing is there, which costs one LIST.

use std::collections::HashMap;

use bytes::Bytes;
use shared::ids::BatchId;
use shared::layout::{self, MANIFEST, SEAL};
use shared::object_store::{Object, ObjectStore, ObjectStoreError};
use shared::seal::Seal;

use crate::facts::folder::get_if_there;

#[derive(Debug)]
pub(super) struct Source {
    pub folder: String,
    pub batch: BatchId,
    pub objects: Vec<Object>,
}

impl Source {
    pub(super) async fn seal(&self, store: &ObjectStore) -> Result<Option<Seal>, ObjectStoreError> {
        let json = self.json(store).await?;
        Ok(json.and_then(|json| Seal::read(self.batch, &json).ok()))
    }

    /// Its seal as it stands there. None also if another ingester archives the same folder and was faster.
    async fn json(&self, store: &ObjectStore) -> Result<Option<Bytes>, ObjectStoreError> {
        let key = format!("{}{SEAL}", self.folder);
        let listed = self.objects.iter().any(|object| object.key == key);
        if listed { get_if_there(store, &key).await } else { Ok(None) }
    }
}

/// What stands where a folder is to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Occupied {
    /// Nothing, or the same.
    No,
    /// The same batch, of which rows were forgotten since: copies would bring them back.
    Forgotten,
    /// Other content: the key of an object of it.
    Other(String),
}

/// What stands in the folder of `id` below `to`.
pub(super) async fn occupied(
    store: &ObjectStore,
    source: &Source,
    to: &str,
    id: BatchId,
) -> Result<Occupied, ObjectStoreError> {
    let target = layout::folder(to, id);
    let there = store.list_folder(&target, layout::is_of_batch).await?;
    match meet((&source.folder, &source.objects), (&target, &there)) {
        Met::Free => Ok(Occupied::No),
        Met::Other(key) => Ok(Occupied::Other(key)),
        Met::BothSealed(key) => {
            // Gone since the listing: whose archive this is shows the next try.
            let Some(ours) = source.json(store).await? else { return Ok(Occupied::Other(key)) };
            let Some(theirs) = get_if_there(store, &key).await? else { return Ok(Occupied::No) };
            Ok(between((source.batch, &ours), (id, &theirs), key))
        }
        Met::Suspect(pairs) => {
            for (ours, theirs) in pairs {
                let (ours, there) = (store.crc32_of(&ours).await, store.crc32_of(&theirs).await);
                // One that is gone is not in the way.
                let gone = |crc32: &Result<String, ObjectStoreError>| {
                    crc32.as_ref().is_err_and(ObjectStoreError::is_not_found)
                };
                if !gone(&ours) && !gone(&there) && ours? != there? {
                    return Ok(Occupied::Other(theirs));
                }
            }
            Ok(Occupied::No)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Met {
    Free,
    /// Both have a seal: these tell. The key of the one that is there.
    BothSealed(String),
    Suspect(Vec<(String, String)>),
    Other(String),
}

fn meet((from, ours): (&str, &[Object]), (to, there): (&str, &[Object])) -> Met {
    let there: HashMap<&str, &Object> =
        there.iter().filter_map(|object| Some((object.key.strip_prefix(to)?, object))).collect();
    let both = ours.iter().filter_map(|our| {
        let name = our.key.strip_prefix(from)?;
        Some((name, our, *there.get(name)?))
    });
    let mut suspects = Vec::new();
    for (name, our, their) in both {
        let same = our.size == their.size && our.etag == their.etag && !our.etag.is_empty();
        match name {
            SEAL if same => return Met::Free,
            SEAL => return Met::BothSealed(their.key.clone()),
            // It names files where they were loaded from.
            MANIFEST => {}
            _ if same => {}
            _ if our.size == their.size => suspects.push((our.key.clone(), their.key.clone())),
            _ => suspects.insert(0, (String::new(), their.key.clone())),
        }
    }
    match suspects.first() {
        None => Met::Free,
        Some((ours, theirs)) if ours.is_empty() => Met::Other(theirs.clone()),
        Some(_) => Met::Suspect(suspects),
    }
}

/// What two seals, each in the folder of its id, say of each other; the second is at `key`. Equal ones are of the same batch,
/// also if neither can be used.
fn between((our_id, ours): (BatchId, &[u8]), (their_id, theirs): (BatchId, &[u8]), key: String) -> Occupied {
    if ours == theirs {
        return Occupied::No;
    }
    match Seal::read(our_id, ours).ok().zip(Seal::read(their_id, theirs).ok()) {
        Some((ours, theirs)) if !same_rows(&ours, &theirs) => Occupied::Other(key),
        Some((ours, theirs)) if theirs.forgotten.is_some() && theirs.forgotten != ours.forgotten => {
            Occupied::Forgotten
        }
        Some(_) => Occupied::No,
        None => Occupied::Other(key),
    }
}

/// Whether two seals are of the same rows. One of format 1 has no checksum of them: then files count, by theirs.
fn same_rows(a: &Seal, b: &Seal) -> bool {
    match (a.content, b.content) {
        (Some(a), Some(b)) => a == b,
        _ => {
            let files = |seal: &Seal| -> Vec<(String, u64, String)> {
                seal.files.iter().map(|file| (file.name.clone(), file.rows, file.crc32.clone())).collect()
            };
            files(a) == files(b)
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::content::Content;
    use shared::seal::Forgotten;

    use super::*;
    use crate::facts::folder::tests::seal;

    fn object(folder: &str, name: &str, size: u64, etag: &str) -> Object {
        Object { key: format!("{folder}{name}"), size, etag: etag.to_owned() }
    }

    fn met(ours: &[(&str, u64, &str)], there: &[(&str, u64, &str)]) -> Met {
        let listed = |folder: &str, objects: &[(&str, u64, &str)]| -> Vec<Object> {
            objects.iter().map(|(name, size, etag)| object(folder, name, *size, etag)).collect()
        };
        meet(("f/", &listed("f/", ours)), ("t/", &listed("t/", there)))
    }

    #[test]
    fn nothing_or_the_same_is_in_nobodys_way() {
        let ours = [("0.csv", 9, "a"), (SEAL, 5, "s"), (MANIFEST, 3, "m")];
        assert_eq!(met(&ours, &[]), Met::Free);
        assert_eq!(met(&ours, &ours), Met::Free);
        assert_eq!(met(&ours, &[("1.csv", 9, "b"), ("0.csv", 9, "a")]), Met::Free, "a copy was cut short");
        assert_eq!(
            met(&ours[..1], &[("0.csv", 9, "a"), (SEAL, 5, "other")]),
            Met::Free,
            "ours is half deleted"
        );
    }

    #[test]
    fn of_two_seals_the_rows_count_and_of_others_the_objects() {
        let ours = [("0.csv", 9, "a"), (SEAL, 5, "s")];
        assert_eq!(met(&ours, &[("0.csv", 8, "x"), (SEAL, 5, "o")]).seal(), Some("t/batch.json"));
        assert_eq!(met(&ours, &[("0.csv", 8, "a")]), Met::Other("t/0.csv".to_owned()));
        let suspect = ("f/0.csv".to_owned(), "t/0.csv".to_owned());
        assert_eq!(met(&ours, &[("0.csv", 9, "x")]), Met::Suspect(vec![suspect]));
        let unlisted = [("0.csv", 9, "")];
        assert!(matches!(met(&unlisted, &unlisted), Met::Suspect(_)), "a store that lists no ETags");
    }

    impl Met {
        fn seal(&self) -> Option<&str> {
            if let Self::BothSealed(key) = self { Some(key) } else { None }
        }
    }

    #[test]
    fn a_seal_that_was_written_anew_is_of_the_same_batch_and_one_that_cannot_be_used_only_of_its_copy() {
        let sealed = seal();
        let id = BatchId::new();
        let json = |seal: &Seal| serde_json::to_vec(seal).unwrap();
        let (ours, renamed) = (json(&sealed), json(&Seal { batch: id, ..sealed.clone() }));
        let key = || "k".to_owned();
        assert_eq!(between((sealed.batch, &ours), (id, &renamed), key()), Occupied::No);
        assert_eq!(between((sealed.batch, &ours), (sealed.batch, b"{}"), key()), Occupied::Other(key()));
        assert_eq!(between((sealed.batch, b"{}"), (id, b"{}"), key()), Occupied::No);
    }

    #[test]
    fn of_a_batch_with_forgotten_rows_nothing_is_copied_back() {
        let (sealed, id, key) = (seal(), BatchId::new(), || "k".to_owned());
        let json = |seal: &Seal| serde_json::to_vec(seal).unwrap();
        let forgotten = |replaced: &[&str]| {
            let replaced = replaced.iter().map(|name| (*name).to_owned()).collect();
            Forgotten { rows: 0, sealed_bytes: sealed.bytes, replaced, highest: 2 }
        };
        let less = Seal { batch: id, forgotten: Some(forgotten(&["2.csv.zst"])), ..sealed.clone() };
        assert_eq!(between((sealed.batch, &json(&sealed)), (id, &json(&less)), key()), Occupied::Forgotten);
        // One that was brought back after that, to be loaded anew, has none of the rows.
        let back = Seal { batch: sealed.batch, compared: None, ..less.clone() };
        assert_eq!(between((sealed.batch, &json(&back)), (id, &json(&less)), key()), Occupied::No);
        let more = Seal { forgotten: Some(forgotten(&["3.csv.zst"])), ..less.clone() };
        assert_eq!(between((sealed.batch, &json(&back)), (id, &json(&more)), key()), Occupied::Forgotten);
        let other = Seal { content: Some(Content::of_rows(b"other")), ..less };
        assert_eq!(
            between((sealed.batch, &json(&sealed)), (id, &json(&other)), key()),
            Occupied::Other(key())
        );
    }

    #[test]
    fn rows_are_the_same_by_their_checksum_and_of_old_seals_by_those_of_the_files() {
        let (a, b) = (Content::of_rows(b"a"), Content::of_rows(b"b"));
        let with = |content| Seal { content, ..seal() };
        assert!(same_rows(&with(Some(a)), &with(Some(a))) && !same_rows(&with(Some(a)), &with(Some(b))));
        assert!(same_rows(&with(None), &with(Some(b))), "the files are equal");
        let mut other = with(None);
        other.files[0].crc32 = "BBBBBB==".to_owned();
        assert!(!same_rows(&other, &with(None)));
    }
}
