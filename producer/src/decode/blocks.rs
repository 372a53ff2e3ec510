//! Frames become blocks of decoded records. Rejects, filtered records and hits that the log has are counted here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use state::log::{KeptRecord, ProtectedNote};
use state::status::tap::{Altered, Tap};

use super::damage::DamageDetector;
use super::frame::Frame;
use super::resume::{CatchUp, Resume};
use crate::append::tapped::TappedBlock;
use crate::append::{Block, Decoded};
use crate::counters::{Counters, TOO_LONG};
use crate::transform::{ColumnCounts, CurrentTransform, Identity, Outcome, Transform};

/// A block is sent on when it holds this many records, or this many bytes of rows or rejects.
const BLOCK_RECORDS: usize = 256;
const BLOCK_BYTES: usize = 1 << 20;
/// How the reason for a record over `adobe.max_record_bytes` begins.
pub(crate) const TOO_LONG_REASON: &str = "longer than adobe.max_record_bytes:";

pub(crate) struct BlockBuilder {
    transform: Transform,
    current: CurrentTransform,
    /// Finds hits that are not transformed.
    pub(super) resume: Option<Resume>,
    pub(super) damage: DamageDetector,
    tap: Tap,
    filter_names: Arc<[String]>,
    block: Block,
    rejected: usize,
    /// Records so far.
    pub(crate) count: u64,
    /// By filter: in this session and under this transform; in this block.
    filtered: Vec<(u64, u64)>,
    counters: Arc<Counters>,
}

impl BlockBuilder {
    pub(crate) fn new(transform: impl Into<CurrentTransform>, counters: Arc<Counters>) -> Self {
        let mut current = transform.into();
        let transform = current.get();
        let filtered = vec![(0, 0); transform.filter_names().len()];
        let filter_names = transform.filter_names().into();
        let (resume, damage, tap) = Default::default();
        let block = Block { form: transform.form().clone(), ..Block::default() };
        Self {
            transform,
            current,
            resume,
            damage,
            tap,
            filter_names,
            block,
            rejected: 0,
            count: 0,
            filtered,
            counters,
        }
    }

    /// Shows records to those who tap this.
    pub(super) fn with_tap(mut self, tap: Tap) -> Self {
        self.tap = tap;
        self
    }

    /// Takes another transform, if there is one, before the first record of a block: all rows of a block have one form.
    fn renew(&mut self) {
        if self.block.records.is_empty()
            && let Some(transform) = self.current.renewed()
        {
            self.count_filtered();
            self.counters.take_last(&mut self.transform);
            self.log_filtered();
            self.filtered = vec![(0, 0); transform.filter_names().len()];
            self.filter_names = transform.filter_names().into();
            self.block.form = transform.form().clone();
            self.transform = transform;
        }
    }

    /// Adds a line. True when the block is full: [take](Self::take) it before the next line.
    pub(crate) fn add(&mut self, frame: &Frame<'_>) -> bool {
        self.renew();
        match *frame {
            Frame::Record(record) => {
                let in_doubt = self.damage.is_in_doubt();
                match self.resume.as_mut().and_then(|resume| resume.find(record, in_doubt)) {
                    Some(Identity { hit, received }) => {
                        self.damage.readable();
                        self.push(record, Decoded::Known { hit, received: time(received) });
                    }
                    None => {
                        let resume = self.resume.as_ref();
                        let is_known = |hit| resume.is_some_and(|resume| resume.has_unclear(hit));
                        let outcome = self.transform.record_again(record, &mut self.block.rows, is_known);
                        self.note(record, outcome);
                    }
                }
            }
            Frame::TooLong { head, bytes } => {
                self.damage.too_long(head, bytes);
                self.reject_too_long(head, bytes, too_long(bytes, self.transform.keeps_rejects_whole()));
            }
        }
        self.is_full()
    }

