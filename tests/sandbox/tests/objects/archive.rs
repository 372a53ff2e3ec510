//! Archiving that is cut short after each single request, and repeated.

use std::collections::BTreeMap;

use bytes::Bytes;
use ingester::{Archiver, LoadStore};
use shared::clock::Clock;
use shared::config::Config;
use shared::ids::{BatchId, Instance};
use shared::layout::{self, MANIFEST, SEAL};
use shared::object_store::ObjectStore;
use state::loads::{Load, LoadEvent};
use tempfile::TempDir;

use crate::store::{Ends, Memory};
use crate::{config, services};

const NAMES: [&str; 5] = ["0.csv.zst", "1.csv.zst", "2.csv.zst", MANIFEST, SEAL];

fn folder(prefix: &str, batch: BatchId) -> BTreeMap<String, Bytes> {
    let folder = layout::folder(prefix, batch);
    NAMES.iter().map(|name| (format!("{folder}{name}"), Bytes::from(format!("content of {name}")))).collect()
}

async fn loaded(config: &Config, batch: BatchId) -> LoadStore {
    let book =
        LoadStore::open(&config.ingester.dir, std::time::Duration::ZERO, &shared::clock::Clock::system())
            .unwrap();
    let instance = Instance::try_from("web-1".to_owned()).unwrap();
    book.discovered(Load::new(batch, instance, 3, 30, 300, Clock::system().wall())).await.unwrap();
    book.note(batch, LoadEvent::Attempt).await.unwrap();
    book.note(batch, LoadEvent::Loaded).await.unwrap();
    book
}

/// One process's try: says whether the batch is archived as far as it knows.
async fn archive(config: &Config, book: &LoadStore, batch: BatchId) -> bool {
    let store = ObjectStore::connect(&config.s3).await;
    let mut archiver = Archiver::new(&services(config, store, book.clone(), Clock::system()));
    archiver.step().await.unwrap();
    book.get(batch).unwrap().is_some_and(|load| ingester::is_archived(&load))
}

/// Every object stands where it was or where it goes, as it was.
fn nothing_is_lost(objects: &BTreeMap<String, Bytes>, batch: BatchId, cut: &str) {
    for (key, content) in folder("ToIngest/", batch) {
        let moved = key.replace("ToIngest/", "Ingested/");
        let there = [objects.get(&key), objects.get(&moved)];
        assert!(there.contains(&Some(&content)), "{cut}: {key}");
        assert!(there.iter().flatten().all(|found| **found == content), "{cut}: {key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archiving_cut_short_after_each_request_ends_the_same_when_repeated() {
    let store = Memory::start().await;
    for (mode, at_once) in [("move", 1), ("move", 4), ("delete", 1), ("delete", 4), ("keep", 4)] {
        for ends in [Ends::Refused, Ends::Lost] {
            let batch = BatchId::new();
            let end = match mode {
                "move" => folder("Ingested/", batch),
                "delete" => BTreeMap::new(),
                _ => folder("ToIngest/", batch),
            };
            let mut cuts = 0;
            for cut in 0.. {
                let dir = TempDir::new().unwrap();
                let mut config = config(&dir, &store, &format!("archive = \"{mode}\""));
                config.s3.uploads = at_once;
                let book = loaded(&config, batch).await;
                store.set_objects(folder("ToIngest/", batch));
                let what = format!("{mode}, {at_once} at once, {ends:?} after {cut}");
                store.end(Some((cut, ends)));
                let done = archive(&config, &book, batch).await;
                if mode == "move" {
                    nothing_is_lost(&store.objects(), batch, &what);
                }
                // Cut once more, one request later, before it is let through.
                store.end(Some((1, ends)));
                if !done {
                    archive(&config, &book, batch).await;
                    if mode == "move" {
                        nothing_is_lost(&store.objects(), batch, &what);
                    }
                }
                store.end(None);
                assert!(done || archive(&config, &book, batch).await || !still_to_do(&book), "{what}");
                assert_eq!(store.objects(), end, "{what}");
                if done {
                    break;
                }
                cuts += 1;
            }
            let requests = match mode {
                // A LIST of either folder, and of each object a copy and a delete.
                "move" => 12,
                "delete" => 6,
                _ => 0,
            };
            assert_eq!(cuts, requests, "{mode}: every request was cut once");
        }
    }
    assert!(store.requests() > 0);
}

fn still_to_do(book: &LoadStore) -> bool {
    book.next_loaded(|_| true).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_archive_the_same_folder_at_once_end_with_it_whole() {
    let (store, batch) = (Memory::start().await, BatchId::new());
    for _ in 0..20 {
        store.set_objects(folder("ToIngest/", batch));
        let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let configs = [&one, &other].map(|dir| config(dir, &store, ""));
        let books = [loaded(&configs[0], batch).await, loaded(&configs[1], batch).await];
        let (first, second) =
            tokio::join!(archive(&configs[0], &books[0], batch), archive(&configs[1], &books[1], batch));
        assert!(first || second);
        for (config, book) in configs.iter().zip(&books) {
            while still_to_do(book) {
                archive(config, book, batch).await;
            }
        }
        assert_eq!(store.objects(), folder("Ingested/", batch));
    }
}
