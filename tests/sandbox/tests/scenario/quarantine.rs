//! Rows that Redshift refuses: the table is narrower than the schema says. The good ones are loaded, the others are kept
//! with their reason, and are loaded once the table is mended.

mod replay;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use redshift::{Fault, Kind};
use sandbox::config::Shape;
use sandbox::judge::files_below;
use sandbox::s3::{self, BUCKET};
use sandbox::service::{self, Service};
use serde_json::Value;
use shared::config::{Config, Secrets};
use shared::object_store::{ObjectStore, crc32};
use shared::seal::Seal;

use crate::schema::send;
use crate::world::{STOP, World, assert_clean};

/// Longer than any step of a test; the process is killed before.
const HELD: Duration = Duration::from_secs(3_600);
const NARROW: &str = "ALTER TABLE public.livestream ALTER COLUMN evar1 TYPE varchar(34);";
const MENDED: &str = "ALTER TABLE public.livestream ALTER COLUMN evar1 TYPE varchar(255);";

fn shape(rows: u32, files: u32, compression: &'static str) -> Shape {
    Shape {
        max_file_age: "500ms",
        max_batch_age: "1s",
        records_per_file: rows,
        files_per_batch: files,
        compression,
    }
}

/// Everything that is sent stands in S3, sealed, and the producer is stopped; rows up to this share of a batch go into
/// quarantine.
async fn published(hits: u64, shape: &Shape, max_share: f64) -> World {
    let world = World::new(hits, shape).await;
    world.publish().await;
    world.configure("[ingester]", &format!("[quarantine]\nmax_share = {max_share}\n\n[ingester]"));
    world
}

impl World {
    /// Hits whose value of a column is longer than so many bytes, or missing.
    fn hits_with(&self, column: &str, refused: impl Fn(Option<&str>) -> bool) -> BTreeSet<(u64, u64)> {
        let generator = self.standins.adobe.generator();
        let hits = (0..generator.plan().hits).filter(|index| generator.kind(*index) == adobe::Kind::Hit);
        let is_refused = |index: &u64| {
            let expected = generator.expected(*index);
            let (_, value) = expected.iter().find(|(name, _)| *name == column).unwrap();
            refused(value.as_deref())
        };
        hits.filter(is_refused).map(|index| generator.hit_id(index)).collect()
    }

    fn longer(&self, column: &str, than: usize) -> BTreeSet<(u64, u64)> {
        self.hits_with(column, |value| value.is_some_and(|value| value.len() > than))
    }

    async fn number(&self, sql: &str) -> u64 {
        let number: i64 = self.judge.query_one(sql, &[]).await.unwrap().get(0);
        u64::try_from(number).unwrap()
    }

    async fn in_quarantine(&self) -> u64 {
        self.number("SELECT coalesce(sum(rows_quarantined), 0)::bigint FROM public.livestream_ledger").await
    }

    fn objects(&self, prefix: &str) -> Vec<PathBuf> {
        files_below(&self.path("s3").join(BUCKET).join(prefix)).unwrap()
    }

