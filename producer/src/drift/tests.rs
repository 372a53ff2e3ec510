//! Streams of the stand-in, long and changed on the way: what is told, and that nothing else is.

mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use adobe::{Generator, Plan};
use serde_json::Value;
use shared::clock::Clock;
use shared::schema::Schema;
use state::status::drift::{DriftKind, DriftSnapshot, Drifted};

use super::Drift;
use crate::counters::Counters;
use crate::transform::{Filter, FilterTest, Transform};

/// Rows after which a change is told.
const WITHIN: u64 = 10_000;
/// Rows of a block, as the decoder makes them.
const BLOCK: u64 = 256;

struct Stream {
    generator: Generator,
    transform: Transform,
    counters: Counters,
    clock: Clock,
    next: u64,
}

impl Stream {
    fn new(schema: &Schema, release_from: Option<u64>) -> Self {
        // Which rows are samples.
        fastrand::seed(7);
        let plan = Plan { hits: u64::MAX, release_from, seed: 3, ..Plan::default() };
        let clock = Clock::by_hand("2026-04-13T12:00:00Z".parse().unwrap());
        let transform = Transform::new(schema, &[]).unwrap().with_tally(schema, false);
        let counters = Counters::new(&[]).with_drift(Drift::new(clock.clone()));
        Self { generator: Generator::new(plan), transform, counters, clock, next: 0 }
    }

    /// Passes rows until there are so many.
    fn until(&mut self, rows: u64) -> &mut Self {
        let (mut line, mut row) = (Vec::new(), Vec::new());
        while self.next < rows {
            line.clear();
            row.clear();
            self.generator.write_hit(self.next, &mut line);
            self.transform.record(line.trim_ascii_end(), &mut row);
            self.next += 1;
            if self.next.is_multiple_of(BLOCK) {
                self.counters.take(&mut self.transform);
                self.clock.advance(Duration::from_secs(1));
            }
        }
        self
    }

    fn told(&self) -> DriftSnapshot {
        self.counters.drift.snapshot()
    }

    /// How many values of each eVar have exactly 255 bytes, of these hits.
    fn at_255(&self, hits: std::ops::Range<u64>) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        let mut line = Vec::new();
        for index in hits {
            line.clear();
            self.generator.write_hit(index, &mut line);
            let record: Value = serde_json::from_slice(&line).unwrap();
            for (name, value) in record["evars"]["evars"].as_object().unwrap() {
                if value.as_str().is_some_and(|text| text.len() == 255) {
                    *counts.entry(name.to_lowercase()).or_default() += 1;
                }
            }
        }
        counts
    }
}

fn of(drifted: &[Drifted], kind: DriftKind) -> BTreeSet<&str> {
    drifted.iter().filter(|one| one.kind == kind).map(|one| one.field.as_str()).collect()
}

/// Fails unless just what the release changed is told: the agent, and the eVars that were cut often enough to tell.
#[track_caller]
fn assert_the_release(stream: &Stream, from: u64) {
    let told = stream.told();
    assert_eq!(of(&told.drifted, DriftKind::FilledLess), BTreeSet::from(["useragent"]), "{told:?}");
    let cut = stream.at_255(from..stream.next);
    let evars = of(&told.drifted, DriftKind::At255Bytes);
    for evar in &evars {
        assert!(cut.get(*evar).is_some_and(|times| *times >= 5), "{evar} was cut {:?} times", cut.get(*evar));
    }
    let often: Vec<_> =
        cut.iter().filter(|(_, times)| **times >= 16).map(|(evar, _)| evar.as_str()).collect();
    assert!(often.len() >= 3 && often.iter().all(|evar| evars.contains(evar)), "{often:?} and {evars:?}");
    assert_eq!(told.drifted.len(), evars.len() + 1, "nothing else: {told:?}");
}

fn schema_of_75() -> Schema {
    let all = Schema::default().columns;
    let number =
        |name: &str, prefix: &str| name.strip_prefix(prefix).and_then(|rest| rest.parse::<u32>().ok());
    let few = |name: &str| {
        number(name, "evar").is_some_and(|n| n <= 25) || number(name, "prop").is_some_and(|n| n <= 12)
    };
    let (general, rest) = all.split_at(38);
    let rest = rest.iter().filter(|column| few(&column.name));
    Schema::new(general.iter().chain(rest).cloned().collect(), "test").unwrap()
}

#[test]
fn the_release_of_2026_04_13_is_told_within_10_000_rows_and_nothing_else() {
    for schema in [schema_of_75(), Schema::default()] {
        let from = 40_000;
        let mut stream = Stream::new(&schema, Some(from));
        let before = stream.until(from).told();
        assert_eq!((before.learning, before.drifted), (false, vec![]));
        stream.until(from + WITHIN);
        assert_the_release(&stream, from);
        let agent = stream.told().drifted.into_iter().find(|one| one.field == "useragent").unwrap();
        assert!(agent.before > 0.999 && agent.now < 0.95, "{agent:?}");
        assert!((1..=3).contains(&stream.told().rounds), "{}", stream.told().rounds);
    }
}

