//! The subcommands, and the question that one of them asks before it deletes. What they change is one transaction each.

use std::collections::BTreeSet;
use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::human::{self, Span, count};
use shared::layout;
use shared::object_store::ObjectStore;

use super::show::Shown;
use crate::commands::connect::{connect, connect_as_owner, store_failed};
use crate::commands::terminal::{confirm, moment, print};
use crate::facts::listing::batches_of_day;
use crate::redshift::ledger_mark::{self, KnowsFrom};
use crate::redshift::ledger_trim::{Trimmed, trim};
use crate::redshift::{Session, Target};

/// `ingester ledger`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what the ledger speaks for, which pipeline it belongs to, and the runs in it.
    ///
    /// A run is one start of a producer, or one replay. Rows received before the time that is shown load staged: each is
    /// compared with the table by its hit id, so that none is there twice. Changes nothing.
    #[command(after_help = "Example:\n  ingester ledger show --json")]
    Show {
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Say since when the ledger knows every row of the table.
    ///
    /// For a table that another tool filled: the time at which that tool had surely stopped loading, or `now`. Until then a
    /// new ledger over a table with rows speaks for no time, and every load is staged: nothing is doubled, and each load
    /// costs more. It may be repeated with a later time. An earlier time would claim what the ledger may not know, and needs
    /// --force. Ingesters may run.
    #[command(after_help = "Example:\n  ingester ledger knows-from 2026-03-02T14:00:00Z")]
    KnowsFrom {
        /// Set this time (2026-03-02T14:00:00Z), a date, a duration before now (2h), `now`, or `none`: another tool fills the table
        /// from now on, and every load is to be compared with it.
        #[arg(value_name = "TIME")]
        time: String,
        /// Set an earlier time than the ledger has now.
        #[arg(long)]
        force: bool,
    },
    /// Delete ledger rows of old batches, so that the ledger stays small.
    ///
    /// Deletes the rows of batches that were loaded before that time. In the same transaction the time since which the ledger
    /// speaks moves behind the last of them: a hit of those times that comes again is compared with the table. A batch whose
    /// folder still stands below `s3.to_ingest`, or that has rows in quarantine, keeps its row. The table itself does not
    /// change. Ingesters may run.
    #[command(after_help = "Example:\n  ingester ledger trim --older-than 400d")]
    Trim {
        /// Delete rows of batches that were loaded longer ago than this, such as 400d.
        #[arg(long, value_name = "DURATION", value_parser = age)]
        older_than: Span,
        /// Do not ask for confirmation.
        #[arg(long)]
        yes: bool,
    },
}

fn age(text: &str) -> Result<Span, String> {
    let span = Span::parse(text).ok_or("write a number and one of s, m, h, d, such as 400d")?;
    if span.0.is_zero() {
        return Err("all batches would be meant; the latest are what loads are compared with".to_owned());
    }
    Ok(span)
}

/// Runs one of the commands: 64 when the time would go back or the answer is no, 69 or 78 when S3 or Redshift fails.
pub(crate) async fn command(
    config: &Config,
    command: &Command,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let target = Target::new(config, &schema, "ingester ledger".to_owned());
    let now = clock.wall();
    match command {
        Command::Show { json } => {
            let session = connect(config, clock).await?;
            print(&Shown::fetch(config, &session, &target, now).await?, Shown::text, *json, out)
        }
        Command::KnowsFrom { time, force } => {
            let to = match time.as_str() {
                "now" => Some(now),
                "none" => None,
                time => Some(moment(time, now)?),
            };
            let session = open(config, &target, clock).await?;
            report_set(ledger_mark::set_knows_from(&session, &target, to, *force).await?, to, out)
        }
        Command::Trim { older_than, yes } => {
            let before = before(*older_than, now)?;
            let ledger = &target.ledger;
            let question =
                format!("Delete from {ledger} the rows of batches loaded before {}?", human::time(before));
            confirm(*yes, &question, out)?;
            let store = ObjectStore::connect(&config.s3).await;
            // Before the ledger: what comes there later was not loaded that long ago.
            let mut waiting = BTreeSet::new();
            let is_day = |name: &str| layout::parse_day(name).is_some();
            for day in store.folders(&config.s3.to_ingest, is_day).await.map_err(store_failed)? {
                waiting.extend(batches_of_day(&store, &day).await.map_err(store_failed)?);
            }
            let session = open(config, &target, clock).await?;
            report_trimmed(&trim(&session, &target, before, &waiting).await?, out)
        }
    }
}

