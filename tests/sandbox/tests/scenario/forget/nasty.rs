//! Values that break a careless writer of SQL, CSV or JSON, beside others that only begin like them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use adobe::{Generator, Kind, Plan};
use sandbox::judge::files_below;
use sandbox::service;
use serde_json::{Value, json};

use super::{NARROW, decompressed, shape, stop};
use crate::world::{World, options};

const COLUMN: &str = "evar9";
/// What a person has.
const MINE: [&str; 2] = ["o'neil\\ ~\"x", "verse one\nverse two"];
/// What others have: nothing of theirs may go.
const OTHERS: [&str; 8] = [
    "o'neil\\ ~\"",
    "o'neil\\ ~\"xx",
    "O'NEIL\\ ~\"X",
    "o'neil\\\\ ~\"x",
    "o''neil\\ ~\"x",
    "verse one",
    "verse one\\nverse two",
    "verse one\nverse two\n",
];
/// Rows of each value that the table takes, and those that it refuses.
const TAKEN: usize = 4;
const REFUSED: usize = 2;

/// Rows by value.
type Rows = BTreeMap<String, usize>;

fn rows_of(values: &[&str], each: usize) -> Rows {
    values.iter().map(|value| ((*value).to_owned(), each)).collect()
}

/// Records with these values, and two lines for each that are no record: one is cut off, one is a list.
fn records() -> Vec<u8> {
    let generator = Generator::new(Plan { seed: 99, hits: 1_000, ..options(0).plan });
    let mut hits = (0..1_000).filter(|index| generator.kind(*index) == Kind::Hit);
    let mut lines = String::new();
    for value in MINE.iter().chain(&OTHERS) {
        for number in 0..TAKEN + REFUSED {
            let mut line = Vec::new();
            generator.write_hit(hits.next().unwrap(), &mut line);
            let mut hit: Value = serde_json::from_slice(&line).unwrap();
            let evars = hit["evars"]["evars"].as_object_mut().unwrap();
            let is_set = |name: &String| ["evar1", "evar9"].contains(&name.to_lowercase().as_str());
            evars.retain(|name, _| !is_set(name));
            let first = if number < TAKEN { "short".to_owned() } else { "long".repeat(20) };
            evars.insert("eVar1".to_owned(), first.into());
            evars.insert("eVar9".to_owned(), (*value).into());
            lines += &format!("{hit}\n");
        }
        let list = json!([{"evars": {"evars": {"eVar9": value}}}]);
        let cut = json!({"evars": {"evars": {"eVar9": value, "eVar10": "x"}}}).to_string();
        lines += &format!("{list}\n{}\n", &cut[..cut.len() - 2]);
    }
    lines.into_bytes()
}

impl World {
    /// Puts copies of all archived files of rows where a producer has them that was not told of the loads.
    fn keep_all(&self) {
        for path in self.object_files() {
            let name = path.to_string_lossy().into_owned();
            let Some((_, below)) = name.split_once("/Ingested/") else { continue };
            let batch = below.rsplit('/').nth(1).unwrap();
            let kept = self.path("producer").join("kept").join(batch);
            fs::create_dir_all(&kept).unwrap();
            fs::copy(&path, kept.join(path.file_name().unwrap())).unwrap();
        }
    }

    fn files_of(&self, place: &str) -> Vec<PathBuf> {
        let kept = self.path("producer").join("kept");
        let kept = if kept.exists() { files_below(&kept).unwrap() } else { Vec::new() };
        let all = self.object_files().into_iter().chain(kept);
        all.filter(|path| path.to_string_lossy().contains(place)).collect()
    }

    /// How often each value stands in files of a place, as CSV spells it; among rejects, as JSON within JSON does.
    fn found_in_files(&self, place: &str) -> Rows {
        let mut found = Rows::new();
        for path in self.files_of(place) {
            let text = String::from_utf8(decompressed(&path)).unwrap();
            for value in MINE.iter().chain(&OTHERS) {
                let spelled = if place == "/Rejected/" {
                    let text = json!(json!(value).to_string()).to_string();
                    text[1..text.len() - 1].to_owned()
                } else if value.contains(['"', '~', '\n']) {
                    format!("~\"{}\"~", value.replace('"', "\"\""))
                } else {
                    format!("~{value}~")
                };
                let times = text.matches(spelled.as_str()).count();
                if times > 0 {
                    *found.entry((*value).to_owned()).or_default() += times;
                }
            }
        }
        found
    }

