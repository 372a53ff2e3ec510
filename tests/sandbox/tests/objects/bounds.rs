//! No object is read that is larger than what is expected of it, and no listing ends early.

use ingester::{Folder, verify};
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::{ObjectStore, ObjectStoreErrorKind, SMALL};
use state::loads::ErrorClass;
use tempfile::TempDir;

use crate::config;
use crate::store::Memory;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_read_up_to_its_limit_whether_or_not_its_length_is_told() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let objects = ObjectStore::connect(&config(&dir, &store, "").s3).await;
    store.put("k", vec![b'x'; 1000]);
    for silent in [false, true] {
        store.tell_no_length(silent);
        assert_eq!(objects.get_at_most("k", 1000).await.unwrap().len(), 1000, "silent: {silent}");
        let error = objects.get_at_most("k", 999).await.unwrap_err();
        assert!(error.is_too_large() && error.kind() == ObjectStoreErrorKind::Configuration, "{error}");
        let said = error.to_string();
        assert!(said.contains("/k: ") && said.contains("999 bytes"), "{said}");
    }
    store.tell_no_length(false);
    store.put("empty", "");
    assert!(objects.get_at_most("empty", 0).await.unwrap().is_empty());
    assert!(objects.get_at_most("missing", 9).await.unwrap_err().is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_is_too_large_is_the_trouble_of_its_own_batch() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let objects = ObjectStore::connect(&config(&dir, &store, "").s3).await;
    let batch = BatchId::new();
    let key = format!("{}{SEAL}", layout::folder("ToIngest/", batch));
    store.put(&key, vec![b' '; usize::try_from(SMALL).unwrap() + 1]);
    let trouble = verify(&objects, "ToIngest/", batch, "0123456789abcdef").await.unwrap_err();
    assert_eq!((trouble.class, trouble.scope), (ErrorClass::Incomplete, ingester::Scope::Batch));
    assert!(trouble.to_string().contains(&key) && trouble.to_string().contains("1048576 bytes"), "{trouble}");
    store.put(&key, "{}");
    assert!(matches!(verify(&objects, "ToIngest/", batch, "x").await, Ok(Folder::Unfit(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_page_ends_no_listing() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let objects = ObjectStore::connect(&config(&dir, &store, "").s3).await;
    for number in 0..1500 {
        store.put(&format!("p/{number:04}"), "x");
    }
    store.show_empty_pages(3);
    assert_eq!(objects.list("p/", None).await.unwrap().len(), 1500);
    store.show_empty_pages(2);
    assert_eq!(objects.list("p/", Some("p/1489")).await.unwrap().len(), 10, "it goes on where it was");
    store.show_empty_pages(1);
    let old = objects
        .list_older("p/", shared::clock::Clock::system().wall(), |key| key.ends_with('0'))
        .await
        .unwrap();
    assert_eq!(old.len(), 150, "on the second page too");
}
