//! The verdict: what was sent, by the stand-in that sent it, against what stands in S3 and the gaps in the log.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use adobe::Adobe;
use sandbox::s3::BUCKET;

/// What the producer left.
pub(crate) struct Found {
    /// How often each hit stands in S3.
    times: HashMap<(u64, u64), u32>,
    /// The gaps on record, Unix seconds.
    gaps: Vec<RangeInclusive<i64>>,
    totals: serde_json::Value,
    /// Connections the log keeps account of, and those among its sessions that brought records.
    pub(crate) connections: (u64, usize),
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} distinct hits in S3, {} gaps; {}", self.times.len(), self.gaps.len(), self.totals)
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
            times: HashMap::new(),
            gaps: gaps.map(|gap| second(&gap["from"])..=second(&gap["to"])).collect(),
            connections: (0, 0),
            totals: serde_json::json!({ "records": log["totals"], "dedup": log["dedup"] }),
        };
        let sessions = log["sessions"].as_array().unwrap().iter();
        let bringing = sessions.filter(|session| session["records"].as_u64() > Some(0));
        let brought: HashSet<_> = bringing.filter_map(|session| session["connection"].as_u64()).collect();
        found.connections = (log["connections"].as_u64().unwrap(), brought.len());
        found.read_rows(&s3.join(BUCKET).join("ToIngest"));
        found
    }

    fn read_rows(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                self.read_rows(&entry.path());
            } else if entry.file_name().to_string_lossy().ends_with(".csv.zst") {
                let rows = zstd::decode_all(fs::File::open(entry.path()).unwrap()).unwrap();
                for row in std::str::from_utf8(&rows).unwrap().lines() {
                    let mut values = row.split('~').map(|value| value.trim_matches('"').parse().unwrap_or(0));
                    let id = (values.next().unwrap(), values.next().unwrap());
                    *self.times.entry(id).or_default() += 1;
                }
            }
        }
    }

    /// Every hit sent stands there once, or a gap on record says why not; and every gap the script caused is on
    /// record, and no other.
    pub(crate) fn judge(&self, adobe: &Adobe) {
        let generator = adobe.generator();
        let late = i64::try_from(generator.plan().late_seconds).unwrap();
        let (mut lost, mut doubled, mut in_gaps, mut known) = (Vec::new(), Vec::new(), 0, 0);
        for index in 0..generator.plan().hits {
            match self.times.get(&generator.hit_id(index)) {
                Some(1) => known += 1,
                Some(_) => {
                    known += 1;
                    doubled.push(index);
                }
                None if !adobe.was_sent(index) => {}
                None => {
                    let at = generator.received_at(index);
                    // On its way when the connection broke, and gone from Adobe before the next.
                    if self.gaps.iter().any(|gap| gap.start() - late <= at && at <= *gap.end()) {
                        in_gaps += 1;
                    } else {
                        lost.push(index);
                    }
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
        assert!(doubled.is_empty(), "{} doubled, such as {:?}", doubled.len(), first(&doubled));
        assert_eq!(known, self.times.len(), "rows that nobody sent");

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
