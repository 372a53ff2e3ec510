//! What `[protect]` names comes to rest nowhere as it was sent: not in the log, its copies and replays, not in S3, the table,
//! rejects and quarantine, not in what programs say, show and answer. Also when they are killed in between.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use sandbox::config::Shape;
use sandbox::judge::{Narrow, files_below};
use sandbox::s3::BUCKET;
use sandbox::service::{self, Service};
use serde_json::Value;
use state::log::{LogReader, RejectLine};

use crate::discreet::{assert_discreet, figures, free_port, spellings};
use crate::world::{STOP, World, options};

const SHAPE: Shape = Shape {
    max_file_age: "500ms",
    max_batch_age: "1s",
    records_per_file: 200,
    files_per_batch: 2,
    // So that what is stored can be searched.
    compression: "none",
};
/// Stands in every value that is protected.
const MARKER: &str = "mArKeRvAlUe";
const KEY: &str = "0123456789abcdef0123456789abcdef-the-key";
const KEY_FILE: &str = "pseudonym_key";

/// Columns for what the built-in schema has as numbers, two of the same path, one that must hold its value, and the record.
const COLUMNS: &str = r#"mode = "extend"
[[column]]
name = "visidhigh"
path = "visIdHigh"
kind = "text"
type = "varchar(32)"
[[column]]
name = "visidlow"
path = "visIdLow"
kind = "text"
type = "varchar(32)"
[[column]]
name = "mcvisidhigh"
path = "mcVisIdHigh"
kind = "text"
type = "varchar(32)"
[[column]]
name = "mcvisidlow"
path = "mcVisIdLow"
kind = "text"
type = "varchar(32)"
[[column]]
name = "visitor"
path = "visIdHigh"
kind = "text"
type = "varchar(64)"
[[column]]
name = "strict"
path = "strict"
kind = "integer"
type = "smallint"
rule = "reject"
[[column]]
name = "record"
kind = "record"
type = "varchar(65535)"
"#;

/// A world whose configuration protects fields, with these lines in `[protect]`.
async fn world(adobe: adobe::Options, lines: &str, more: impl Fn(String) -> String) -> World {
    let configure = |text: &str| {
        // The folder of the world, as the sandbox wrote it.
        let dir = text.split("dir = \"").nth(1).unwrap().split("/producer\"").next().unwrap();
        fs::write(format!("{dir}/schema.toml"), COLUMNS).unwrap();
        fs::write(format!("{dir}/{KEY_FILE}"), format!("{KEY}\n")).unwrap();
        let text = text.replace("[ingester]\n", "[quarantine]\nmax_share = 0.9\n\n[ingester]\n");
        let text = text.replace("[logging]\n", "[logging]\nlevel = \"trace\"\n");
        more(format!(
            "{text}\n[schema]\nfile = \"{dir}/schema.toml\"\n\n[protect]\n{lines}\n\
             pseudonym_key_file = \"{dir}/{KEY_FILE}\"\n"
        ))
    };
    World::altered(adobe, &SHAPE, configure, Some(Narrow { column: "evar1", bytes: 34 })).await
}

impl World {
    /// Everything that lies on disk, S3 and the database of the table included.
    fn all_files(&self) -> Vec<PathBuf> {
        let files = files_below(&self.path("")).unwrap();
        files.into_iter().filter(|file| !file.ends_with(KEY_FILE)).collect()
    }

    /// Lines of all objects of rejects.
    fn rejects(&self) -> Vec<RejectLine> {
        let objects = files_below(&self.path("s3").join(BUCKET).join("Rejected")).unwrap();
        let objects = objects.iter().filter(|file| file.extension().is_some_and(|kind| kind == "zst"));
        let texts = objects.map(|file| zstd::decode_all(File::open(file).unwrap()).unwrap());
        let lines = texts.flat_map(|text| {
            let text = String::from_utf8(text).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<RejectLine>>()
        });
        lines.collect()
    }

