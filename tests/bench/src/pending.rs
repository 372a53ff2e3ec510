//! A log in which 1,000 batches wait for S3, and turns of appends to it, each beside one in which somebody looks.

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::Utc;
use state::log::{Committed, Log, LogReader, Settings, Upload};

use crate::{Rows, log_settings, schema_of_75};

/// Rows of a commit: the default of the producer.
pub const ROWS_PER_COMMIT: usize = 256;
/// Rows that are appended again and again.
const ROWS: usize = 100 * ROWS_PER_COMMIT;

/// The log, and what is appended to it.
pub struct Pending {
    log: Log,
    rows: Rows,
    commits: usize,
}

impl Pending {
    /// Makes the log, with 1,000 sealed batches of ten files, in `dir`. A turn has so many commits.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(dir: &Path, commits: usize) -> anyhow::Result<Self> {
        let now = Utc::now();
        let small = Settings { records_per_file: 1, ..log_settings(dir)? };
        let (mut log, _) = Log::open(small, now)?;
        for n in 0..10_000_u64 {
            log.stage_row(0, None, Some(now), format!("{n}~row\n").as_bytes(), now);
            log.submit(now)?;
            while log.try_durable()?.is_some() {}
        }
        log.commit(now)?;
        drop(log);
        // What the turns append goes into a few large files, so that the thousand batches stay what there is to tell.
        let large = Settings { records_per_file: u64::MAX, max_file_bytes: 1 << 30, ..log_settings(dir)? };
        let (log, _) = Log::open(large, now)?;
        let mut pending = Self { log, rows: Rows::make(&schema_of_75()?, ROWS)?, commits };
        // The first turn is slower.
        let (_, ready) = pending.append()?;
        pending.upload(ready)?;
        Ok(pending)
    }

    /// Reads the log while it is written.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        self.log.reader()
    }

    /// Rows of a turn.
    #[must_use]
    pub fn rows(&self) -> f64 {
        (self.commits * ROWS_PER_COMMIT) as f64
    }

    /// A turn: how long it took, and what was closed and sealed meanwhile.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn append(&mut self) -> anyhow::Result<(Duration, Committed)> {
        let (begun, now) = (Instant::now(), Utc::now());
        let mut ready = Committed::default();
        let mut add = |done: Committed| {
            ready.closed.extend(done.closed);
            ready.sealed.extend(done.sealed);
        };
        let Self { log, rows, commits } = self;
        for commit in 0..*commits {
            for row in commit * ROWS_PER_COMMIT..(commit + 1) * ROWS_PER_COMMIT {
                let row = row % ROWS;
                log.stage_row(0, None, Some(now), rows.lines(row..row + 1), now);
            }
            log.submit(now)?;
            while let Some(done) = log.try_durable()? {
                add(done);
            }
        }
        add(log.seal_all(now)?);
        Ok((begun.elapsed(), ready))
    }

    /// What a turn appended goes to S3, so that every turn finds the same log.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn upload(&mut self, ready: Committed) -> anyhow::Result<()> {
        for file in ready.closed {
            let (crc32, etag) = ("AAAAAA==".to_owned(), "e".to_owned());
            self.log.uploaded(file, Upload { bytes: 1, crc32, etag, content: None })?;
        }
        for batch in ready.sealed {
            self.log.published(batch, Utc::now())?;
        }
        Ok(())
    }
}

/// The value below which so many quarters of all lie; 2 is the middle one.
#[must_use]
pub fn quarter(values: &[f64], quarter: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) * quarter;
    let at = |at: usize| values.get(at).copied().unwrap_or_default();
    f64::midpoint(at(last / 4), at(last.div_ceil(4)))
}
