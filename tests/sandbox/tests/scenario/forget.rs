//! `ingester forget`: what a person left is removed everywhere, whoever is killed meanwhile, and nothing else goes.

mod at_once;
mod held;
mod kills;
mod nasty;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use adobe::Plan;
use sandbox::config::Shape;
use sandbox::judge::{LEDGER, Narrow, files_below};
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};
use serde_json::Value;
use shared::compress::decompress;
use shared::layout::Compression;

use crate::audit::with_batch_column;
use crate::schema::send;
use crate::world::{STOP, World, options, squeezed};

const NARROW: Narrow = Narrow { column: "evar1", bytes: 34 };
const MENDED: &str = "ALTER TABLE public.livestream ALTER COLUMN evar1 TYPE varchar(255);";
const COLUMN: &str = "visidhigh";
const IDS: &str = "ids.txt";

fn shape(compression: &'static str) -> Shape {
    Shape {
        max_file_age: "500ms",
        max_batch_age: "1s",
        records_per_file: 60,
        files_per_batch: 3,
        compression,
    }
}

/// The visitors of every ninth hit, and all that they left.
struct Person {
    values: BTreeSet<String>,
    /// Hits that belong into the table.
    hits: BTreeSet<u64>,
    /// Of these the ones that the narrow table refuses.
    refused: u64,
    /// Lines that are no record, in which the id stands whole.
    rejects: u64,
}

impl Person {
    fn of(world: &World) -> Self {
        let generator = world.standins.adobe.generator();
        let line = |index: u64| {
            let mut line = Vec::new();
            generator.write_hit(index, &mut line);
            serde_json::from_slice::<Value>(&line).unwrap()
        };
        let id = |index: u64| match &line(index)["visIdHigh"] {
            Value::String(text) => text.clone(),
            number => number.to_string(),
        };
        let all = 0..generator.plan().hits;
        let values: BTreeSet<String> = all.clone().filter(|index| index % 9 == 0).map(id).collect();
        let hits: BTreeSet<u64> = all
            .clone()
            .filter(|index| generator.kind(*index) == adobe::Kind::Hit && values.contains(&id(*index)))
            .collect();
        let refused = hits.iter().filter(|index| NARROW.refuses(&generator, **index)).count() as u64;
        let cut = |index: &u64| {
            let mut line = Vec::new();
            generator.write_malformed(*index, &mut line);
            generator.malformed_after(*index) && !found_in(&line, &values).is_empty()
        };
        let rejects = all.filter(cut).count() as u64;
        Self { values, hits, refused, rejects }
    }

    /// All that is gone once they are forgotten, as the judge counts it.
    fn lost(&self) -> u64 {
        self.hits.len() as u64 + self.rejects
    }
}

/// The values that stand in a text as words.
fn found_in(text: &[u8], values: &BTreeSet<String>) -> BTreeSet<String> {
    let words = text.split(|byte| !byte.is_ascii_digit()).filter_map(|word| std::str::from_utf8(word).ok());
    words.filter(|word| values.contains(*word)).map(str::to_owned).collect()
}

/// A stream with many lines that are no record, loaded and put away by services that run on. Some rows are in quarantine.
async fn loaded(hits: u64, compression: &'static str, by_batch: bool) -> (World, Service, Service) {
    let adobe = options(hits);
    let adobe = adobe::Options { plan: Plan { malformed_per_mille: 200, ..adobe.plan }, ..adobe };
    let configure =
        |text: &str| text.replace("[ingester]\n", "[quarantine]\nmax_share = 0.9\n\n[ingester]\n");
    let world = World::altered(adobe, &shape(compression), configure, Some(NARROW)).await;
    if by_batch {
        with_batch_column(&world).await;
    }
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    let wanted = world.wanted();
    world.until_loaded(wanted, &mut [&mut producer, &mut ingester]).await;
    world.until_published(&mut producer).await;
    world.until_put_away(&mut [&mut producer, &mut ingester]).await;
    (world, producer, ingester)
}

impl World {
    fn object_files(&self) -> Vec<PathBuf> {
        files_below(&self.path("s3").join(BUCKET)).unwrap()
    }