    async fn found_in_table(&self) -> Rows {
        let sql = format!(
            "SELECT {COLUMN}, count(*) FROM public.livestream WHERE {COLUMN} LIKE '%''neil%' OR {COLUMN} LIKE '%''NEIL%' \
             OR {COLUMN} LIKE 'verse one%' GROUP BY {COLUMN}"
        );
        let rows = self.judge.query(&sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), usize::try_from(row.get::<_, i64>(1)).unwrap())).collect()
    }
}

fn forget(world: &World, more: &[&str]) -> (Option<i32>, Value) {
    let args = ["forget", "--column", COLUMN, "--value", MINE[0], "--value", MINE[1], "--json"];
    let output = service::run("ingester", &[&args, more].concat(), &world.config).unwrap();
    let said = String::from_utf8([output.stdout.clone(), output.stderr].concat()).unwrap();
    assert!(!said.to_lowercase().contains("neil") && !said.contains("verse one"), "{said}");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_with_marks_of_every_language_goes_everywhere_and_what_begins_like_it_stays() {
    let adobe = options(60);
    let adobe = adobe::Options { plan: Plan { malformed_per_mille: 0, ..adobe.plan }, ..adobe };
    let configure =
        |text: &str| text.replace("[ingester]\n", "[quarantine]\nmax_share = 0.9\n\n[ingester]\n");
    let world = World::altered(adobe, &shape("zstd"), configure, Some(NARROW)).await;
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    world.until_published(&mut producer).await;
    let file = world.path("records.ndjson");
    fs::write(&file, records()).unwrap();
    let output = service::run("producer", &["replay", file.to_str().unwrap()], &world.config).unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(said.contains("published") && said.contains("rejected  "), "{said}");
    let values = MINE.len() + OTHERS.len();
    let rows = u64::try_from(values * (TAKEN + REFUSED)).unwrap() + world.wanted();
    world.until_loaded(rows, &mut [&mut producer, &mut ingester]).await;
    world.until_put_away(&mut [&mut producer, &mut ingester]).await;
    world.keep_all();
    world.assert_agrees("before");

    let all = [&MINE[..], &OTHERS].concat();
    let files = [("/Ingested/", TAKEN + REFUSED), ("/Quarantine/", REFUSED), ("/Rejected/", 2)];
    assert_eq!(world.found_in_table().await, rows_of(&all, TAKEN));
    for (place, each) in files {
        assert_eq!(world.found_in_files(place), rows_of(&all, each), "{place}");
    }
    assert!(!world.files_of("/kept/").is_empty());

    let found = [("table", TAKEN), ("archive", TAKEN + REFUSED), ("quarantine", REFUSED), ("rejects", 2)];
    for (more, removed) in [(&[][..], false), (&["--yes"], true)] {
        let (code, report) = forget(&world, more);
        assert_eq!((code, &report["left"]), (Some(0), &json!([])), "{report}");
        for (place, each) in found {
            let rows = each * MINE.len();
            assert_eq!(report[place]["rows_found"], rows, "{place}: {report}");
            assert_eq!(report[place]["rows_removed"], if removed { rows } else { 0 }, "{place}: {report}");
        }
    }
    assert_eq!(world.found_in_table().await, rows_of(&OTHERS, TAKEN));
    for (place, each) in files {
        assert_eq!(world.found_in_files(place), rows_of(&OTHERS, each), "{place}");
    }
    assert_eq!(world.files_of("/kept/"), Vec::<PathBuf>::new());
    world.assert_agrees("all is forgotten");
    let (code, report) = forget(&world, &["--yes"]);
    let nothing = found.iter().all(|(place, _)| report[place]["rows_found"] == 0);
    assert!(code == Some(0) && nothing, "a second run finds nothing: {report}");
    stop(producer).await;
    stop(ingester).await;
}
