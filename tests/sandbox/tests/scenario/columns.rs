//! A change of the schema while batches wait: each is loaded by the columns that its own seal names, whichever schema
//! the ingester has.

use std::fs;
use std::path::PathBuf;

use sandbox::config::Shape;
use sandbox::judge::{LEDGER, files_below};
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};
use serde_json::Value;

use crate::schema::send;
use crate::world::{STOP, World, assert_clean};

const SHAPE: Shape = Shape {
    max_file_age: "500ms",
    max_batch_age: "1s",
    records_per_file: 50,
    files_per_batch: 2,
    compression: "zstd",
};
const HITS: u64 = 1_200;
/// Those that the first schema has made durable, at least.
const FIRST: u64 = 400;
const RATE: u64 = 400;
/// A column of the second schema only: its value says whether a cell went where it belongs.
pub(crate) const ADDED: &str = "hit_copy";
/// A column of the first schema only, and of the table.
pub(crate) const DROPPED: &str = "evar200";

/// What a producer has published under two schemas, nothing of it loaded.
pub(crate) struct Changed {
    pub(crate) world: World,
    /// The configuration with the first schema.
    pub(crate) first: PathBuf,
    fingerprints: [String; 2],
}

pub(crate) fn json(world: &World, args: &[&str]) -> Value {
    let output = service::run("producer", args, &world.config).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The built-in columns in the opposite order, without one and with another one.
pub(crate) fn second_schema(columns: &[Value]) -> String {
    let columns = columns.iter().rev().filter(|column| column["name"] != DROPPED);
    let written = columns.map(|column| {
        let mut text = String::from("[[column]]\n");
        for key in ["name", "type", "kind", "rule", "paths", "delimiter", "encoding"] {
            match &column[key] {
                Value::Null => {}
                Value::Array(all) if all.is_empty() => {}
                value => text += &format!("{key} = {value}\n"),
            }
        }
        text
    });
    let added = format!(
        "[[column]]\nname = '{ADDED}'\npath = 'hitIdLow'\nkind = 'unsigned'\ntype = 'decimal(20,0)'\n"
    );
    written.collect::<String>() + &added
}

pub(crate) async fn published_under_two_schemas() -> Changed {
    let world = World::with_rate(HITS, Some(RATE), &SHAPE).await;
    let mut producer = world.start("producer");
    world.until_durable(FIRST, &mut [&mut producer]).await;
    // Batches that are sealed and not published, and one that is filling, are left to the second schema.
    producer.kill().unwrap();
    let built_in = json(&world, &["schema", "--json"]);
    let first = world.path("first.toml");
    fs::copy(&world.config, &first).unwrap();
    let file = world.path("schema.toml");
    fs::write(&file, second_schema(built_in["columns"].as_array().unwrap())).unwrap();
    let config = fs::read_to_string(&world.config).unwrap();
    fs::write(&world.config, config + &format!("\n[schema]\nfile = '{}'\n", file.display())).unwrap();
    let second = json(&world, &["schema", "--json"]);
    producer.start_again().unwrap();
    world.until_published(&mut producer).await;
    producer.stop(STOP).await.unwrap();
    let fingerprints = [built_in, second].map(|schema| schema["fingerprint"].as_str().unwrap().to_owned());
    assert_ne!(fingerprints[0], fingerprints[1]);
    Changed { world, first, fingerprints }
}

impl Changed {
    /// The statements that bring the table to the second schema.
    fn diff(&self) -> String {
        let diff = service::run("ingester", &["ddl", "--diff"], &self.world.config).unwrap();
        let diff = String::from_utf8(diff.stdout).unwrap();
        assert!(diff.contains(ADDED), "{diff}");
        diff
    }

    /// Rows of the batches that were made for the first or second schema, as their seals say.
    pub(crate) fn sealed(&self, which: usize) -> u64 {
        let seals = files_below(&self.world.path("s3").join(BUCKET)).unwrap();
        let seals = seals.iter().filter(|path| path.ends_with("batch.json"));
        let rows = seals.filter_map(|path| {
            let seal: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            let columns = seal["columns"].as_array().unwrap();
            let has = |name: &str| columns.iter().any(|column| column == name);
            let of = seal["schema"] == *self.fingerprints[which];
            assert!(!of || (has(DROPPED), has(ADDED)) == (which == 0, which == 1), "{}", path.display());
            of.then(|| seal["rows"].as_u64().unwrap())
        });
        rows.sum()
    }

    /// Every hit is there as it was sent, whichever schema it was made for.
    pub(crate) async fn assert_complete(&self) {
        let world = &self.world;
        assert_clean(&world.verdict().await);
        for which in [0, 1] {
            let fingerprint = &self.fingerprints[which];
            let of = format!(
                "coalesce(sum(rows_loaded + rows_known), 0)::bigint FROM {LEDGER} AND schema_fingerprint = '{fingerprint}'"
            );
            assert_eq!(world.count(&of).await, self.sealed(which), "{which}");
        }
        let table = "count(*) FROM public.livestream WHERE";
        assert_eq!(world.count(&format!("{table} {ADDED} IS NOT NULL")).await, self.sealed(1));
        assert_eq!(world.count(&format!("{table} {ADDED} <> hitidlow")).await, 0);
        let both = format!("{table} {ADDED} IS NOT NULL AND {DROPPED} IS NOT NULL");
        assert_eq!(world.count(&both).await, 0);
    }

    pub(crate) fn start_first(&self) -> Service {
        Service::start("ingester", &self.first, &self.world.path("logs-first")).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_an_older_schema_are_loaded_by_their_own_columns() {
    let changed = published_under_two_schemas().await;
    let world = &changed.world;
    send(world, &changed.diff()).await;
    let (old, new) = (changed.sealed(0), changed.sealed(1));
    assert!(old >= FIRST && new > 0, "{old} {new}");
    let mut ingester = world.start("ingester");
    world.until_loaded(world.wanted(), &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    changed.assert_complete().await;
    let (_, said) = world.ask(&["reconcile"]);
    assert!(!said.contains("schema"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_columns_the_table_lacks_waits_alone_and_says_what_to_do() {
    let changed = published_under_two_schemas().await;
    let world = &changed.world;
    let (old, new) = (changed.sealed(0), changed.sealed(1));
    // Of the first schema, and the table too: the others go on.
    let mut ingester = changed.start_first();
    world.until_loaded(old, &mut [&mut ingester]).await;
    let told = async || ingester.said().contains(&format!("has no column {ADDED}"));
    world.until("the column is named", &mut [], told).await;
    let said = ingester.said();
    assert!(said.contains("ingester ddl --diff") && said.contains(&changed.fingerprints[1]), "{said}");
    assert!(!said.contains("loading is held up"), "{said}");
    assert_eq!(world.loaded().await, old);
    // Between two tries a batch is shown as one that is loading.
    world.until("the dump names the column", &mut [], async || world.dump().contains(ADDED)).await;

    send(world, &changed.diff()).await;
    world.until_loaded(old + new, &mut [&mut ingester]).await;
    ingester.stop(STOP).await.unwrap();
    changed.assert_complete().await;
}