    /// As [`Self::add`], of a reject that was protected before.
    pub(crate) fn add_protected(&mut self, frame: &Frame<'_>, earlier: ProtectedNote) -> bool {
        self.transform.set_earlier(earlier);
        let full = self.add(frame);
        self.transform.set_earlier(ProtectedNote::default());
        full
    }

    /// Adds a line that may have been cut off at its end. False, and nothing is added, if it cannot become a row.
    pub(super) fn add_if_whole(&mut self, frame: &Frame<'_>) -> bool {
        let Frame::Record(record) = *frame else { return false };
        match self.transform.record(record, &mut self.block.rows) {
            Outcome::Rejected(_) => false,
            outcome => {
                self.note(record, outcome);
                true
            }
        }
    }

    /// The current block, if there is anything in it. The next one starts empty.
    pub(crate) fn take(&mut self) -> Option<Block> {
        if self.block.records.is_empty() {
            return None;
        }
        self.rejected = 0;
        if let Some(resume) = &mut self.resume {
            resume.block_ended();
        }
        self.count_filtered();
        self.counters.take(&mut self.transform);
        let rows = Vec::with_capacity(self.block.rows.len());
        let (records, form) = (Vec::with_capacity(BLOCK_RECORDS), self.block.form.clone());
        let next = Block { rows, records, form, tapped: None };
        Some(std::mem::replace(&mut self.block, next))
    }

    /// Logs what each filter dropped in this session, and what was altered since the process started.
    pub(super) fn end(mut self) -> (CatchUp, DamageDetector) {
        self.count_filtered();
        self.counters.take_last(&mut self.transform);
        self.log_filtered();
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
        let catch_up = self.resume.as_ref().map(Resume::catch_up);
        (catch_up.unwrap_or_default(), self.damage)
    }

    fn log_filtered(&self) {
        let filters = self.transform.filter_names().iter().zip(&self.filtered);
        for (filter, (records, _)) in filters.filter(|(_, (records, _))| *records > 0) {
            tracing::info!(filter, records, "records filtered in this session");
        }
    }

    fn count_filtered(&mut self) {
        let filters = self.filter_names.iter().zip(&mut self.filtered);
        for (filter, (all, new)) in filters.filter(|(_, (_, new))| *new > 0) {
            *all += *new;
            self.counters.filtered(filter, std::mem::take(new));
        }
    }

    fn note(&mut self, record: &[u8], outcome: Outcome) {
        match &outcome {
            Outcome::Rejected(reject) if reject.is_unreadable() => self.damage.unreadable(record),
            _ => self.damage.readable(),
        }
        let decoded = match outcome {
            Outcome::Row { hit, received } => {
                if let Some(resume) = &mut self.resume {
                    resume.new_row();
                }
                Decoded::Row { end: self.block.rows.len(), hit, received: time(received) }
            }
            Outcome::Filtered { rule, received } => {
                if let Some((_, count)) = self.filtered.get_mut(rule) {
                    *count += 1;
                }
                Decoded::Filtered { rule, received: time(received) }
            }
            Outcome::Rejected(reject) => {
                let kept = self.transform.kept(record, record.len() as u64, !reject.is_unreadable());
                self.reject(record, kept, reject.name(), reject.to_string());
                return;
            }
        };
        self.push(record, decoded);
    }

    /// Adds a record of so many bytes of which only the first are there. True when the block is full.
    pub(crate) fn reject_too_long(&mut self, head: &[u8], bytes: u64, reason: String) -> bool {
        let kept = self.transform.kept(head, bytes, false);
        self.reject(head, kept, TOO_LONG, reason)
    }

    /// Adds a record that cannot become a row, of which this is kept. True when the block is full.
    pub(crate) fn reject(
        &mut self,
        record: &[u8],
        kept: KeptRecord,
        code: &'static str,
        reason: String,
    ) -> bool {
        self.rejected += kept.size();
        self.counters.rejected(code);
        self.push(record, Decoded::Rejected { record: kept, code, reason });
        self.is_full()
    }