#[test]
fn a_long_stream_that_stays_as_it_is_raises_nothing() {
    for (schema, rows) in [(schema_of_75(), 400_000), (Schema::default(), 200_000)] {
        let mut stream = Stream::new(&schema, None);
        let told = stream.until(rows).told();
        assert_eq!((told.drifted, told.since_start.len(), told.learning), (vec![], 0, false));
        assert!(told.fields_in_no_column > 0 && told.fields_in_no_column <= 512);
    }
}

#[test]
fn a_restart_goes_on_with_what_was_usual_and_tells_nothing_twice() {
    let (dir, schema, from) = (tempfile::tempdir().unwrap(), schema_of_75(), 40_000);
    let mut stream = Stream::new(&schema, Some(from));
    stream.until(from - 1_000).counters.drift.write(dir.path()).unwrap();
    // Killed without a word: what was counted since is lost, and the stream has changed meanwhile.
    let again = |stream: Stream| {
        let counters = Counters::new(&[]).with_drift(Drift::open(
            dir.path(),
            stream.transform.columns(),
            stream.clock.clone(),
        ));
        let transform = Transform::new(&schema, &[]).unwrap().with_tally(&schema, false);
        Stream { counters, transform, ..stream }
    };
    stream.until(from + 1_000);
    let mut stream = again(stream);
    assert_eq!(stream.told().drifted, []);
    stream.until(from + 1_000 + WITHIN);
    assert_the_release(&stream, from + 1_000);

    let told = stream.told();
    stream.counters.drift.write(dir.path()).unwrap();
    let mut stream = again(stream);
    let after = stream.told();
    assert_eq!((&after.drifted, after.rounds), (&told.drifted, told.rounds), "it stands");
    let rows = stream.next;
    stream.until(rows + 20_000);
    assert_eq!(of(&stream.told().drifted, DriftKind::FilledLess).len(), 1);
    assert_eq!(stream.told().since_start.get(&DriftKind::FilledLess), None, "it is told no second time");
    stream.clock.advance(Duration::from_hours(25));
    assert_eq!(stream.told().drifted, [], "after a day it is what is usual");
}

#[test]
fn another_schema_goes_on_with_the_columns_that_are_the_same() {
    let (mut schema, from) = (schema_of_75(), 40_000);
    let mut stream = Stream::new(&schema, Some(from));
    stream.until(from - BLOCK);
    schema.columns.retain(|column| column.name != "evar2");
    let evar3 = schema.position("evar3").unwrap();
    schema.columns[evar3].sql_type = shared::schema::SqlType::Varchar(300);
    stream.transform = Transform::new(&schema, &[]).unwrap().with_tally(&schema, false);
    stream.until(from + WITHIN);
    let told = stream.told().drifted;
    assert_eq!(of(&told, DriftKind::FilledLess), BTreeSet::from(["useragent"]));
    let evars = of(&told, DriftKind::At255Bytes);
    assert!(evars.contains("evar1") && !evars.contains("evar2") && !evars.contains("evar3"), "{told:?}");
    // What has no column any more is no field that came.
    assert_eq!(of(&told, DriftKind::NewField), BTreeSet::new());
}

#[test]
fn other_filters_let_other_rows_through_and_everything_is_learned_anew() {
    let schema = schema_of_75();
    let mut stream = Stream::new(&schema, None);
    stream.until(40_000);
    let path = "userAgent".to_owned();
    let filters = [Filter { name: "a".to_owned(), path, test: FilterTest::Absent }];
    stream.transform = Transform::new(&schema, &filters).unwrap().with_tally(&schema, false);
    let told = stream.until(41_024).told();
    assert!(told.learning && told.drifted.is_empty() && told.rows > 40_000, "{told:?}");
}

#[test]
fn what_is_noted_after_a_short_run_counts_for_the_next() {
    let (dir, schema) = (tempfile::tempdir().unwrap(), schema_of_75());
    let mut stream = Stream::new(&schema, None);
    for run in 1..=6 {
        assert!(stream.told().learning, "{run}");
        stream.until(run * 4_096).counters.drift.write(dir.path()).unwrap();
        let drift = Drift::open(dir.path(), stream.transform.columns(), stream.clock.clone());
        stream.counters = Counters::new(&[]).with_drift(drift);
        let seen = stream.counters.drift.seen();
        assert!(seen.fields.iter().any(|field| field.column.as_deref() == Some("useragent")), "{run}");
    }
    assert!(!stream.told().learning);
}

#[test]
fn a_column_is_filled_when_its_cell_is_written() {
    let text = "[[column]]\nname = 'n'\npath = 'n'\nkind = 'integer'\ntype = 'smallint'\nrule = 'null'";
    let schema = Schema::from_toml_on(&Schema::default(), text, "t").unwrap();
    let mut transform = Transform::new(&schema, &[]).unwrap().with_tally(&schema, true);
    for record in ["{\"n\":1}", "{\"n\":\"none\"}", "{\"n\":2}"] {
        transform.record(record.as_bytes(), &mut Vec::new());
    }
    let mut filled = Vec::new();
    transform.drain_tally(1, |taken| filled = taken.filled.to_vec());
    assert_eq!(filled, [2]);
}
