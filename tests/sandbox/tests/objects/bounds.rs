//! No object is read that is larger than what is expected of it, or for longer than its time, and no listing ends early.

use std::time::{Duration, Instant};

use chrono::Utc;
use ingester::{Folder, verify};
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::{ObjectStore, ObjectStoreErrorKind, SMALL};
use state::loads::ErrorClass;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::store::Memory;
use crate::{config, config_at};

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
async fn a_body_that_comes_byte_by_byte_is_not_waited_for_longer_than_a_request_may_take() {
    let dir = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let read = socket.read(&mut request).await.unwrap_or(0);
                let head =
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1000\r\netag: \"x\"\r\n\r\n";
                let mut sent = socket.write_all(head.as_bytes()).await;
                if request[..read].starts_with(b"HEAD") {
                    return;
                }
                // 20 seconds: fast enough for the SDK, which asks for a byte a second.
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    sent = socket.write_all(b"x").await;
                }
            });
        }
    });
    let objects = ObjectStore::connect(&config_at(&dir, &endpoint, "timeout = \"1s\"", &[]).s3).await;
    let begun = Instant::now();
    for error in [objects.get("k").await.unwrap_err(), objects.crc32_of("k").await.unwrap_err()] {
        assert_eq!(error.kind(), ObjectStoreErrorKind::Passing, "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("{endpoint} sent only a part of it within s3.timeout")), "{said}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_is_too_large_is_the_trouble_of_its_own_batch() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let objects = ObjectStore::connect(&config(&dir, &store, "").s3).await;
    let batch = BatchId::new();
    let key = format!("{}{SEAL}", layout::folder("ToIngest/", batch));
    store.put(&key, vec![b' '; usize::try_from(SMALL).unwrap() + 1]);
    let trouble = verify(&objects, "ToIngest/", batch, "0123456789abcdef", Utc::now()).await.unwrap_err();
    assert_eq!((trouble.class, trouble.scope), (ErrorClass::Incomplete, ingester::Scope::Batch));
    assert!(trouble.to_string().contains(&key) && trouble.to_string().contains("1048576 bytes"), "{trouble}");
    store.put(&key, "{}");
    assert!(matches!(verify(&objects, "ToIngest/", batch, "x", Utc::now()).await, Ok(Folder::Unfit(_))));
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
