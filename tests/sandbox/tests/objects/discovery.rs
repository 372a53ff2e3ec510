//! How many LISTs it takes to find what is new.

use chrono::{DateTime, TimeDelta, Utc};
use ingester::{Discovery, Hint, LoadStore, UnknownFolders};
use shared::clock::Clock;
use shared::config::Config;
use shared::ids::{BatchId, Instance};
use shared::layout::{self, Compression, MANIFEST, SEAL};
use shared::object_store::ObjectStore;
use shared::seal::{Counts, SEAL_FORMAT, Seal};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::store::Memory;
use crate::{config, services};

fn put(store: &Memory, batch: BatchId, sealed: bool) {
    let folder = layout::folder("ToIngest/", batch);
    let now = Clock::system().wall();
    let seal = Seal {
        format: SEAL_FORMAT,
        batch,
        instance: Instance::try_from("web-1".to_owned()).unwrap(),
        created: now,
        sealed: now,
        schema: "0123456789abcdef".to_owned(),
        columns: None,
        pseudonym_key: None,
        forgotten: None,
        compression: Compression::Zstd,
        files: Vec::new(),
        rows: 0,
        bytes: 0,
        first_received: None,
        last_received: None,
        counts: Counts::default(),
        content: None,
        compared: None,
    };
    store.put(&format!("{folder}0.csv.zst"), "rows");
    store.put(&format!("{folder}{MANIFEST}"), "{}");
    if sealed {
        store.put(&format!("{folder}{SEAL}"), serde_json::to_vec(&seal).unwrap());
    }
}

struct Found {
    discovery: Discovery,
    book: LoadStore,
    folders: UnknownFolders,
    hints: mpsc::Sender<Hint>,
}

impl Found {
    async fn start(config: &Config) -> Self {
        Self::start_at(config, &Clock::system()).await
    }

    async fn start_at(config: &Config, clock: &Clock) -> Self {
        let (hints, hinted) = mpsc::channel(9);
        let (book, folders) = (
            LoadStore::open(&config.ingester.dir, std::time::Duration::ZERO, &shared::clock::Clock::system())
                .unwrap(),
            UnknownFolders::default(),
        );
        let store = ObjectStore::connect(&config.s3).await;
        let services = services(config, store, book.clone(), clock.clone());
        let discovery = Discovery::new(&services, folders.clone(), hinted).unwrap();
        Self { discovery, book, folders, hints }
    }

    /// One listing; then the ledger knows every batch that it is asked about but these.
    async fn list(&mut self, new: &[BatchId]) {
        self.hints.send(Hint::List).await.unwrap();
        self.discovery.step().await.unwrap();
        loop {
            let asked = self.folders.oldest(10_000);
            if asked.is_empty() {
                break;
            }
            for batch in asked {
                if new.contains(&batch) {
                    self.folders.forget(batch);
                    self.hints.send(Hint::Folder(batch)).await.unwrap();
                    self.discovery.step().await.unwrap();
                } else {
                    self.folders.mark_loaded(batch);
                }
            }
        }
    }

    fn knows(&self, batches: &[BatchId]) -> bool {
        batches.iter().all(|batch| self.book.get(*batch).unwrap().is_some())
    }
}