    /// Every line of every reasons.ndjson.
    fn reasons(&self) -> Vec<Value> {
        let objects = self.objects("Quarantine");
        let files = objects.iter().filter(|path| path.ends_with("reasons.ndjson"));
        let lines = files.flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
        });
        lines.collect()
    }

    fn replay(&self, args: &[&str]) -> (i32, String) {
        let args = [&["replay"], args].concat();
        let output = service::run("ingester", &args, &self.config).unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    /// Starts to replay everything.
    fn start_replay(&self) -> Child {
        let mut command = service::command("ingester", &["replay", "--all"], &self.config).unwrap();
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Waits until every batch is loaded, as far as it goes, and its folder moved away.
    async fn until_archived(&self, ingester: &mut Service) {
        let done = async || {
            self.objects("ToIngest").is_empty()
                && self.loaded().await + self.in_quarantine().await >= self.wanted()
        };
        self.until("every batch archived", &mut [ingester], done).await;
    }

    /// Loads what is published, as far as it goes; the ingester has stopped.
    async fn sift(&self) {
        let mut ingester = self.start("ingester");
        self.until_archived(&mut ingester).await;
        ingester.stop(STOP).await.unwrap();
    }

    /// The rows that are not refused are in the table, each once and as it was sent, and the others are in quarantine:
    /// these hits and no others, each with its reason. Nothing of the search is left.
    async fn assert_sifted(&self, refused: &BTreeSet<(u64, u64)>) {
        let verdict = self.verdict().await;
        assert!(verdict.doubled == 0 && verdict.complaints.is_empty(), "{verdict:#?}");
        assert_eq!(verdict.lost, refused.len() as u64, "{verdict:#?}");
        assert_eq!(self.in_quarantine().await, refused.len() as u64);
        assert_eq!(self.reasons().len(), refused.len());
        assert_eq!(&self.quarantined_hits(), refused);
        let left: Vec<_> = self.objects("Quarantine").into_iter().filter(|path| !is_of_set(path)).collect();
        assert!(left.is_empty(), "{left:?}");
        for seen in self.standins.redshift.faults().statements() {
            assert!(!seen.sql.contains("MAXERROR") || seen.sql.contains(" NOLOAD "), "{}", seen.sql);
        }
    }

    /// The hits in the files of rows, which COPY itself reads: into a table of texts.
    fn quarantined_hits(&self) -> BTreeSet<(u64, u64)> {
        let config = Config::load(&self.config, Secrets::Unused).unwrap();
        let schema = config.schema.load().unwrap();
        let position = |name: &str| schema.in_row().position(|column| column.name == name).unwrap();
        let (high, low) = (position("hitidhigh"), position("hitidlow"));
        let mut hits = BTreeSet::new();
        for path in
            self.objects("Quarantine").iter().filter(|path| path.to_string_lossy().contains("/rows.csv"))
        {
            let file = std::fs::read(path).unwrap().into();
            let suffix = path.extension().and_then(|end| end.to_str()).unwrap();
            let compression = match suffix {
                "zst" => shared::layout::Compression::Zstd,
                "gz" => shared::layout::Compression::Gzip,
                _ => shared::layout::Compression::None,
            };
            let rows = shared::compress::decompress(&file, compression, 1 << 30).unwrap();
            let mut judge = redshift::Judge::new(
                schema.in_row().map(|column| (column.name.as_str(), column.sql_type.to_string())),
            )
            .unwrap();
            for row in judge.read(&rows).unwrap() {
                let id = |at: usize| row[at].as_ref().unwrap().parse().unwrap();
                assert!(hits.insert((id(high), id(low))), "a row is in quarantine twice");
            }
        }
        hits
    }
}

fn is_of_set(path: &std::path::Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    name.starts_with("rows.csv") || name == "reasons.ndjson" || name == "quarantine.json"
}

/// Loads what there is, looks at what is in quarantine, mends the table and replays.
async fn finds_all_and_replays(compression: &'static str, prepare: impl FnOnce(&World)) {
    let world = published(1_200, &shape(100, 3, compression), 0.5).await;
    prepare(&world);
    let refused = world.longer("evar1", 34);
    assert!(refused.len() > 20, "{}", refused.len());
    send(&world, NARROW).await;
    let mut ingester = world.start("ingester");
    world.until_archived(&mut ingester).await;
    world.assert_sifted(&refused).await;
    for reason in world.reasons() {
        assert_eq!(
            (&reason["column"], &reason["code"]),
            (&Value::from("evar1"), &Value::from(1204)),
            "{reason}"
        );
        assert_eq!(reason["reason"], "String length exceeds DDL length", "{reason}");
        assert!(reason["value"].as_str().unwrap().len() > 34, "{reason}");
        assert!(reason["line"].as_u64() >= reason["row"].as_u64(), "{reason}");
    }
    let dump = world.dump();
    assert!(dump.contains(&format!("in quarantine  {} rows of ", refused.len())), "{dump}");

    // Still narrow: nothing changes, and it says so.
    let (code, said) = world.replay(&["--all"]);
    assert!(
        code == 65 && said.contains("still refused") && said.contains("column evar1, code 1204"),
        "{said}"
    );
    world.assert_sifted(&refused).await;

    send(&world, MENDED).await;
    let (code, said) = world.replay(&["--all"]);
    assert_eq!(code, 0, "{said}");
    assert_clean(&world.verdict().await);
    assert_eq!(world.in_quarantine().await, 0);
    assert!(world.objects("Quarantine").is_empty());
    let (code, said) = world.replay(&["--all"]);
    assert!(code == 0 && said.contains("nothing is in quarantine"), "{said}");
    assert_eq!(world.replay(&["019caeda"]).0, 66);
    ingester.stop(STOP).await.unwrap();
    // The next start asks the ledger.
    ingester.start_again().unwrap();
    let known = async || !world.dump().contains("in quarantine");
    world.until("the replay known", &mut [&mut ingester], known).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_are_found_and_replayed_on_a_provisioned_cluster() {
    finds_all_and_replays("zstd", |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_are_found_and_replayed_on_a_serverless_workgroup() {
    finds_all_and_replays("gzip", |world| world.standins.redshift.ways().set_serverless(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_are_found_whichever_way_redshift_counts_lines() {
    finds_all_and_replays("none", |world| world.standins.redshift.ways().set_rows_as_lines(true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_are_found_without_any_table_of_load_errors() {
    let world = published(300, &shape(50, 3, "zstd"), 0.5).await;
    world.standins.redshift.ways().set_error_tables_forbidden(true);
    let refused = world.longer("evar1", 34);
    assert!(refused.len() > 3, "{}", refused.len());
    send(&world, NARROW).await;
    let mut ingester = world.start("ingester");
    world.until_archived(&mut ingester).await;
    world.assert_sifted(&refused).await;
    send(&world, MENDED).await;
    assert_eq!(world.replay(&["--all"]).0, 0);
    assert_clean(&world.verdict().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_attempt_met_counts_no_more() {
    let world = published(300, &shape(100, 3, "zstd"), 0.5).await;
    let (long_1, long_2) = (world.longer("evar1", 34), world.longer("evar2", 34));
    let both = long_1.union(&long_2).count();
    // More than may be while both columns are narrow, and less when one of them is.
    let share = (both + long_2.len()) as f64 / 2.0 / world.wanted() as f64;
    world.configure("max_share = 0.5", &format!("max_share = {share}"));
    world.configure("retry_max = \"10s\"", "retry_max = \"1s\"");
    send(&world, &format!("{NARROW}\n{}", NARROW.replace("evar1", "evar2"))).await;
    let mut ingester = world.start("ingester");
    let waits = async || ingester.said().contains("the batch waits whole");
    world.until("the batch waits", &mut [], waits).await;
    assert_eq!(world.loaded().await, 0);
    send(&world, MENDED).await;
    world.until_archived(&mut ingester).await;
    world.assert_sifted(&long_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_load_refuses_is_found_too() {
    for forbidden in [false, true] {
        let world = published(250, &shape(50, 2, "zstd"), 0.4).await;
        world.standins.redshift.ways().set_error_tables_forbidden(forbidden);
        let refused = world.hits_with("pagename", |value| value.is_none_or(str::is_empty));
        assert!(refused.len() > 3, "{}", refused.len());
        let ddl = service::run("ingester", &["ddl"], &world.config).unwrap();
        let ddl = String::from_utf8(ddl.stdout).unwrap();
        let create = ddl.split(';').next().unwrap();
        let required = create.replace("\"pagename\" varchar(255)", "\"pagename\" varchar(255) NOT NULL");
        assert_ne!(create, required);
        send(&world, &format!("DROP TABLE public.livestream;\n{required};")).await;
        let mut ingester = world.start("ingester");
        world.until_archived(&mut ingester).await;
        world.assert_sifted(&refused).await;
        if !forbidden {
            assert!(
                world.reasons().iter().all(|reason| reason["code"] == 1213 && reason["column"] == "pagename")
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_refused_rows_make_the_batch_wait_whole() {
    let world = published(300, &shape(100, 3, "zstd"), 0.01).await;
    world.configure("retry_max = \"10s\"", "retry_max = \"1s\"");
    send(&world, NARROW).await;
    let mut ingester = world.start("ingester");
    let waits = async || {
        let dump = world.dump();
        dump.contains("ALERT data, ")
            && dump.contains(": Redshift refuses")
            && ingester.said().contains("quarantine.max_share is 1 %")
    };
    world.until("the batch waits", &mut [], waits).await;
    assert!(ingester.said().contains("the batch waits whole"), "{}", ingester.said());
    assert_eq!(world.loaded().await + world.in_quarantine().await, 0);
    send(&world, MENDED).await;
    world.until_archived(&mut ingester).await;
    assert_clean(&world.verdict().await);
    let nothing = async || world.objects("Quarantine").is_empty();
    world.until("nothing is left of the search", &mut [&mut ingester], nothing).await;
}

/// Stops the ingester at a step by a fault that holds it there, kills it and starts it again.
async fn kill_at(world: &World, ingester: &mut Service, what: &str, held: impl Fn() -> bool) {
    let struck = async || held();
    world.until(&format!("held at {what}"), &mut [&mut *ingester], struck).await;
    // It has met the fault; give it the time to be inside.
    tokio::time::sleep(Duration::from_millis(100)).await;
    ingester.kill().unwrap();
    ingester.start_again().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_of_a_quarantine_nothing_is_lost_or_doubled() {
    let world = published(3_000, &shape(40, 2, "zstd"), 0.5).await;
    let refused = world.longer("evar1", 34);
    send(&world, NARROW).await;
    let redshift = world.standins.redshift.faults().clone();
    let store = world.standins.s3.faults().clone();
    let mut ingester = world.start("ingester");
    let statements = [
        (1, " NOLOAD MAXERROR", Kind::Copy),
        (1, "FROM sys_load_error_detail", Kind::Select),
        (2, " NOLOAD MAXERROR", Kind::Copy),
        // The COPY of the rest, after three that load nothing.
        (4, "/sift/manifest", Kind::Copy),
        (1, "INSERT INTO", Kind::Insert),
        (1, "COMMIT", Kind::Commit),
        // Those of the tidying.
        (1, "SELECT batch_id, rows_loaded, rows_quarantined", Kind::Select),
    ];
    for (nth, text, kind) in statements {
        redshift.push_at(nth, text, Fault::Slow(kind, HELD));
        kill_at(&world, &mut ingester, text, || redshift.pending() == 0).await;
    }
    redshift.push_at(1, "COMMIT", Fault::AppliedThenLost(Kind::Commit));
    let (put, delete) = (s3::Operation::Put, s3::Operation::Delete);
    let objects = [
        (put, "/sift/manifest"),
        (put, "/sift/0-"),
        (put, "/rows.csv"),
        (put, "/reasons.ndjson"),
        (put, "/quarantine.json"),
        (delete, "/sift/"),
    ];
    for (operation, key) in objects {
        // Never carried out; and carried out when the next attempt is under way, or over.
        for side in [s3::Side::Slow(HELD), s3::Side::Held(Duration::from_secs(2))] {
            store.push(s3::Fault { operation: Some(operation), key: key.to_owned(), side });
            kill_at(&world, &mut ingester, key, || store.pending() == 0).await;
        }
    }
    world.until_archived(&mut ingester).await;
    ingester.stop(STOP).await.unwrap();
    // What a request left that was carried out too late goes with the next replay.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.replay(&["--all"]).0, 65);
    world.assert_sifted(&refused).await;
    send(&world, MENDED).await;
    let (code, said) = world.replay(&["--all"]);
    assert_eq!(code, 0, "{said}");
    assert_clean(&world.verdict().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_mended_between_two_attempts_leaves_nothing_in_quarantine() {
    let world = published(200, &shape(100, 2, "zstd"), 0.5).await;
    send(&world, NARROW).await;
    let redshift = world.standins.redshift.faults().clone();
    // The first is that of the ledger's mark.
    redshift.push_at(2, "COMMIT", Fault::Slow(Kind::Commit, HELD));
    let mut ingester = world.start("ingester");
    kill_at(&world, &mut ingester, "COMMIT", || redshift.pending() == 0).await;
    ingester.kill().unwrap();
    assert!(!world.reasons().is_empty(), "the set stands before the COMMIT that counts it");
    send(&world, MENDED).await;
    ingester.start_again().unwrap();
    world.until_archived(&mut ingester).await;
    assert_clean(&world.verdict().await);
    assert_eq!(world.in_quarantine().await, 0);
    assert!(world.objects("Quarantine").is_empty(), "{:?}", world.objects("Quarantine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ingesters_sift_one_batch_and_it_is_loaded_once() {
    let world = published(1_200, &shape(100, 3, "zstd"), 0.5).await;
    let refused = world.longer("evar1", 34);
    send(&world, NARROW).await;
    let text = std::fs::read_to_string(&world.config).unwrap();
    let second_config = world.path("second.toml");
    let dir = |name: &str| format!("{}\"", world.path(name).display());
    std::fs::write(&second_config, text.replace(&dir("ingester"), &dir("second"))).unwrap();
    let mut first = world.start("ingester");
    let mut second = Service::start("ingester", &second_config, &world.path("logs-second")).unwrap();
    world.until_archived(&mut first).await;
    first.stop(STOP).await.unwrap();
    second.stop(STOP).await.unwrap();
    // What one of them left because the other was faster, it clears away when it meets the batch again.
    assert_eq!(world.replay(&["--all"]).0, 65);
    world.assert_sifted(&refused).await;
    send(&world, MENDED).await;
    assert_eq!(world.replay(&["--all"]).0, 0);
    assert_clean(&world.verdict().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_no_column_is_to_blame_for_are_found_too() {
    let world = published(200, &shape(100, 2, "none"), 0.9).await;
    let config = Config::load(&world.config, Secrets::Ingester).unwrap();
    let store = ObjectStore::connect(&config.s3).await;
    let listed = store.list(&config.s3.to_ingest, None).await.unwrap();
    let seals: Vec<_> = listed.iter().filter(|object| object.key.ends_with("batch.json")).collect();
    let mut spoilt = BTreeMap::new();
    for object in seals {
        // A row with a column too many, in the place of one of the rows: not ours, with a seal all the same.
        let folder = object.key.trim_end_matches("batch.json");
        let mut seal: Value = serde_json::from_slice(&store.get(&object.key).await.unwrap()).unwrap();
        let name = seal["files"][0]["name"].as_str().unwrap().to_owned();
        let content = store.get(&format!("{folder}{name}")).await.unwrap();
        let mut content = content.to_vec();
        assert_eq!(content.pop(), Some(b'\n'));
        content.extend_from_slice(b"~one too many\n");
        let bytes = content.len() as u64;
        let before = seal["files"][0]["bytes"].as_u64().unwrap();
        seal["files"][0]["bytes"] = bytes.into();
        seal["files"][0]["crc32"] = crc32(&content).into();
        let total = seal["bytes"].as_u64().unwrap() + bytes - before;
        seal["bytes"] = total.into();
        spoilt.insert(folder.to_owned(), seal["files"][0]["rows"].as_u64().unwrap());
        store.put(&format!("{folder}{name}"), content.into()).await.unwrap();
        store.put(&object.key, serde_json::to_vec(&seal).unwrap().into()).await.unwrap();
    }
    let mut ingester = world.start("ingester");
    world.until_archived(&mut ingester).await;
    let reasons = world.reasons();
    assert_eq!((reasons.len(), world.in_quarantine().await), (spoilt.len(), spoilt.len() as u64));
    for reason in &reasons {
        assert_eq!((&reason["code"], &reason["column"]), (&Value::from(1202), &Value::Null), "{reason}");
        assert!(spoilt.values().any(|rows| reason["row"].as_u64() == Some(*rows)), "the last row: {reason}");
    }
    let archived = world.objects("Ingested");
    for path in archived.iter().filter(|path| path.ends_with("batch.json")) {
        let batch = path.parent().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap();
        let seal = Seal::read(batch, &std::fs::read(path).unwrap()).unwrap();
        for file in seal.files {
            let content = std::fs::read(path.with_file_name(&file.name)).unwrap();
            assert_eq!(crc32(&content), file.crc32, "the sealed objects stay as they were");
        }
    }
}
