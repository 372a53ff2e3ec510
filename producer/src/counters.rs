//! What all connections counted since the process started.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use shared::lock::locked;
use shared::metrics::Page;
use state::status::snapshot::{CountersSnapshot, ProtectedSnapshot};

use crate::drift::Drift;
use crate::transform::{ColumnCounts, ProtectedCounts, Reject, Transform};

/// The short name of the reason for a record over `adobe.max_record_bytes`.
pub(crate) const TOO_LONG: &str = "too_long";

/// A connection that brings little is asked what its rows are like after so many of them.
const TALLIED: u32 = 128;

/// Counts that only grow. Each connection adds to them. What is counted by name takes a lock: for each block once, and for
/// each reject.
#[derive(Debug, Default)]
pub struct Counters {
    /// Compressed bytes read from the stream.
    pub(crate) bytes: AtomicU64,
    pub(crate) inflated: AtomicU64,
    pub(crate) empty_lines: AtomicU64,
    /// Records: every line that is not empty.
    pub(crate) records: AtomicU64,
    /// Rows whose record was no valid text.
    pub(crate) mended: AtomicU64,
    /// Sessions that ended because their bytes, or a run of their records, could not be read.
    pub damaged: AtomicU64,
    filtered: Mutex<Vec<(String, u64)>>,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
    altered: Mutex<BTreeMap<String, ColumnCounts>>,
    protected: Mutex<BTreeMap<String, ProtectedCounts>>,
    /// What the stream is like.
    pub(crate) drift: Arc<Drift>,
}

impl Counters {
    /// Counters at zero. The page shows each of `filters`, and each reason for a reject, from the start.
    pub fn new(filters: &[String]) -> Self {
        let filtered = Mutex::new(filters.iter().map(|name| (name.clone(), 0)).collect());
        let reasons = Reject::NAMES.iter().chain([&TOO_LONG]);
        let rejected = Mutex::new(reasons.map(|name| (*name, 0)).collect());
        Self { filtered, rejected, ..Self::default() }
    }

    /// Shows each of these protected fields from the start.
    pub(crate) fn with_protected(self, fields: &[String]) -> Self {
        let protected = fields.iter().map(|field| (field.clone(), ProtectedCounts::default()));
        Self { protected: Mutex::new(protected.collect()), ..self }
    }

    /// Goes on with what is known of the stream.
    pub(crate) fn with_drift(self, drift: Drift) -> Self {
        Self { drift: Arc::new(drift), ..self }
    }

    /// Takes what a transform counted since the last call.
    pub fn take(&self, transform: &mut Transform) {
        transform.drain_altered(|column, counts| self.altered(column, counts));
        transform.drain_protected(|field, counts| self.protected(field, counts));
        self.mended.fetch_add(transform.drain_mended(), Ordering::Relaxed);
        transform.drain_tally(TALLIED, |taken| self.drift.add(taken));
    }

    /// As [`Self::take`], of a transform that is used no more.
    pub(crate) fn take_last(&self, transform: &mut Transform) {
        self.take(transform);
        transform.drain_tally(1, |taken| self.drift.add(taken));
    }

    /// Shows these filters and protected fields from now on. A name that stays keeps its count, and so does one that went, if
    /// it counted something: what is shown never falls.
    pub(crate) fn follow(&self, filters: &[String], fields: &[String]) {
        let mut filtered = locked(&self.filtered);
        let mut known = std::mem::take(&mut *filtered);
        for name in filters {
            let at = known.iter().position(|(known, _)| known == name);
            filtered.push(at.map_or_else(|| (name.clone(), 0), |at| known.remove(at)));
        }
        filtered.extend(known.into_iter().filter(|(_, count)| *count > 0));
        let mut protected = locked(&self.protected);
        protected.retain(|field, counts| fields.contains(field) || counts.values > 0);
        for field in fields {
            protected.entry(field.clone()).or_default();
        }
    }

    pub(crate) fn filtered(&self, filter: &str, records: u64) {
        let mut filtered = locked(&self.filtered);
        match filtered.iter_mut().find(|(name, _)| name == filter) {
            Some((_, count)) => *count += records,
            // A block that was begun before the filter went.
            None => filtered.push((filter.to_owned(), records)),
        }
    }

    pub(crate) fn rejected(&self, name: &'static str) {
        *locked(&self.rejected).entry(name).or_default() += 1;
    }

