//! What one COPY loads: a batch alone by its own manifest, several by one that names the files of all.
//!
//! Such a manifest is named by its batches, so that making it again, here or in another ingester, writes the same
//! bytes under the same key. It is deleted when its batches are settled: whoever else is about to load the same ones
//! finds them in the ledger before COPY. One that is left behind, because a process ended or its batches were loaded
//! otherwise, is deleted when it is old.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use shared::ids::BatchId;
use shared::layout::{self, MANIFEST};
use shared::object_store::{ObjectStore, StoreError};
use shared::seal::{Manifest, Seal};
use xxhash_rust::xxh3::Xxh3;

use crate::trouble::Trouble;
use crate::warehouse::Target;
use crate::warehouse::load::{Loading, Part};

/// No COPY takes this long: the longest `redshift.statement_timeout` is a day.
const OLD: TimeDelta = TimeDelta::hours(25);

/// Prepares the loading of these batches, which are whole, alike, and at least one.
///
/// # Errors
/// When the manifest cannot be written.
pub async fn loading(store: &ObjectStore, target: &Target, seals: Vec<Seal>) -> Result<Loading, Trouble> {
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
#[must_use]
pub fn is_combined(loading: &Loading) -> bool {
    loading.parts.len() > 1
}

/// Deletes manifests that nobody uses any more.
///
/// # Errors
/// When S3 refuses.
pub async fn tidy(store: &ObjectStore, prefix: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
    for key in store.list_older(prefix, now - OLD).await? {
        store.delete(&key).await?;
        tracing::debug!(key, "a manifest that was left behind is deleted");
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
    let first = seals.first().map(|seal| seal.batch).map_or_else(String::new, |id: BatchId| id.to_string());
    format!("{prefix}{first}-{:032x}.json", hash.digest128())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::tests::seal;
    use crate::warehouse::statements::tests::target;

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
