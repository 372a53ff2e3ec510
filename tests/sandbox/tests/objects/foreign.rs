//! What somebody else has put below our prefixes stays there.

use std::collections::BTreeMap;

use bytes::Bytes;
use ingester::{Archiving, combine, put_away};
use shared::config::Archive;
use shared::ids::BatchId;
use shared::layout::{self, MANIFEST, SEAL};
use shared::object_store::ObjectStore;
use tempfile::TempDir;

use crate::config;
use crate::store::Memory;

/// Objects that no program of ours writes, below every prefix and within the folders of a batch; old, as all objects of
/// this store are.
fn foreign(batch: BatchId) -> Vec<String> {
    let mut keys = Vec::new();
    for prefix in ["ToIngest/", "Ingested/", "Rejected/", "Quarantine/", "Loads/", ""] {
        let folder = layout::folder(prefix, batch);
        keys.extend([
            format!("{prefix}notes.txt"),
            format!("{prefix}{batch}.json"),
            format!("{prefix}2026/{batch}-{}.json", "0".repeat(32)),
            format!("{folder}notes.txt"),
            format!("{folder}0.csv.bak"),
            format!("{folder}sub/{SEAL}"),
            format!("{folder}results/0.csv"),
        ]);
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn tidying_and_archiving_leave_alone_what_is_not_ours() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let objects = ObjectStore::connect(&config(&dir, &store, "").s3).await;
    let batch = BatchId::new();
    let theirs: BTreeMap<String, Bytes> = foreign(batch)
        .into_iter()
        .map(|key| (key.clone(), Bytes::from(format!("content of {key}"))))
        .collect();
    for mode in [Archive::Move, Archive::Delete, Archive::Keep] {
        let mut all = theirs.clone();
        let ours = ["0.csv.zst", MANIFEST, SEAL];
        for name in ours {
            all.insert(format!("{}{name}", layout::folder("ToIngest/", batch)), Bytes::from_static(b"ours"));
        }
        let left_behind = format!("Loads/{batch}-{}.json", "0123456789abcdef".repeat(2));
        all.insert(left_behind.clone(), Bytes::from_static(b"ours"));
        store.set_objects(all);
        let archiving = Archiving { mode, from: "ToIngest/", to: "Ingested/", at_once: 4 };
        put_away(&objects, archiving, batch, batch).await.unwrap();
        combine::tidy(&objects, "Loads/", shared::clock::Clock::system().wall()).await.unwrap();
        let there = store.objects();
        assert!(!there.contains_key(&left_behind), "{mode:?}");
        let place = |prefix: &str| {
            let folder = layout::folder(prefix, batch);
            ours.iter().filter(|name| there.contains_key(&format!("{folder}{name}"))).count()
        };
        let expected = match mode {
            Archive::Move => (0, 3),
            Archive::Delete => (0, 0),
            Archive::Keep => (3, 0),
        };
        assert_eq!((place("ToIngest/"), place("Ingested/")), expected, "{mode:?}");
        for (key, content) in &theirs {
            assert_eq!(there.get(key), Some(content), "{mode:?}: {key}");
        }
        let more = there.len() - theirs.len();
        assert_eq!(
            more,
            expected.0 + expected.1,
            "{mode:?}: nothing of theirs was copied: {:?}",
            there.keys()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_was_left_behind_is_found_behind_any_number_of_other_objects() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let objects = ObjectStore::connect(&config(&dir, &store, "").s3).await;
    for number in 0..2500 {
        store.put(&format!("Loads/!{number}"), "theirs");
    }
    let own = format!("Loads/{}-{}.json", BatchId::new(), "a".repeat(32));
    store.put(&own, "ours");
    combine::tidy(&objects, "Loads/", shared::clock::Clock::system().wall()).await.unwrap();
    let there = store.objects();
    assert!(!there.contains_key(&own) && there.len() == 2500);
}
