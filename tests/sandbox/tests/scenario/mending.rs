//! Objects deleted and altered by hand, folders without seal, and what `ingester reconcile` makes of them.

mod adopt;

use std::process::Output;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use sandbox::config::Shape;
use sandbox::s3::BUCKET;
use sandbox::service;
use shared::config::{Config, Secrets};
use shared::ids::BatchId;
use shared::layout;
use shared::object_store::{Object, ObjectStore};
use shared::seal::{Seal, SealedFile};

use crate::world::{STOP, World, assert_clean};

const SHAPE: Shape = Shape {
    max_file_age: "500ms",
    max_batch_age: "1s",
    records_per_file: 100,
    files_per_batch: 2,
    compression: "zstd",
};

struct Bucket {
    store: ObjectStore,
}

impl Bucket {
    async fn of(world: &World) -> Self {
        let config = Config::load(&world.config, Secrets::Ingester).unwrap();
        Self { store: ObjectStore::connect(&config.s3).await }
    }

    /// What is below a prefix, but for the object that says whose it is.
    async fn below(&self, prefix: &str) -> Vec<Object> {
        let mut objects = self.store.list(prefix, None).await.unwrap();
        objects.retain(|object| !object.key.ends_with(layout::IDENTITY));
        objects
    }

    /// The folders below `ToIngest/`, oldest first.
    async fn folders(&self) -> Vec<String> {
        let mut folders: Vec<String> = self
            .below("ToIngest/")
            .await
            .iter()
            .map(|o| o.key[..=o.key.rfind('/').unwrap()].to_owned())
            .collect();
        folders.dedup();
        folders
    }

    /// A folder with two files, and its seal.
    async fn of_two_files(&self) -> (String, Seal) {
        for folder in self.folders().await {
            let batch = folder.split('/').nth(2).unwrap().parse().unwrap();
            let seal = self.store.get(&format!("{folder}batch.json")).await.unwrap();
            let seal = Seal::read(batch, &seal).unwrap();
            if seal.files.len() == 2 {
                return (folder, seal);
            }
        }
        panic!("no batch has two files");
    }

    /// Ends a folder as a producer does: manifest, then seal.
    async fn end(&self, folder: &str, seal: &Seal) {
        let [manifest, sealed] = seal.manifest_and_seal(BUCKET, folder);
        self.store.put(&format!("{folder}manifest.json"), manifest.into()).await.unwrap();
        self.store.put(&format!("{folder}batch.json"), sealed.into()).await.unwrap();
    }

    /// Damages four batches, each in its own way, and says what was there.
    async fn damage(&self) -> Vec<(String, bytes::Bytes)> {
        let folders = self.folders().await;
        assert!(folders.len() > 4, "{folders:?}");
        let keys = [
            format!("{}0.csv.zst", folders[0]),
            format!("{}1.csv.zst", folders[1]),
            format!("{}manifest.json", folders[2]),
            format!("{}batch.json", folders[3]),
        ];
        let mut before = Vec::new();
        for (n, key) in keys.into_iter().enumerate() {
            let content = self.store.get(&key).await.unwrap();
            if n == 1 {
                // Another object of the same size, of rows as good as these.
                let mut altered = content.to_vec();
                let last = altered.len() - 1;
                altered[last] ^= 1;
                self.store.put(&key, altered.into()).await.unwrap();
            } else {
                self.store.delete(&key).await.unwrap();
            }
            before.push((key, content));
        }
        before
    }
}

/// What it is without its last file, and that; as `ingester adopt` seals it.
fn without_last(seal: &Seal) -> (Seal, SealedFile) {
    let mut fewer = Seal { content: None, compared: None, ..seal.clone() };
    let last = fewer.files.pop().unwrap();
    (fewer.rows, fewer.bytes) = (fewer.rows - last.rows, fewer.bytes - last.bytes);
    (fewer.counts.rows, fewer.counts.received) = (fewer.rows, fewer.counts.received - last.rows);
    (fewer, last)
}

fn ingester(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = service::run("ingester", args, &world.config).unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code(), said)
}