    /// Where any of the values stands: in an object, a kept copy, or the table.
    async fn places(&self, values: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
        let mut places = BTreeMap::new();
        let kept = self.path("producer").join("kept");
        let kept = if kept.exists() { files_below(&kept).unwrap() } else { Vec::new() };
        for path in self.object_files().iter().chain(&kept) {
            let found = found_in(&decompressed(path), values);
            if !found.is_empty() {
                places.insert(path.display().to_string(), found);
            }
        }
        for row in self.judge.query("SELECT t::text FROM public.livestream t", &[]).await.unwrap() {
            let found = found_in(row.get::<_, &str>(0).as_bytes(), values);
            if !found.is_empty() {
                places.entry("table".to_owned()).or_insert_with(BTreeSet::new).extend(found);
            }
        }
        places
    }

    /// Runs `ingester forget` with a file of values: its code, the report, and all that it said.
    fn run_forget(&self, person: &Person, args: &[&str]) -> (Option<i32>, Value, String) {
        let ids = self.ids(person);
        let ids = ids.to_str().unwrap();
        let args = [&["forget", "--column", COLUMN, "--file", ids, "--json"], args].concat();
        let output = service::run("ingester", &args, &self.config).unwrap();
        let said = String::from_utf8([output.stdout.clone(), output.stderr].concat()).unwrap();
        assert!(found_in(said.as_bytes(), &person.values).is_empty(), "{said}");
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
    }

    fn ids(&self, person: &Person) -> PathBuf {
        let path = self.path(IDS);
        let lines: Vec<&str> = person.values.iter().map(String::as_str).collect();
        fs::write(&path, lines.join("\r\n")).unwrap();
        path
    }

    /// Every count agrees, files included.
    #[track_caller]
    fn assert_agrees(&self, when: &str) {
        let (code, said) = self.ask(&["audit", "--since", "1d", "--deep", "--hits"]);
        assert_eq!(code, Some(0), "{when}: {said}");
    }

    /// All of the person is gone, each other hit is there once and as it was sent, and the counts agree.
    async fn assert_forgotten(&self, person: &Person) {
        let places = self.places(&person.values).await;
        assert!(places.is_empty(), "{places:#?}");
        let verdict = self.verdict().await;
        let mut gone = Vec::new();
        if person.rejects > 0 {
            gone.push(format!("malformed lines that are not among the rejects (1): {}", person.rejects));
        }
        assert!(verdict.doubled == 0 && verdict.complaints == gone, "{verdict:#?}");
        assert_eq!(verdict.lost, person.lost(), "{verdict:#?}");
        self.assert_agrees("all is forgotten");
    }
}

fn decompressed(path: &Path) -> Vec<u8> {
    let content = fs::read(path).unwrap();
    let compression = match path.extension().and_then(|end| end.to_str()) {
        Some("zst") => Compression::Zstd,
        Some("gz") => Compression::Gzip,
        _ => Compression::None,
    };
    decompress(&content.into(), compression, 1 << 30).unwrap().to_vec()
}

/// Copies of a batch with rows of the person, as a producer has them that was not told of the load.
fn keep_copies(world: &World, values: &BTreeSet<String>) -> PathBuf {
    let of_person = |path: &&PathBuf| {
        let name = path.to_string_lossy();
        name.contains("/Ingested/")
            && name.contains(".csv")
            && !found_in(&decompressed(path), values).is_empty()
    };
    let objects = world.object_files();
    let folder = objects.iter().find(of_person).unwrap().parent().unwrap();
    let kept = world.path("producer").join("kept").join(folder.file_name().unwrap());
    fs::create_dir_all(&kept).unwrap();
    for path in files_below(folder).unwrap() {
        fs::copy(&path, kept.join(path.file_name().unwrap())).unwrap();
    }
    kept
}

