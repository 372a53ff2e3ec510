//! Each side of a fault, as a client meets it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Instant;

use bytes::Bytes;
use shared::object_store::{ObjectStore, ObjectStoreErrorKind};

use super::*;
use crate::config::{Shape, pipeline};
use crate::standins::Endpoints;

const KEY: &str = "ToIngest/k";

/// A store, and a client of it that never repeats by itself within the time of a test.
async fn start(dir: &Path) -> (S3, ObjectStore) {
    let s3 = S3::start(&dir.join("s3")).await.unwrap();
    let endpoints = Endpoints {
        token_url: "http://127.0.0.1:1/".to_owned(),
        stream_url: "http://127.0.0.1:1/".to_owned(),
        redirect_host: "localhost".to_owned(),
        s3: s3.endpoint().to_owned(),
        redshift: ([127, 0, 0, 1], 1).into(),
        postgres: String::new(),
    };
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, pipeline(dir, &endpoints, &Shape::default())).unwrap();
    let config = shared::config::Config::load(&file, shared::config::Secrets::Ingester).unwrap();
    let store = ObjectStore::connect(&config.s3).await;
    (s3, store)
}

/// More often than the client repeats.
fn always(s3: &S3, operation: Operation, side: Side) {
    s3.faults().clear();
    for _ in 0..10 {
        s3.faults().push(Fault::of(operation, side));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_leave_nothing_and_lost_answers_leave_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, store) = start(dir.path()).await;
    let content = Bytes::from_static(b"one two three four");
    let there = || dir.path().join("s3").join(BUCKET).join(KEY).is_file();
    for (side, kind) in [
        (Side::Refused(Refusal::SlowDown), ObjectStoreErrorKind::Passing),
        (Side::Refused(Refusal::InternalError), ObjectStoreErrorKind::Passing),
        (Side::Refused(Refusal::AccessDenied), ObjectStoreErrorKind::Configuration),
        (Side::Cut, ObjectStoreErrorKind::Passing),
    ] {
        always(&s3, Operation::Put, side);
        let error = store.put(KEY, content.clone()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{side:?}: {error}");
        assert!(!there(), "{side:?}");
    }
    always(&s3, Operation::Put, Side::AppliedThenLost);
    store.put(KEY, content.clone()).await.unwrap_err();
    assert!(there());
    always(&s3, Operation::Get, Side::CutBody);
    let error = store.get(KEY).await.unwrap_err();
    assert_eq!(error.kind(), ObjectStoreErrorKind::Passing, "{error}");
    always(&s3, Operation::Copy, Side::AppliedThenLost);
    store.copy(KEY, "Ingested/k").await.unwrap_err();
    always(&s3, Operation::Delete, Side::AppliedThenLost);
    store.delete(KEY).await.unwrap_err();
    s3.faults().clear();
    assert!(!there());
    assert_eq!(store.get("Ingested/k").await.unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_happens_late_even_if_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, store) = start(dir.path()).await;
    let (held, begun) = (Duration::from_millis(600), Instant::now());
    let there = || dir.path().join("s3").join(BUCKET).join(KEY).is_file();
    s3.faults().push(Fault { key: "Ingest".to_owned(), ..Fault::of(Operation::Put, Side::Held(held)) });
    let waiting = store.put(KEY, Bytes::from_static(b"x"));
    assert!(tokio::time::timeout(held / 3, waiting).await.is_err(), "an answer while it is held");
    assert!(!there());
    while !there() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never happened");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= held);
    s3.faults().push(Fault::of(Operation::List, Side::Slow(held)));
    let begun = Instant::now();
    assert_eq!(store.list("ToIngest/", None).await.unwrap().len(), 1);
    assert!(begun.elapsed() >= held);
    assert_eq!((s3.requests().of(Operation::List), s3.requests().of(Operation::Put)), (1, 1));
}
