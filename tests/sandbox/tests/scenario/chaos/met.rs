//! Whether a campaign met what it is there for: every kind of fault, and the rare ways through the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::operator;

/// Kinds of fault at least, whichever statement or request they strike.
const KINDS: usize = 30;
/// What a neighbour's faults are called, without the statement or request. Each was met.
const REDSHIFT: [&str; 13] = [
    "refused",
    "applied then lost",
    "slow",
    "held",
    "orphan, commit",
    "orphan, rollback",
    "fails: 1023",
    "fails: conflict",
    "fails: resize",
    "fails: disk full",
    "fails: s3 503",
    "fails: s3 403",
    "fails: text",
];
const S3: [&str; 8] =
    ["slowdown", "internalerror", "accessdenied", "cut", "cut body", "applied then lost", "slow", "held"];
const ADOBE: [&str; 10] = [
    "cut",
    "end",
    "stall",
    "garbage",
    "not authorized",
    "expired token",
    "ims refuses",
    "front refuses",
    "stream refuses",
    "replay",
];
const SERVICES: [&str; 4] = ["producer killed", "ingester killed", "producer halted", "ingester halted"];
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

/// How often each kind of fault struck: of each neighbour by what it was, then what was done to services, and by operators.
pub(super) struct Struck {
    pub(super) redshift: BTreeMap<String, u64>,
    pub(super) s3: BTreeMap<String, u64>,
    pub(super) adobe: BTreeMap<String, u64>,
    pub(super) services: BTreeMap<String, u64>,
    pub(super) operators: BTreeMap<String, u64>,
}

impl Struck {
    /// Each group by its name, and whether it is of faults.
    pub(super) fn groups(&self) -> [(&'static str, &BTreeMap<String, u64>, bool); 5] {
        [
            ("Redshift", &self.redshift, true),
            ("S3", &self.s3, true),
            ("Adobe", &self.adobe, true),
            ("services", &self.services, true),
            ("operators", &self.operators, false),
        ]
    }

    /// What was never met.
    pub(super) fn missing(&self, rare: &BTreeMap<&'static str, usize>) -> Vec<String> {
        let sides = |group: &BTreeMap<String, u64>| -> BTreeSet<String> {
            group.keys().filter_map(|name| Some(name.split_once(' ')?.1.to_owned())).collect()
        };
        let whole = |group: &BTreeMap<String, u64>| group.keys().cloned().collect::<BTreeSet<_>>();
        let operators: Vec<_> = operator::all().collect();
        let groups: [(&str, BTreeSet<String>, &[&str]); 5] = [
            ("Redshift", sides(&self.redshift), &REDSHIFT),
            ("S3", sides(&self.s3), &S3),
            ("Adobe", whole(&self.adobe), &ADOBE),
            ("services", whole(&self.services), &SERVICES),
            ("operators", whole(&self.operators), &operators),
        ];
        let mut missing = Vec::new();
        for (group, met, wanted) in &groups {
            let never = wanted.iter().filter(|name| !met.contains(**name));
            missing.extend(never.map(|name| format!("{group}: {name}")));
        }
        missing
            .extend(rare.iter().filter(|(_, times)| **times == 0).map(|(words, _)| format!("\"{words}\"")));
        let kinds: usize = groups[..4].iter().map(|(_, met, _)| met.len()).sum();
        if kinds < KINDS {
            missing.push(format!("{} kinds of fault more", KINDS - kinds));
        }
        missing
    }
}