async fn is_forgotten_everywhere(
    compression: &'static str,
    by_batch: bool,
) -> (World, Service, Service, Person) {
    let (world, producer, ingester) = loaded(1_200, compression, by_batch).await;
    let person = Person::of(&world);
    let left = (person.hits.len(), person.refused, person.rejects);
    assert!(left.0 > 100 && left.1 > 2 && left.2 > 2, "{left:?}");
    let kept = keep_copies(&world, &person.values);
    world.assert_agrees("before");
    let before = world.places(&person.values).await;
    for place in ["/Ingested/", "/Quarantine/", "/Rejected/", "/kept/", "table"] {
        assert!(before.keys().any(|key| key.contains(place)), "{place}: {:?}", before.keys());
    }

    // A first look changes nothing, and finds all.
    let (code, report, said) = world.run_forget(&person, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.places(&person.values).await, before);
    let hits = person.hits.len() as u64;
    let found = |report: &Value, place: &str| report[place]["rows_found"].as_u64().unwrap();
    let removed = |report: &Value, place: &str| report[place]["rows_removed"].as_u64().unwrap();
    for (place, rows) in [
        ("table", hits - person.refused),
        ("archive", hits),
        ("quarantine", person.refused),
        ("rejects", person.rejects),
    ] {
        assert_eq!((found(&report, place), removed(&report, place)), (rows, 0), "{place}: {said}");
    }
    assert_eq!((&report["applied"], &report["copies"]["batches"]), (&Value::from(false), &Value::from(1)));
    assert_eq!(report["values"], person.values.len());

    let (code, report, said) = world.run_forget(&person, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    for place in ["table", "archive", "quarantine", "rejects"] {
        assert!(found(&report, place) == removed(&report, place) && found(&report, place) > 0, "{said}");
    }
    assert_eq!((&report["copies"]["removed"], kept.exists()), (&Value::from(1), false), "{said}");
    world.assert_forgotten(&person).await;
    let (_, said) = world.ask(&["audit", "--since", "1d"]);
    assert!(said.contains(&format!(" + {hits} forgotten")), "{said}");
    let (_, said) = world.ask(&["ledger", "show"]);
    assert!(said.contains(&format!("forgotten {hits} rows taken out")), "{said}");
    let (code, said) = world.ask(&["reconcile"]);
    assert!(code == Some(0) && said.contains("0  for an operator to decide"), "{said}");

    // Once more: there is nothing.
    let (code, report, said) = world.run_forget(&person, &["--yes"]);
    assert_eq!(code, Some(0), "{said}");
    for place in ["table", "archive", "quarantine", "rejects"] {
        assert_eq!(found(&report, place) + report[place]["left_overs"].as_u64().unwrap(), 0, "{said}");
    }
    // What stays in quarantine is loaded as ever.
    send(&world, MENDED).await;
    let (code, said) = world.ask(&["replay", "--all"]);
    assert_eq!(code, Some(0), "{said}");
    world.assert_forgotten(&person).await;
    (world, producer, ingester, person)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_forgotten_everywhere_where_rows_name_their_batch() {
    let (world, mut producer, mut ingester, person) = is_forgotten_everywhere("zstd", true).await;
    // An archived batch is moved back, and loaded once more, without the rows.
    let row =
        format!("SELECT batch_id, rows_loaded, rows_forgotten FROM {LEDGER} AND rows_forgotten > 0 LIMIT 1");
    let row = world.judge.query_one(&row, &[]).await.unwrap();
    let (batch, rows, forgotten) = (row.get::<_, String>(0), row.get::<_, i64>(1), row.get::<_, i64>(2));
    for table in ["livestream", "livestream_ledger"] {
        send(&world, &format!("DELETE FROM public.{table} WHERE batch_id = '{batch}'")).await;
    }
    let (code, said) = world.ask(&["adopt", &batch, "--yes"]);
    assert!(code == Some(0) && said.contains("is back"), "{said}");
    let again = format!(
        "count(*) FROM {LEDGER} AND batch_id = '{batch}' AND rows_loaded = {rows} AND rows_forgotten = {forgotten}"
    );
    let back = async || world.count(&again).await == 1;
    world.until("the batch is loaded again", &mut [&mut producer, &mut ingester], back).await;
    world.until_put_away(&mut [&mut producer, &mut ingester]).await;
    world.assert_forgotten(&person).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_forgotten_everywhere_where_rows_tell_their_time_only() {
    let (world, producer, ingester, person) = is_forgotten_everywhere("gzip", false).await;
    drop((producer, ingester));
    // A row too few is still noticed.
    let delete = "DELETE FROM public.livestream WHERE ctid IN (SELECT ctid FROM public.livestream LIMIT 1)";
    world.judge.batch_execute(delete).await.unwrap();
    let (code, said) = world.ask(&["audit", "--since", "1d"]);
    assert!(code == Some(65) && squeezed(&said).contains("1 row is missing"), "{said}");
    assert!(!person.values.is_empty());
}

/// Stops a service in order.
async fn stop(mut service: Service) {
    service.stop(STOP).await.unwrap();
}
