//! A bucket into which somebody else writes: nothing of it is carried out, each thing is refused with its reason, memory stays
//! bounded, and the batches of the producer are loaded meanwhile.

mod zoo;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use sandbox::config::Shape;
use sandbox::judge;
use sandbox::s3::BUCKET;
use sandbox::service::Service;
use serde_json::Value;
use shared::config::{Config, Secrets};
use shared::layout;
use shared::object_store::ObjectStore;
use shared::seal::Seal;

use crate::world::{STOP, World, assert_clean};
use zoo::{Beast, Zoo};

/// The ingester holds no more, whatever lies in the bucket: without any of it, it holds some 60 MiB.
const MEMORY: u64 = 400 << 20;
/// Sealed folders in which nothing is. The stand-in walks the whole bucket for each listing, so their retries take all the time
/// there is.
const CROWD: usize = 100;
/// Objects of no batch, before all others in a listing: several pages.
const FOREIGN: usize = 1_010;

fn shape() -> Shape {
    Shape {
        records_per_file: 100,
        files_per_batch: 2,
        max_file_age: "500ms",
        max_batch_age: "1s",
        ..Shape::default()
    }
}

/// The seal of a batch that waits to be loaded.
fn honest(world: &World) -> Option<Seal> {
    let root = world.path("s3").join(BUCKET);
    let files = judge::files_below(&root.join("ToIngest")).unwrap();
    files.iter().filter(|path| path.ends_with("batch.json")).find_map(|path| {
        let key = path.strip_prefix(&root).ok()?.to_str()?;
        let (batch, _) = layout::parse_key("ToIngest/", key)?;
        Seal::read(batch, &fs::read(path).ok()?).ok().filter(|seal| seal.rows > 0)
    })
}

/// What `state dump --json` says of each batch.
fn told_of(world: &World) -> BTreeMap<String, String> {
    let json: Value = serde_json::from_str(&world.dump_as(&["--json"])).unwrap();
    let loads = json["ingester"]["snapshot"]["loads"].as_array().cloned().unwrap_or_default();
    let told = |load: &Value| Some((load["batch"].as_str()?.to_owned(), load.to_string()));
    loads.iter().filter_map(told).collect()
}

/// Those of which the reason is not told yet.
fn untold<'z>(zoo: &'z Zoo, world: &World, ingester: &Service) -> Vec<&'z Beast> {
    let (log, dump) = (ingester.said(), told_of(world));
    let in_log = |beast: &&Beast| !lines_of(&log, beast).iter().any(|line| line.contains(beast.why));
    let in_dump =
        |beast: &&Beast| dump.get(&beast.batch.to_string()).is_none_or(|why| !why.contains(beast.why));
    zoo.unusable.iter().filter(in_log).chain(zoo.unfit.iter().filter(in_dump)).collect()
}

fn lines_of<'l>(log: &'l str, beast: &Beast) -> Vec<&'l str> {
    let batch = format!("batch={}", beast.batch);
    log.lines().filter(|line| line.contains(&batch)).collect()
}

