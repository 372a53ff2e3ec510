//! A bucket whose policy asks for encryption, an ACL and its owner: the whole pipeline keeps its terms.

use sandbox::config::Shape;
use sandbox::service;

use crate::world::{World, assert_clean, options};

const TERMS: &str = r#"[s3]
server_side_encryption = "aws:kms"
kms_key_id = "arn:aws:kms:eu-central-1:123456789012:key/k"
acl = "bucket-owner-full-control"
expected_bucket_owner = "123456789012"
archive_storage_class = "STANDARD_IA"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_both_programs_keeps_the_terms_of_the_bucket() {
    let shape = Shape { records_per_file: 100, files_per_batch: 2, ..Shape::default() };
    let world = World::altered(options(600), &shape, |text| text.replacen("[s3]\n", TERMS, 1), None).await;
    let access = world.standins.s3.access();
    access.demand(
        &[("x-amz-expected-bucket-owner", "123456789012")],
        &[
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "arn:aws:kms:eu-central-1:123456789012:key/k"),
            ("x-amz-acl", "bucket-owner-full-control"),
        ],
    );
    for name in ["producer", "ingester"] {
        let checked = service::run(name, &["check"], &world.config).unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
    for args in [&["reconcile"][..], &["audit", "--since", "1d"]] {
        let ended = service::run("ingester", args, &world.config).unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    assert!(access.demanded() > 20, "{}", access.demanded());
    assert_eq!(access.take_refused(), Vec::<String>::new());
}
