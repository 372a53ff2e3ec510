//! `ingester ledger`: what the ledger speaks for, and how a person says or shortens that.
//!
//! A load goes the plain way only for times the ledger can speak for. Since when it can is said by its mark; a table that
//! another tool filled, and a ledger of which rows were deleted, move that time.

pub(crate) mod show;

use std::collections::BTreeSet;
use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::human::{Span, count};
use shared::ids::BatchId;
use shared::object_store::{ObjectStore, StoreError};

use crate::commands::confirm::confirm;
use crate::commands::connect::{connect, failed};
use crate::commands::ledger::show::Shown;
use crate::commands::since;
use crate::identity::Identity;
use crate::redshift::mark::{self, KnowsFrom};
use crate::redshift::trim::{Trimmed, trim};
use crate::redshift::{Session, SqlFailure, Target, errors, runs};

/// `ingester ledger`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what the ledger speaks for, which pipeline it belongs to, and the runs in it.
    ///
    /// A run is one start of a producer, or one replay. Rows received before the time that is shown are loaded the staged
    /// way: each is compared with the table by its hit id, so that none is there twice. Changes nothing.
    Show(Show),
    /// Say since when the ledger knows every row of the table.
    ///
    /// For a table that another tool filled: the time at which that tool had surely stopped loading, or `now`. Until it is
    /// said, a new ledger over a table with rows speaks for no time, and every load is staged: nothing is doubled, and each
    /// load costs more. It may be repeated with a later time; an earlier one would claim to know what it may not, and needs
    /// --force. Ingesters may run.
    KnowsFrom(KnowsFromArgs),
    /// Delete ledger rows of old batches, so that the ledger stays small.
    ///
    /// Deletes the rows of batches that were loaded before that time and move, in the same transaction, the time since which
    /// the ledger speaks to behind the last of them: a hit of those times that comes again is compared with the table. Rows
    /// stay of batches whose folder still stands below `s3.to_ingest`, and of those with rows in quarantine. The table itself
    /// is not touched. Ingesters may run.
    Trim(Trim),
}

/// `ingester ledger show`
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// `ingester ledger knows-from`
#[derive(Debug, clap::Args)]
pub(crate) struct KnowsFromArgs {
    /// A time (2026-03-02T14:00:00Z), a date, a duration before now (2h), `now`, or `none`: another tool fills the table
    /// from now on, and every load is to be compared with it.
    #[arg(value_name = "TIME")]
    pub time: String,
    /// Also if the ledger speaks for a later time only as it is now.
    #[arg(long)]
    pub force: bool,
}

/// `ingester ledger trim`
#[derive(Debug, clap::Args)]
pub(crate) struct Trim {
    /// How long ago a batch was loaded, such as 400d.
    #[arg(long, value_name = "DURATION", value_parser = age)]
    pub older_than: Span,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

fn age(text: &str) -> Result<Span, String> {
    let span = Span::parse(text).ok_or("write a number and one of s, m, h, d, such as 400d")?;
    if span.0.is_zero() {
        return Err("all batches would be meant; the latest are what loads are compared with".to_owned());
    }
    Ok(span)
}

/// Does what was asked.
///
/// # Errors
/// 64 when it would go back or the answer is no, 69 or 78 when S3 or Redshift cannot be asked.
pub(crate) async fn command(config: &Config, command: &Command, out: &mut impl Write) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let target = Target::new(config, &schema, "ingester ledger".to_owned());
    match command {
        Command::Show(args) => {
            let session = connect(config).await?;
            let shown = look(&session, &target).await.map_err(|error| sql_failed(&error))?;
            let shown = Shown::new(config, &target, Utc::now(), shown);
            if args.json {
                let json = serde_json::to_string_pretty(&shown);
                writeln!(out, "{}", json.map_err(|error| Failure::new(Exit::Software, error))?)?;
            } else {
                write!(out, "{}", shown.text())?;
            }
            Ok(())
        }
        Command::KnowsFrom(args) => {
            let now = Utc::now();
            let to = match args.time.as_str() {
                "now" => Some(now),
                "none" => None,
                time => Some(since::moment(time, now)?),
            };
            let session = connect(config).await?;
            refuse_foreign(config, &session, &target).await?;
            // A ledger that no ingester has met yet gets its mark first.
            mark::ensure(&session, &target).await.map_err(|trouble| failed(&trouble))?;
            let set = mark::set_knows_from(&session, &target, to, args.force).await;
            told(set.map_err(|trouble| failed(&trouble))?, to, out)
        }
        Command::Trim(args) => {
            let before = before(&args.older_than, Utc::now())?;
            let ledger = &config.redshift.ledger;
            let question =
                format!("Delete from {ledger} the rows of batches loaded before {}?", seconds(before));
            confirm(args.yes, &question, out)?;
            let store = ObjectStore::connect(&config.s3).await;
            // Before the ledger: what comes there later was not loaded that long ago.
            let waiting =
                waiting(&store, &config.s3.to_ingest).await.map_err(|error| failed(&error.into()))?;
            let session = connect(config).await?;
            refuse_foreign(config, &session, &target).await?;
            mark::ensure(&session, &target).await.map_err(|trouble| failed(&trouble))?;
            let trimmed = trim(&session, &target, before, &waiting).await;
            trimmed_told(&trimmed.map_err(|trouble| failed(&trouble))?, out)
        }
    }
}

