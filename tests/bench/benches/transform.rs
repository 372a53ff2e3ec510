//! From record to row: ours, the obvious way, and the limits beside them: `cargo bench --workspace --bench transform`.
//!
//! Everything works on the same records in memory, turn by turn. Before that, the rows of the two ways are compared
//! byte by byte.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use adobe::{Generator, Plan};
use bench::{FIVE, median, protecting, schema_of_75, schema_of_400, spread};
use producer::{Counters, Outcome, Transform, identity};
use reference::Reference;
use serde_json::Value;
use shared::schema::Schema;
use state::log::{HitId, KnownHits};

const RECORDS: usize = 4_000;
const TURNS: usize = 15;
/// Records of a block, as the decoder makes them.
const BLOCK: usize = 256;
/// The dearest way, five times.
const PSEUDONYMS: &str = "pseudonym = [\"ip\", \"evar1\", \"evar2\", \"evar3\", \"useragent\"]";

/// Counts what is asked of the allocator.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code, reason = "an allocator has no other form; each call is handed on as it came")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises that System asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Records one after the other, and where each ends.
struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    known: KnownHits,
}

impl Records {
    fn generate() -> Self {
        let generator = Generator::new(Plan { hits: u64::MAX, ..Plan::default() });
        let id = |index| {
            let (high, low) = generator.hit_id(index);
            HitId { high, low }
        };
        let known = (0..RECORDS as u64).map(id).collect();
        let mut records = Self { bytes: Vec::new(), ends: Vec::new(), known };
        for index in 0..RECORDS as u64 {
            generator.write_hit(index, &mut records.bytes);
            records.bytes.truncate(records.bytes.trim_ascii_end().len());
            records.ends.push(records.bytes.len());
        }
        records
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.bytes[std::mem::replace(&mut start, *end)..*end])
    }
}

/// One way over all records, measured again and again.
struct Way<'a> {
    name: &'static str,
    run: Box<dyn FnMut() + 'a>,
    times: Vec<Duration>,
    allocations: u64,
}

impl<'a> Way<'a> {
    fn new(name: &'static str, run: impl FnMut() + 'a) -> Self {
        Self { name, run: Box::new(run), times: Vec::new(), allocations: 0 }
    }
}

fn main() {
    let records = Records::generate();
    let size = records.bytes.len() / RECORDS;
    println!("{RECORDS} generated records of {size} bytes on average, median of {TURNS} turns");
    println!("spread: how far the middle half of the turns lies apart\n");
    println!(
        "{:<32}{:>11}{:>8}{:>14}{:>14}{:>10}{:>8}",
        "", "records/s", "MB/s", "of inflation", "of a Value's", "allocs", "spread"
    );
    for schema in [schema_of_75().unwrap(), schema_of_400().unwrap()] {
        same_rows(&schema, &records);
        measure(&schema, &records);
    }
}

