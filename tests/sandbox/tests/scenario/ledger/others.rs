//! A table that somebody else fills: the Python daemon, which inserts rows and knows nothing of a ledger.

use std::ops::Range;
use std::time::Duration;

use adobe::Plan;

use super::{Done, LEDGER, STOP, Service, World, assert_clean, options, send, service, small_batches};

impl World {
    /// Inserts hits as the daemon does, and says how many.
    async fn insert(&self, hits: Range<u64>) -> u64 {
        let generator = self.standins.adobe.generator();
        let wanted: Vec<u64> = hits.filter(|index| generator.kind(*index) == adobe::Kind::Hit).collect();
        for some in wanted.chunks(500) {
            let names: Vec<_> = generator.expected(0).iter().map(|(name, _)| *name).collect();
            let rows = some.iter().map(|index| {
                let values = generator.expected(*index).into_iter().map(|(_, value)| match value {
                    Some(value) => format!("'{}'", value.replace('\'', "''")),
                    None => "NULL".to_owned(),
                });
                format!("({})", values.collect::<Vec<_>>().join(", "))
            });
            let rows = rows.collect::<Vec<_>>().join(", ");
            let sql = format!("INSERT INTO public.livestream ({}) VALUES {rows}", names.join(", "));
            self.judge.batch_execute(&sql).await.unwrap();
        }
        wanted.len() as u64
    }

    /// Waits until the table has so many rows.
    async fn until_in_the_table(&self, rows: u64, services: &mut [&mut Service]) {
        let there = async || self.count("count(*) FROM public.livestream").await >= rows;
        self.until(&format!("{rows} rows in the table"), services, there).await;
    }
}