/// A ledger or a prefix of another pipeline is left alone.
async fn refuse_foreign(config: &Config, session: &Session, target: &Target) -> Result<(), Failure> {
    let identity = Identity::new(config, ObjectStore::connect(&config.s3).await);
    identity.refuse_foreign(session, target).await.map_err(|trouble| failed(&trouble))
}

async fn look(session: &Session, target: &Target) -> Result<show::Asked, SqlFailure> {
    let mark = mark::read(session, target).await?;
    Ok((mark, runs::runs(session, target, show::RUNS).await?))
}

fn sql_failed(error: &SqlFailure) -> Failure {
    failed(&errors::trouble(error, "reading the ledger"))
}

/// The time that is `older_than` ago.
fn before(older_than: &Span, now: DateTime<Utc>) -> Result<DateTime<Utc>, Failure> {
    let age = TimeDelta::from_std(older_than.0).ok();
    let before = age.and_then(|age| now.checked_sub_signed(age));
    before
        .ok_or_else(|| Failure::new(Exit::Usage, anyhow::anyhow!("--older-than is longer than time itself")))
}

/// The batches that have a folder below `prefix`.
async fn waiting(store: &ObjectStore, prefix: &str) -> Result<BTreeSet<BatchId>, StoreError> {
    let mut waiting = BTreeSet::new();
    for day in store.folders(prefix).await? {
        let folders = store.folders(&day).await?;
        let id = |folder: &String| folder.strip_prefix(&day)?.strip_suffix('/')?.parse::<BatchId>().ok();
        waiting.extend(folders.iter().filter_map(id));
    }
    Ok(waiting)
}

fn told(set: KnowsFrom, to: Option<DateTime<Utc>>, out: &mut impl Write) -> Result<(), Failure> {
    match set {
        KnowsFrom::Set { was } => {
            let was = was
                .map_or_else(|| "for no time".to_owned(), |was| format!("for rows since {}", seconds(was)));
            match to {
                Some(to) => writeln!(
                    out,
                    "The ledger speaks for rows received since {}; it spoke {was}. Older rows are loaded the staged way.",
                    seconds(to)
                )?,
                None => writeln!(
                    out,
                    "The ledger speaks for no time; it spoke {was}. All rows are loaded the staged way."
                )?,
            }
            Ok(())
        }
        KnowsFrom::Refused { was } => {
            let error = anyhow::anyhow!(
                "the ledger speaks for rows received since {}, not since {}: what it does not know would be loaded without \
                 a look at the table. Give --force if every row that the table has since then is in the ledger",
                seconds(was),
                to.map_or_else(String::new, seconds)
            );
            Err(Failure::new(Exit::Usage, error))
        }
    }
}

fn trimmed_told(trimmed: &Trimmed, out: &mut impl Write) -> Result<(), Failure> {
    let Trimmed { deleted, kept, knows_from } = trimmed;
    writeln!(out, "{} rows of the ledger were deleted.", count(*deleted))?;
    if *kept > 0 && knows_from.is_some() {
        let kept = count(*kept);
        writeln!(out, "{kept} as old stay: their folders wait in S3, or rows of them are in quarantine.")?;
    }
    match knows_from {
        Some(from) => writeln!(out, "The ledger speaks for rows received since {}.", seconds(*from))?,
        None => {
            let first = "before it is trimmed, say since when: see `ingester ledger knows-from --help`";
            writeln!(out, "The ledger speaks for no time yet; {first}.")?;
        }
    }
    Ok(())
}

/// A time for people.
fn seconds(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
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
        let refused = told(KnowsFrom::Refused { was }, Some(to), &mut Vec::new()).unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
        let said = refused.to_string();
        for part in ["since 2026-03-02 14:00:00 UTC", "since 2026-03-01 00:00:00 UTC", "--force"] {
            assert!(said.contains(part), "{said}");
        }
        let mut out = Vec::new();
        told(KnowsFrom::Set { was: None }, Some(to), &mut out).unwrap();
        let said = String::from_utf8(out).unwrap();
        assert!(said.contains("since 2026-03-01 00:00:00 UTC; it spoke for no time"), "{said}");
    }

    #[test]
    fn what_a_trim_left_and_what_the_ledger_speaks_for_then_is_told() {
        let mut out = Vec::new();
        let trimmed = Trimmed { deleted: 1200, kept: 3, knows_from: Some(at("2026-03-02T14:00:00Z")) };
        trimmed_told(&trimmed, &mut out).unwrap();
        let said = String::from_utf8(out).unwrap();
        for part in
            ["1,200 rows of the ledger were deleted", "3 as old stay", "since 2026-03-02 14:00:00 UTC"]
        {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn an_age_is_a_duration_before_now() {
        let now = at("2026-03-02T14:00:00Z");
        assert_eq!(before(&age("2d").unwrap(), now).unwrap(), at("2026-02-28T14:00:00Z"));
        assert!(age("0s").is_err() && age("two days").is_err());
    }
}
