//! Several ingesters on one bucket at once, at both of Redshift's isolation levels, killed at random.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use redshift::{Fault, Kind};
use sandbox::config::Shape;
use sandbox::judge::LEDGER;
use sandbox::service::Service;

use crate::transactions::{Transaction, assert_as_modelled};
use crate::world::{STOP, World, assert_clean, options};

const HITS: u64 = 12_000;
const RATE: u64 = 1_500;
const KILLS: usize = 8;

/// Which ingester every process was.
type Processes = BTreeMap<u32, usize>;

async fn load_exactly_once(ingesters: usize, serializable: bool, seed: u64) {
    println!("{ingesters} ingesters, serializable {serializable}, seed {seed}");
    let mut random = Rng::with_seed(seed);
    let shape = Shape { records_per_file: 100, files_per_batch: 3, ..Shape::default() };
    let adobe = adobe::Options { rate: Some(RATE), hold: HITS, ..options(HITS) };
    // With all that waits in one COPY, one ingester would load nearly everything.
    let alone = |text: &str| text.replace("[ingester]", "[ingester]\nbatches_per_copy = 1");
    let world = World::altered(adobe, &shape, alone, None).await;
    world.standins.redshift.ways().set_serializable(serializable);
    let faults = world.standins.redshift.faults();
    // Long enough for the others to come to the same batch meanwhile.
    for _ in 0..60 {
        faults.push(Fault::Slow(Kind::Copy, Duration::from_millis(random.u64(150..400))));
    }
    let mut producer = world.start("producer");
    let mut running: Vec<Service> =
        (0..ingesters).map(|n| world.start_ingester(&format!("ingester-{n}"))).collect();
    let mut processes = Processes::new();
    let note = |processes: &mut Processes, n: usize, service: &Service| {
        processes.insert(service.pid().unwrap(), n);
    };
    running.iter().enumerate().for_each(|(n, service)| note(&mut processes, n, service));

    let mut kills = 0;
    while world.loaded().await < world.wanted() * 9 / 10 && kills < KILLS {
        tokio::time::sleep(Duration::from_millis(random.u64(100..900))).await;
        producer.look().unwrap();
        let n = random.usize(..ingesters);
        running[n].kill().unwrap();
        kills += 1;
        tokio::time::sleep(Duration::from_millis(random.u64(..300))).await;
        running[n].start_again().unwrap();
        note(&mut processes, n, &running[n]);
    }
    let mut services: Vec<&mut Service> = running.iter_mut().collect();
    services.push(&mut producer);
    world.until_loaded(world.wanted(), &mut services).await;
    // The last one killed may have started a moment ago, and not listen to signals yet.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let first = running.remove(0);
    for mut other in running {
        other.stop(STOP).await.unwrap();
    }
    assert_clean(&world.finish(producer, first).await);

    // They really were at it together.
    let transactions = Transaction::all(faults);
    assert_as_modelled(&transactions);
    let before = transactions.iter().filter(|one| one.was_loaded_before()).count();
    let waits = transactions.iter().filter(|one| one.waited()).count();
    let loaders = format!("SELECT loaded_by, count(*) FROM {LEDGER} GROUP BY 1");
    let loaders = world.judge.query(&loaders, &[]);
    let mut by: BTreeMap<usize, i64> = BTreeMap::new();
    for row in loaders.await.unwrap() {
        let (loader, batches): (&str, i64) = (row.get(0), row.get(1));
        let process: u32 = loader.rsplit(' ').next().unwrap().parse().unwrap();
        *by.entry(processes[&process]).or_default() += batches;
    }
    println!(
        "{kills} kills, {waits} waits for the lock, {before} times loaded before; batches by ingester {by:?}"
    );
    assert!(by.keys().collect::<BTreeSet<_>>().len() > 1, "one ingester loaded everything");
    assert!(before > 0, "nobody found a batch that another had loaded");
    assert_eq!(faults.conflicts(), 0, "whoever locks first meets no 1023");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ingesters_load_exactly_once_at_snapshot_isolation() {
    load_exactly_once(2, false, 21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ingesters_load_exactly_once_at_serializable_isolation() {
    load_exactly_once(2, true, 22).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_ingesters_load_exactly_once_at_snapshot_isolation() {
    load_exactly_once(4, false, 41).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_ingesters_load_exactly_once_at_serializable_isolation() {
    load_exactly_once(4, true, 42).await;
}
