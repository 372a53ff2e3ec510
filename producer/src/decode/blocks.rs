//! Frames become blocks of decoded records: what is rejected and filtered is told apart here, and counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use state::log::KnownHits;

use super::damage::Unreadable;
use super::frame::Frame;
use super::resume::Reread;
use crate::append::{Block, Decoded};
use crate::counters::{Counters, TOO_LONG};
use crate::transform::{self, ColumnCounts, Identity, Outcome, Transform};

/// A block is sent on when it holds this many records, or this many bytes of rows or rejects.
const BLOCK_RECORDS: usize = 256;
const BLOCK_BYTES: usize = 1 << 20;

/// So many hits in a row that the log does not have, and it is asked for few from then on: to look up a hit in vain costs
/// a tenth of its transform.
const ASKED_IN_VAIN: u64 = 4_096;
/// For one in so many then, until it has one: what is sent again may begin with hits that the log has forgotten.
const ASKED_SELDOM: u64 = 64;

/// Decodes records into the block that is being filled.
#[derive(Debug)]
pub(crate) struct Records {
    transform: Transform,
    /// The hits of the log, if it is asked.
    known: Option<KnownHits>,
    /// Records since the last one that the log had.
    asked_in_vain: u64,
    unreadable: Unreadable,
    reread: Reread,
    block: Block,
    /// Bytes of rejected records in the block.
    rejected: usize,
    /// Records so far, and those dropped by each filter.
    count: u64,
    filtered: Vec<u64>,
    counters: Arc<Counters>,
}

impl Records {
    /// With an empty block. What is counted here is added to `counters` too.
    #[must_use]
    pub(crate) fn new(transform: Transform, counters: Arc<Counters>) -> Self {
        let filtered = vec![0; transform.filter_names().len()];
        Self {
            transform,
            known: None,
            asked_in_vain: 0,
            unreadable: Unreadable::default(),
            reread: Reread::begin(),
            block: Block::default(),
            rejected: 0,
            count: 0,
            filtered,
            counters,
        }
    }

    /// Of a session: hits that are `known` are not transformed, and a run of unreadable records is damage.
    #[must_use]
    pub(crate) fn of_session(mut self, known: Option<KnownHits>, unreadable: Unreadable) -> Self {
        (self.known, self.unreadable) = (known, unreadable);
        self
    }

    /// Adds what a line became. True when the block is to be [taken](Self::take) before another is added.
    pub(crate) fn add(&mut self, frame: &Frame<'_>) -> bool {
        match *frame {
            Frame::Record(record) => match self.known(record) {
                Some(Identity { hit, received }) => {
                    self.unreadable.readable();
                    self.reread.known();
                    self.push(Decoded::Known { hit, received: time(received) });
                }
                None => {
                    let outcome = self.transform.record(record, &mut self.block.rows);
                    self.note(record, outcome);
                }
            },
            Frame::TooLong { head, bytes } => {
                self.unreadable.too_long(head, bytes);
                self.reject(head, TOO_LONG, too_long(bytes));
            }
        }
        self.is_full()
    }

    /// A line has not ended, and has so many bytes by now.
    pub(crate) fn line_grew(&mut self, head: &[u8], bytes: u64) {
        self.unreadable.line_grew(head, bytes);
    }

    /// What was unreadable in this session.
    #[must_use]
    pub(crate) fn unreadable(&self) -> &Unreadable {
        &self.unreadable
    }

    /// What of this session was sent before.
    #[must_use]
    pub(crate) fn reread(&self) -> Reread {
        self.reread
    }

    /// The identity of a record whose hit the log has.
    fn known(&mut self, record: &[u8]) -> Option<Identity> {
        let known = self.known.as_ref()?;
        self.asked_in_vain += 1;
        if self.asked_in_vain > ASKED_IN_VAIN && !self.asked_in_vain.is_multiple_of(ASKED_SELDOM) {
            return None;
        }
        let found = transform::identity(record).filter(|identity| known.contains(identity.hit))?;
        // Only the ids were looked at. A damaged record must not count as readable for them.
        if self.unreadable.is_in_doubt() && !transform::is_json(record) {
            return None;
        }
        self.asked_in_vain = 0;
        Some(found)
    }

    /// Adds a line that may have been cut off at its end; false, and nothing is added, if it cannot become a row.
    pub(crate) fn add_if_whole(&mut self, frame: &Frame<'_>) -> bool {
        let Frame::Record(record) = *frame else { return false };
        match self.transform.record(record, &mut self.block.rows) {
            Outcome::Rejected(_) => false,
            outcome => {
                self.note(record, outcome);
                true
            }
        }
    }

    /// Adds a record that was rejected before, with the reason it was given then.
    pub(crate) fn add_rejected(&mut self, record: &[u8], name: &'static str, reason: String) -> bool {
        self.reject(record, name, reason);
        self.is_full()
    }

