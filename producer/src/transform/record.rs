//! From a record to its row: the steps in their order.

use std::sync::Arc;

use shared::config::{InvalidText, Protect};
use shared::schema::{MAX_ROW_BYTES, Schema};
use state::log::{Form, HitId, ProtectedNote};

use crate::transform::convert::Converter;
use crate::transform::filter::{Filter, TransformError};
use crate::transform::keeping::Keeping;
use crate::transform::mend::Mended;
use crate::transform::outcome::{ColumnCounts, Outcome, Reject, Stats};
use crate::transform::plan::Plan;
use crate::transform::protect::{ProtectedCounts, Protection, Pseudonyms};
use crate::transform::spans::Spans;
use crate::transform::tally::{Columns, Taken, Tally};
use crate::transform::{row, text, walk};

/// Turns records into rows of one schema. Owns buffers: one for each thread.
#[derive(Debug, Clone)]
pub struct Transform {
    pub(super) plan: Plan,
    pub(super) spans: Spans,
    pub(super) converter: Converter,
    pub(super) stats: Stats,
    filter_names: Vec<String>,
    /// What its rows have in common.
    form: Arc<Form>,
    /// A hash of the filters.
    filters: u32,
    pub(super) invalid_text: InvalidText,
    pub(super) mended: Mended,
    pub(super) protection: Option<Protection>,
    pub(super) keeping: Keeping,
    /// What was done to the record before: nothing, but to a reject that is taken in again.
    pub(super) earlier: ProtectedNote,
    /// What the rows are like, if anybody asks.
    pub(super) tally: Option<Tally>,
}

impl Transform {
    /// For rows of this schema, without the records that one of these filters matches.
    pub fn new(schema: &Schema, filters: &[Filter]) -> Result<Self, TransformError> {
        let plan = Plan::new(schema, filters)?;
        Ok(Self {
            spans: Spans::new(plan.targets(), plan.constants()),
            converter: Converter::default(),
            stats: Stats::new(schema),
            filters: text::hash(format!("{filters:?}").as_bytes()),
            filter_names: filters.iter().map(|filter| filter.name.clone()).collect(),
            form: Arc::new(Form::of(schema)),
            invalid_text: InvalidText::Replace,
            mended: Mended::default(),
            protection: None,
            keeping: Keeping::default(),
            earlier: ProtectedNote::default(),
            tally: None,
            plan,
        })
    }

    /// Protects these fields; `schema` is the one the transform was made for.
    pub fn with_protection(mut self, protect: &Protect, schema: &Schema) -> Result<Self, TransformError> {
        self.protection = Protection::new(protect, schema, &mut self.plan)?;
        let pseudonyms = self.protection.as_ref().map(Protection::pseudonyms);
        let pseudonym_key = pseudonyms.and_then(Pseudonyms::key_id);
        let pseudonym_spelling = pseudonyms.and_then(Pseudonyms::spelling);
        self.form = Arc::new(Form { pseudonym_key, pseudonym_spelling, ..Form::clone(&self.form) });
        Ok(self)
    }

    /// Treats bytes that are no UTF-8 and raw control characters like this; by default, replaces them.
    pub fn with_invalid_text(self, invalid_text: InvalidText) -> Self {
        Self { invalid_text, ..self }
    }

    /// Writes this name into columns of kind `instance`.
    pub fn with_instance(mut self, name: &str) -> Self {
        name.clone_into(&mut self.converter.instance);
        self
    }

    /// Writes this text into columns of kind `batch`. The log puts the id of the batch, as long as it, in its place.
    pub fn with_batch_placeholder(mut self, placeholder: &str) -> Self {
        placeholder.clone_into(&mut self.converter.batch_placeholder);
        self
    }

    /// Counts what rows are like, for `Counters::take`; `schema` is the one the transform was made for and protected by. With
    /// `every` all records are looked at, otherwise few.
    pub fn with_tally(self, schema: &Schema, every: bool) -> Self {
        let protections = (0..self.plan.columns).map(|number| self.protection_of(number));
        let protected = self.protection.as_ref().map(Protection::paths).unwrap_or_default();
        let columns = Columns::of(schema).with(protections, protected, self.filters);
        Self { tally: Some(Tally::new(columns, every)), ..self }
    }

    /// The columns that rows are counted by, if they are.
    pub(crate) fn columns(&self) -> Option<&Arc<Columns>> {
        self.tally.as_ref().map(Tally::columns)
    }

    /// Appends the record's row, one CSV line with its LF, to `row`; or nothing, if the outcome is another.
    pub fn record(&mut self, line: &[u8], row: &mut Vec<u8>) -> Outcome {
        self.record_again(line, row, |_| false)
    }

