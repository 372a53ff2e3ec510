//! `ingester adopt` of folders that nobody has sealed.

use std::process::{Output, Stdio};
use std::time::Duration;

use adobe::Plan;
use sandbox::config::Shape;
use sandbox::judge::LEDGER;
use sandbox::s3;
use sandbox::service;
use shared::ids::BatchId;

use super::{Bucket, SHAPE, ingester, without_last};
use crate::world::{STOP, World, assert_clean, options};

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_whose_producer_is_gone_is_adopted_and_loaded_once() {
    let shape = Shape { max_batch_age: "3s", files_per_batch: 100, ..SHAPE };
    let adobe = options(450);
    let plan = Plan { malformed_per_mille: 0, ..adobe.plan };
    let world = World::with(adobe::Options { plan, ..adobe }, &shape).await;
    // Its files go up, and nothing that ends it.
    for _ in 0..1_000 {
        let (operation, side) = (Some(s3::Operation::Put), s3::Side::Refused(s3::Refusal::AccessDenied));
        world.standins.s3.faults().push(s3::Fault { operation, key: "/manifest.json".to_owned(), side });
    }
    let mut producer = world.start("producer");
    let uploaded = async || {
        world.snapshot().await.is_some_and(|snapshot| {
            snapshot.totals.rows >= world.wanted()
                && snapshot.batches.iter().all(|b| b.sealed.is_some() && b.files_uploaded == b.files)
        })
    };
    world.until("every file uploaded", &mut [&mut producer], uploaded).await;
    let bucket = Bucket::of(&world).await;
    let folder = bucket.folders().await.pop().unwrap();
    let batch = folder.split('/').nth(2).unwrap().to_owned();
    let (code, said) = ingester(&world, &["adopt", &batch, "--yes"]);
    assert!(code == Some(65) && said.contains("is at it and will finish it"), "{code:?} {said}");
    producer.stop(STOP).await.unwrap();
    let (code, said) = ingester(&world, &["adopt", &batch, "--yes"]);
    assert!(code == Some(65) && said.contains("when it is started again"), "{code:?} {said}");
    std::fs::remove_dir_all(world.path("producer")).unwrap();
    world.standins.s3.faults().clear();

    let (code, said) = ingester(&world, &["adopt", &batch, "--yes"]);
    assert!(code == Some(65) && said.contains("or give --young if its producer is gone"), "{code:?} {said}");

    let last = bucket.below(&folder).await.pop().unwrap().key;
    let whole = bucket.store.get(&last).await.unwrap();
    bucket.store.put(&last, whole.slice(..whole.len() / 2)).await.unwrap();
    let (code, said) = ingester(&world, &["adopt", &batch, "--yes", "--young"]);
    assert!(code == Some(65) && said.contains(&last) && said.contains("not whole"), "{code:?} {said}");
    bucket.store.put(&last, whole).await.unwrap();

    let (code, said) = ingester(&world, &["adopt", &batch, "--yes", "--young", "--instance", "web-9"]);
    assert!(code == Some(0) && said.contains("is sealed: the ingester loads it"), "{code:?} {said}");
    let (code, said) = ingester(&world, &["adopt", &batch, "--yes"]);
    assert!(code == Some(0) && said.contains("has a seal already"), "{code:?} {said}");
    let mut running = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut running]).await;
    running.stop(STOP).await.unwrap();
    let (code, said) = ingester(&world, &["adopt", &batch, "--yes"]);
    assert!(code == Some(0) && said.contains("is loaded already"), "{code:?} {said}");
    assert_clean(&world.verdict().await);
    let row = format!("SELECT instance, received = rows_loaded, first_received IS NOT NULL FROM {LEDGER}");
    let row = world.judge.query_one(&row, &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, String>(0), row.get::<_, bool>(1), row.get::<_, bool>(2)),
        ("web-9".to_owned(), true, true)
    );
    let (code, said) = ingester(&world, &["adopt", &BatchId::new().to_string(), "--yes"]);
    assert_eq!(code, Some(66), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_somebody_seals_while_it_is_adopted_is_loaded_by_that_seal() {
    let world = World::new(450, &SHAPE).await;
    world.publish().await;
    std::fs::remove_dir_all(world.path("producer")).unwrap();
    let bucket = Bucket::of(&world).await;
    let (folder, seal) = bucket.of_two_files().await;
    for name in ["manifest.json", "batch.json"] {
        bucket.store.delete(&format!("{folder}{name}")).await.unwrap();
    }
    // What is adopted has another manifest than what is sealed meanwhile.
    let (_, last) = without_last(&seal);
    let key = format!("{folder}{}", last.name);
    let file = bucket.store.get(&key).await.unwrap();
    bucket.store.delete(&key).await.unwrap();
    let faults = world.standins.s3.faults().clone();
    let side = s3::Side::Slow(Duration::from_secs(4));
    faults.push(s3::Fault { operation: Some(s3::Operation::Put), key: "/manifest.json".to_owned(), side });
    let args = ["adopt", &seal.batch.to_string(), "--yes", "--young"];
    let mut adopt = service::command("ingester", &args, &world.config).unwrap();
    let adopting = adopt.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let struck = async || faults.pending() == 0;
    world.until("its manifest about to be written", &mut [], struck).await;
    bucket.store.put(&key, file).await.unwrap();
    bucket.end(&folder, &seal).await;
    let Output { status, stdout, .. } = adopting.wait_with_output().unwrap();
    let said = String::from_utf8(stdout).unwrap();
    assert!(status.success() && said.contains("was sealed by somebody else meanwhile"), "{said}");
    let mut running = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut running]).await;
    running.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);
}
