//! The policies of `deploy/` allow every key that the programs touch, and nothing that they need not. That they allow
//! every call is seen in every scenario: the store refuses what they do not allow.

use chrono::{DateTime, Utc};
use sandbox::s3::access::{ARN, Policy, fits};
use shared::content::Content;
use shared::ids::{BatchId, Instance};
use shared::layout::{self, Compression, IDENTITY, MANIFEST, SEAL};

const GET: &str = "s3:GetObject";
const PUT: &str = "s3:PutObject";
const DELETE: &str = "s3:DeleteObject";
const LIST: &str = "s3:ListBucket";

/// A policy of `deploy/`, asked about many keys.
struct Rules(Policy);

impl Rules {
    fn of(name: &str) -> Self {
        let policy = Policy::read(name);
        assert_eq!(policy.name(), name);
        Self(policy)
    }

    fn first(&self, actions: &[&str], keys: &[String], allowed: bool) -> Option<String> {
        let all = actions.iter().flat_map(|action| keys.iter().map(move |key| (action, key)));
        let mut of_these =
            all.filter(|(action, key)| self.0.allows(action, &format!("{ARN}/{key}")) == allowed);
        of_these.next().map(|(action, key)| format!("{action} of {key}"))
    }

    fn must_allow(&self, actions: &[&str], keys: &[String]) {
        assert_eq!(self.first(actions, keys, false), None, "{} lacks it", self.0.name());
    }

    fn must_not_allow(&self, actions: &[&str], keys: &[String]) {
        assert_eq!(self.first(actions, keys, true), None, "{} needs it not", self.0.name());
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
    let policy = Rules::of("iam-producer");
    policy.must_allow(&[PUT], &[batch("ToIngest/"), rejects()].concat());
    policy.must_allow(&[PUT, GET, DELETE], &probe("ToIngest/", instance()));
    policy.must_not_allow(&[GET, DELETE], &[batch("ToIngest/"), rejects()].concat());
    policy.must_not_allow(&[PUT, GET, DELETE], &[batch("Ingested/"), quarantine(), loads()].concat());
}

#[test]
fn the_ingester_loads_archives_and_quarantines_and_cleans_up_after_its_check() {
    let policy = Rules::of("iam-ingester");
    assert!(policy.0.allows(LIST, ARN));
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
fn a_replay_reads_rejects_and_writes_what_the_producer_writes() {
    let policy = Rules::of("iam-replay");
    assert!(policy.0.allows(LIST, ARN));
    policy.must_allow(&[PUT], &[batch("ToIngest/"), rejects()].concat());
    policy.must_allow(&[GET], &[rejects(), vec!["Replay/hits.ndjson.gz".to_owned()]].concat());
    policy.must_not_allow(&[DELETE], &[batch("ToIngest/"), rejects()].concat());
    policy.must_not_allow(&[PUT, GET, DELETE], &[batch("Ingested/"), quarantine(), loads()].concat());
}

#[test]
fn an_operator_adopts_replays_and_puts_away() {
    let policy = Rules::of("iam-operator");
    assert!(policy.0.allows(LIST, ARN));
    policy.must_allow(&[GET, PUT, DELETE], &[batch("ToIngest/"), quarantine()].concat());
    policy.must_allow(&[GET, PUT], &batch("Ingested/"));
    for prefix in ["ToIngest/", "Ingested/", "Quarantine/"] {
        policy.must_allow(&[GET], &identity(prefix));
    }
    policy.must_not_allow(&[DELETE], &batch("Ingested/"));
}

#[test]
fn who_may_forget_writes_and_deletes_what_is_kept_and_loads_nothing() {
    let policy = Rules::of("iam-forget");
    assert!(policy.0.allows(LIST, ARN));
    let kept = [batch("ToIngest/"), batch("Ingested/"), quarantine(), rejects()].concat();
    policy.must_allow(&[GET, PUT, DELETE], &kept);
    policy.must_not_allow(&[GET, PUT, DELETE], &loads());
}

#[test]
fn redshift_reads_what_copy_names() {
    let policy = Rules::of("iam-copy-role");
    assert!(policy.0.allows(LIST, ARN));
    policy.must_allow(&[GET], &[batch("ToIngest/"), quarantine(), loads()].concat());
    policy.must_not_allow(&[PUT, DELETE], &[batch("ToIngest/"), quarantine(), loads()].concat());
}

#[test]
fn a_pattern_fits_as_iam_compares() {
    assert!(fits("a/*", "a/b/c") && fits("a*c", "abcbc") && fits("*", ""));
    assert!(!fits("a/*", "b/a/") && !fits("a", "ab") && !fits("a*c", "ab"));
}

#[test]
fn what_only_some_buckets_need_is_apart_and_says_no_more() {
    let acl = Rules::of("iam-acl");
    acl.must_allow(&["s3:PutObjectAcl"], &batch("ToIngest/"));
    acl.must_not_allow(&[GET, PUT, DELETE], &batch("ToIngest/"));
    let key = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000";
    let (programs, copy) = (Policy::read("iam-kms"), Policy::read("iam-kms-copy-role"));
    assert!(programs.allows("kms:GenerateDataKey", key) && programs.allows("kms:Decrypt", key));
    let role = "arn:aws:iam::123456789012:role/livestream-producer";
    assert!(Policy::read("iam-assume-role").allows("sts:AssumeRole", role));
    assert!(copy.allows("kms:Decrypt", key) && !copy.allows("kms:GenerateDataKey", key));
}