/// For a change of the ledger: refuses that of another pipeline, and makes the mark if no ingester has met it yet.
async fn open(config: &Config, target: &Target, clock: &Clock) -> Result<Session, Failure> {
    let store = ObjectStore::connect(&config.s3).await;
    let session = connect_as_owner(config, clock, &store, target).await?;
    ledger_mark::ensure(&session, target).await?;
    Ok(session)
}

fn before(older_than: Span, now: DateTime<Utc>) -> Result<DateTime<Utc>, Failure> {
    let age = TimeDelta::from_std(older_than.0).ok();
    let before = age.and_then(|age| now.checked_sub_signed(age));
    let error = || Failure::new(Exit::Usage, anyhow::anyhow!("--older-than is longer than time itself"));
    before.ok_or_else(error)
}

fn report_set(set: KnowsFrom, to: Option<DateTime<Utc>>, out: &mut impl Write) -> Result<(), Failure> {
    match set {
        KnowsFrom::Set { was } => {
            let time = |at: Option<DateTime<Utc>>| at.map(human::time);
            let was =
                time(was).map_or_else(|| "for no time".to_owned(), |was| format!("for rows since {was}"));
            let (now, others) = match time(to) {
                Some(to) => (format!("rows received since {to}"), "Older"),
                None => ("no time".to_owned(), "All"),
            };
            writeln!(
                out,
                "The ledger speaks for {now}; it spoke {was}. {others} rows are loaded the staged way."
            )?;
            Ok(())
        }
        KnowsFrom::Refused { was } => {
            let error = anyhow::anyhow!(
                "the ledger speaks for rows received since {}, not since {}: what it does not know would be loaded without \
                 a look at the table. Give --force if every row that the table has since then is in the ledger",
                human::time(was),
                to.map_or_else(String::new, human::time)
            );
            Err(Failure::new(Exit::Usage, error))
        }
    }
}

fn report_trimmed(trimmed: &Trimmed, out: &mut impl Write) -> Result<(), Failure> {
    let Trimmed { deleted, kept, knows_from } = trimmed;
    writeln!(out, "{} of the ledger deleted.", human::counted(*deleted, "row", "rows"))?;
    if *kept > 0 && knows_from.is_some() {
        let kept = count(*kept);
        writeln!(out, "{kept} as old stay: their folders wait in S3, or rows of them are in quarantine.")?;
    }
    match knows_from {
        Some(from) => writeln!(out, "The ledger speaks for rows received since {}.", human::time(*from))?,
        None => {
            let first = "before it is trimmed, say since when: see `ingester ledger knows-from --help`";
            writeln!(out, "The ledger speaks for no time yet; {first}.")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn going_back_is_refused_with_both_times_and_the_way_out() {
        let (was, to) = (at("2026-03-02T14:00:00Z"), at("2026-03-01T00:00:00Z"));
        let refused = report_set(KnowsFrom::Refused { was }, Some(to), &mut Vec::new()).unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
        let said = refused.to_string();
        for part in ["since 2026-03-02 14:00:00 UTC", "since 2026-03-01 00:00:00 UTC", "--force"] {
            assert!(said.contains(part), "{said}");
        }
        let mut out = Vec::new();
        report_set(KnowsFrom::Set { was: None }, Some(to), &mut out).unwrap();
        let said = String::from_utf8(out).unwrap();
        assert!(said.contains("since 2026-03-01 00:00:00 UTC; it spoke for no time"), "{said}");
    }

    #[test]
    fn what_a_trim_left_and_what_the_ledger_speaks_for_then_is_told() {
        let mut out = Vec::new();
        let trimmed = Trimmed { deleted: 1200, kept: 3, knows_from: Some(at("2026-03-02T14:00:00Z")) };
        report_trimmed(&trimmed, &mut out).unwrap();
        let said = String::from_utf8(out).unwrap();
        for part in ["1,200 rows of the ledger deleted", "3 as old stay", "since 2026-03-02 14:00:00 UTC"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn an_age_is_a_duration_before_now() {
        let now = at("2026-03-02T14:00:00Z");
        assert_eq!(before(age("2d").unwrap(), now).unwrap(), at("2026-02-28T14:00:00Z"));
        assert!(age("0s").is_err() && age("two days").is_err());
    }
}
