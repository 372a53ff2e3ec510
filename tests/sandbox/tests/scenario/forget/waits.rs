//! What `ingester forget` refuses, what it cannot reach, and what it says of that.

use std::fs;
use std::path::Path;
use std::time::Duration;

use adobe::Plan;
use sandbox::judge::LEDGER;
use sandbox::service::{self, Service};

use super::{COLUMN, Person, shape, stop};
use crate::schema::send;
use crate::world::{World, options, squeezed};

/// A producer that is started again keeps the same rejects again.
async fn without_rejects(compression: &'static str) -> World {
    let adobe = options(500);
    let plan = Plan { malformed_per_mille: 0, ..adobe.plan };
    World::with(adobe::Options { plan, ..adobe }, &shape(compression)).await
}

/// A producer that runs on the log, and answers.
async fn answering(world: &World) -> Service {
    let mut producer = world.start("producer");
    let up = async || world.snapshot().await.is_some();
    world.until("the producer answers", &mut [&mut producer], up).await;
    producer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_not_loaded_is_in_the_way_and_nothing_is_changed() {
    let world = without_rejects("zstd").await;
    world.publish().await;
    let person = Person::of(&world);
    let before = world.places(&person.values).await;
    assert!(before.keys().any(|key| key.contains("/ToIngest/")), "{before:?}");
    for args in [&[][..], &["--yes"]] {
        let (code, report, said) = world.run_forget(&person, args);
        assert_eq!((code, &report["applied"]), (Some(75), &false.into()), "{said}");
        let in_the_way = report["in_the_way"].as_array().unwrap();
        let rows: u64 = in_the_way.iter().map(|batch| batch["rows"].as_u64().unwrap()).sum();
        assert_eq!(rows, person.hits.len() as u64, "{said}");
        assert!(said.contains("it is not loaded yet") && said.contains("nothing was changed"), "{said}");
        assert_eq!(world.places(&person.values).await, before);
    }
    // Of nobody there, it does its work beside them.
    let (code, said) = world.ask(&["forget", "--column", COLUMN, "--value", "123456789012345", "--yes"]);
    assert!(code == Some(0) && said.contains("Nothing was found."), "{said}");
    // Loaded, it goes.
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    world.until_put_away(&mut [&mut ingester]).await;
    let producer = answering(&world).await;
    let (code, _, said) = world.run_forget(&person, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    world.assert_forgotten(&person).await;
    stop(producer).await;
    stop(ingester).await;

    // A ledger of an earlier version.
    send(&world, "ALTER TABLE public.livestream_ledger DROP COLUMN rows_forgotten").await;
    let (code, _, said) = world.run_forget(&person, &["--yes"]);
    assert!(
        code == Some(78) && said.contains("rows_forgotten") && said.contains("ingester ddl --diff"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_stay_where_they_are_lose_the_rows_there_and_copies_wait_for_their_producer() {
    let world = without_rejects("none").await;
    world.configure("[ingester]\n", "[ingester]\narchive = \"keep\"\n");
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_loaded(world.wanted(), &mut [&mut producer, &mut ingester]).await;
    world.until_published(&mut producer).await;
    // The producer drops its own copies when it hears that their batches are loaded.
    let copies = world.path("producer").join("kept");
    let dropped = async || fs::read_dir(&copies).map_or(0, Iterator::count) == 0;
    world.until("the producer drops its copies", &mut [&mut producer, &mut ingester], dropped).await;
    stop(producer).await;
    let person = Person::of(&world);
    let places = world.places(&person.values).await;
    let folder = places.keys().find(|key| key.contains("/ToIngest/")).unwrap();
    let folder = Path::new(folder).parent().unwrap();
    let kept = copies.join(folder.file_name().unwrap());
    fs::create_dir_all(&kept).unwrap();
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, kept.join(file.file_name().unwrap())).unwrap();
    }
    let (code, report, said) = world.run_forget(&person, &["--yes"]);
    assert_eq!(code, Some(65), "{said}");
    assert_eq!(report["archive"]["rows_removed"], person.hits.len() as u64, "{said}");
    let left = report["left"][0].to_string();
    assert!(left.contains("/kept") && left.contains("start it and run this again"), "{said}");
    let places = world.places(&person.values).await;
    assert!(places.keys().all(|key| key.contains("/kept/")) && !places.is_empty(), "{places:?}");

    let producer = answering(&world).await;
    let (code, report, said) = world.run_forget(&person, &["--yes"]);
    assert_eq!((code, &report["copies"]["removed"]), (Some(0), &1.into()), "{said}");
    world.assert_forgotten(&person).await;
    // The ingester takes the seals for what they are: nothing is loaded again.
    let batches = world.batches().await;
    let counted = world.count(&format!("coalesce(sum(rows_loaded), 0)::bigint FROM {LEDGER}")).await;
    ingester.kill().unwrap();
    ingester.start_again().unwrap();
    // It lists at its start, and then every five seconds.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(world.batches().await, batches);
    assert_eq!(world.count(&format!("coalesce(sum(rows_loaded), 0)::bigint FROM {LEDGER}")).await, counted);
    stop(producer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_told_without_a_value() {
    let world = World::new(10, &shape("zstd")).await;
    let ask = |args: &[&str]| {
        let output = service::run("ingester", &[&["forget"], args].concat(), &world.config).unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!said.contains("jane"), "{said}");
        (output.status.code(), squeezed(&said))
    };
    let (code, said) = ask(&["--column", "nothing", "--value", "jane"]);
    assert!(code == Some(64) && said.contains("has no column \"nothing\""), "{said}");
    let (code, said) = ask(&["--column", COLUMN, "--value", "jane"]);
    assert!(code == Some(64) && said.contains("has whole numbers, and a value is none"), "{said}");
    let (code, said) = ask(&["--column", "products", "--value", "jane"]);
    assert!(code == Some(64) && said.contains("is of kind json"), "{said}");
    let (code, said) = ask(&["--column", "evar9"]);
    assert!(code == Some(64) && said.contains("--file"), "{said}");
    // Values under a pseudonym are not those that a person knows.
    let text = fs::read_to_string(&world.config).unwrap();
    let key = world.path("key");
    fs::write(&key, "k".repeat(40)).unwrap();
    let protect = format!("[protect]\npseudonym = [\"evar9\"]\npseudonym_key_file = \"{}\"\n", key.display());
    fs::write(&world.config, format!("{text}\n{protect}")).unwrap();
    let (code, said) = ask(&["--column", "evar9", "--value", "jane"]);
    assert!(
        code == Some(0) && said.contains("Nothing was found.") && said.contains("docs/PROTECTION.md"),
        "{said}"
    );
    let (code, said) = ask(&["--column", "evar8", "--value", "jane"]);
    assert!(code == Some(0) && !said.contains("PROTECTION"), "{said}");
}
