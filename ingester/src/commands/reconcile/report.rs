//! The report of a comparison, for people and for programs.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::ids::BatchId;
use state::inspect::columns;

use crate::commands::terminal::{FORMAT, LISTED, write_counts, write_cut};
use crate::facts::judge::{Agreed, Matter};
use shared::human::time;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub format: u32,
    pub at: DateTime<Utc>,
    /// Batches opened since then were compared, and older ones that are not at their end.
    pub since: DateTime<Utc>,
    pub dry_run: bool,
    pub sides: Sides,
    pub compared: u64,
    pub agree: Agree,
    /// What was done, or with `dry_run` would be.
    pub mended: Listed<Mended>,
    pub decide: Listed<Undecided>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Sides {
    pub log: String,
    /// Without the log lost batches are not noticed.
    pub log_asked: bool,
    pub s3: String,
    pub ledger: String,
}

/// Batches that agree ([`Agreed`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Agree {
    pub in_the_making: u64,
    pub under_way: u64,
    pub loaded: u64,
    pub loaded_and_gone: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Listed<T> {
    pub count: u64,
    /// The first [`LISTED`].
    pub list: Vec<T>,
}

impl<T> Listed<T> {
    const NONE: Self = Self { count: 0, list: Vec::new() };

    fn push(&mut self, one: T) {
        self.count += 1;
        if self.list.len() < LISTED {
            self.list.push(one);
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Mended {
    pub batch: BatchId,
    /// `load`, `archive`, `tidy` or `republish`.
    pub act: &'static str,
    pub outcome: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Undecided {
    pub batch: BatchId,
    #[serde(flatten)]
    pub matter: Matter,
    pub what: String,
    pub advice: String,
}

impl Report {
    pub(super) fn new(at: DateTime<Utc>, since: DateTime<Utc>, dry_run: bool, sides: Sides) -> Self {
        let (agree, mended, decide) = (Agree::default(), Listed::NONE, Listed::NONE);
        Self { format: FORMAT, at, since, dry_run, sides, compared: 0, agree, mended, decide }
    }

    pub(super) fn agrees(&mut self, agreed: Agreed) {
        let counter = match agreed {
            Agreed::InTheMaking => &mut self.agree.in_the_making,
            Agreed::UnderWay => &mut self.agree.under_way,
            Agreed::Loaded => &mut self.agree.loaded,
            Agreed::LoadedAndGone => &mut self.agree.loaded_and_gone,
        };
        *counter += 1;
    }

    pub(super) fn mended(&mut self, batch: BatchId, act: &'static str, outcome: impl Into<String>) {
        self.mended.push(Mended { batch, act, outcome: outcome.into() });
    }

    pub(super) fn decide(&mut self, batch: BatchId, matter: Matter, outlook: Option<&str>) {
        let outlook = outlook.map_or_else(String::new, |outlook| format!(" ({outlook})"));
        let (what, advice) = (format!("{matter}{outlook}"), advice(&matter, batch));
        self.decide.push(Undecided { batch, matter, what, advice });
    }

    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        let Sides { log, s3, ledger, .. } = &self.sides;
        for (side, said) in [("log", log), ("S3", s3), ("ledger", ledger), ("since", &time(self.since))] {
            let _ = writeln!(out, "{side:8}{said}");
        }
        let mended = if self.dry_run { "to be mended (nothing was: --dry-run)" } else { "mended" };
        let gone = "loaded, and no longer in S3 (deleted when archived, or by a lifecycle rule)";
        out.push('\n');
        write_counts(
            &mut out,
            &[
                (self.compared, "batches compared"),
                (self.agree.loaded, "loaded, and where they belong"),
                (self.agree.loaded_and_gone, gone),
                (self.agree.under_way, "going to be loaded or archived"),
                (self.agree.in_the_making, "in the making: their producers are at them"),
                (self.mended.count, mended),
                (self.decide.count, "for an operator to decide"),
            ],
        );
        for Mended { batch, act, outcome } in &self.mended.list {
            let _ = write!(out, "\n{batch}  {act}\n{}\n", columns::wrap(outcome, 4));
        }
        for Undecided { batch, what, advice, .. } in &self.decide.list {
            let _ = write!(out, "\n{batch}  decide\n{}\n", columns::wrap(what, 4));
            // Commands, or short: not broken, so that they can be copied.
            for line in advice.lines() {
                let _ = writeln!(out, "    → {line}");
            }
        }
        write_cut(&mut out, self.mended.count, "mended", self.mended.list.len());
        write_cut(&mut out, self.decide.count, "to decide", self.decide.list.len());
        out
    }
}

/// What to do about a matter, a line each.
fn advice(matter: &Matter, batch: BatchId) -> String {
    let text = match matter {
        Matter::Lost { .. } => "restore its folder from versions or a copy of the bucket",
        Matter::SealGone => {
            "restore batch.json from an older version, or load what is there: ingester adopt BATCH"
        }
        Matter::NoSeal { asked: true } => "if its producer is gone for good: ingester adopt BATCH",
        Matter::NoSeal { asked: false } => {
            "ask where its producer runs: state dump --batch BATCH\nif it is gone for good: ingester adopt BATCH"
        }
        Matter::SealUnusable { .. } => {
            "restore batch.json from an older version; if it is of a newer format, update the ingester"
        }
        Matter::ArchivedNotLoaded => {
            "its rows are not loaded, if the ledger is right; to load them: ingester adopt BATCH"
        }
        Matter::OtherSchema { .. } => {
            "load it with an ingester that has its [schema] (docs/OPERATIONS.md, Change of the schema)"
        }
        Matter::Stuck { .. } => "state dump --batch BATCH",
        Matter::LedgerTwice { .. } | Matter::RowsDiffer { .. } => {
            "see what is in the table: ingester audit --since DAY"
        }
        Matter::LoadedWhileFilling => "find out how it came to have a seal; the producer's log has its rows",
        Matter::QuarantineUncounted => {
            "its folder is gone: restore that from versions or a copy of the bucket"
        }
        Matter::QuarantineGone { .. } => {
            "restore Quarantine/FOLDER/BATCH/ from versions or a copy of the bucket; then: ingester replay BATCH"
        }
    };
    let (day, folder) = (batch.day().to_string(), batch.day().format("%Y%m%d").to_string());
    text.replace("BATCH", &batch.to_string()).replace("DAY", &day).replace("FOLDER", &folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_summary_first_then_what_was_mended_then_what_to_decide() {
        let now = shared::clock::Clock::system().wall();
        let mut report = Report::new(now, now, false, Sides::default());
        let (a, b) = (BatchId::new(), BatchId::new());
        report.compared = 3;
        report.agrees(Agreed::Loaded);
        report.mended(a, "archive", "archived");
        report.decide(b, Matter::Lost { rows: 10 }, Some("no producer answers"));
        let table = report.table();
        let at = |text: &str| table.find(text).unwrap_or_else(|| panic!("{text}: {table}"));
        assert!(at("1  mended") < at(&a.to_string()) && at(&a.to_string()) < at(&b.to_string()), "{table}");
        assert!(table.contains("LOST: the producer published 10 rows"), "{table}");
        let unwrapped = table.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(unwrapped.contains("(no producer answers)"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["decide"]["list"][0]["matter"], "lost");
        assert_eq!(json["decide"]["count"], 1);
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let now = shared::clock::Clock::system().wall();
        let mut report = Report::new(now, now, true, Sides::default());
        for _ in 0..=LISTED {
            report.mended(BatchId::new(), "load", "");
        }
        assert_eq!((report.mended.count, report.mended.list.len()), (1001, 1000));
        assert!(report.table().contains("of 1001 mended the first 1000 are listed"));
    }
}