    fn push(&mut self, record: &[u8], decoded: Decoded) {
        // With its first record, not when the block before it was full: that may be long ago.
        if self.block.records.is_empty() {
            self.block.tapped = TappedBlock::begin(&self.tap, &self.filter_names);
        }
        if self.block.tapped.as_ref().is_some_and(|tapped| tapped.wants(&decoded)) {
            self.keep(record, &decoded);
        }
        self.block.records.push(decoded);
        self.count += 1;
        self.counters.records.fetch_add(1, Ordering::Relaxed);
    }

    /// For those who tap, since nobody has the record later.
    #[cold]
    fn keep(&mut self, record: &[u8], decoded: &Decoded) {
        let Some(tapped) = &mut self.block.tapped else { return };
        let altered = self.transform.last_altered().filter(|_| matches!(decoded, Decoded::Row { .. }));
        let altered =
            altered.map(|(column, counts)| Altered { column: column.to_owned(), how: counts.words() });
        let (position, altered) = (self.block.records.len(), altered.collect());
        if !self.transform.protects() {
            return tapped.keep(position, record.len(), Some(record), altered);
        }
        let shown = self.transform.protected(record).map(|(text, _)| text);
        tapped.keep(position, record.len(), shown.as_ref().map(String::as_bytes), altered);
    }

    fn is_full(&self) -> bool {
        self.block.records.len() >= BLOCK_RECORDS || self.block.rows.len() + self.rejected >= BLOCK_BYTES
    }
}

fn time(seconds: Option<i64>) -> Option<DateTime<Utc>> {
    seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0))
}

pub(super) fn too_long(bytes: u64, kept: bool) -> String {
    let which = if kept { "the first are" } else { "none is" };
    format!("{TOO_LONG_REASON} {bytes} bytes, of which {which} kept")
}

#[cfg(test)]
mod tests {
    use shared::clock::Clock;
    use shared::schema::Schema;
    use state::log::HitId;

    use super::*;

    #[test]
    fn a_block_is_bounded_when_every_record_is_a_reject() {
        let transform = Transform::new(&Schema::built_in(1..=1), &[]).unwrap();
        let mut builder = BlockBuilder::new(transform, Arc::new(Counters::new(&[])));
        for bytes in [1, 5_000, 1 << 20] {
            let line = vec![b'x'; bytes];
            let mut added = 1;
            while !builder.add(&Frame::Record(&line)) {
                added += 1;
            }
            assert!(added <= BLOCK_RECORDS && added * bytes < BLOCK_BYTES + bytes, "{added} of {bytes}");
            let head = &line[..bytes.min(4096)];
            assert_eq!(builder.take().map(|block| block.records.len()), Some(added));
            while !builder.add(&Frame::TooLong { head, bytes: 1 << 40 }) {}
            let block = builder.take().unwrap();
            assert!(block.records.len() <= BLOCK_RECORDS);
            assert!(builder.take().is_none());
        }
    }

    #[test]
    fn what_a_hit_of_the_log_brings_again_is_not_what_the_stream_is_like() {
        // Adobe sends hits again after a reconnect. A key of its own inside, so that only the transform can tell whose it is.
        let record = |low| format!("{{\"hitIdHigh\":1,\"hitIdLow\":{low},\"new\":{{\"hitIdHigh\":\"0\"}}}}");
        let schema = Schema::built_in(1..=1);
        let transform = Transform::new(&schema, &[]).unwrap().with_tally(&schema, true);
        let counters = Arc::new(Counters::new(&[]));
        let known = (0..100).map(|low| HitId { high: 1, low }).collect();
        let mut builder = BlockBuilder::new(transform, counters.clone());
        builder.resume = Some(Resume::new(known, Clock::system()));
        for low in 0..130 {
            builder.add(&Frame::Record(record(low).as_bytes()));
        }
        assert_eq!(builder.take().map(|block| block.records.len()), Some(130));
        builder.end();
        assert_eq!(counters.drift.snapshot().rows, 30);
    }
}
