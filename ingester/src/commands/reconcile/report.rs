//! The report of a comparison, for people and for programs.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::human::count;
use shared::ids::BatchId;
use state::inspect::columns;

use crate::commands::report::{LISTED, write_counts};
use crate::facts::judge::{Agreed, Matter};

/// Version of the JSON; it grows when a field changes its meaning or goes.
const REPORT_FORMAT: u32 = 1;

/// The report. Its fields are those of the JSON.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub format: u32,
    /// When it was begun.
    pub at: DateTime<Utc>,
    /// Batches opened since then were compared, and older ones that are not at their end.
    pub since: DateTime<Utc>,
    /// Whether nothing was mended.
    pub dry_run: bool,
    pub sides: Sides,
    /// Batches compared.
    pub compared: u64,
    pub agree: Agree,
    /// What was done, or with `dry_run` would be.
    pub mended: Listed<Mended>,
    /// What an operator has to decide.
    pub decide: Listed<Undecided>,
}

/// Where the three sides are, and whether they could be asked.
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

/// A list of bounded length, and how many there are.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Listed<T> {
    pub count: u64,
    /// The first [`LISTED`].
    pub list: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { count: 0, list: Vec::new() }
    }
}

impl<T> Listed<T> {
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
    /// The matter, for people.
    pub what: String,
    pub advice: String,
}

impl Report {
    /// A report on nothing yet.
    pub(super) fn new(at: DateTime<Utc>, since: DateTime<Utc>, dry_run: bool, sides: Sides) -> Self {
        let (agree, mended, decide) = (Agree::default(), Listed::default(), Listed::default());
        Self { format: REPORT_FORMAT, at, since, dry_run, sides, compared: 0, agree, mended, decide }
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

    pub(super) fn mended(&mut self, batch: BatchId, act: &'static str, outcome: String) {
        self.mended.push(Mended { batch, act, outcome });
    }

    pub(super) fn decide(&mut self, batch: BatchId, matter: Matter, outlook: Option<&str>) {
        let mut what = matter.what();
        if let Some(outlook) = outlook {
            let _ = write!(what, " ({outlook})");
        }
        let advice = matter.advice(batch);
        self.decide.push(Undecided { batch, matter, what, advice });
    }

    /// The report for people, at most 100 columns wide.
    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        let Sides { log, s3, ledger, .. } = &self.sides;
        for (side, said) in [("log", log), ("S3", s3), ("ledger", ledger)] {
            let _ = writeln!(out, "{side:8}{said}");
        }
        let _ = writeln!(out, "since   {} UTC", self.since.format("%Y-%m-%d %H:%M:%S"));
        let Agree { in_the_making, under_way, loaded, loaded_and_gone } = self.agree;
        let _ = writeln!(out, "\n{:>9}  batches compared", count(self.compared));
        let mended = if self.dry_run { "to be mended (nothing was: --dry-run)" } else { "mended" };
        write_counts(
            &mut out,
            &[
                (loaded, "loaded, and where they belong"),
                (
                    loaded_and_gone,
                    "loaded, and no longer in S3 (deleted when archived, or by a lifecycle rule)",
                ),
                (under_way, "going to be loaded or archived"),
                (in_the_making, "in the making: their producers are at them"),
                (self.mended.count, mended),
                (self.decide.count, "for a person to decide"),
            ],
        );
        for mended in &self.mended.list {
            let _ =
                write!(out, "\n{}  {}\n{}\n", mended.batch, mended.act, columns::wrap(&mended.outcome, 4));
        }
        for undecided in &self.decide.list {
            let Undecided { batch, what, advice, .. } = undecided;
            let _ = write!(out, "\n{batch}  decide\n{}\n{}\n", columns::wrap(what, 4), indented(advice));
        }
        for (listed, count, what) in [
            (self.mended.list.len(), self.mended.count, "mended"),
            (self.decide.list.len(), self.decide.count, "to decide"),
        ] {
            if count > listed as u64 {
                let _ = writeln!(out, "\nof {count} {what} the first {listed} are listed");
            }
        }
        out
    }
}

/// A line each, which are commands or short: not broken, so that they can be copied.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    → {line}")).collect::<Vec<_>>().join("\n")
}