    /// The block as it is, if there is anything in it; the next starts empty.
    pub(crate) fn take(&mut self) -> Option<Block> {
        if self.block.records.is_empty() {
            return None;
        }
        self.rejected = 0;
        self.reread.block();
        self.count_altered();
        let rows = Vec::with_capacity(self.block.rows.len());
        Some(std::mem::replace(&mut self.block, Block { rows, records: Vec::with_capacity(BLOCK_RECORDS) }))
    }

    /// Records so far.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Gives the transform back, and what was unreadable, having said what each filter dropped, and what was altered
    /// since the process started because a type could not hold it.
    #[must_use]
    pub(crate) fn end(mut self) -> (Transform, Unreadable) {
        self.count_altered();
        let filters = self.transform.filter_names().iter().zip(&self.filtered);
        for (filter, records) in filters.filter(|(_, records)| **records > 0) {
            tracing::info!(filter, records, "records filtered in this session");
        }
        let columns = self.counters.by_column();
        if !columns.is_empty() {
            let mut all = ColumnCounts::default();
            columns.values().for_each(|counts| all.add(counts));
            let ColumnCounts { cut, nulled, rounded, nuls, replaced, invalid, delimiters, rejected } = all;
            tracing::info!(
                cut,
                nulled,
                rounded,
                nuls,
                replaced,
                invalid,
                delimiters,
                rejected,
                "values no column could hold as sent, since the start"
            );
        }
        for (column, counts) in columns {
            tracing::debug!(column, ?counts, "values altered");
        }
        (self.transform, self.unreadable)
    }

    fn count_altered(&mut self) {
        self.transform.take_altered(|column, counts| self.counters.altered(column, counts));
        self.counters.mended.fetch_add(self.transform.take_mended(), Ordering::Relaxed);
    }

    fn note(&mut self, record: &[u8], outcome: Outcome) {
        match &outcome {
            Outcome::Rejected(reject) if reject.is_unreadable() => self.unreadable.unreadable(record),
            _ => self.unreadable.readable(),
        }
        let decoded = match outcome {
            Outcome::Row { hit, received } => {
                self.reread.new_row();
                Decoded::Row { end: self.block.rows.len(), hit, received: time(received) }
            }
            Outcome::Filtered { rule, received } => {
                if let Some(count) = self.filtered.get_mut(rule) {
                    *count += 1;
                }
                self.counters.filtered(rule);
                Decoded::Filtered { rule, received: time(received) }
            }
            Outcome::Rejected(reject) => return self.reject(record, reject.name(), reject.to_string()),
        };
        self.push(decoded);
    }

    fn reject(&mut self, record: &[u8], name: &'static str, reason: String) {
        self.rejected += record.len();
        self.counters.rejected(name);
        self.push(Decoded::Rejected { record: record.to_vec(), reason });
    }

    fn push(&mut self, decoded: Decoded) {
        self.block.records.push(decoded);
        self.count += 1;
        self.counters.records.fetch_add(1, Ordering::Relaxed);
    }

    fn is_full(&self) -> bool {
        self.block.records.len() >= BLOCK_RECORDS || self.block.rows.len() + self.rejected >= BLOCK_BYTES
    }
}

fn time(seconds: Option<i64>) -> Option<DateTime<Utc>> {
    seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0))
}

/// The reason for a record of so many bytes.
#[must_use]
pub(crate) fn too_long(bytes: u64) -> String {
    format!("{TOO_LONG_REASON} {bytes} bytes, of which the first are kept")
}

/// How that reason begins.
pub(crate) const TOO_LONG_REASON: &str = "longer than adobe.max_record_bytes:";

#[cfg(test)]
mod tests {
    use super::*;
    use shared::schema::Schema;

    #[test]
    fn a_block_is_bounded_when_every_record_is_a_reject() {
        let transform = Transform::new(&Schema::built_in(1..=1), &[]).unwrap();
        let mut records = Records::new(transform, Arc::new(Counters::new(&[])));
        for bytes in [1, 5_000, 1 << 20] {
            let line = vec![b'x'; bytes];
            let mut added = 1;
            while !records.add(&Frame::Record(&line)) {
                added += 1;
            }
            assert!(added <= BLOCK_RECORDS && added * bytes < BLOCK_BYTES + bytes, "{added} of {bytes}");
            let head = &line[..bytes.min(4096)];
            assert_eq!(records.take().map(|block| block.records.len()), Some(added));
            while !records.add(&Frame::TooLong { head, bytes: 1 << 40 }) {}
            let block = records.take().unwrap();
            assert!(block.records.len() <= BLOCK_RECORDS);
            assert!(records.take().is_none());
        }
    }
}