fn old(many: i64, now: DateTime<Utc>) -> Vec<BatchId> {
    (1..=many).map(|n| BatchId::floor(now - TimeDelta::hours(1) - TimeDelta::minutes(n))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn finding_ten_new_batches_takes_one_list_however_many_were_loaded_and_kept() {
    for many in [20_000, 100_000] {
        let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
        let config = config(&dir, &store, "archive = \"keep\"\nlist_all_interval = \"1h\"");
        old(many, Clock::system().wall()).into_iter().for_each(|batch| put(&store, batch, true));
        let new: Vec<BatchId> = (0..10).map(|_| BatchId::new()).collect();
        {
            let mut found = Found::start(&config).await;
            found.list(&[]).await;
            let whole = store.lists();
            assert!(whole >= u64::try_from(many * 3 / 1000).unwrap(), "the first is of everything: {whole}");
            new.iter().take(5).for_each(|batch| put(&store, *batch, true));
            found.list(&new).await;
            assert!(found.knows(&new[..5]));
            assert_eq!(store.lists(), 1, "of {many}");
            found.list(&new).await;
            assert_eq!(store.lists(), 1, "nothing new costs no more");
        }
        // How far listings have come is remembered over a restart.
        new.iter().for_each(|batch| put(&store, *batch, true));
        let mut found = Found::start(&config).await;
        found.list(&new).await;
        assert!(found.knows(&new));
        // The other one looks for manifests that were left behind.
        assert_eq!(store.lists(), 2, "of {many}, after a restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_published_long_after_it_was_opened_is_found_all_the_same() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let config = config(&dir, &store, "archive = \"keep\"\nlist_all_interval = \"10s\"");
    // Ids bear the time of the machine.
    let clock = Clock::by_hand(Clock::system().wall());
    let now = clock.wall();
    let before = old(2_000, now);
    before.iter().for_each(|batch| put(&store, *batch, true));
    // Seen without seal by a listing of everything: it is looked at until it has one.
    let waiting = BatchId::floor(now - TimeDelta::hours(7) - TimeDelta::seconds(7));
    put(&store, waiting, false);
    let mut found = Found::start_at(&config, &clock).await;
    found.list(&[]).await;
    store.lists();
    found.list(&[]).await;
    assert!(!found.knows(&[waiting]));
    put(&store, waiting, true);
    found.list(&[]).await;
    assert!(found.knows(&[waiting]) && store.lists() <= 4);
    // Never seen before, and older than listings reach: the next listing of everything finds it.
    let late = BatchId::floor(now - TimeDelta::hours(9) - TimeDelta::seconds(9));
    put(&store, late, true);
    clock.advance(std::time::Duration::from_millis(10_100));
    found.list(&[late]).await;
    assert!(found.knows(&[late]) && store.lists() > 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_one_page_is_listed_whole_every_time() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let config = config(&dir, &store, "archive = \"move\"");
    let mut found = Found::start(&config).await;
    found.list(&[]).await;
    store.lists();
    let late = BatchId::floor(Clock::system().wall() - TimeDelta::days(3));
    put(&store, late, true);
    found.list(&[]).await;
    assert!(found.knows(&[late]));
    assert_eq!(store.lists(), 1);
    store.remove(&format!("{}{SEAL}", layout::folder("ToIngest/", late)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_s3_cannot_give_holds_up_no_listing_and_is_found_when_it_can() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let config = config(&dir, &store, "archive = \"move\"");
    let mut found = Found::start(&config).await;
    let told = found.discovery.listed();
    let begun = *found.discovery.complete().borrow();
    let (broken, sound) = (BatchId::new(), BatchId::new());
    put(&store, broken, true);
    put(&store, sound, true);
    store.break_object(Some(format!("{}{SEAL}", layout::folder("ToIngest/", broken))));
    found.list(&[]).await;
    assert!(found.knows(&[sound]) && !found.knows(&[broken]));
    told.await.unwrap();
    let later = BatchId::new();
    put(&store, later, true);
    found.list(&[]).await;
    assert!(found.knows(&[later]) && !found.knows(&[broken]));
    assert_eq!(*found.discovery.complete().borrow(), begun, "not complete without it");
    store.break_object(None);
    found.list(&[]).await;
    assert!(found.knows(&[broken]));
    assert!(*found.discovery.complete().borrow() > begun);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_is_refused_once_is_asked_for_again_soon_and_holds_up_no_listing() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let config = config(&dir, &store, "archive = \"move\"");
    let mut found = Found::start(&config).await;
    let begun = *found.discovery.complete().borrow();
    let (forbidden, sound) = (BatchId::new(), BatchId::new());
    put(&store, forbidden, true);
    put(&store, sound, true);
    store.forbid_object(Some(format!("{}{SEAL}", layout::folder("ToIngest/", forbidden))));
    found.list(&[]).await;
    assert!(found.knows(&[sound]) && !found.knows(&[forbidden]));
    assert!(*found.discovery.complete().borrow() > begun, "complete but for what is refused");
    store.forbid_object(None);
    let step = async {
        // No hint: it is looked at of its own accord.
        while !found.knows(&[forbidden]) {
            found.discovery.step().await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), step).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_page_hides_no_batch() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let config = config(&dir, &store, "archive = \"move\"");
    let mut found = Found::start(&config).await;
    let batch = BatchId::new();
    put(&store, batch, true);
    store.show_empty_pages(2);
    found.list(&[]).await;
    assert!(found.knows(&[batch]));
}