/// No terminal obeys it, and no line of it was made by a stranger.
#[track_caller]
fn assert_plain(what: &str, text: &str) {
    let odd = |c: char| c.is_control() && c != '\n';
    let line = text.lines().find(|line| line.contains(odd) || line.trim_start().starts_with("ERROR owned"));
    assert_eq!(line, None, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_writes_is_refused_with_its_reason_and_holds_up_no_batch() {
    let world = World::with_rate(3_000, Some(100), &shape()).await;
    let mut producer = world.start("producer");
    world.until("a batch is published", &mut [&mut producer], async || honest(&world).is_some()).await;
    let mut zoo = Zoo::new(&world.path("s3").join(BUCKET), honest(&world).unwrap());
    zoo.foreign(FOREIGN);
    zoo.seals();
    zoo.folders();
    let locked = zoo.locked();
    locked.iter().for_each(|key| world.standins.s3.faults().forbid(key));
    let (kinds, mut ingester) = (zoo.unusable.len() + zoo.unfit.len(), world.start("ingester"));
    let begun = Instant::now();
    world.until_loaded(300, &mut [&mut producer, &mut ingester]).await;
    println!("300 rows beside {kinds} hostile batches after {:?}", begun.elapsed());
    zoo.hollow(CROWD);
    let (begun, loaded) = (Instant::now(), world.loaded().await);
    let wanted = world.wanted();
    world.until_loaded((loaded + 300).min(wanted), &mut [&mut producer, &mut ingester]).await;
    println!("300 rows more beside a crowd of {CROWD} after {:?}", begun.elapsed());

    let patience = Instant::now() + Duration::from_secs(90);
    loop {
        let left = untold(&zoo, &world, &ingester);
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < patience, "{left:#?}\n{:#?}\n{}", told_of(&world), ingester.said());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // One line for each seal, and not one with each listing.
    let said = ingester.said();
    for beast in &zoo.unusable {
        let own = |line: &&&str| line.contains("unusable seal") || line.contains("the seal cannot be read");
        let lines = lines_of(&said, beast).iter().filter(own).count();
        // What S3 refuses may pass.
        assert!(lines == 1 || (lines > 0 && beast.why == "AccessDenied"), "{beast:?}\n{said}");
    }

    for args in [&["reconcile"][..], &["audit", "--since", "1d", "--deep"], &["replay", "--all"]] {
        let begun = Instant::now();
        let (code, said) = world.ask(args);
        println!("{args:?} ends with {code:?} after {:?}, {} bytes", begun.elapsed(), said.len());
        // What nobody may read ends an audit, which names it.
        let is_named = args[0] == "audit" && locked.iter().any(|key| said.contains(key));
        assert!(
            matches!(code, Some(0 | 65 | 66)) || (code == Some(78) && is_named),
            "{args:?} {code:?} {said}"
        );
        assert_plain(args[0], &said);
    }

    world.until_loaded(wanted, &mut [&mut producer, &mut ingester]).await;

    println!("the ingester held {} MiB", ingester.peak_rss() >> 20);
    assert!(ingester.peak_rss() < MEMORY, "{}", ingester.peak_rss());
    assert_plain("the log", &ingester.said());
    assert_plain("the dump", &world.dump());
    let statements = world.standins.redshift.faults().statements();
    let odd = ["DROP TABLE", "other-bucket", "owned", "18446744073709551615", "+99999"];
    let sent = statements.iter().find(|seen| odd.iter().any(|odd| seen.sql.contains(odd)));
    assert!(sent.is_none(), "{sent:?}");
    // Nothing of it was moved, deleted or archived.
    let gone: Vec<_> = zoo.files.iter().filter(|path| !path.exists()).collect();
    assert!(gone.is_empty(), "{gone:?}");
    zoo.files.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_clean(&world.end(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_a_stranger_claims_is_not_used_and_the_reason_is_one_line() {
    let world = World::new(300, &shape()).await;
    world.publish().await;
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    let config = Config::load(&world.config, Secrets::Ingester).unwrap();
    let (store, key) = (ObjectStore::connect(&config.s3).await, "ToIngest/.pipeline.json");
    let honest = store.get(key).await.unwrap();
    let mut claim: Value = serde_json::from_slice(&honest).unwrap();
    claim["pipeline"] = "\u{1b}[2J\nERROR owned".into();
    claim["table"] = "x".repeat(100_000).into();
    for content in [serde_json::to_vec(&claim).unwrap(), vec![b'['; 900_000], vec![b' '; 2 << 20]] {
        store.put(key, content.into()).await.unwrap();
        let (code, said) = world.ask(&["run"]);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(key) && said.len() < 20_000, "{said}");
        assert_plain("the reason", &said);
    }
    store.put(key, honest).await.unwrap();
    let (code, said) = world.ask(&["reconcile"]);
    assert_eq!(code, Some(0), "{said}");
}
