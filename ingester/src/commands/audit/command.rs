//! Counts a day at a time, so that memory holds one day's batches.

use std::collections::BTreeSet;
use std::io::Write;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::BatchId;
use shared::object_store::ObjectStore;

use crate::commands::audit::report::{Day, Report, TableCheck};
use crate::commands::connect::{connect, sql_failed};
use crate::commands::terminal::{bar, moment, print};
use crate::facts::batch::Facts;
use crate::facts::count::Counter;
use crate::facts::faults::faults;
use crate::facts::gather::{Part, Sources};
use crate::failure::LoadFailure;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::table_counts::{self, KeyColumns};
use crate::redshift::{Target, ledger};

/// `ingester audit`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Count batches opened since then: a duration before now (7d), a date or a time.
    #[arg(long, value_name = "WHEN")]
    pub since: String,
    /// Count batches opened before then.
    #[arg(long, value_name = "WHEN", default_value = "0s")]
    pub until: String,
    /// Read every file and count its rows; otherwise files are compared with their seals by size and checksum.
    #[arg(long)]
    pub deep: bool,
    /// Also look for hits whose rows stand in the table more than once: groups all rows of the time by hit id.
    #[arg(long)]
    pub hits: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// 65 when something does not agree; 69 or 78 when S3 or Redshift cannot be asked.
pub(crate) async fn command(
    config: &Config,
    args: &Args,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let now = clock.wall();
    let (since, until) = (moment(&args.since, now)?, moment(&args.until, now)?);
    if since >= until {
        let error = anyhow::anyhow!("--since {} is not before --until {}", args.since, args.until);
        return Err(Failure::new(Exit::Usage, error));
    }
    let schema = config.schema.load()?;
    let (key_columns, target) =
        (KeyColumns::of(&schema), Target::new(config, &schema, "ingester audit".to_owned()));
    let (store, session) = (ObjectStore::connect(&config.s3).await, connect(config, clock).await?);
    let sources = Sources { store: &store, config, target: &target, session: &session, now };
    let audit = Audit {
        counter: Counter { sources, key_columns: &key_columns, deep: args.deep },
        bar: bar(0, "batches"),
    };
    let mut report = Report::new(now, (since, until), args.deep, TableCheck::by(&key_columns));
    for day in since.date_naive().iter_days().take_while(|day| *day <= until.date_naive()) {
        audit.add_day(day, (since, until), &mut report).await?;
    }
    audit.bar.finish_and_clear();
    if args.hits {
        let found = table_counts::doubles(&session, &target, &key_columns, (since, until)).await;
        report.doubles(found.map_err(sql_failed(Doing::Count))?);
    }
    print(&report, Report::table, args.json, out)?;
    if report.agrees() {
        return Ok(());
    }
    Err(Failure::new(Exit::Data, anyhow::anyhow!("not everything adds up: see the report")))
}

struct Audit<'a> {
    counter: Counter<'a>,
    bar: ProgressBar,
}

impl Audit<'_> {
    /// What moves while it is counted can look wrong: such batches are counted again, and only that result is reported.
    async fn add_day(
        &self,
        day: NaiveDate,
        (since, until): (DateTime<Utc>, DateTime<Utc>),
        report: &mut Report,
    ) -> Result<(), LoadFailure> {
        let midnight = day.and_time(NaiveTime::MIN).and_utc();
        let part = (midnight.max(since), (midnight + TimeDelta::days(1)).min(until));
        let mut doubtful = BTreeSet::new();
        for facts in self.count(part, None).await? {
            if faults(&facts).is_empty() {
                report.add(&facts, Vec::new());
            } else {
                doubtful.insert(facts.batch);
            }
        }
        if !doubtful.is_empty() {
            for facts in self.count(part, Some(&doubtful)).await? {
                report.add(&facts, faults(&facts));
            }
        }
        if self.received(day, part).await?.is_some()
            && let Some(fault) = self.received(day, part).await?
        {
            report.days.push(fault);
        }
        Ok(())
    }

    async fn count(&self, part: Part, only: Option<&BTreeSet<BatchId>>) -> Result<Vec<Facts>, LoadFailure> {
        let batches = self.counter.batches(part, only).await?;
        let bar = if only.is_none() { self.bar.clone() } else { ProgressBar::hidden() };
        bar.inc_length(batches.len() as u64);
        let counting = batches.into_iter().map(|facts| self.counter.count(facts));
        let counted = futures_util::stream::iter(counting).buffered(self.counter.sources.config.s3.uploads);
        counted.inspect_ok(|_| bar.inc(1)).try_collect().await
    }

    /// What is wrong with one day's rows together, where they tell when they were received and not their batch.
    async fn received(&self, day: NaiveDate, part: Part) -> Result<Option<Day>, LoadFailure> {
        let Counter { sources: Sources { session, target, .. }, key_columns, .. } = &self.counter;
        let (None, Some(column)) = (&key_columns.batch, &key_columns.received) else { return Ok(None) };
        let rows = ledger::read(session, target, part.0, part.1).await.doing(Doing::Count)?;
        let first = rows.iter().filter_map(|row| row.first_received).min();
        let last = rows.iter().filter_map(|row| row.last_received).max();
        let (Some(first_received), Some(last_received)) = (first, last) else { return Ok(None) };
        let received = table_counts::received(session, target, column, (first_received, last_received)).await;
        let fault = received.doing(Doing::Count)?.fault();
        Ok(fault.map(|what| Day { day, first_received, last_received, what }))
    }
}
