//! What `ingester ledger show` prints, for people and for programs.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::config::Config;
use shared::exit::Failure;
use shared::human::{count, counted, time};
use state::inspect::columns;

use crate::commands::connect::sql_failed;
use crate::commands::terminal::FORMAT;
use crate::redshift::doing::Doing;
use crate::redshift::ledger::{self, RunRow};
use crate::redshift::{Session, Target, ledger_mark};

/// Runs that are asked for, the latest.
const RUNS: usize = 1000;
const SHOWN: usize = 20;

/// What `ingester ledger show --json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    format: u32,
    at: DateTime<Utc>,
    ledger: String,
    /// The id of the pipeline; None: no ingester of this version has met the ledger yet.
    pipeline: Option<String>,
    /// The table it speaks of; None as before.
    table: Option<String>,
    /// The ledger speaks for every row of the table that was received then or later; None: for no time.
    knows_from: Option<DateTime<Utc>>,
    /// Whether hits can be compared with the table at all; without it every load is plain.
    comparable: bool,
    /// Rows that `ingester forget` has taken out, all together.
    rows_forgotten: u64,
    /// The latest 1000 runs, by when they loaded last; the latest first.
    runs: Vec<RunRow>,
}

impl Shown {
    pub(super) async fn fetch(
        config: &Config,
        session: &Session,
        target: &Target,
        at: DateTime<Utc>,
    ) -> Result<Self, Failure> {
        let failed = sql_failed(Doing::ReadLedger);
        let mark = ledger_mark::read(session, target).await.map_err(&failed)?;
        let knows_from = mark.as_ref().and_then(|mark| mark.knows_from);
        let (pipeline, table) = mark.map(|mark| (mark.pipeline, mark.table)).unzip();
        Ok(Self {
            format: FORMAT,
            at,
            ledger: config.redshift.ledger.unquoted(),
            pipeline,
            table,
            knows_from,
            comparable: target.comparable().is_some(),
            rows_forgotten: ledger::count_forgotten(session, target).await.map_err(&failed)?,
            runs: ledger::fetch_runs(session, target, RUNS).await.map_err(failed)?,
        })
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "ledger    {}", self.ledger);
        let (Some(pipeline), Some(table)) = (&self.pipeline, &self.table) else {
            let _ =
                writeln!(out, "          no ingester of this version has met it yet: `ingester run` does");
            return out;
        };
        let _ = writeln!(out, "table     {table}\npipeline  {pipeline}");
        let (speaks, advice) = self.speaks();
        let _ = writeln!(out, "speaks    {speaks}\n{}", columns::wrap(advice, 10));
        if self.rows_forgotten > 0 {
            let rows = counted(self.rows_forgotten, "row", "rows");
            let _ = writeln!(out, "forgotten {rows} taken out of table and quarantine by `ingester forget`");
        }
        if self.runs.is_empty() {
            out.push_str("\nno batches yet\n");
            return out;
        }
        let _ = writeln!(
            out,
            "\n{:36}  {:12}  {:>7}  {:>12}  {:11}  to",
            "run", "instance", "batches", "rows", "received"
        );
        for run in self.runs.iter().take(SHOWN) {
            let time = |at: Option<DateTime<Utc>>| {
                at.map_or_else(|| "-".to_owned(), |at| at.format("%m-%d %H:%M").to_string())
            };
            let _ = writeln!(
                out,
                "{:36}  {:12}  {:>7}  {:>12}  {:11}  {}",
                run.run.as_deref().unwrap_or("of earlier versions"),
                run.instance,
                count(run.batches),
                count(run.rows_loaded),
                time(run.first_received),
                time(run.last_received),
            );
        }
        let older = self.runs.len().saturating_sub(SHOWN);
        if older > 0 {
            let _ = writeln!(out, "({} older ones; --json has the latest {RUNS})", count(older as u64));
        }
        out
    }

    fn speaks(&self) -> (String, &'static str) {
        if !self.comparable {
            return (
                "for nothing that could be compared".to_owned(),
                "the schema lacks hitIdHigh, hitIdLow or receivedTimeGMT: every load is plain, and what two runs both \
                 received is in the table twice",
            );
        }
        match self.knows_from {
            None => (
                "for no time yet".to_owned(),
                "another tool filled the table: every load is staged. When that tool has stopped, say so: ingester ledger \
                 knows-from now",
            ),
            Some(from) if from <= DateTime::UNIX_EPOCH => (
                "for every row of the table".to_owned(),
                "loads are staged only for what their producer could not compare, or another run may have loaded too",
            ),
            Some(from) => (
                format!("for rows received since {}", time(from)),
                "loads of older rows are staged; later ones only for what their producer could not compare, or another run \
                 may have loaded too",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(knows_from: Option<DateTime<Utc>>, comparable: bool, runs: usize) -> String {
        let at: DateTime<Utc> = "2026-03-02T14:00:00Z".parse().unwrap();
        let run = |n| RunRow {
            run: (n > 0).then(|| "019caeda-ca6f-73aa-8f0b-91c6d2e85f03".to_owned()),
            instance: "web-1".to_owned(),
            batches: 12,
            rows_loaded: 120_000,
            rows_forgotten: 0,
            last_number: Some(9),
            first_received: Some(at),
            last_received: None,
            last_loaded: Some(at),
        };
        let shown = Shown {
            format: FORMAT,
            at,
            ledger: "public.ledger".to_owned(),
            pipeline: Some("p".to_owned()),
            table: Some("public.hits".to_owned()),
            knows_from,
            comparable,
            rows_forgotten: runs as u64,
            runs: (0..runs).map(run).collect(),
        };
        let text = shown.text();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        text
    }

    #[test]
    fn what_it_speaks_for_comes_first_with_what_to_do() {
        let none = shown(None, true, 0);
        assert!(none.contains("speaks    for no time yet") && none.contains("knows-from now"), "{none}");
        assert!(none.contains("no batches yet") && !none.contains("forgotten"), "{none}");
        let all = shown(Some(DateTime::UNIX_EPOCH), true, 1);
        assert!(all.contains("speaks    for every row of the table"), "{all}");
        assert!(all.contains("\nforgotten 1 row taken out"), "{all}");
        assert!(all.contains("of earlier versions") && all.contains("120,000"), "{all}");
        let since = shown(Some("2026-03-02T14:00:00Z".parse().unwrap()), true, 30);
        assert!(since.contains("for rows received since 2026-03-02 14:00:00 UTC"), "{since}");
        assert!(since.contains("(10 older ones"), "{since}");
        assert!(shown(None, false, 0).contains("every load is plain"));
    }

    #[test]
    fn a_ledger_without_mark_says_who_makes_it() {
        let mut shown = Shown {
            format: FORMAT,
            at: DateTime::UNIX_EPOCH,
            ledger: "l".to_owned(),
            pipeline: None,
            table: None,
            knows_from: None,
            comparable: true,
            rows_forgotten: 0,
            runs: Vec::new(),
        };
        assert!(shown.text().contains("`ingester run` does"));
        shown.pipeline = Some("p".to_owned());
        shown.table = Some("t".to_owned());
        assert!(shown.text().contains("for no time yet"));
    }
}
