//! Every object is written on the terms of its bucket, whichever call writes it, and every call says whose bucket it expects.

use bytes::Bytes;
use hyper::Method;
use hyper::http::request::Parts;
use sandbox::s3::{ACCESS_KEY, S3, SECRET_KEY, access};
use shared::clock::Clock;
use shared::config::Config;
use shared::object_store::ObjectStore;
use tempfile::TempDir;

use crate::store::Memory;
use crate::{config, config_at};

const TERMS: &str = r#"
server_side_encryption = "aws:kms"
kms_key_id = "arn:aws:kms:eu-central-1:123456789012:key/k"
acl = "bucket-owner-full-control"
expected_bucket_owner = "123456789012"
archive_storage_class = "STANDARD_IA"
"#;
const OWNER: (&str, &str) = ("x-amz-expected-bucket-owner", "123456789012");
const OF_WRITES: [(&str, &str); 3] = [
    ("x-amz-server-side-encryption", "aws:kms"),
    ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:eu-central-1:123456789012:key/k"),
    ("x-amz-acl", "bucket-owner-full-control"),
];

fn header<'h>(head: &'h Parts, name: &str) -> Option<&'h str> {
    head.headers.get(name).map(|value| value.to_str().unwrap())
}

/// One of each call.
async fn everything(objects: &ObjectStore) {
    objects.put("ToIngest/k", Bytes::from_static(b"x")).await.unwrap();
    objects.put_new("ToIngest/new", Bytes::from_static(b"x")).await.unwrap().unwrap();
    objects.put("Ingested/batch.json", Bytes::from_static(b"x")).await.unwrap();
    objects.put_new("Ingested/.pipeline.json", Bytes::from_static(b"x")).await.unwrap().unwrap();
    objects.copy("ToIngest/k", "Ingested/k").await.unwrap();
    objects.copy("Ingested/k", "ToIngest/again").await.unwrap();
    objects.get("ToIngest/k").await.unwrap();
    objects.open("ToIngest/k", 0, None).await.unwrap();
    objects.size("ToIngest/k").await.unwrap();
    objects.crc32_of("ToIngest/k").await.unwrap();
    objects.list("ToIngest/", None).await.unwrap();
    objects.folders("ToIngest/", |_| true).await.unwrap();
    objects.list_older("ToIngest/", shared::clock::Clock::system().wall(), |_| true).await.unwrap();
    objects.delete("ToIngest/k").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_keeps_the_terms_of_the_bucket() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let configured = config_at(&dir, store.endpoint(), TERMS, &[]);
    everything(&ObjectStore::connect(&configured.s3).await).await;
    let heads = store.heads();
    assert!(heads.len() >= 12, "{heads:?}");
    for head in &heads {
        let asked = format!("{} {}", head.method, head.uri);
        assert_eq!(header(head, OWNER.0), Some(OWNER.1), "{asked}");
        let write = head.method == Method::PUT;
        for (name, value) in OF_WRITES {
            assert_eq!(header(head, name), write.then_some(value), "{asked}");
        }
        let copy = header(head, "x-amz-copy-source").is_some();
        assert_eq!(header(head, "x-amz-source-expected-bucket-owner"), copy.then_some(OWNER.1), "{asked}");
        let archived = write && asked.contains("/Ingested/") && !asked.contains(".pipeline.json");
        assert_eq!(header(head, "x-amz-storage-class"), archived.then_some("STANDARD_IA"), "{asked}");
    }
    // A bucket that somebody else owns is read, such as by a replay.
    let other = ObjectStore::connect(&configured.s3).await.of_bucket("another");
    other.list("p/", None).await.unwrap();
    assert_eq!(header(&store.heads()[0], OWNER.0), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_terms_nothing_is_said() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    everything(&ObjectStore::connect(&config(&dir, &store, "").s3).await).await;
    for head in store.heads() {
        let said = OF_WRITES.iter().chain([&OWNER]).map(|(name, _)| *name);
        let said: Vec<_> = said
            .chain(["x-amz-storage-class", "x-amz-source-expected-bucket-owner", "x-amz-security-token"])
            .filter(|name| header(&head, name).is_some())
            .collect();
        assert!(said.is_empty(), "{} {}: {said:?}", head.method, head.uri);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_token_of_a_temporary_key_goes_along() {
    let (dir, store) = (TempDir::new().unwrap(), Memory::start().await);
    let configured = config_at(&dir, store.endpoint(), "session_token = \"of-the-session\"", &[]);
    ObjectStore::connect(&configured.s3).await.list("p/", None).await.unwrap();
    assert_eq!(header(&store.heads()[0], "x-amz-security-token"), Some("of-the-session"));
}

/// The configuration of a program that signs with its own key.
fn of_program(config: &Config, program: &str, command: &str) -> Config {
    let mut config = config.clone();
    config.s3.access_key_id = access::key_of(program, Some(command));
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checks_of_both_programs_need_no_more_than_their_policies_and_keep_the_terms() {
    shared::tls::install();
    let dir = TempDir::new().unwrap();
    let s3 = S3::start(&dir.path().join("s3")).await.unwrap();
    let configured = config_at(&dir, s3.endpoint(), TERMS, &[]);
    s3.access().demand(&[OWNER], &OF_WRITES);
    let mut said = Vec::new();
    // Adobe and Redshift are not there, so the checks fail; what they say of S3 counts.
    producer::check(&of_program(&configured, "producer", "check"), &Clock::system(), &mut said)
        .await
        .unwrap_err();
    let ingester = of_program(&configured, "ingester", "check");
    ingester::check(&ingester, dir.path(), &shared::clock::Clock::system(), &mut said).await.unwrap_err();
    let said = String::from_utf8(said).unwrap();
    let failed: Vec<_> = said.lines().filter(|line| line.starts_with("✗ S3")).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(said.contains("✓ S3: put, got and deleted") && said.contains("✓ S3 copy"), "{said}");
    assert!(said.contains("✓ network: ") && said.contains("directly; trusting the system's"), "{said}");
    assert!(s3.access().demanded() > 10);
    assert_eq!(s3.access().take_refused(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_policy_lacks_or_that_breaks_the_terms_is_refused_and_kept() {
    let dir = TempDir::new().unwrap();
    let s3 = S3::start(&dir.path().join("s3")).await.unwrap();
    let configured = config_at(&dir, s3.endpoint(), "", &[]);
    let objects = ObjectStore::connect(&of_program(&configured, "producer", "run").s3).await;
    objects.put("ToIngest/k", Bytes::from_static(b"x")).await.unwrap();
    let error = objects.get("ToIngest/k").await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    objects.list("ToIngest/", None).await.unwrap_err();
    let refused = s3.access().take_refused().join("\n");
    assert!(refused.contains("iam-producer Get ToIngest/k: s3:GetObject of"), "{refused}");
    assert!(refused.contains("iam-producer List ToIngest/: s3:ListBucket of"), "{refused}");

    assert_eq!(
        (configured.s3.access_key_id.as_str(), configured.s3.secret_access_key.reveal()),
        (ACCESS_KEY, SECRET_KEY)
    );
    let objects = ObjectStore::connect(&configured.s3).await;
    objects.get("ToIngest/k").await.unwrap();
    s3.access().demand(&[], &OF_WRITES);
    objects.put("ToIngest/k", Bytes::from_static(b"x")).await.unwrap_err();
    let refused = s3.access().take_refused().join("\n");
    assert!(refused.contains("no x-amz-server-side-encryption: aws:kms"), "{refused}");
}
