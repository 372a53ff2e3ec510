//! Rows in quarantine are loaded once the table is mended, once each, whatever happens meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use redshift::{Fault, Kind};
use sandbox::s3;
use sandbox::service;
use shared::config::{Config, Secrets};
use shared::object_store::ObjectStore;

use super::{HELD, MENDED, NARROW, published, shape};
use crate::schema::send;
use crate::world::{STOP, assert_clean};

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_loads_what_it_can_and_may_be_killed_and_doubled() {
    let world = published(1_500, &shape(100, 3, "zstd"), 0.5).await;
    let (long_1, long_2) = (world.longer("evar1", 34), world.longer("evar2", 34));
    let both: BTreeSet<_> = long_1.union(&long_2).copied().collect();
    assert!(long_1.difference(&long_2).count() > 10 && long_2.len() > 10);
    send(&world, &format!("{NARROW}\n{}", NARROW.replace("evar1", "evar2"))).await;
    let mut ingester = world.start("ingester");
    world.until_archived(&mut ingester).await;
    world.assert_sifted(&both).await;

    // One column is mended: rows that only it refused are loaded, while the ingester runs.
    send(&world, MENDED).await;
    let faults = world.standins.redshift.faults().clone();
    // Killed before the effect of COMMIT, and after it.
    for fault in [Fault::Slow(Kind::Commit, HELD), Fault::Slow(Kind::Select, HELD)] {
        let text = if matches!(fault, Fault::Slow(Kind::Commit, _)) {
            "COMMIT"
        } else {
            "SELECT batch_id, rows_loaded, rows_quarantined"
        };
        let nth = if text == "COMMIT" { 2 } else { 5 };
        faults.push_at(nth, text, fault);
        let mut child = world.start_replay();
        let struck = async || faults.pending() == 0;
        world.until("the replay held", &mut [&mut ingester], struck).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    faults.push_at(1, "COMMIT", Fault::AppliedThenLost(Kind::Commit));
    let (code, said) = world.replay(&["--all"]);
    assert!(code == 65 && said.contains("column evar2, code 1204"), "{said}");
    world.assert_sifted(&long_2).await;

    // All is mended, and two replay at once, one of them named batches.
    send(&world, &MENDED.replace("evar1", "evar2")).await;
    let mut children = [world.start_replay(), world.start_replay(), world.start_replay()];
    let ended: Vec<_> = children.iter_mut().map(|child| child.wait().unwrap().code()).collect();
    assert!(ended.iter().all(|code| matches!(code, Some(0 | 69))), "{ended:?}");
    let (code, said) = world.replay(&["--all"]);
    assert_eq!(code, 0, "{said}");
    assert_clean(&world.verdict().await);
    assert!(world.objects("Quarantine").is_empty());
    ingester.stop(STOP).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_overtaken_by_another_keeps_the_rows_its_ledger_row_names() {
    let world = published(300, &shape(100, 3, "zstd"), 0.5).await;
    let (long_1, long_2) = (world.longer("evar1", 34), world.longer("evar2", 34));
    assert!(long_1.difference(&long_2).count() > 1 && long_2.len() > 1);
    let narrow = format!("{NARROW}\n{}", NARROW.replace("evar1", "evar2"));
    send(&world, &narrow).await;
    world.sift().await;
    send(&world, MENDED).await;
    // It knows what is left, and waits for the lock under which it loads the rest.
    let faults = world.standins.redshift.faults().clone();
    faults.push_at(2, "LOCK", Fault::Slow(Kind::Lock, Duration::from_secs(8)));
    let mut first = world.start_replay();
    let struck = async || faults.pending() == 0;
    world.until("the first replay held", &mut [], struck).await;
    // Meanwhile another one finds all refused, and tidies: sets first, and is killed before it comes to the search's.
    send(&world, &narrow).await;
    let store = world.standins.s3.faults().clone();
    let deletes = 100;
    for _ in 0..deletes {
        let (operation, side) = (Some(s3::Operation::Delete), s3::Side::Slow(HELD));
        store.push(s3::Fault { operation, key: "/sift/".to_owned(), side });
    }
    let mut second = world.start_replay();
    let struck = async || store.pending() < deletes;
    world.until("the second replay tidies", &mut [], struck).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    second.kill().unwrap();
    second.wait().unwrap();
    store.clear();
    send(&world, MENDED).await;
    assert!(first.try_wait().unwrap().is_none(), "it was to be held longer");
    assert_eq!(first.wait().unwrap().code(), Some(65));
    world.assert_sifted(&long_2).await;
    send(&world, &MENDED.replace("evar1", "evar2")).await;
    let (code, said) = world.replay(&["--all"]);
    assert_eq!(code, 0, "{said}");
    assert_clean(&world.verdict().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_rows_whose_objects_are_gone_are_named_and_left_overs_are_tidied() {
    let world = published(300, &shape(100, 3, "zstd"), 0.5).await;
    send(&world, NARROW).await;
    world.sift().await;
    let refused = world.in_quarantine().await;
    assert!(refused > 0);
    let config = Config::load(&world.config, Secrets::Ingester).unwrap();
    let store = ObjectStore::connect(&config.s3).await;
    let mut saved = Vec::new();
    for object in store.list(&config.s3.quarantine, None).await.unwrap() {
        saved.push((object.key.clone(), store.get(&object.key).await.unwrap()));
        store.delete(&object.key).await.unwrap();
    }
    let restore = async || {
        for (key, content) in &saved {
            store.put(key, content.clone()).await.unwrap();
        }
    };
    let reconcile = || {
        let output = service::run("ingester", &["reconcile"], &world.config).unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    send(&world, MENDED).await;
    let (code, said) = world.replay(&["--all"]);
    assert!(code == 65 && said.contains("restore it from an older version"), "{said}");
    let (code, said) = reconcile();
    assert!(code == Some(65) && said.contains("then: ingester replay"), "{said}");

    restore().await;
    let (code, said) = world.replay(&["--all"]);
    assert_eq!(code, 0, "{said}");
    assert_clean(&world.verdict().await);
    // As a replay leaves them that is killed behind its COMMIT.
    restore().await;
    let (code, said) = reconcile();
    assert!(code == Some(0) && said.contains("left over in its quarantine was deleted"), "{said}");
    assert!(world.objects("Quarantine").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_older_schema_are_loaded_into_its_columns() {
    let world = published(300, &shape(100, 3, "zstd"), 0.5).await;
    send(&world, NARROW).await;
    world.sift().await;
    assert!(world.in_quarantine().await > 0);
    // The schema goes on, and the table with it.
    world.configure("[ingester]", "[schema]\nevents = \"1..999\"\n\n[ingester]");
    send(&world, &format!("{MENDED}\nALTER TABLE public.livestream DROP COLUMN event1000;")).await;
    let (code, said) = world.replay(&["--all"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("event1000") && said.contains("add the columns that are gone"), "{said}");
    send(&world, "ALTER TABLE public.livestream ADD COLUMN event1000 decimal(18,2);").await;
    let (code, said) = world.replay(&["--all"]);
    assert_eq!(code, 0, "{said}");
    assert_clean(&world.verdict().await);
}