    /// As [`Self::record`]. A row whose hit `is_known` says nothing of what the stream is like: it was counted when it came first.
    pub(crate) fn record_again(
        &mut self,
        line: &[u8],
        row: &mut Vec<u8>,
        is_known: impl FnOnce(HitId) -> bool,
    ) -> Outcome {
        self.stats.begin_record(self.tally.as_mut().is_some_and(Tally::samples_next));
        let read = read(&self.plan, line, self.invalid_text, &mut self.spans, &mut self.mended);
        let text = match read {
            Ok(text) => text,
            Err(reject) => return Outcome::Rejected(reject),
        };
        if let Some(rule) = self.plan.filtered(text, &self.spans, &mut self.converter) {
            let (_, received) = self.plan.identity(text, &self.spans, &mut self.converter);
            return Outcome::Filtered { rule, received };
        }
        if let Some(protection) = &mut self.protection {
            protection.apply(text, &mut self.spans);
        }
        let start = row.len();
        let written = row::emit(&self.plan, text, &self.spans, &mut self.converter, &mut self.stats, row);
        let bytes = row.len() - start;
        let written =
            written.and(if bytes > MAX_ROW_BYTES { Err(Reject::RowTooLong { bytes }) } else { Ok(()) });
        self.stats.end_record(written.is_ok(), self.spans.mended);
        if let Err(reject) = written {
            row.truncate(start);
            return Outcome::Rejected(reject);
        }
        let (hit, received) = self.plan.identity(text, &self.spans, &mut self.converter);
        if let Some(tally) = &mut self.tally
            && !hit.is_some_and(is_known)
        {
            tally.row(text, &self.stats);
        }
        Outcome::Row { hit, received }
    }

    /// The names of the filters; `Outcome::Filtered` counts positions in this list.
    pub fn filter_names(&self) -> &[String] {
        &self.filter_names
    }

    /// What was altered in the row of the last record, by column.
    pub(crate) fn last_altered(&self) -> impl Iterator<Item = (&str, &ColumnCounts)> {
        self.stats.last()
    }

    /// Hands over what was altered or dropped since the last call, by column, and counts from zero.
    pub fn drain_altered(&mut self, mut each: impl FnMut(&str, ColumnCounts)) {
        let columns = self.stats.names.iter().zip(&mut self.stats.counts);
        for (name, counts) in columns.filter(|(_, counts)| !counts.is_zero()) {
            each(name, std::mem::take(counts));
        }
    }

    /// Hands over what rows were like since the last call, if that are so many, and counts from zero.
    pub(crate) fn drain_tally(&mut self, at_least: u32, take: impl FnOnce(&Taken<'_>)) {
        if let Some(tally) = &mut self.tally {
            tally.drain(at_least, &self.plan, take);
        }
    }

    /// Hands over how many values of each protected field there were since the last call; counts from zero.
    pub(crate) fn drain_protected(&mut self, each: impl FnMut(&str, ProtectedCounts)) {
        if let Some(protection) = &mut self.protection {
            protection.drain(each);
        }
    }

    /// The protected fields, as `[protect]` names them.
    pub(crate) fn protected_fields(&self) -> &[String] {
        self.protection.as_ref().map_or(&[], Protection::fields)
    }

    /// What its rows have in common.
    pub(crate) fn form(&self) -> &Arc<Form> {
        &self.form
    }

    /// How many records that were no valid text became rows since the last call; counts from zero.
    pub(crate) fn drain_mended(&mut self) -> u64 {
        std::mem::take(&mut self.stats.mended)
    }
}

/// Fills `spans` with those of the record; its text, which is that of `line` itself unless it had to be mended.
pub(super) fn read<'t>(
    plan: &Plan,
    line: &'t [u8],
    invalid_text: InvalidText,
    spans: &mut Spans,
    mended: &'t mut Mended,
) -> Result<&'t str, Reject> {
    let reject = match utf8(line).and_then(|text| walk::walk(plan, text, spans).map(|()| text)) {
        Ok(text) => return Ok(text),
        Err(reject) => reject,
    };
    if invalid_text == InvalidText::Reject || !mended.mend(line) {
        return Err(reject);
    }
    // If that does not help, the reason is that of the record as it came.
    if walk::walk(plan, &mended.text, spans).is_err() {
        return Err(reject);
    }
    spans.mended = true;
    spans.replaced.extend_from_slice(&mended.replaced);
    Ok(&mended.text)
}

fn utf8(line: &[u8]) -> Result<&str, Reject> {
    simdutf8::basic::from_utf8(line).map_err(|_| {
        // The quick check does not say where.
        let at = simdutf8::compat::from_utf8(line).map_or_else(|error| error.valid_up_to(), str::len);
        Reject::NotUtf8 { at }
    })
}
