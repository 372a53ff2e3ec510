//! Every record of a file, looked at closely.

use std::fs::File;
use std::path::Path;

use anyhow::anyhow;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure, io_exit};
use shared::schema::Schema;
use state::status::drift::SeenFields;

use crate::commands::replay::lines;
use crate::counters::Counters;
use crate::decode::frame::Frame;
use crate::drift::Drift;
use crate::transform::{LOOK_INTERVAL, Outcome, Transform};

/// Records that are kept to measure with: at most so many, and so many bytes of all together.
const SAMPLE: usize = 4_000;
const SAMPLE_BYTES: usize = 64 << 20;
/// What was counted is taken after so many records, or bytes: before there is no room for more.
const TAKEN: usize = 32;
const TAKEN_BYTES: usize = 1 << 20;

/// What is known of a stream.
pub(super) struct Looked {
    pub(super) seen: SeenFields,
    /// Where it is from, for people.
    pub(super) origin: String,
    /// Records that became no row.
    pub(super) others: u64,
    /// Some of the records.
    pub(super) sample: Vec<Vec<u8>>,
}

impl Looked {
    /// As the producer that runs has seen it.
    pub(super) fn of_stream(seen: SeenFields) -> Self {
        Self {
            seen,
            origin: format!("the stream, of which one record in {LOOK_INTERVAL} was looked at"),
            others: 0,
            sample: Vec::new(),
        }
    }
}

/// Looks at all records of a file. `transform` is the one of the configuration, for `schema`.
pub(super) fn look(
    file: &Path,
    config: &Config,
    schema: &Schema,
    transform: Transform,
    clock: &Clock,
) -> Result<Looked, Failure> {
    let name = file.display().to_string();
    let cannot =
        |error: std::io::Error| Failure::new(io_exit(&error), anyhow!("cannot read {name}: {error}"));
    let mut bytes = File::open(file).map_err(cannot)?;
    let mut transform = transform.with_tally(schema, true);
    let counters = Counters::new(transform.filter_names()).with_drift(Drift::new(clock.clone()));
    let mut looked =
        Looked { seen: SeenFields::default(), origin: name.clone(), others: 0, sample: Vec::new() };
    let (mut row, mut waiting, mut waiting_bytes, mut sample_bytes) = (Vec::new(), 0, 0, 0);
    let max = usize::try_from(config.adobe.max_record_bytes.0).unwrap_or(usize::MAX);
    let read = lines(&mut bytes, max, |frame| {
        let Frame::Record(record) = *frame else { return looked.others += 1 };
        row.clear();
        if !matches!(transform.record(record, &mut row), Outcome::Row { .. }) {
            return looked.others += 1;
        }
        if looked.sample.len() < SAMPLE && sample_bytes + record.len() <= SAMPLE_BYTES {
            sample_bytes += record.len();
            looked.sample.push(record.to_vec());
        }
        (waiting, waiting_bytes) = (waiting + 1, waiting_bytes + record.len());
        if waiting >= TAKEN || waiting_bytes >= TAKEN_BYTES {
            counters.take_last(&mut transform);
            (waiting, waiting_bytes) = (0, 0);
        }
    });
    read.map_err(|why| Failure::new(Exit::Data, anyhow!("{name}: {why}")))?;
    counters.take_last(&mut transform);
    looked.seen = SeenFields { since: None, ..counters.drift.seen() };
    if looked.seen.looked_at == 0 {
        let text = format!("{name} has no record that becomes a row ({} others)", looked.others);
        return Err(Failure::new(Exit::Data, anyhow!(text)));
    }
    Ok(looked)
}