fn words(text: &str) -> String {
    text.split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_or_altered_by_hand_is_uploaded_once_more_and_loaded_once() {
    let world = World::new(1_200, &SHAPE).await;
    let mut producer = world.start("producer");
    world.until_published(&mut producer).await;
    let bucket = Bucket::of(&world).await;
    let folder = bucket.folders().await.pop().unwrap();
    bucket.damage().await;
    // One is gone altogether.
    for object in bucket.below(&folder).await {
        bucket.store.delete(&object.key).await.unwrap();
    }
    let kept = || std::fs::read_dir(world.path("producer").join("kept")).unwrap().count();
    assert!(kept() > 4);
    let mut ingester = world.start("ingester");
    let dropped = async || kept() == 0;
    world.until("no copy kept of what is loaded", &mut [&mut producer, &mut ingester], dropped).await;
    assert_clean(&world.finish(producer, ingester).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_a_copy_of_is_named_and_loaded_when_it_is_restored() {
    let world = World::new(1_200, &SHAPE).await;
    world.configure("[log]\n", "[log]\nkeep_uploaded = \"0B\"\n");
    let mut producer = world.start("producer");
    world.until_published(&mut producer).await;
    let bucket = Bucket::of(&world).await;
    let batches = bucket.folders().await.len() as u64;
    let before = bucket.damage().await;
    let mut running = world.start("ingester");
    let whole = async || world.batches().await == batches - 4;
    world.until("the others loaded", &mut [&mut producer, &mut running], whole).await;
    let named = async || {
        let dump = service::run("state", &["dump", "--json"], &world.config).unwrap();
        let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
        before.iter().take(3).all(|(key, _)| dump.contains(key.as_str()))
            && dump.contains("was altered")
            && dump.contains("has no copy of it any more")
    };
    world.until("the three named by state dump", &mut [&mut producer, &mut running], named).await;
    let reported = async || {
        let (code, said) = ingester(&world, &["reconcile"]);
        let said = words(&said);
        code == Some(65) && before.iter().take(3).all(|(key, _)| said.contains(key.as_str()))
    };
    world.until("reconcile names them too", &mut [&mut producer, &mut running], reported).await;
    let (_, said) = ingester(&world, &["reconcile"]);
    let batch = before[3].0.split('/').nth(2).unwrap();
    assert!(said.contains(&format!("ingester adopt {batch}")), "{said}");
    assert!(said.contains("its folder has no seal any more"), "{said}");
    for (key, content) in before {
        bucket.store.put(&key, content).await.unwrap();
    }
    assert_clean(&world.finish(producer, running).await);
    let (code, said) = ingester(&world, &["reconcile"]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_puts_away_enters_and_names_what_is_lost() {
    let world = World::new(1_200, &SHAPE).await;
    world.configure("[log]\n", "[log]\nkeep_uploaded = \"0B\"\n");
    let mut producer = world.start("producer");
    world.until_published(&mut producer).await;
    let mut running = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut producer, &mut running]).await;
    let bucket = Bucket::of(&world).await;
    let archived = async || bucket.folders().await.is_empty();
    world.until("all archived", &mut [&mut producer, &mut running], archived).await;
    running.stop(STOP).await.unwrap();

    // A folder comes back whole, another without its seal: both are loaded, and go again.
    let folders: Vec<String> = {
        let mut all: Vec<String> = bucket
            .below("Ingested/")
            .await
            .iter()
            .map(|o| o.key[..=o.key.rfind('/').unwrap()].to_owned())
            .collect();
        all.dedup();
        all
    };
    for (folder, seal) in [(&folders[0], true), (&folders[1], false)] {
        for object in bucket.below(folder).await {
            if seal || !object.key.ends_with("batch.json") {
                let to = object.key.replacen("Ingested/", "ToIngest/", 1);
                bucket.store.copy(&object.key, &to).await.unwrap();
            }
        }
    }
    // Of a third the ledger forgets everything, and S3 too; a fourth the ledger forgets only.
    let batch = |folder: &str| folder.split('/').nth(2).unwrap().to_owned();
    let (third, fourth) = (batch(&folders[2]), batch(&folders[3]));
    for batch in [&third, &fourth] {
        let forget = format!("DELETE FROM public.livestream_ledger WHERE batch_id = '{batch}'");
        world.judge.batch_execute(&forget).await.unwrap();
    }
    for object in bucket.below(&folders[2]).await {
        bucket.store.delete(&object.key).await.unwrap();
    }
    let (code, said) = ingester(&world, &["reconcile", "--dry-run"]);
    assert_eq!(code, Some(65), "{said}");
    assert_eq!(bucket.folders().await.len(), 2, "--dry-run mends nothing: {said}");
    let (code, said) = ingester(&world, &["reconcile", "--json"]);
    assert_eq!(code, Some(65), "{said}");
    let json: serde_json::Value = serde_json::from_str(&said[..=said.rfind('}').unwrap()]).unwrap();
    let matters = |list: &serde_json::Value, key: &str| {
        let list = list["list"].as_array().unwrap().clone();
        let pair = |one: &serde_json::Value| {
            (one["batch"].as_str().unwrap().to_owned(), one[key].as_str().unwrap().to_owned())
        };
        list.iter().map(pair).collect::<Vec<_>>()
    };
    let archive = |folder: &str| (batch(folder), "archive".to_owned());
    assert_eq!(matters(&json["mended"], "act"), [archive(&folders[0]), archive(&folders[1])]);
    let decide = [(third, "lost".to_owned()), (fourth.clone(), "archived_not_loaded".to_owned())];
    assert_eq!(matters(&json["decide"], "matter"), decide);
    assert!(bucket.folders().await.is_empty(), "put away again");

    // The fourth is loaded again as OPERATIONS.md says: without its rows, and brought back.
    let (code, said) = ingester(&world, &["adopt", &fourth]);
    assert_eq!(code, Some(64), "nobody can be asked: {said}");
    let (code, said) = ingester(&world, &["adopt", &fourth, "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = ingester(&world, &["reconcile"]);
    assert!(code == Some(65) && said.contains("entered into the load store"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_which_the_ledger_counts_other_rows_than_were_sealed_is_not_put_away() {
    let world = World::new(450, &SHAPE).await;
    world.publish().await;
    let bucket = Bucket::of(&world).await;
    let folder = bucket.folders().await.pop().unwrap();
    let before = bucket.below(&folder).await;
    world.configure("[ingester]", "[ingester]\narchive = \"keep\"");
    let mut running = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut running]).await;
    running.stop(STOP).await.unwrap();
    let batch = folder.split('/').nth(2).unwrap();
    let count = async |rows: &str| {
        let sql = format!(
            "UPDATE public.livestream_ledger SET rows_loaded = rows_loaded {rows} WHERE batch_id = '{batch}'"
        );
        world.judge.batch_execute(&sql).await.unwrap();
    };
    count("- 1").await;
    world.configure("archive = \"keep\"", "archive = \"move\"");
    std::fs::remove_dir_all(world.path("ingester")).unwrap();
    let (code, said) = ingester(&world, &["reconcile", "--dry-run"]);
    assert!(code == Some(65) && words(&said).contains(&words("rows were sealed, the ledger says")), "{said}");
    let mut running = world.start("ingester");
    let told = async || {
        let dump = service::run("state", &["dump", "--json"], &world.config).unwrap();
        String::from_utf8_lossy(&dump.stdout).contains("forgotten, its seal says")
    };
    world.until("the difference told", &mut [&mut running], told).await;
    let others = async || bucket.folders().await.len() == 1;
    world.until("the others put away", &mut [&mut running], others).await;
    let keys = |objects: &[Object]| objects.iter().map(|object| object.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&bucket.below(&folder).await), keys(&before));
    count("+ 1").await;
    let all = async || bucket.folders().await.is_empty();
    world.until("all put away", &mut [&mut running], all).await;
    running.stop(STOP).await.unwrap();
    assert_clean(&world.verdict().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_sealed_again_with_more_rows_after_it_was_put_away_is_loaded_as_another() {
    let world = World::new(450, &SHAPE).await;
    world.publish().await;
    let bucket = Bucket::of(&world).await;
    let (folder, seal) = bucket.of_two_files().await;

    // Its log still has every row: it is not adopted while that cannot be asked.
    let key = format!("{folder}batch.json");
    bucket.store.delete(&key).await.unwrap();
    let batch = seal.batch.to_string();
    let (code, said) = ingester(&world, &["adopt", &batch, "--yes", "--young"]);
    assert!(code == Some(65) && said.contains("is published in the log of"), "{code:?} {said}");

    // As if it was adopted with one file of two all the same.
    let (fewer, last) = without_last(&seal);
    let mut files = Vec::new();
    for file in &seal.files {
        let key = format!("{folder}{}", file.name);
        files.push((key.clone(), bucket.store.get(&key).await.unwrap()));
    }
    bucket.store.delete(&format!("{folder}{}", last.name)).await.unwrap();
    bucket.end(&folder, &fewer).await;
    let mut running = world.start("ingester");
    let all = async || bucket.folders().await.is_empty();
    world.until("all put away", &mut [&mut running], all).await;
    assert_eq!(world.loaded().await, world.wanted() - last.rows);

    // What was put away stays, and of the rows only those are loaded that the table does not have.
    let before = bucket.below("Ingested/").await;
    for (key, content) in files {
        bucket.store.put(&key, content).await.unwrap();
    }
    bucket.end(&folder, &seal).await;
    world.until_loaded(world.wanted(), &mut [&mut running]).await;
    let all = async || bucket.folders().await.is_empty();
    world.until("all put away", &mut [&mut running], all).await;
    running.stop(STOP).await.unwrap();
    let after = bucket.below("Ingested/").await;
    let kept = |object: &&Object| after.iter().any(|now| now.key == object.key && now.etag == object.etag);
    assert!(before.iter().all(|object| kept(&object)), "nothing was written over");
    assert_eq!(after.len(), before.len() + 4, "two files, manifest and seal under an id of their own");
    let verdict = world.verdict().await;
    assert_clean(&verdict);
    assert_eq!(verdict.known, fewer.rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_left_behind_while_nothing_else_happens_is_told() {
    let world = World::new(100, &SHAPE).await;
    world.publish().await;
    world.configure("[ingester]", "[ingester]\nreconcile_interval = \"1s\"");
    world.configure("list_interval = \"5s\"", "list_interval = \"500ms\"");
    let bucket = Bucket::of(&world).await;
    let mut running = world.start("ingester");
    let all = async || bucket.folders().await.is_empty();
    world.until("all put away", &mut [&mut running], all).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let faults = world.standins.redshift.faults();
    faults.forget_statements();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(faults.statements().is_empty(), "nothing happens, and nobody is asked");

    let batch = BatchId::floor(Utc::now() - TimeDelta::hours(2));
    let folder = layout::folder("ToIngest/", batch);
    bucket.store.put(&format!("{folder}0.csv.zst"), "rows".into()).await.unwrap();
    let told = async || {
        let said = running.said();
        said.contains("an operator must decide") && said.contains(&batch.to_string())
    };
    world.until("the folder told", &mut [], told).await;
    running.stop(STOP).await.unwrap();
}
