//! The steps, in the order of the data.

use std::io::Write;

use adobe::{Generator, Plan};
use chrono::Utc;
use flate2::write::GzEncoder;
use producer::{Counters, HitId, Outcome, Reading, Transform, body};
use shared::compress::CompressedFile;
use shared::content::ContentSum;
use shared::layout::Compression;
use shared::schema::Schema;
use state::log::{Log, Settings};

use crate::setup::{FIVE, inflate, log_settings, protecting, schema_of_75};
use crate::{MORE, Way};

/// Every step that has a bound.
pub const WAYS: &[Way] = &[
    Way { name: "inflate", bound: 74_000, least: 80, run: inflated },
    Way { name: "front", bound: 125_000, least: 80, run: front },
    Way {
        name: "transform",
        bound: 73_000,
        least: 80,
        run: |records| transform(records, &schema_of_75()?, Beside::Nothing),
    },
    Way {
        name: "all-columns",
        bound: 128_500,
        least: 80,
        run: |records| transform(records, &Schema::default(), Beside::Nothing),
    },
    Way {
        name: "counted",
        bound: 75_000,
        least: 80,
        run: |records| transform(records, &schema_of_75()?, Beside::Counting),
    },
    Way {
        name: "all-counted",
        bound: 131_500,
        least: 80,
        run: |records| transform(records, &Schema::default(), Beside::Counting),
    },
    Way {
        name: "protected",
        bound: 82_500,
        least: 80,
        run: |records| transform(records, &schema_of_75()?, Beside::Protection),
    },
    Way { name: "append", bound: 24_000, least: 40, run: |records| log(records, &schema_of_75()?, false) },
    Way { name: "object", bound: 48_000, least: 40, run: |records| log(records, &schema_of_75()?, true) },
];

/// Records of a block, as the decoder makes them.
const BLOCK: u64 = 256;

/// Records one after the other, each with its end of line, and where each ends. There are always as many, however few are
/// passed: so what it takes to make them is the same in both runs.
struct Records {
    generator: Generator,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    fn make() -> Self {
        let generator = Generator::new(Plan { hits: u64::MAX, ..Plan::default() });
        let (mut text, mut ends) = (Vec::new(), vec![0]);
        for index in 0..MORE {
            generator.write_hit(index, &mut text);
            ends.push(text.len());
        }
        Self { generator, text, ends }
    }

    /// The first, each without its end of line.
    fn lines(&self, count: u64) -> impl Iterator<Item = &[u8]> {
        let line =
            |[start, end]: &[usize; 2]| self.text.get(*start..*end).unwrap_or_default().trim_ascii_end();
        self.ends.array_windows().map(line).take(count as usize)
    }
}

/// The first records of a stream that is compressed as a whole, in two parts; and the bytes of their text.
fn gzip(count: u64) -> anyhow::Result<(Vec<u8>, usize)> {
    let Records { text, ends, .. } = Records::make();
    let (first, rest) = text.split_at(ends.get(count as usize).copied().unwrap_or_default());
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(first)?;
    encoder.flush()?;
    let end = encoder.get_ref().len();
    encoder.write_all(rest)?;
    let mut compressed = encoder.finish()?;
    compressed.truncate(end);
    Ok((compressed, first.len()))
}

fn inflated(count: u64) -> anyhow::Result<()> {
    let (compressed, text_bytes) = gzip(count)?;
    inflate(&compressed, text_bytes as u64)
}

/// Compressed bytes to blocks of rows of one column.
fn front(count: u64) -> anyhow::Result<()> {
    let (compressed, _) = gzip(count)?;
    let mut columns = Schema::default().columns;
    columns.truncate(1);
    let transform = Transform::new(&Schema::new(columns, "counts")?, &[])?;
    let (blocks, _) = body(transform, Reading::from(1 << 20), compressed.chunks(16 << 10));
    let decoded: usize = blocks.iter().map(|block| block.records.len()).sum();
    anyhow::ensure!(decoded as u64 == count, "{decoded} of {count} records");
    Ok(())
}

/// How often all records pass before those that are measured.
const WARM: u32 = 6;

#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    Counting,
    Protection,
}

fn transform(count: u64, schema: &Schema, beside: Beside) -> anyhow::Result<()> {
    // Which rows are samples.
    fastrand::seed(7);
    let records = Records::make();
    let mut transform = match beside {
        Beside::Nothing => Transform::new(schema, &[])?,
        Beside::Counting => Transform::new(schema, &[])?.with_tally(schema, false),
        Beside::Protection => protecting(schema, FIVE)?,
    };
    let counters = Counters::new(&[]);
    let mut rows = Vec::new();
    // What is counted is known after a while, and costs less from then on.
    let before = (0..WARM).flat_map(|_| records.lines(MORE));
    for (number, line) in (1..).zip(before.chain(records.lines(count))) {
        anyhow::ensure!(
            matches!(transform.record(line, &mut rows), Outcome::Row { .. }),
            "a record is no row"
        );
        if u64::is_multiple_of(number, BLOCK) {
            counters.take(&mut transform);
            rows.clear();
        }
    }
    Ok(())
}

/// Rows into a log, as the producer commits them; and, if they are read, out of it into objects.
fn log(count: u64, schema: &Schema, is_read: bool) -> anyhow::Result<()> {
    let records = Records::make();
    let (mut transform, mut rows, mut ends) = (Transform::new(schema, &[])?, Vec::new(), vec![0]);
    for line in records.lines(MORE) {
        transform.record(line, &mut rows);
        ends.push(rows.len());
    }
    let dir = tempfile::tempdir()?;
    let now = Utc::now();
    let (mut log, _) = Log::open(Settings { records_per_file: FILE, ..log_settings(dir.path())? }, now)?;
    let spans = ends.array_windows().take(count as usize);
    for (index, [start, end]) in (0..).zip(spans) {
        let (high, low) = records.generator.hit_id(index);
        let row = rows.get(*start..*end).unwrap_or_default();
        log.stage_row(0, Some(HitId { high, low }), Some(now), row, now);
        if (index + 1).is_multiple_of(BLOCK) {
            log.commit(now)?;
        }
    }
    if is_read {
        let reader = log.reader();
        for file in 0..count / FILE {
            let mut object = CompressedFile::new(reader.file(file)?.bytes, Compression::Zstd)?;
            let mut content = ContentSum::default();
            reader.each_chunk(file, |rows| {
                content.add(rows);
                object.write_all(rows)
            })?;
            object.finish()?;
        }
    }
    Ok(())
}

/// Rows of a file: a part of both runs.
const FILE: u64 = 512;
