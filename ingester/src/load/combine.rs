//! What one COPY loads: a batch alone by its own manifest, several by a combined one that names the files of all.
//!
//! The name of a combined manifest is made of its batches, so that making it again, here or in another ingester, writes the
//! same bytes under the same key. It is deleted when its batches are loaded: any other ingester about to load the same ones
//! finds them in the ledger before COPY. One that stays, because a process ended or its batches were loaded otherwise, is
//! deleted when it is old. Only objects with such a name are deleted: all others below `s3.loads` belong to somebody else.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use shared::layout::{self, MANIFEST};
use shared::object_store::{ObjectStore, ObjectStoreError};
use shared::seal::{Manifest, Seal};
use xxhash_rust::xxh3::Xxh3;

use crate::failure::LoadFailure;
use crate::redshift::Target;
use crate::redshift::transaction::{Loading, Part};

/// No COPY takes this long: the longest `redshift.statement_timeout` is a day.
const OLD: TimeDelta = TimeDelta::hours(25);

/// Prepares the loading of these batches, which are whole, alike, and at least one.
pub async fn loading(store: &ObjectStore, target: &Target, seals: Vec<Seal>) -> Result<Loading, LoadFailure> {
    let manifest = match seals.as_slice() {
        [only] => format!("{}{MANIFEST}", layout::folder(&target.to_ingest, only.batch)),
        several => {
            let key = key(&target.loads, several);
            // Our own plain structs: their serialisation cannot fail.
            let content = serde_json::to_vec(&manifest(target, several)).unwrap_or_default();
            store.put(&key, Bytes::from(content)).await?;
            key
        }
    };
    let compression = seals.first().map_or(layout::Compression::None, |seal| seal.compression);
    let parts = seals.into_iter().map(Part::whole).collect();
    Ok(Loading { manifest, compression, parts })
}

/// Whether the manifest was made here, and not by a producer.
pub fn is_combined(loading: &Loading) -> bool {
    loading.parts.len() > 1
}

/// Deletes combined manifests that are no longer used, and nothing else.
pub async fn tidy(store: &ObjectStore, prefix: &str, now: DateTime<Utc>) -> Result<(), ObjectStoreError> {
    for key in store.list_older(prefix, now - OLD, |key| is_own(prefix, key)).await? {
        store.delete(&key).await?;
        tracing::debug!(key, "deleted a combined manifest that was left over");
    }
    Ok(())
}

fn manifest(target: &Target, seals: &[Seal]) -> Manifest {
    let files = |seal: &Seal| {
        let folder = layout::folder(&target.to_ingest, seal.batch);
        seal.files.iter().map(move |file| format!("{folder}{}", file.name)).collect::<Vec<_>>()
    };
    let keys: Vec<String> = seals.iter().flat_map(files).collect();
    Manifest::of(&target.bucket, keys.iter().map(String::as_str))
}

/// `Loads/<the first batch>-<hash of all>.json`.
fn key(prefix: &str, seals: &[Seal]) -> String {
    let mut hash = Xxh3::new();
    seals.iter().for_each(|seal| hash.update(seal.batch.as_bytes()));
    let first = seals.first().map_or_else(String::new, |seal| seal.batch.to_string());
    format!("{prefix}{first}-{:032x}.json", hash.digest128())
}

/// Whether [`key`] makes keys such as this one.
fn is_own(prefix: &str, key: &str) -> bool {
    let name = key.strip_prefix(prefix).and_then(|name| name.strip_suffix(".json"));
    let Some((batch, hash)) = name.and_then(|name| name.rsplit_once('-')) else { return false };
    let is_hash = hash.len() == 32 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hash && layout::parse_folder(batch).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::folder::tests::seal;
    use crate::redshift::target::tests::target;

    #[test]
    fn the_name_of_a_combined_manifest_follows_from_its_batches_and_no_others() {
        let seals = [seal(), seal(), seal()];
        let name = key("Loads/", &seals);
        assert_eq!(name, key("Loads/", &seals.clone()));
        assert!(name.starts_with(&format!("Loads/{}-", seals[0].batch)), "{name}");
        assert_ne!(name, key("Loads/", &seals[..2]));
        assert_ne!(name, key("Loads/", &[seals[0].clone(), seals[2].clone(), seals[1].clone()]));
    }

    #[test]
    fn only_what_bears_the_name_of_a_combined_manifest_is_ours_to_delete() {
        let seals = [seal(), seal()];
        let own = key("Loads/", &seals);
        assert!(is_own("Loads/", &own));
        let batch = seals[0].batch;
        let hash = own.rsplit_once('-').unwrap().1.strip_suffix(".json").unwrap().to_owned();
        for other in [
            "Loads/".to_owned(),
            "Loads/readme.txt".to_owned(),
            "Loads/report.json".to_owned(),
            format!("Loads/{batch}.json"),
            format!("Loads/{batch}-{}.json", &hash[1..]),
            format!("Loads/{batch}-{hash}.json.bak"),
            format!("Loads/{batch}-{hash}"),
            format!("Loads/sub/{batch}-{hash}.json"),
            format!("Loads/{}-{hash}.json", batch.to_string().to_uppercase()),
            format!("Loads/{batch}-{}.json", "g".repeat(32)),
            format!("Loads/.check-{batch}-{hash}.json"),
            format!("Other/{batch}-{hash}.json"),
        ] {
            assert!(!is_own("Loads/", &other), "{other}");
        }
    }

    #[test]
    fn a_combined_manifest_names_every_file_of_every_batch_and_all_are_mandatory() {
        let seals = [seal(), seal()];
        let entries = manifest(&target(), &seals).entries;
        let urls: Vec<_> = entries.iter().map(|entry| entry.url.clone()).collect();
        let url =
            |n: usize, file: &str| format!("s3://b/{}{file}", layout::folder("ToIngest/", seals[n].batch));
        let wanted = [url(0, "0.csv.zst"), url(0, "1.csv.zst"), url(1, "0.csv.zst"), url(1, "1.csv.zst")];
        assert_eq!(urls, wanted);
        assert!(entries.iter().all(|entry| entry.mandatory));
    }
}