fn measure(schema: &Schema, records: &Records) {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&records.bytes).unwrap();
    let compressed = gzip.finish().unwrap();
    let mut piece = vec![0; 64 << 10];

    let mut transform = Transform::new(schema, &[]).unwrap();
    let mut ours = Vec::new();
    let (mut counted, mut counted_rows) =
        (Transform::new(schema, &[]).unwrap().with_tally(schema, false), Vec::new());
    let counters = Counters::new(&[]);
    let (mut protected, mut rows) = (protecting(schema, FIVE).unwrap(), Vec::new());
    let (mut hidden, mut hidden_rows) = (protecting(schema, PSEUDONYMS).unwrap(), Vec::new());
    let (mut looking, mut again) = (transform.clone(), Vec::new());
    let mut reference = Reference::new(schema, "");
    let mut theirs = Vec::new();
    let (mut buffers, mut scratch) = (simd_json::Buffers::default(), Vec::new());
    let mut ways = [
        Way::new("our transform", || {
            ours.clear();
            for line in records.lines() {
                assert!(matches!(transform.record(line, &mut ours), Outcome::Row { .. }));
            }
        }),
        Way::new("with drift counting", || {
            counted_rows.clear();
            for (number, line) in records.lines().enumerate() {
                assert!(matches!(counted.record(line, &mut counted_rows), Outcome::Row { .. }));
                // As at the end of a block.
                if number % BLOCK == BLOCK - 1 {
                    counters.take(&mut counted);
                }
            }
        }),
        Way::new("five protected fields", || {
            rows.clear();
            for line in records.lines() {
                assert!(matches!(protected.record(line, &mut rows), Outcome::Row { .. }));
            }
        }),
        Way::new("five pseudonyms", || {
            hidden_rows.clear();
            for line in records.lines() {
                assert!(matches!(hidden.record(line, &mut hidden_rows), Outcome::Row { .. }));
            }
        }),
        Way::new("serde_json::Value, same rows", || {
            theirs.clear();
            for line in records.lines() {
                value_way(&mut reference, line, &mut theirs);
            }
        }),
        Way::new("inflating the records", || {
            let mut inflate = flate2::bufread::GzDecoder::new(&*compressed);
            while inflate.read(&mut piece).unwrap() > 0 {
                black_box(&piece);
            }
        }),
        Way::new("records already known", || {
            // As the producer does: what cannot be told at a glance is transformed.
            again.clear();
            for line in records.lines() {
                if !identity(line).is_some_and(|identity| records.known.contains(identity.hit)) {
                    black_box(looking.record(line, &mut again));
                }
            }
        }),
        Way::new("simd-json, parsing only", || {
            for line in records.lines() {
                scratch.clear();
                scratch.extend_from_slice(line);
                black_box(simd_json::to_tape_with_buffers(&mut scratch, &mut buffers).unwrap());
            }
        }),
    ];
    for turn in 0..=TURNS {
        for way in &mut ways {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            let start = Instant::now();
            (way.run)();
            // The first turn warms up: buffers grow to the size of what comes.
            if turn > 0 {
                way.times.push(start.elapsed());
                way.allocations += ALLOCATIONS.load(Ordering::Relaxed) - before;
            }
        }
    }
    let seconds = |way: &Way<'_>| median(way.times.clone()).as_secs_f64();
    let (value, inflation) = (seconds(&ways[4]), seconds(&ways[5]));
    assert!(ways[0].allocations <= (TURNS * RECORDS) as u64, "more than one allocation a record");
    println!("{} columns of {}", schema.columns.len(), compressed_share(&compressed, records));
    for way in &ways {
        let own = seconds(way);
        println!(
            "  {:<30}{:>11.0}{:>8.0}{:>14.2}{:>14.2}{:>10.2}{:>7.0}%",
            way.name,
            RECORDS as f64 / own,
            records.bytes.len() as f64 / own / 1e6,
            inflation / own,
            value / own,
            way.allocations as f64 / (TURNS * RECORDS) as f64,
            spread(way.times.clone()),
        );
    }
    // Of each turn by itself: what slows the machine down slows both of a turn.
    let share = |way: &Way<'_>| {
        let turns = way.times.iter().zip(&ways[0].times);
        let mut ratios: Vec<_> = turns.map(|(own, plain)| own.as_secs_f64() / plain.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        100.0 * (ratios[ratios.len() / 2] - 1.0)
    };
    println!("  drift counting costs {:.1} % of the transform", share(&ways[1]));
    println!(
        "  {} cost {:.1} % of the transform, {} {:.1} %",
        ways[2].name,
        share(&ways[2]),
        ways[3].name,
        share(&ways[3])
    );
}

fn compressed_share(compressed: &[u8], records: &Records) -> String {
    format!(
        "records that gzip makes {:.1} times smaller",
        records.bytes.len() as f64 / compressed.len() as f64
    )
}

/// As the transform does: the row, and the identity of the hit.
fn value_way(reference: &mut Reference, line: &[u8], rows: &mut Vec<u8>) {
    let record: Value = serde_json::from_slice(line).unwrap();
    let record = record.as_object().unwrap();
    let number = |key: &str| match &record[key] {
        Value::String(text) => text.parse::<u64>().ok(),
        other => other.as_u64(),
    };
    black_box((number("hitIdHigh"), number("hitIdLow"), number("receivedTimeGMT")));
    reference.row(record, "", rows).unwrap();
}

fn same_rows(schema: &Schema, records: &Records) {
    let mut transform = Transform::new(schema, &[]).unwrap();
    let mut reference = Reference::new(schema, "");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for line in records.lines() {
        ours.clear();
        theirs.clear();
        transform.record(line, &mut ours);
        value_way(&mut reference, line, &mut theirs);
        assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string());
    }
}
