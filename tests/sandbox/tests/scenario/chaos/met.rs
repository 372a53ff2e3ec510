//! Whether a campaign met what it is there for: every kind of fault, and the rare ways through the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::operator;

/// Kinds of fault at least, each counted by itself.
const KINDS: usize = 30;
/// What a kind of fault is called, or a part of it: each was met.
const FAULTS: [&str; 27] = [
    "refused",
    "applied then lost",
    "slow",
    "orphan",
    "1023",
    "conflict",
    "resize",
    "s3 503",
    "s3 403",
    "text",
    "slowdown",
    "internalerror",
    "accessdenied",
    "cut",
    "held",
    "body",
    "end",
    "stall",
    "garbage",
    "not authorized",
    "expired token",
    "front refuses",
    "stream refuses",
    "replay",
    "producer killed",
    "ingester killed",
    "paused",
];
/// What a service says when it goes a way that is rarely gone.
const RARE: [&str; 13] = [
    "is in the ledger: loaded before",
    "an earlier session of this ingester had not ended at Redshift",
    "loaded, but not archived yet",
    "the stream is damaged: connecting anew",
    "COMMIT was sent and not answered, the ledger will tell",
    "loading them one by one, to find the batch at fault",
    "S3 takes uploads again",
    "S3 cannot be listed or read",
    "new Adobe token",
    "the session ended",
    "loading is paused",
    "configuration reloaded",
    "a column of the schema was added to the table",
];

/// How often each rare way was gone, by what all services said.
pub(super) fn rare(logs: impl Iterator<Item = impl AsRef<Path>>) -> BTreeMap<&'static str, usize> {
    let mut met: BTreeMap<_, _> = RARE.iter().map(|words| (*words, 0)).collect();
    for log in logs {
        let said = fs::read_to_string(log).unwrap();
        met.iter_mut().for_each(|(words, times)| *times += said.matches(*words).count());
    }
    met
}

/// What was never met.
pub(super) fn missing(struck: &BTreeMap<String, u64>, rare: &BTreeMap<&'static str, usize>) -> Vec<String> {
    let met = |words: &str| struck.iter().any(|(name, times)| name.contains(words) && *times > 0);
    let mut missing: Vec<String> =
        FAULTS.into_iter().chain(operator::all()).filter(|name| !met(name)).map(str::to_owned).collect();
    missing.extend(rare.iter().filter(|(_, times)| **times == 0).map(|(words, _)| format!("\"{words}\"")));
    let kinds = struck.values().filter(|times| **times > 0).count();
    if kinds < KINDS {
        missing.push(format!("{} kinds of fault more", KINDS - kinds));
    }
    missing
}