impl Matter {
    /// What it is about, for people.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Lost { rows } => format!(
                "LOST: its producer published {rows} rows, and neither the ledger nor S3 knows anything of them"
            ),
            Self::SealGone => "its producer published it, and its folder has no seal any more".to_owned(),
            Self::NoSeal { asked: true } => {
                "a folder without seal, of which the producer of this machine knows nothing".to_owned()
            }
            Self::NoSeal { asked: false } => {
                "a folder without seal, whose producer could not be asked here".to_owned()
            }
            Self::SealUnusable { why } => format!("its seal cannot be used: {why}"),
            Self::ArchivedNotLoaded => "it is archived, and the ledger does not know it".to_owned(),
            Self::OtherSchema { schema } => format!(
                "its rows were made for schema {schema}, its seal does not name their columns, and this ingester \
                 has another schema"
            ),
            Self::Stuck { why, .. } => format!("it waits: {why}"),
            Self::LedgerTwice { times } => {
                format!("the ledger has it {times} times: its rows may stand in the table as often")
            }
            Self::RowsDiffer { sealed, loaded, quarantined, known } => format!(
                "{sealed} rows were sealed, the ledger says {loaded} loaded, {quarantined} quarantined and {known} in \
                 the table already"
            ),
            Self::LoadedWhileFilling => {
                "the ledger has it, and its producer still adds rows to it: they would not be loaded"
                    .to_owned()
            }
            Self::QuarantineUncounted => {
                "rows of it are in quarantine in S3, and the ledger does not know the batch".to_owned()
            }
            Self::QuarantineGone { rows } => {
                format!("the ledger counts {rows} quarantined rows, and there are none in S3")
            }
        }
    }

    /// What to do about it, a line each.
    pub(crate) fn advice(&self, batch: BatchId) -> String {
        match self {
            Self::Lost { .. } => "restore its folder from versions or a copy of the bucket".to_owned(),
            Self::SealGone => format!(
                "restore batch.json from an older version, or load what is there: ingester adopt {batch}"
            ),
            Self::NoSeal { asked: true } => {
                format!("if its producer is gone for good: ingester adopt {batch}")
            }
            Self::NoSeal { asked: false } => format!(
                "ask where its producer runs: state dump --batch {batch}\nif it is gone for good: ingester adopt {batch}"
            ),
            Self::SealUnusable { .. } => {
                "restore batch.json from an older version; if it is of a newer format, update the ingester"
                    .to_owned()
            }
            Self::ArchivedNotLoaded => format!(
                "its rows are not loaded, if the ledger is right; to load them: ingester adopt {batch}"
            ),
            Self::OtherSchema { .. } => {
                "load it with an ingester that has its [schema] (docs/OPERATIONS.md, Change of the schema)"
                    .to_owned()
            }
            Self::Stuck { .. } => format!("state dump --batch {batch}"),
            Self::LedgerTwice { .. } | Self::RowsDiffer { .. } => {
                format!("see what is in the table: ingester audit --since {}", batch.day())
            }
            Self::LoadedWhileFilling => {
                "find out how it came to have a seal; the producer's log has its rows".to_owned()
            }
            Self::QuarantineUncounted => {
                "its folder is gone: restore that from versions or a copy of the bucket".to_owned()
            }
            Self::QuarantineGone { .. } => format!(
                "restore Quarantine/{}/{batch}/ from versions or a copy of the bucket; then: ingester replay {batch}",
                batch.day().format("%Y%m%d")
            ),
        }
    }
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
        report.mended(a, "archive", "archived".to_owned());
        report.decide(b, Matter::Lost { rows: 10 }, Some("no producer answers"));
        let table = report.table();
        let at = |text: &str| table.find(text).unwrap_or_else(|| panic!("{text}: {table}"));
        assert!(at("1  mended") < at(&a.to_string()) && at(&a.to_string()) < at(&b.to_string()), "{table}");
        assert!(table.contains("LOST: its producer published 10 rows"), "{table}");
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
            report.mended(BatchId::new(), "load", String::new());
        }
        assert_eq!((report.mended.count, report.mended.list.len()), (1001, 1000));
        assert!(report.table().contains("of 1001 mended the first 1000 are listed"));
    }
}