    /// The table as text.
    async fn table(&self) -> Vec<String> {
        let rows = self.judge.query("SELECT t::text FROM public.livestream t", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Rows and rejects in the log of a stopped producer: its rows are compressed on disk.
    fn log(&self, dir: &str) -> Vec<u8> {
        let reader = LogReader::open_to_read(&self.path(dir)).unwrap();
        let mut all = Vec::new();
        for (_, batch) in reader.batches().unwrap() {
            for number in batch.first_file..batch.first_file + u64::from(batch.files) {
                // Rows that are in S3 are here no more.
                let _ = reader.rows(number, &mut all);
            }
        }
        let (rejects, _) = reader.rejects(usize::MAX, usize::MAX).unwrap();
        rejects.into_iter().for_each(|(_, line)| all.extend(line));
        all
    }

    fn heard(&self, command: &str, args: &[&str]) -> Vec<u8> {
        let output = service::run(command, args, &self.config).unwrap();
        [output.stdout, output.stderr].concat()
    }
}

/// `state tap` into a file, until the producer ends.
struct Tap(Child);

impl Tap {
    fn start(world: &World, file: &str) -> Self {
        let output = File::create(world.path(file)).unwrap();
        let mut command = service::command("state", &["tap", "--json", "--full"], &world.config).unwrap();
        Self(command.stdout(output).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The words of a text, as ids, addresses and digests are written.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
    text.split(move |byte| !is_of_word(byte)).map(|word| word.strip_suffix(b".").unwrap_or(word))
}

/// The words of the values that must be nowhere: ids of visitors, addresses, what stands in queries, purchases.
fn planted(generator: &adobe::Generator) -> HashSet<Vec<u8>> {
    let mut planted = HashSet::new();
    for index in 0..generator.plan().hits {
        let mut line = Vec::new();
        generator.write_hit(index, &mut line);
        let record: Value = serde_json::from_slice(&line).unwrap();
        let text = |field: &str| match &record[field] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        for field in ["visIdHigh", "visIdLow", "mcVisIdHigh", "mcVisIdLow", "purchaseId"] {
            planted.insert(text(field).into_bytes());
        }
        for field in ["pageURL", "referrer"] {
            let url = text(field);
            let (_, query) = url.split_once('?').unwrap_or_default();
            // Short words of queries stand elsewhere too.
            planted.extend(words(query.as_bytes()).filter(|word| word.len() > 12).map(<[u8]>::to_vec));
        }
        let ip = text("ip");
        if ip.parse::<std::net::Ipv4Addr>().is_ok() && !ip.ends_with(".0") && ip.len() > 10 {
            planted.insert(ip.into_bytes());
        }
    }
    planted.retain(|word| word.len() > 8);
    planted
}

#[track_caller]
fn assert_without(what: &str, text: &[u8], planted: &HashSet<Vec<u8>>) {
    if let Some(word) = words(text).find(|word| planted.contains(*word)) {
        panic!("{what} holds {}", word.escape_ascii());
    }
}

const STREAM_PROTECTED: &str = "drop = [\"purchaseid\"]\nmask_ip = [\"ip\"]\nmask_query = [\"pageurl\", \"referrer\"]\n\
                                pseudonym = [\"visidhigh\", \"visidlow\", \"mcvisidhigh\", \"mcvisidlow\"]";

#[tokio::test(flavor = "multi_thread")]
async fn of_a_stream_nothing_protected_is_stored_said_or_shown_however_often_the_services_are_killed() {
    const HITS: u64 = 6_000;
    let mut options = adobe::Options { rate: Some(500), ..options(HITS) };
    options.plan.malformed_per_mille = 30;
    let listen = free_port();
    let world = world(options, STREAM_PROTECTED, |text| {
        text.replace("producer_listen = \"\"", &format!("producer_listen = \"{listen}\""))
    })
    .await;
    let planted = planted(&world.standins.adobe.generator());
    assert!(planted.len() > 20_000, "{}", planted.len());
    let mut line = Vec::new();
    world.standins.adobe.generator().write_hit(1, &mut line);
    assert!(words(&line).any(|word| planted.contains(word)), "this search would find nothing");

    let wanted = world.wanted();
    let (mut producer, mut ingester) = (world.start("producer"), world.start("ingester"));
    let mut told: Vec<(String, Vec<u8>)> = Vec::new();
    for part in 1..=3 {
        world.until_durable(wanted * part / 4, &mut [&mut producer, &mut ingester]).await;
        let file = format!("tapped-{part}");
        let tap = Tap::start(&world, &file);
        // Later the stream may have ended: what it sends again after a start is quickly through.
        let begun = async || part > 1 || fs::metadata(world.path(&file)).unwrap().len() > 100_000;
        world.until("records are tapped", &mut [&mut producer, &mut ingester], begun).await;
        told.push(("figures".to_owned(), figures(&listen).into_bytes()));
        told.push(("dump".to_owned(), world.heard("state", &["dump", "--json"])));
        producer.kill().unwrap();
        drop(tap);
        told.push((format!("log {part}"), world.log("producer")));
        ingester.kill().unwrap();
        producer.start_again().unwrap();
        ingester.start_again().unwrap();
    }
    world.until_loaded(wanted, &mut [&mut producer, &mut ingester]).await;
    world.until_published(&mut producer).await;
    let page = figures(&listen);
    producer.stop(STOP).await.unwrap();
    ingester.stop(STOP).await.unwrap();
    told.push(("log".to_owned(), world.log("producer")));

    told.iter().for_each(|(what, text)| assert_without(what, text, &planted));
    let rows = world.table().await;
    assert_eq!(rows.len() as u64 + quarantined(&world).await, wanted);
    rows.iter().for_each(|row| assert_without("the table", row.as_bytes(), &planted));
    assert!(
        rows[0].contains("\"\"pageURL\"\"") || rows[0].contains("pageURL"),
        "the column of the record is filled"
    );
    let files = world.all_files();
    for part in ["producer/", "ingester/", "logs/", "s3/", "tapped-1"] {
        assert!(files.iter().any(|file| file.to_string_lossy().contains(part)), "{part}");
    }
    for file in &files {
        assert_without(&file.display().to_string(), &fs::read(file).unwrap_or_default(), &planted);
    }
    for kept in world.rejects() {
        assert!(kept.record.is_none() && kept.record_base64.is_none(), "{}", kept.reason);
        assert!(kept.bytes.is_some_and(|bytes| bytes > 0) && kept.hash.is_some_and(|hash| hash.len() == 32));
    }

    // Pseudonyms are the same in every row, also of another process, and in the column that reads the same path.
    let visitors: BTreeSet<u64> =
        hits(&world).map(|index| world.standins.adobe.generator().visitor(index)).collect();
    let pseudonyms = "count(DISTINCT visidhigh) FROM public.livestream WHERE length(visidhigh) = 32 AND visidhigh = visitor";
    let refused = quarantined(&world).await;
    let distinct = world.count(pseudonyms).await;
    let all = visitors.len() as u64;
    assert!(distinct <= all && distinct + refused >= all, "{distinct} of {all}, {refused} in quarantine");
    assert_eq!(world.count("count(*) FROM public.livestream WHERE purchaseid IS NOT NULL").await, 0);
    assert!(world.count("count(*) FROM public.livestream WHERE ip LIKE '%.0'").await > 1_000);
    // What was not masked is counted; what was, too.
    for figure in ["protected_values_total{field=\"ip\"}", "unmaskable_values_total{field=\"ip\"} 0"] {
        assert!(page.contains(&format!("livestream_producer_{figure}")), "{figure}: {page}");
    }
    // Every seal says which key it was.
    let seals = seals(&world);
    let keys: BTreeSet<_> =
        seals.values().map(|seal| seal["pseudonym_key"].as_str().unwrap().to_owned()).collect();
    assert!(keys.len() == 1 && keys.iter().all(|key| key.len() == 8), "{keys:?}");
}

fn hits(world: &World) -> impl Iterator<Item = u64> {
    let generator = world.standins.adobe.generator();
    (0..generator.plan().hits).filter(move |index| generator.kind(*index) == adobe::Kind::Hit)
}

async fn quarantined(world: &World) -> u64 {
    world.count("coalesce(sum(rows_quarantined), 0)::bigint FROM public.livestream_ledger").await
}

fn seals(world: &World) -> BTreeMap<PathBuf, Value> {
    let files = files_below(&world.path("s3").join(BUCKET).join("Ingested")).unwrap();
    let seals = files.into_iter().filter(|file| file.ends_with("batch.json"));
    seals.map(|file| (file.clone(), serde_json::from_slice(&fs::read(file).unwrap()).unwrap())).collect()
}

/// Every form a value may have: as text, by escapes, as keys, in lists, as what it should not be.
fn forms() -> Vec<String> {
    let escaped: String = MARKER.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    vec![
        format!("\"{MARKER}\""),
        format!("\"{escaped}\""),
        format!("\"{MARKER} {escaped} \\u0000{MARKER}\""),
        format!("[\"{MARKER}\",[\"{escaped}\"]]"),
        format!("{{\"{MARKER}\":1}}"),
        format!("{{\"values\":[\"{MARKER}\"],\"delim\":\"{MARKER}\"}}"),
        format!("[[[[[[[[[[[[{{\"{MARKER}\":\"{MARKER}\"}}]]]]]]]]]]]]"),
        format!("\"{MARKER}@{MARKER}@example.com\""),
        format!("\"https://{MARKER}:pw@example.com/\""),
        format!("\"https://www.example.com/a?{MARKER}={MARKER}#{MARKER}={MARKER}\""),
        format!("\"198.51.100.7 {MARKER}\""),
    ]
}

/// Records with a marked value in every protected field: rows, rows that the table refuses, rejects for each reason.
fn marked() -> Vec<u8> {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut lines = Vec::new();
    let mut number = 0;
    for form in forms() {
        // The fourth is refused by the table, the third is a reject.
        for more in [
            String::new(),
            format!(",\"ip\":{form},\"products\":{{\"name\":{form}}}"),
            ",\"strict\":70000".to_owned(),
            format!(",\"evars\":{{\"evars\":{{\"eVar1\":\"{}\"}}}}", "x".repeat(99)),
        ] {
            number += 1;
            let fields =
                ["ip", "visIdHigh", "pageURL", "referrer", "purchaseId", "customVisId", "fieldOfTheFuture"];
            let fields: Vec<_> = fields.iter().map(|field| format!("\"{field}\":{form}")).collect();
            lines.push(
                format!(
                    "{{\"hitIdHigh\":77,\"hitIdLow\":{number},\"receivedTimeGMT\":{now},{},\"products\":\
                     [{{\"name\":{form},\"units\":1}},[{{\"name\":{form}}}]]{more}}}",
                    fields.join(",")
                )
                .into_bytes(),
            );
        }
    }
    for text in
        ["{\"ip\":\"@", "{\"ip\":@}", "@", "\"@\"", "[\"@\"]", "{\"ip\":\"@\"}{\"b\":\"@\"}", "<html>@"]
    {
        lines.push(text.replace('@', MARKER).into_bytes());
    }
    lines.push([b"{\"ip\":\"\xff", MARKER.as_bytes()].concat());
    lines.push(format!("{{\"a\":\"{}\"}}", MARKER.repeat(10_000)).into_bytes());
    lines.join(&b'\n')
}

const MARKED_PROTECTED: &str = "drop = [\"purchaseid\", \"products.name\", \"fieldOfTheFuture\"]\nmask_ip = [\"ip\"]\n\
                                mask_email = [\"customvisid\"]\nmask_query = [\"pageurl\"]\n\
                                mask_parameters = [\"referrer\"]\nparameters = [\"mArKeRvAlUe\"]\npseudonym = [\"visidhigh\"]";

#[tokio::test(flavor = "multi_thread")]
async fn a_marked_value_in_every_protected_field_is_found_nowhere() {
    let world = world(options(20), MARKED_PROTECTED, |text| {
        text.replace("[adobe]\n", "[adobe]\nmax_record_bytes = \"64KiB\"\n")
    })
    .await;
    // Not below the folder that is searched.
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("marked.ndjson");
    fs::write(&file, marked()).unwrap();
    let mut told = Vec::new();
    told.push(world.heard("producer", &["replay", file.to_str().unwrap()]));
    let replayed = world.rejects();
    for code in ["misfit", "not_json", "not_object", "too_long"] {
        assert!(replayed.iter().any(|reject| reject.code.as_deref() == Some(code)), "{code}");
    }
    let misfits: Vec<_> = replayed.iter().filter(|reject| reject.record.is_some()).collect();
    assert_eq!(misfits.len(), forms().len(), "what parses is kept, and protected");
    for misfit in misfits {
        let note = misfit.protected.as_ref().unwrap();
        assert_eq!((note.pseudonyms.as_slice(), note.key.is_some()), (&["visIdHigh".to_owned()][..], true));
    }
    // Rejects are taken in again, once their schema is corrected: they are protected already.
    let schema = fs::read_to_string(world.path("schema.toml")).unwrap();
    fs::write(world.path("schema.toml"), schema.replace("rule = \"reject\"\n", "")).unwrap();
    told.push(world.heard("producer", &["replay", &format!("s3://{BUCKET}/Rejected/")]));
    let record = outside.path().join("one.json");
    for line in marked().split(|byte| *byte == b'\n').take(44) {
        fs::write(&record, line).unwrap();
        for args in [&["schema", "--explain"][..], &["schema", "--json", "--explain"]] {
            told.push(world.heard("producer", &[args, &[record.to_str().unwrap()]].concat()));
        }
    }
    told.push(world.heard("producer", &["check"]));
    let (mut producer, mut ingester): (Service, Service) = (world.start("producer"), world.start("ingester"));
    world.until_published(&mut producer).await;
    world.until_put_away(&mut [&mut producer, &mut ingester]).await;
    told.push(world.heard("state", &["dump", "--json"]));
    producer.stop(STOP).await.unwrap();
    ingester.stop(Duration::from_secs(20)).await.unwrap();
    for args in [&["replay", "--all"][..], &["audit"], &["reconcile"]] {
        told.push(world.heard("ingester", args));
    }
    told.push(world.heard("state", &["verify"]));
    told.push(world.log("producer"));
    told.push(world.log("producer/replay"));
    told.extend(world.table().await.into_iter().map(String::into_bytes));
    let lines = world.rejects();
    told.extend(lines.iter().map(|line| serde_json::to_vec(line).unwrap()));

    assert!(quarantined(&world).await >= forms().len() as u64);
    let kept = [spellings(MARKER), spellings(KEY)].concat();
    told.iter().for_each(|said| assert_discreet("what is told", &String::from_utf8_lossy(said), &kept));
    for file in world.all_files() {
        let said = fs::read(&file).unwrap_or_default();
        if !file.ends_with("pipeline.toml") {
            assert_discreet(&file.display().to_string(), &String::from_utf8_lossy(&said), &kept);
        }
    }
    // A pseudonym gets no pseudonym: a record that was a reject has that of the row like it.
    let alike = "count(*) FROM public.livestream a JOIN public.livestream b ON a.hitidlow = b.hitidlow + 2 \
                 WHERE a.hitidhigh = 77 AND b.hitidhigh = 77 AND mod(b.hitidlow, 4) = 1 \
                 AND a.visidhigh IS NOT DISTINCT FROM b.visidhigh";
    assert_eq!(world.count(alike).await, forms().len() as u64);
}