    pub(crate) fn altered(&self, column: &str, counts: ColumnCounts) {
        let mut altered = locked(&self.altered);
        match altered.get_mut(column) {
            Some(all) => all.add(&counts),
            None => drop(altered.insert(column.to_owned(), counts)),
        }
    }

    pub(crate) fn protected(&self, field: &str, counts: ProtectedCounts) {
        let mut protected = locked(&self.protected);
        match protected.get_mut(field) {
            Some(all) => {
                all.values += counts.values;
                all.unexpected += counts.unexpected;
            }
            None => drop(protected.insert(field.to_owned(), counts)),
        }
    }

    pub(crate) fn show(&self, page: &mut Page) {
        let plain = [
            ("stream_bytes", "Compressed bytes read from the stream since the start", &self.bytes),
            ("inflated_bytes", "Bytes they inflated to", &self.inflated),
            ("empty_lines", "Lines without content since the start", &self.empty_lines),
            (
                "mended_records",
                "Rows whose record had invalid UTF-8 or raw control characters, since the start",
                &self.mended,
            ),
            (
                "damaged_sessions",
                "Sessions ended because their bytes or a run of their records could not be read, since the start",
                &self.damaged,
            ),
        ];
        for (name, help, count) in plain {
            page.counter(name, help, count.load(Ordering::Relaxed));
        }
        let filtered = self.by_filter();
        let by_filter = filtered.iter().map(|(name, count)| (name.as_str(), *count));
        page.counters("filtered_records", "Records dropped since the start", "filter", by_filter);
        page.counters("rejected_records", "Records rejected since the start", "reason", self.by_reason());
        self.drift.show(page);
        let protected = self.by_field();
        let of_fields = |of: fn(&ProtectedCounts) -> u64| {
            protected.iter().map(move |(field, counts)| (field.as_str(), of(counts)))
        };
        let help = "Values protected by [protect], since the start";
        page.counters("protected_values", help, "field", of_fields(|counts| counts.values));
        let help = "Of these, values that are not what their mask expects: dropped";
        page.counters("unmaskable_values", help, "field", of_fields(|counts| counts.unexpected));
        let altered = self.by_column();
        type Of = fn(&ColumnCounts) -> u64;
        let kinds: [(&str, &str, Of); 8] = [
            ("cut_values", "Texts and lists cut to the bytes of their column", |counts| counts.cut),
            ("nulled_values", "Values their column's type has no form for: NULL", |counts| counts.nulled),
            ("rounded_values", "Numbers and times rounded to their column's digits", |counts| counts.rounded),
            ("dropped_nuls", "NUL characters left out of texts", |counts| counts.nuls),
            ("replaced_surrogates", "Halves of surrogate pairs replaced by U+FFFD", |counts| counts.replaced),
            ("replaced_bytes", "Invalid UTF-8 replaced by U+FFFD", |counts| counts.invalid),
            ("replaced_delimiters", "Lists joined by a comma for want of a delimiter", |counts| {
                counts.delimiters
            }),
            ("rejecting_values", "Values for whose sake the record is a reject", |counts| counts.rejected),
        ];
        for (name, help, of) in kinds {
            let columns = altered.iter().map(|(column, counts)| (column.as_str(), of(counts)));
            page.counters(
                name,
                &format!("{help}, since the start"),
                "column",
                columns.filter(|(_, n)| *n > 0),
            );
        }
    }

    /// The counts that a snapshot shows.
    pub(crate) fn snapshot(&self, since: DateTime<Utc>) -> CountersSnapshot {
        let altered = self.by_column().into_iter().map(|(column, counts)| (column, named(&counts)));
        CountersSnapshot {
            since,
            mended: self.mended.load(Ordering::Relaxed),
            filtered: self.by_filter().into_iter().collect(),
            rejected: self.by_reason().into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            altered: altered.collect(),
            protected: self.by_field().into_iter().map(shown).collect(),
        }
    }

    /// Records dropped, by filter, in the order of the filters.
    pub(crate) fn by_filter(&self) -> Vec<(String, u64)> {
        locked(&self.filtered).clone()
    }

    /// What was altered, by column; columns whose every value was stored as sent are left out.
    pub(crate) fn by_column(&self) -> BTreeMap<String, ColumnCounts> {
        locked(&self.altered).clone()
    }

