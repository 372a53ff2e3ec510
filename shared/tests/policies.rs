//! The policies of `deploy/` allow every key that the programs touch, and nothing that they need not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::content::Content;
use shared::ids::{BatchId, Instance};
use shared::layout::{self, Compression, IDENTITY, MANIFEST, SEAL};

const BUCKET: &str = "arn:aws:s3:::example-livestream";
const GET: &str = "s3:GetObject";
const PUT: &str = "s3:PutObject";
const DELETE: &str = "s3:DeleteObject";
const LIST: &str = "s3:ListBucket";

struct Policy {
    name: &'static str,
    statements: Vec<Value>,
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(texts) => texts.iter().map(|text| text.as_str().unwrap()).collect(),
        other => panic!("{other}"),
    }
}

/// As IAM compares: `*` stands for any characters, also for `/`.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|after| {
            after.char_indices().map(|(at, _)| at).chain([after.len()]).any(|at| fits(rest, &after[at..]))
        }),
    }
}

impl Policy {
    fn read(name: &'static str) -> Self {
        let path = format!("{}/../deploy/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let policy: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let statements = policy["Statement"].as_array().unwrap().clone();
        assert!(statements.iter().all(|statement| statement["Effect"] == "Allow"), "{name}");
        Self { name, statements }
    }

    fn allows(&self, action: &str, resource: &str) -> bool {
        self.statements.iter().any(|statement| {
            texts(&statement["Action"]).iter().any(|pattern| fits(pattern, action))
                && texts(&statement["Resource"]).iter().any(|pattern| fits(pattern, resource))
        })
    }

    fn must_allow(&self, actions: &[&str], keys: &[String]) {
        for (action, key) in actions.iter().flat_map(|action| keys.iter().map(move |key| (action, key))) {
            assert!(self.allows(action, &format!("{BUCKET}/{key}")), "{} lacks {action} of {key}", self.name);
        }
    }

    fn must_not_allow(&self, actions: &[&str], keys: &[String]) {
        for (action, key) in actions.iter().flat_map(|action| keys.iter().map(move |key| (action, key))) {
            assert!(
                !self.allows(action, &format!("{BUCKET}/{key}")),
                "{} needs no {action} of {key}",
                self.name
            );
        }
    }
}

/// Everything that a batch consists of, below a prefix.
fn batch(prefix: &str) -> Vec<String> {
    let folder = layout::folder(prefix, BatchId::new());
    let files = [Compression::Zstd, Compression::Gzip, Compression::None].map(|c| layout::file_name(7, c));
    files.iter().map(String::as_str).chain([MANIFEST, SEAL]).map(|name| format!("{folder}{name}")).collect()
}

fn probe(prefix: &str, who: impl std::fmt::Display) -> Vec<String> {
    vec![format!("{prefix}{}", layout::probe_name(who))]
}

fn identity(prefix: &str) -> Vec<String> {
    vec![format!("{prefix}{IDENTITY}")]
}

/// Sets of refused rows, and what a search for them writes.
fn quarantine() -> Vec<String> {
    let folder = layout::folder("Quarantine/", BatchId::new());
    let names =
        ["rows.csv.zst", "reasons.ndjson", "quarantine.json"].map(|name| format!("0123456789abcdef/{name}"));
    let search =
        ["sift/0-0123456789abcdef.csv.zst", "sift/manifest-0123456789abcdef.json"].map(str::to_owned);
    names.into_iter().chain(search).map(|name| format!("{folder}{name}")).collect()
}

fn loads() -> Vec<String> {
    vec![format!("Loads/{}-{}.json", BatchId::new(), "0".repeat(32))]
}

fn instance() -> Instance {
    Instance::try_from("web-1".to_owned()).unwrap()
}

fn rejects() -> Vec<String> {
    vec![layout::rejects_key("Rejected/", DateTime::<Utc>::UNIX_EPOCH, &instance(), 1, Content::of_rows(b""))]
}

#[test]
fn the_producer_writes_batches_and_rejects_and_cleans_up_after_its_check() {
    let policy = Policy::read("iam-producer");
    policy.must_allow(&[PUT], &[batch("ToIngest/"), rejects()].concat());
    policy.must_allow(&[PUT, GET, DELETE], &probe("ToIngest/", instance()));
    policy.must_not_allow(&[GET, DELETE], &[batch("ToIngest/"), rejects()].concat());
    policy.must_not_allow(&[PUT, GET, DELETE], &[batch("Ingested/"), quarantine(), loads()].concat());
}

#[test]
fn the_ingester_loads_archives_and_quarantines_and_cleans_up_after_its_check() {
    let policy = Policy::read("iam-ingester");
    assert!(policy.allows(LIST, BUCKET));
    policy.must_allow(&[GET, DELETE], &batch("ToIngest/"));
    policy.must_allow(&[GET, PUT], &batch("Ingested/"));
    policy.must_allow(&[GET, PUT, DELETE], &quarantine());
    policy.must_allow(&[PUT, DELETE], &loads());
    for prefix in ["ToIngest/", "Ingested/", "Quarantine/"] {
        policy.must_allow(&[GET, PUT], &identity(prefix));
    }
    let pid = std::process::id();
    policy.must_allow(&[PUT, GET, DELETE], &[probe("ToIngest/", pid), probe("Quarantine/", pid)].concat());
    policy.must_allow(&[PUT, DELETE], &[probe("Loads/", pid), probe("Ingested/", pid)].concat());
    policy.must_not_allow(&[PUT], &batch("ToIngest/"));
    policy.must_not_allow(&[DELETE], &batch("Ingested/"));
    policy.must_not_allow(&[GET, PUT, DELETE], &rejects());
}

#[test]
fn an_operator_adopts_replays_and_puts_away() {
    let policy = Policy::read("iam-operator");
    assert!(policy.allows(LIST, BUCKET));
    policy.must_allow(&[GET, PUT, DELETE], &[batch("ToIngest/"), quarantine()].concat());
    policy.must_allow(&[GET, PUT], &batch("Ingested/"));
    for prefix in ["ToIngest/", "Ingested/", "Quarantine/"] {
        policy.must_allow(&[GET], &identity(prefix));
    }
    policy.must_not_allow(&[DELETE], &batch("Ingested/"));
}

#[test]
fn redshift_reads_what_copy_names() {
    let policy = Policy::read("iam-copy-role");
    assert!(policy.allows(LIST, BUCKET));
    policy.must_allow(&[GET], &[batch("ToIngest/"), quarantine(), loads()].concat());
    policy.must_not_allow(&[PUT, DELETE], &[batch("ToIngest/"), quarantine(), loads()].concat());
}

#[test]
fn a_pattern_fits_as_iam_compares() {
    assert!(fits("a/*", "a/b/c") && fits("a*c", "abcbc") && fits("*", ""));
    assert!(!fits("a/*", "b/a/") && !fits("a", "ab") && !fits("a*c", "ab"));
}
