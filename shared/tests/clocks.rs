//! Whoever asks the wall clock shows a time, writes it down, or compares it with the time of somebody else. Ages and
//! waits are measured with the steady clock (`shared::clock`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The files that ask it, and what for.
const ASK: &[(&str, &str)] = &[
    ("ingester/src/adopt.rs", "how old a folder is, for people; a command that looks once"),
    ("ingester/src/audit.rs", "which days to compare; a command that looks once"),
    ("ingester/src/book.rs", "times in the bookkeeping"),
    ("ingester/src/cli.rs", "since when a pause holds"),
    ("ingester/src/discover.rs", "ids of batches and objects in S3 bear times of other machines"),
    ("ingester/src/ledger.rs", "rows of the ledger bear times; a command that looks once"),
    ("ingester/src/loader.rs", "times in the bookkeeping"),
    ("ingester/src/loader/attempt.rs", "how late a batch was loaded, for people; a time in the bookkeeping"),
    ("ingester/src/pause.rs", "windows are told in times of day"),
    ("ingester/src/reconcile.rs", "which days to compare; windows are told in times of day"),
    ("ingester/src/reconcile/gather.rs", "objects in S3 bear times of S3"),
    ("ingester/src/run.rs", "windows are told in times of day; ages for people"),
    ("ingester/src/warehouse/load.rs", "when a batch was loaded, in its ledger row"),
    ("ingester/src/warehouse/mark.rs", "no ledger row is believed that is from the future"),
    ("ingester/src/warehouse/trim.rs", "no ledger row is believed that is from the future"),
    ("producer/src/connect.rs", "`Retry-After` may be a date"),
    ("producer/src/run.rs", "ages for people"),
    ("producer/src/ship.rs", "the day in the key of rejects"),
    ("producer/src/token.rs", "when a token was given out, in its file"),
    ("producer/src/token/ims.rs", "claims bear a time; `Retry-After` may be a date"),
    ("shared/src/aws.rs", "signatures bear a time"),
    ("shared/src/clock.rs", "the clocks themselves"),
    ("state/src/dump/batch.rs", "ages for people"),
    ("state/src/dump/mod.rs", "ages for people"),
    ("state/src/owners.rs", "windows are told in times of day"),
    ("state/src/pausing.rs", "windows are told in times of day"),
    ("state/src/verify/mod.rs", "when it was verified"),
];

/// Sources, without what only tests compile.
fn sources(dir: &Path, into: &mut Vec<(String, String)>, root: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            sources(&path, into, root);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("\n#[cfg(test)]").next().unwrap().to_owned();
            into.push((path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text));
        }
    }
}

fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = Vec::new();
    for member in ["shared", "state", "producer", "ingester"] {
        sources(&root.join(member).join("src"), &mut all, root);
    }
    assert!(all.len() > 100, "{}", all.len());
    all
}

#[test]
fn every_file_that_asks_the_wall_clock_has_said_what_for() {
    let asks =
        |text: &str| ["Utc::now()", "Local::now()", "SystemTime::now()"].iter().any(|ask| text.contains(ask));
    let found: BTreeSet<String> =
        all().into_iter().filter(|(_, text)| asks(text)).map(|(path, _)| path).collect();
    let said: BTreeSet<String> = ASK.iter().map(|(path, _)| (*path).to_owned()).collect();
    let new: Vec<_> = found.difference(&said).collect();
    assert!(new.is_empty(), "measure ages and waits with shared::clock, or say here what for: {new:?}");
    let gone: Vec<_> = said.difference(&found).collect();
    assert!(gone.is_empty(), "they ask it no longer: {gone:?}");
}

#[test]
fn nobody_counts_from_the_present_of_the_wall_clock_or_hands_it_to_the_log() {
    let counts =
        ["- Utc::now()", "Utc::now() +", "< Utc::now()", "Utc::now() <", "> Utc::now()", "Utc::now() >"];
    for (path, text) in all() {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.contains("Utc::now()")) {
            let counted = counts.iter().any(|count| line.contains(count));
            let logged = line.contains("Log::open(") || line.contains("log.");
            // A bound on what others claim, and no wait.
            let believed = line.contains("AHEAD");
            assert!(believed || !(counted || logged), "{path}:{}: {line}", number + 1);
        }
    }
}
