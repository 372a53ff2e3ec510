//! `producer replay`, run, killed, stopped and run again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use shared::ids::Instance;
use state::log::{Log, RejectLine, Settings};

use crate::World;

/// A record with or without identity; the page name tells it apart.
fn record(page: &str, id: Option<u64>) -> String {
    let id = id.map_or(String::new(), |id| format!(",\"hitIdHigh\":\"7\",\"hitIdLow\":\"{id}\""));
    format!("{{\"receivedTimeGMT\":1777593600,\"pageName\":\"{page}\"{id}}}")
}

fn lines(pages: impl IntoIterator<Item = String>) -> String {
    pages.into_iter().map(|line| line + "\r\n").collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// How often each page stands in the rows.
fn pages(rows: &[String], prefix: &str) -> BTreeMap<String, usize> {
    let mut pages = BTreeMap::new();
    for row in rows {
        let page = row.split('~').find(|cell| cell.starts_with(prefix));
        *pages.entry(page.unwrap_or_else(|| panic!("no page in {row}")).to_owned()).or_default() += 1;
    }
    pages
}

fn each_once(prefix: &str, count: u64) -> BTreeMap<String, usize> {
    (0..count).map(|n| (format!("{prefix}{n}"), 1)).collect()
}

fn reject(record: &[u8]) -> String {
    let text = std::str::from_utf8(record).ok();
    let line = RejectLine {
        at: chrono::Utc::now(),
        instance: Instance::try_from("sandbox-1".to_owned()).unwrap(),
        // As an earlier version wrote them.
        code: None,
        reason: "the schema of then".to_owned(),
        record: text.map(str::to_owned),
        record_base64: text.is_none().then(|| shared::object_store::base64(record)),
        protected: None,
        bytes: None,
        hash: None,
    };
    serde_json::to_string(&line).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_in_every_form_from_every_place_become_published_rows() {
    let world = World::new().await;
    let page = |n: u64| record(&format!("page{n}"), n.is_multiple_of(2).then_some(n));
    // Names that mislead about what is in them.
    let plain = world.write("plain.gz", lines([page(0), String::new(), page(1)]));
    let gz = world.write("two members.csv", [gzip(&lines([page(2)])), gzip(&page(3))].concat());
    let zst = world.write("zstd", zstd::bulk::compress(lines([page(4), page(4)]).as_bytes(), 1).unwrap());
    let excluded = "{\"pageName\":\"x\",\"exclude\":{\"value\":\"yes\"}}".to_owned();
    let rejects =
        [reject(page(5).as_bytes()), reject(b"{\"pageName\":\xff}"), reject(b"still no JSON"), excluded];
    world.write(
        "s3/livestream/Rejected/20260302/a.ndjson.zst",
        zstd::bulk::compress(lines(rejects).as_bytes(), 1).unwrap(),
    );
    world.write("s3/livestream/Rejected/20260302/b.ndjson", page(6));
    world.write("s3/livestream/Replay/where.gz", gzip(&page(7)));
    let s3 = ["s3://livestream/Rejected/20260302/", "s3://livestream/Replay/where.gz"];

    // The producer runs meanwhile, or something that holds its log as it does.
    let settings = Settings::of(&world.config(), &shared::schema::Schema::default());
    let (_running, _) = Log::open(settings, chrono::Utc::now()).unwrap();
    let mut child =
        world.command(&[&plain, &gz, &zst, s3[0], "-", s3[1]]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines([page(8), page(9)]).as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(65), "{said}{wrong}");
    assert!(wrong.contains("error: 2 of 14 records rejected; they stand below `s3.rejected`"), "{wrong}");

    assert_eq!(pages(&world.rows(), "page"), each_once("page", 10));
    assert!(said.contains("records   14 = 10 rows + 1 duplicate + 1 filtered + 2 rejected\n"), "{said}");
    assert!(said.contains("filtered  1 by excluded\n"), "{said}");
    assert!(said.contains("rejected  1 as not_json\nrejected  1 as not_utf8\n"), "{said}");
    assert!(said.contains("batches   1 published\n"), "{said}");
    fs::remove_dir_all(world.path("s3/livestream/Rejected/20260302")).unwrap();
    let again = world.rejects();
    assert_eq!(
        again[0].record_base64.as_deref(),
        Some(shared::object_store::base64(b"{\"pageName\":\xff}").as_str())
    );
    assert_eq!(again[1].record.as_deref(), Some("still no JSON"));
    let codes: Vec<_> = again.iter().map(|line| line.code.as_deref()).collect();
    assert_eq!(codes, [Some("not_utf8"), Some("not_json")]);
    assert!(again.len() == 2 && again.iter().all(|line| line.instance.to_string() == "sandbox-1-replay"));

    // The run ended, so the same files are read anew: hits are known for a while, records without id are not.
    let said = world.replay(&[&plain, &gz], 0);
    assert!(said.contains("records   4 = 2 rows + 2 duplicates + 0 filtered + 0 rejected\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_again_and_again_takes_in_everything_once() {
    const RECORDS: u64 = 40_000;
    let world = World::new().await;
    let text = |from: u64, to: u64| lines((from..to).map(|n| record(&format!("page{n}"), None)));
    let files = [
        world.write("one", text(0, RECORDS / 2)),
        world.write("two", zstd::bulk::compress(text(RECORDS / 2, RECORDS - 5).as_bytes(), 1).unwrap()),
        world.write("three", gzip(&text(RECORDS - 5, RECORDS))),
    ];
    let mut files: Vec<_> = files.iter().map(String::as_str).collect();
    let mut published = 0;
    for _ in 0..4 {
        let mut child = world.start(&files);
        let begun = Instant::now();
        while world.keys("ToIngest").len() < published + 30 && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        published = world.keys("ToIngest").len();
        // Another order is no other run.
        files.rotate_left(1);
    }
    let said = world.replay(&files, 0);
    assert!(said.contains("skipped  "), "{said}");
    assert_eq!(pages(&world.rows(), "page"), each_once("page", RECORDS), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_says_so_and_the_same_command_ends_it() {
    let world = World::new().await;
    let mut child = world.command(&["-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines((0..1000).map(|n| record(&format!("page{n}"), Some(n)))).as_bytes()).unwrap();
    let begun = Instant::now();
    while world.keys("ToIngest").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(75), "{said}");
    assert!(said.contains("stopped before the end; the same command goes on where this one was"), "{said}");
    drop(stdin);
    // What comes from standard input is known by its hit ids.
    let all = world.write("all", lines((0..1000).map(|n| record(&format!("page{n}"), Some(n)))));
    world.replay(&[&all], 0);
    assert_eq!(pages(&world.rows(), "page"), each_once("page", 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_replayed_is_told_by_its_code() {
    let world = World::new().await;
    let good = world.write("good", record("page0", None));
    for (args, code, told) in [
        (vec![good.as_str(), "/none/such"], 66, "/none/such: No such file"),
        (vec![&good, "s3://livestream/Replay/none"], 66, "s3://livestream"),
        (
            vec![&good, "s3://livestream/Replay/none/"],
            66,
            "there is nothing below s3://livestream/Replay/none/",
        ),
        (vec![&good, "s3://livestream"], 64, "names no object"),
        (vec![], 64, "<FILE>"),
    ] {
        let said = world.replay(&args, code);
        assert!(said.contains(told) || code == 66 && args[1] == "s3://livestream/Replay/none", "{said}");
        assert!(!world.path("producer").exists() && world.keys("").is_empty(), "nothing was begun");
    }
    // A damaged file does not keep the others from being read, and none of them is read twice.
    let mut cut = gzip(&lines((1..2001).map(|n| record(&format!("page{n}"), None))));
    cut.truncate(cut.len() - 9);
    let cut = world.write("cut.gz", cut);
    let last = world.write("last", record("page9999", None));
    let said = world.replay(&[&good, &cut, &last], 65);
    assert!(said.contains(&format!("error: {cut} is damaged after")) && said.contains("batches"), "{said}");
    let rows = world.rows();
    assert!(pages(&rows, "page").contains_key("page9999") && rows.len() > 1000);
    let said = world.replay(&[&cut], 65);
    assert!(said.contains("records   0 =") && said.contains("skipped  "), "{said}");
    assert_eq!(world.rows(), rows);
    let said = world.replay(&["--from-start", &cut], 65);
    assert!(!said.contains("skipped  ") && world.rows().len() == 2 * rows.len() - 2, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_in_no_order_of_time_and_every_hit_of_them_is_taken_in() {
    let world = World::new().await;
    // A hit each ten seconds of the same day in both.
    let day = |file: u64| {
        lines((0..8_640).map(move |n| {
            let (id, at) = (file * 100_000 + n, 1_777_593_600 + 10 * n);
            format!(
                "{{\"receivedTimeGMT\":{at},\"pageName\":\"page{id}\",\"hitIdHigh\":\"7\",\"hitIdLow\":\"{id}\"}}"
            )
        }))
    };
    let (one, two) = (world.write("one", day(1)), world.write("two", day(2)));
    let said = world.replay(&[&one, &two], 0);
    assert!(said.contains("records   17,280 = 17,280 rows + 0 duplicates"), "{said}");
}
