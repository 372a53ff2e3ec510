//! The verdict: what was sent, by the stand-in that sent it, against what stands in S3 and the gaps in the log.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use adobe::Adobe;
use sandbox::s3::BUCKET;
use shared::layout::SEAL;
use shared::seal::{Compared, Seal};

/// What the producer left.
pub(crate) struct Found {
    /// The hits that stand in S3.
    known: HashSet<(u64, u64)>,
    /// Rows that an earlier batch or row has too.
    again: u64,
    /// What is wrong with such rows: batches that have more of them than rows they call uncompared.
    unsaid: Vec<String>,
    /// The gaps on record, Unix seconds.
    gaps: Vec<RangeInclusive<i64>>,
    totals: serde_json::Value,
    /// Connections the log keeps account of, and those among its sessions that brought records.
    pub(crate) connections: (u64, usize),
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} distinct hits in S3, {} rows again, {} gaps; {}",
            self.known.len(),
            self.again,
            self.gaps.len(),
            self.totals
        )
    }
}

impl Found {
    /// Reads the rows below `s3` and the answer of `state dump --json`.
    pub(crate) fn read(s3: &Path, dump: &[u8]) -> Self {
        let dump: serde_json::Value = serde_json::from_slice(dump).unwrap();
        let log = &dump["producer"]["snapshot"];
        let second = |time: &serde_json::Value| {
            chrono::DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap().timestamp()
        };
        let gaps = log["gaps"]["list"].as_array().unwrap().iter();
        let mut found = Self {
            known: HashSet::new(),
            again: 0,
            unsaid: Vec::new(),
            gaps: gaps.map(|gap| second(&gap["from"])..=second(&gap["to"])).collect(),
            connections: (0, 0),
            totals: serde_json::json!({ "records": log["totals"], "dedup": log["dedup"] }),
        };
        let sessions = log["sessions"].as_array().unwrap().iter();
        let bringing = sessions.filter(|session| session["records"].as_u64() > Some(0));
        let brought: HashSet<_> = bringing.filter_map(|session| session["connection"].as_u64()).collect();
        found.connections = (log["connections"].as_u64().unwrap(), brought.len());
        let mut batches = Vec::new();
        read_batches(&s3.join(BUCKET).join("ToIngest"), &mut batches);
        batches.sort_by_key(|batch| batch.compared.number);
        batches.iter().for_each(|batch| found.add(batch));
        found
    }

    fn add(&mut self, batch: &Batch) {
        let again = batch.hits.iter().filter(|hit| !self.known.insert(**hit)).count() as u64;
        self.again += again;
        let Compared { number, uncompared, .. } = &batch.compared;
        if again > *uncompared {
            self.unsaid.push(format!("batch {number}: {again} rows again, {uncompared} uncompared"));
        }
    }

    /// Every hit sent stands there, or a gap on record says why not; and every gap the script caused is on record, and no
    /// other. What stands there twice was not compared, and the seals say so.
    pub(crate) fn judge(&self, adobe: &Adobe) {
        let generator = adobe.generator();
        let late = i64::try_from(generator.plan().late_seconds).unwrap();
        let (mut lost, mut in_gaps, mut known) = (Vec::new(), 0, 0);
        for index in 0..generator.plan().hits {
            if self.known.contains(&generator.hit_id(index)) {
                known += 1;
            } else if adobe.was_sent(index) {
                let at = generator.received_at(index);
                // On its way when the connection broke, and gone from Adobe before the next.
                if self.gaps.iter().any(|gap| gap.start() - late <= at && at <= *gap.end()) {
                    in_gaps += 1;
                } else {
                    lost.push(index);
                }
            }
        }
        println!("{in_gaps} hits were under way when a gap began");
        let first = |indexes: &[u64]| {
            indexes.iter().take(5).map(|index| (*index, generator.received_at(*index))).collect::<Vec<_>>()
        };
        assert!(
            lost.is_empty(),
            "{} lost, such as (index, received) {:?}; gaps {:?}",
            lost.len(),
            first(&lost),
            self.gaps
        );
        assert!(self.unsaid.is_empty(), "{:?}", self.unsaid);
        assert_eq!(known, self.known.len(), "rows that nobody sent");

        let mut unexplained = self.gaps.clone();
        // What lapses at the end of all is followed by nothing.
        for lapse in adobe.lapses().into_iter().filter(|lapse| lapse.end < generator.plan().hits) {
            let (from, to) = (generator.received_at(lapse.start), generator.received_at(lapse.end));
            // A gap begins with what was read last: some was under way, and each time is late by some seconds. It ends
            // with the first record, or with what the plan sends again right after it, of what has lapsed.
            let again = 2_000 / i64::try_from(generator.plan().hits_per_second).unwrap();
            let fits = |gap: &RangeInclusive<i64>| {
                (from - 60..=from + late).contains(gap.start())
                    && (to - late - again..=to + late).contains(gap.end())
            };
            let place = unexplained.iter().position(fits);
            let place = place.unwrap_or_else(|| panic!("no gap on record for {from}..{to}: {:?}", self.gaps));
            unexplained.remove(place);
        }
        assert!(unexplained.is_empty(), "gaps that nobody caused: {unexplained:?}");
    }
}

/// A batch in S3.
struct Batch {
    compared: Compared,
    hits: Vec<(u64, u64)>,
}

/// Reads every folder that is sealed; there is none without seal.
fn read_batches(folder: &Path, batches: &mut Vec<Batch>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            read_batches(&path, batches);
        } else if path.ends_with(SEAL) {
            let seal: Seal = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let hits = seal.files.iter().flat_map(|file| hits(&path.with_file_name(&file.name))).collect();
            batches.push(Batch { compared: seal.compared.unwrap(), hits });
        }
    }
}

fn hits(file: &Path) -> Vec<(u64, u64)> {
    let rows = zstd::decode_all(fs::File::open(file).unwrap()).unwrap();
    let hit = |row: &str| {
        let mut values = row.split('~').map(|value| value.trim_matches('"').parse().unwrap_or(0));
        (values.next().unwrap(), values.next().unwrap())
    };
    std::str::from_utf8(&rows).unwrap().lines().map(hit).collect()
}