/// A stream whose time is that of the clock.
fn real_time(hits: u64, rate: u64) -> adobe::Options {
    let adobe = options(hits);
    let plan = Plan { hits_per_second: rate, malformed_per_mille: 0, ..adobe.plan };
    adobe::Options { plan, rate: Some(rate), ..adobe }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_filled_before_is_compared_until_a_person_says_since_when_the_ledger_knows() {
    let mut world = World::with(real_time(9_000, 250), &small_batches()).await;
    let by_others = world.insert(0..1_500).await;
    world.done = Done { by_others, ..world.done };
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_in_the_table(by_others + 700, &mut [&mut producer, &mut ingester]).await;
    let (staged, plain) = world.staged_and_plain();
    assert!(staged > 0 && plain == 0, "{staged} staged, {plain} plain");
    let said = ingester.said();
    assert!(said.contains("ledger knows-from"), "{said}");
    let (code, said) = world.ask(&["check"]);
    assert!(code == Some(0) && said.contains("knows-from"), "{said}");
    assert!(world.dump().contains("ledger   speaks for no time yet"), "{}", world.dump());

    let (code, said) = world.ask(&["ledger", "knows-from", "now"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = world.ask(&["ledger", "knows-from", "1h"]);
    assert!(code == Some(64) && said.contains("--force"), "it does not go back: {said}");
    let plain = async || world.staged_and_plain().1 > 3;
    world.until("plain loads", &mut [&mut producer, &mut ingester], plain).await;
    let staged = world.staged_and_plain().0;
    world.until_in_the_table(world.wanted(), &mut [&mut producer, &mut ingester]).await;
    world.until_put_away(&mut [&mut producer, &mut ingester]).await;
    assert_eq!(world.staged_and_plain().0, staged, "since then none is compared");
    let verdict = world.end(producer, ingester).await;
    assert_clean(&verdict);
    assert!(verdict.known >= by_others, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_from_the_daemon_while_both_run_doubles_nothing() {
    let mut world = World::with(real_time(4_000, 400), &small_batches()).await;
    // As the docs say: the producer is started, the daemon goes on; loading waits until the daemon has stopped.
    let (code, said) = world.ask(&["pause", "--reason", "the daemon still runs"]);
    assert_eq!(code, Some(0), "{said}");
    let mut by_others = world.insert(0..300).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    for part in 0..6 {
        by_others += world.insert(300 + part * 300..600 + part * 300).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        producer.look().unwrap();
    }
    world.done = Done { by_others, ..world.done };
    assert_eq!(world.loaded().await, 0);
    let (code, said) = world.ask(&["resume"]);
    assert_eq!(code, Some(0), "{said}");
    let staged = async || world.staged_and_plain().0 > 0;
    world.until("the first load", &mut [&mut producer, &mut ingester], staged).await;
    let (code, said) = world.ask(&["ledger", "knows-from", "now"]);
    assert_eq!(code, Some(0), "{said}");
    world.until_in_the_table(world.wanted(), &mut [&mut producer, &mut ingester]).await;
    world.until_put_away(&mut [&mut producer, &mut ingester]).await;
    assert_clean(&world.end(producer, ingester).await);
    assert!(world.staged_and_plain().0 > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ledger_over_an_old_table_speaks_for_nothing() {
    let mut world = World::new(1_200, &small_batches()).await;
    world.configure("[ingester]", "[ingester]\narchive = \"keep\"");
    let (producer, ingester) = (world.start("producer"), world.start("ingester"));
    assert_clean(&world.finish(producer, ingester).await);
    let loaded = world.loaded().await;
    // Lost, and made anew; the prefix is still that of the pipeline that was.
    world.judge.batch_execute("DELETE FROM public.livestream_ledger").await.unwrap();
    std::fs::remove_dir_all(world.path("ingester")).unwrap();
    let (code, said) = world.ask(&["run"]);
    assert!(code == Some(78) && said.contains(".pipeline.json"), "{said}");
    for prefix in ["ToIngest", "Quarantine"] {
        world.delete_object(&format!("{prefix}/.pipeline.json")).await;
    }
    world.done = Done { by_others: loaded, ..world.done };
    let plain = world.staged_and_plain().1;
    let mut ingester = world.start("ingester");
    let known = format!("coalesce(sum(rows_known), 0)::bigint FROM {LEDGER}");
    let all = async || world.count(&known).await == loaded;
    world.until("each row is known", &mut [&mut ingester], all).await;
    ingester.stop(STOP).await.unwrap();
    assert_eq!(world.staged_and_plain().1, plain);
    assert_clean(&world.verdict().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_privilege_for_temporary_tables_it_is_told_and_loaded_once_it_is_granted() {
    let mut world = World::new(300, &small_batches()).await;
    world.configure("retry_max = \"10s\"", "retry_max = \"1s\"");
    let by_others = world.insert(0..100).await;
    world.done = Done { by_others, ..world.done };
    world.standins.redshift.ways().set_temp_forbidden(true);
    let (code, said) = world.ask(&["check"]);
    assert!(code == Some(78) && said.contains("GRANT TEMP ON DATABASE"), "{said}");
    world.publish().await;
    let mut ingester = world.start("ingester");
    let told = async || ingester.said().contains("GRANT TEMP ON DATABASE");
    world.until("what is missing", &mut [], told).await;
    assert_eq!(world.count("count(*) FROM public.livestream").await, by_others);
    world.standins.redshift.ways().set_temp_forbidden(false);
    world.until_in_the_table(world.wanted(), &mut [&mut ingester]).await;
    world.until_put_away(&mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_numbers_its_rows_and_notes_when_they_came_is_loaded_either_way() {
    let mut world = World::new(1_200, &small_batches()).await;
    let ddl = service::run("ingester", &["ddl"], &world.config).unwrap();
    let create = String::from_utf8(ddl.stdout).unwrap().split(';').next().unwrap().to_owned();
    let numbered = create.replacen(
        "(\n",
        "(\n  \"row_number\" bigint IDENTITY(1, 1),\n  \"came_at\" timestamp NOT NULL DEFAULT SYSDATE,\n",
        1,
    );
    assert_ne!(create, numbered);
    send(&world, &format!("DROP TABLE public.livestream;\n{numbered};")).await;
    let by_others = world.insert(0..400).await;
    world.done = Done { by_others, ..world.done };
    world.publish().await;
    let mut ingester = world.start("ingester");
    world.until_in_the_table(world.wanted(), &mut [&mut ingester]).await;
    world.until_put_away(&mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);
    assert!(world.staged_and_plain().0 > 0);
    let rows = world.wanted();
    assert_eq!(world.count("count(DISTINCT row_number) FROM public.livestream").await, rows);
    assert_eq!(world.count("count(came_at) FROM public.livestream").await, rows);
}

impl World {
    async fn delete_object(&self, key: &str) {
        let config = shared::config::Config::load(&self.config, shared::config::Secrets::Ingester).unwrap();
        shared::object_store::ObjectStore::connect(&config.s3).await.delete(key).await.unwrap();
    }
}
