//! What an audit found, for people and for programs.

use std::fmt::Write;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use shared::human::{count, counted, time};
use shared::ids::BatchId;
use shared::seal::Counts;
use state::inspect::columns;

use crate::commands::terminal::{FORMAT, LISTED, write_counts, write_cut};
use crate::facts::batch::{Facts, Place};
use crate::facts::faults::Fault;
use crate::redshift::ledger::Counted;
use crate::redshift::table_counts::{DOUBLES, Double, KeyColumns};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TableCheck {
    /// Those of each batch, by the column that names it.
    EachBatch,
    /// Those of each day's batches together, by the time they were received.
    EachDay,
    /// Not at all: the schema has no column to count by.
    #[default]
    Not,
}

impl TableCheck {
    pub(super) fn by(key_columns: &KeyColumns) -> Self {
        match (&key_columns.batch, &key_columns.received) {
            (Some(_), _) => Self::EachBatch,
            (None, Some(_)) => Self::EachDay,
            (None, None) => Self::Not,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::EachBatch => "the rows of each batch were counted, by the column that names it",
            Self::EachDay => {
                "the schema has no column of kind `batch`: of the table only the rows of each day's batches \
                 together were counted, by the time they were received"
            }
            Self::Not => {
                "the table was not counted: the schema has neither a column of kind `batch` nor receivedTimeGMT"
            }
        }
    }
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Report {
    pub format: u32,
    pub at: DateTime<Utc>,
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub deep: bool,
    pub table_check: TableCheck,
    /// Of the loaded batches, those of other schemas whose rows in the table do not name them: they were not counted.
    pub not_counted: u64,
    pub loaded: u64,
    /// Of those, batches of which nothing is left in S3: their seals could not be compared.
    pub not_in_s3: u64,
    pub waiting: u64,
    pub sums: Sums,
    /// Batches with faults, all of them counted.
    pub faulty: u64,
    pub batches: Vec<Faulty>,
    pub days: Vec<Day>,
    /// Hits whose rows stand several times; None when it was not asked for.
    pub hits: Option<Hits>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    pub received: u64,
    pub loaded: u64,
    pub quarantined: u64,
    pub known: u64,
    pub forgotten: u64,
    pub duplicates: u64,
    pub filtered: u64,
    pub rejected: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Faulty {
    pub batch: BatchId,
    pub faults: Vec<Named>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Named {
    #[serde(flatten)]
    pub fault: Fault,
    pub what: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Day {
    pub day: NaiveDate,
    /// When the first of their hits was received, and the last.
    pub first_received: DateTime<Utc>,
    pub last_received: DateTime<Utc>,
    pub what: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Hits {
    /// Whether the table has a hit id to look by.
    pub looked: bool,
    /// The first [`DOUBLES`] of them.
    pub doubles: Vec<Double>,
    pub more: bool,
}

impl Report {
    pub(super) fn new(
        at: DateTime<Utc>,
        (since, until): (DateTime<Utc>, DateTime<Utc>),
        deep: bool,
        table_check: TableCheck,
    ) -> Self {
        Self { format: FORMAT, at, since, until, deep, table_check, ..Self::default() }
    }

    pub(super) fn add(&mut self, facts: &Facts, faults: Vec<Fault>) {
        match &facts.ledger {
            Some(row) => {
                self.loaded += 1;
                self.not_in_s3 += u64::from(facts.place() == Place::Nowhere);
                self.not_counted += u64::from(facts.is_not_counted());
                self.sums.loaded += row.rows_loaded;
                self.sums.quarantined += row.rows_quarantined;
                self.sums.known += row.rows_known;
                self.sums.forgotten += row.rows_forgotten;
                if let Some(Counted { received, duplicates, filtered, rejected }) = row.counted {
                    self.sums.received += received;
                    self.sums.duplicates += duplicates;
                    self.sums.filtered += filtered;
                    self.sums.rejected += rejected;
                }
            }
            None => self.waiting += 1,
        }
        self.waiting += u64::from(facts.other_waits());
        if faults.is_empty() {
            return;
        }
        self.faulty += 1;
        if self.batches.len() < LISTED {
            let named = |fault: Fault| Named { what: fault.to_string(), fault };
            self.batches.push(Faulty { batch: facts.batch, faults: faults.into_iter().map(named).collect() });
        }
    }

    /// Notes the hits that stand several times; None when the table has no hit id.
    pub(super) fn doubles(&mut self, found: Option<Vec<Double>>) {
        let looked = found.is_some();
        let mut doubles = found.unwrap_or_default();
        let more = doubles.len() > DOUBLES;
        doubles.truncate(DOUBLES);
        self.hits = Some(Hits { looked, doubles, more });
    }

    pub(super) fn agrees(&self) -> bool {
        self.faulty == 0
            && self.days.is_empty()
            && self.hits.as_ref().is_none_or(|hits| hits.doubles.is_empty())
    }

    /// The report for people, at most 100 columns wide.
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "batches opened from {} to {}\n", time(self.since), time(self.until));
        write_counts(
            &mut out,
            &[
                (self.loaded, "loaded, says the ledger"),
                (self.not_in_s3, "of them no longer in S3: their seals could not be compared"),
                (self.waiting, "not loaded yet"),
                (self.faulty, "that do not add up"),
            ],
        );
        let Sums { received, loaded, quarantined, known, forgotten, duplicates, filtered, rejected } =
            self.sums;
        let rows = [quarantined, known, forgotten].into_iter().fold(loaded, u64::saturating_add);
        let counts = Counts { received, rows, duplicates, filtered, rejected, without_id: 0 };
        let _ = writeln!(out, "\nreceived  {counts}");
        let rows = count(rows);
        let [loaded, quarantined, known] = [loaded, quarantined, known].map(count);
        let forgotten = match forgotten {
            0 => String::new(),
            forgotten => format!(" + {} forgotten", count(forgotten)),
        };
        let _ = writeln!(
            out,
            "rows      {rows} = {loaded} loaded + {quarantined} quarantined + {known} already in the table{forgotten}"
        );
        let files = if self.deep {
            "every file was read, and its rows counted"
        } else {
            "files were compared with their seals by size and checksum, not read (--deep reads them)"
        };
        let _ = writeln!(out, "checked   {files}");
        let _ = writeln!(out, "{}", columns::wrap(self.table_check.what(), 10));
        if self.not_counted > 0 {
            let batches = counted(self.not_counted, "batch", "batches");
            let said = format!("{batches} of other schemas: not counted, their rows do not name their batch");
            let _ = writeln!(out, "{}", columns::wrap(&said, 10));
        }
        for Faulty { batch, faults } in &self.batches {
            let _ = writeln!(out, "\n{batch}");
            for named in faults {
                let _ = writeln!(out, "{}", columns::wrap(&named.what, 4));
            }
        }
        write_cut(&mut out, self.faulty, "batches", self.batches.len());
        for Day { day, first_received, last_received, what } in &self.days {
            let (first, last) = (time(*first_received), time(*last_received));
            let said = format!("of the batches of {day}, received {first} to {last}: {what}");
            let _ = writeln!(out, "\n{}", columns::wrap(&said, 0));
        }
        if let Some(hits) = &self.hits {
            self.show_hits(&mut out, hits);
        }
        out
    }

    fn show_hits(&self, out: &mut String, hits: &Hits) {
        let _ = writeln!(
            out,
            "\nhits      {}",
            match (hits.looked, hits.doubles.len()) {
                (false, _) => "not looked at: the schema has no hitIdHigh and hitIdLow".to_owned(),
                (true, 0) => "no hit stands more than once".to_owned(),
                (true, n) if hits.more => format!("more than {n} stand more than once"),
                (true, n) => format!("{n} stand more than once"),
            }
        );
        for Double { high, low, times, batches, unnamed } in &hits.doubles {
            let unnamed = match (batches, unnamed) {
                (_, 0) => String::new(),
                (Some(_), _) => format!(", and {unnamed} that do not name their batch"),
                (None, _) => ", which do not name their batch".to_owned(),
            };
            let of = match batches {
                Some((first, last)) if first != last => format!(", from {first} to {last}{unnamed}"),
                Some((first, _)) if unnamed.is_empty() => format!(", all in {first}"),
                Some((first, _)) => format!(", in {first}{unnamed}"),
                None => unnamed,
            };
            let _ = writeln!(
                out,
                "{}",
                columns::wrap(&format!("{high} {low}: {}{of}", counted(*times, "row", "rows")), 4)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_checked_is_said() {
        let now = shared::clock::Clock::system().wall();
        let mut report = Report::new(now, (now, now), false, TableCheck::EachDay);
        assert!(report.agrees());
        let table = report.table();
        assert!(table.contains("has no column of kind `batch`") && table.contains("not read"), "{table}");
        report.sums =
            Sums { received: 10, loaded: 5, quarantined: 1, known: 3, duplicates: 1, ..Sums::default() };
        let table = report.table();
        assert!(table.contains("rows      9 = 5 loaded + 1 quarantined + 3 already in the table"), "{table}");
        assert!(table.contains("received  10 = 9 rows + 1 duplicate +"), "{table}");
        let forgotten = Report { sums: Sums { loaded: 3, forgotten: 2, ..report.sums }, ..report.clone() };
        let table = forgotten.table();
        assert!(
            table.contains("rows      9 = 3 loaded + 1 quarantined + 3 already in the table + 2 forgotten\n"),
            "{table}"
        );
        report.doubles(None);
        assert!(report.agrees() && report.table().contains("not looked at"));
        let double = |batches: Option<(&str, &str)>, unnamed| Double {
            high: "1".into(),
            low: "2".into(),
            times: 2,
            batches: batches.map(|(first, last)| (first.to_owned(), last.to_owned())),
            unnamed,
        };
        for (found, said) in [
            (double(None, 0), "1 2: 2 rows\n"),
            (double(Some(("a", "a")), 0), "1 2: 2 rows, all in a\n"),
            (double(Some(("a", "b")), 0), "1 2: 2 rows, from a to b\n"),
            (double(Some(("a", "a")), 1), "1 2: 2 rows, in a, and 1 that do not name their batch\n"),
            (double(None, 2), "1 2: 2 rows, which do not name their batch\n"),
        ] {
            report.doubles(Some(vec![found]));
            assert!(!report.agrees() && report.table().contains(said), "{}", report.table());
        }
    }

    #[test]
    fn batches_that_the_table_cannot_tell_are_counted_and_are_no_fault() {
        let now = shared::clock::Clock::system().wall();
        let mut report = Report::new(now, (now, now), false, TableCheck::EachBatch);
        assert!(!report.table().contains("other schemas"), "{}", report.table());
        let mut facts = crate::facts::faults::tests::good();
        (facts.counts.unmarked, facts.counts.table) = (true, Some(0));
        for _ in 0..2 {
            report.add(&facts, crate::facts::faults::faults(&facts));
        }
        let table = report.table();
        let said = "2 batches of other schemas: not counted, their rows do not name their batch";
        assert!(report.agrees() && table.contains(said), "{table}");
    }
}