    fn by_field(&self) -> BTreeMap<String, ProtectedCounts> {
        locked(&self.protected).clone()
    }

    pub(crate) fn by_reason(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.rejected).clone()
    }
}

fn shown((field, counts): (String, ProtectedCounts)) -> (String, ProtectedSnapshot) {
    (field, ProtectedSnapshot { values: counts.values, unmaskable: counts.unexpected })
}

/// What was done to values of a column, by its name; what did not happen is left out.
fn named(counts: &ColumnCounts) -> BTreeMap<String, u64> {
    let ColumnCounts { cut, nulled, rounded, nuls, replaced, invalid, delimiters, rejected } = *counts;
    let all = [
        ("cut", cut),
        ("nulled", nulled),
        ("rounded", rounded),
        ("nuls", nuls),
        ("replaced", replaced),
        ("invalid", invalid),
        ("delimiters", delimiters),
        ("rejected", rejected),
    ];
    all.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_altered_stands_on_the_page_by_column_and_what_for() {
        let counters = Counters::new(&[]);
        for _ in 0..2 {
            counters.altered("evar1", ColumnCounts { cut: 2, nuls: 1, ..ColumnCounts::default() });
        }
        counters.altered("page~url", ColumnCounts { nulled: 7, rejected: 5, ..ColumnCounts::default() });
        let mut page = Page::new("producer");
        counters.show(&mut page);
        let text = page.text();
        let found: Vec<_> = text.lines().filter(|line| line.contains("column=")).collect();
        let with = |name: &str| found.iter().filter(|line| line.contains(name)).copied().collect::<Vec<_>>();
        assert_eq!(found.len(), 4, "{text}");
        assert!(
            with("cut_values").iter().all(|line| line.contains("\"evar1\"") && line.ends_with(" 4")),
            "{text}"
        );
        assert!(with("dropped_nuls")[0].ends_with(" 2"), "{text}");
        assert!(
            with("nulled_values")[0].contains("\"page~url\"") && with("nulled_values")[0].ends_with(" 7")
        );
        assert!(with("rejecting_values")[0].ends_with(" 5"), "{text}");
        let json = serde_json::to_value(counters.snapshot(DateTime::UNIX_EPOCH)).unwrap();
        let altered = serde_json::json!({ "evar1": { "cut": 4, "nuls": 2 }, "page~url": { "nulled": 7, "rejected": 5 } });
        assert_eq!(json["altered"], altered);
    }

    fn by_filter(counters: &Counters) -> Vec<String> {
        counters.by_filter().into_iter().map(|(name, count)| format!("{name} {count}")).collect()
    }

    #[test]
    fn a_name_that_stays_keeps_its_count_and_so_does_one_that_counted_and_went() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let counters =
            Counters::new(&names(&["stays", "went", "idle"])).with_protected(&names(&["ip", "who"]));
        let counts = ProtectedCounts { values: 3, unexpected: 1 };
        counters.filtered("stays", 2);
        counters.filtered("went", 5);
        counters.protected("ip", counts);
        counters.follow(&names(&["new", "stays"]), &names(&["mail"]));
        assert_eq!(by_filter(&counters), ["new 0", "stays 2", "went 5"]);
        // A block that was begun before the reload.
        counters.filtered("idle", 1);
        counters.protected("ip", counts);
        counters.protected("mail", counts);
        assert_eq!(by_filter(&counters), ["new 0", "stays 2", "went 5", "idle 1"]);
        let fields: Vec<_> =
            counters.by_field().into_iter().map(|(field, all)| (field, all.values)).collect();
        assert_eq!(fields, [("ip".to_owned(), 6), ("mail".to_owned(), 3)]);
    }

    #[test]
    fn every_filter_and_every_reason_is_there_from_the_start() {
        let counters = Counters::new(&["excluded".to_owned(), "bots".to_owned()]);
        counters.filtered("bots", 1);
        counters.rejected("not_json");
        assert_eq!(by_filter(&counters), ["excluded 0", "bots 1"]);
        let reasons = counters.by_reason();
        assert_eq!(reasons.get("not_json"), Some(&1));
        assert_eq!(reasons.get("too_long"), Some(&0));
        assert_eq!(reasons.get("misfit"), Some(&0));
        assert_eq!(reasons.get("row_too_long"), Some(&0));
    }
}
