//! `ingester audit`: counts again, in S3 and in the table, and names whatever does not agree with the ledger.
//!
//! A day at a time, so that memory holds one day's batches. It changes nothing.

pub(crate) mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::{ObjectStore, SMALL, StoreError};
use shared::seal::{MAX_OBJECT_BYTES, Seal};

use crate::commands::audit::report::{Report, TableCheck};
use crate::commands::reconcile::{connect, failed};
use crate::commands::since;
use crate::facts::compare::{Facts, Place, faults, is_unmarked, share_out};
use crate::facts::rows::{self, Watched};
use crate::redshift::counts::{self, Marks};
use crate::redshift::ledger::LedgerRow;
use crate::redshift::look::derived_id;
use crate::redshift::{Session, SqlFailure, Target, errors, ledger};

/// `ingester audit`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Count batches opened since then: a duration before now (7d), a date or a time.
    #[arg(long, value_name = "WHEN")]
    pub since: String,
    /// And before then.
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

/// Counts, compares and prints the report.
///
/// # Errors
/// 65 when something does not agree; 69 or 78 when S3 or Redshift cannot be asked.
pub(crate) async fn command(config: &Config, args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let now = Utc::now();
    let (since, until) = (since::moment(&args.since, now)?, since::moment(&args.until, now)?);
    if since >= until {
        let error = anyhow::anyhow!("--since {} is not before --until {}", args.since, args.until);
        return Err(Failure::new(Exit::Usage, error));
    }
    let schema = config.schema.load()?;
    let audit = Audit {
        target: Target::new(config, &schema, "ingester audit".to_owned()),
        store: ObjectStore::connect(&config.s3).await,
        session: connect(config).await?,
        marks: Marks::of(&schema),
        bar: bar(),
        deep: args.deep,
        config,
    };
    let mut report = Report::new(now, (since, until), args.deep, TableCheck::by(&audit.marks));
    for day in since.date_naive().iter_days().take_while(|day| *day <= until.date_naive()) {
        audit.day(day, (since, until), &mut report).await?;
    }
    audit.bar.finish_and_clear();
    if args.hits {
        let found = counts::doubles(&audit.session, &audit.target, &audit.marks, (since, until)).await;
        report.doubles(found.map_err(|error| sql_failed(&error))?);
    }
    if args.json {
        let json = serde_json::to_string_pretty(&report);
        writeln!(out, "{}", json.map_err(|error| Failure::new(Exit::Software, error))?)?;
    } else {
        write!(out, "{}", report.table())?;
    }
    if report.agrees() {
        return Ok(());
    }
    Err(Failure::new(Exit::Data, anyhow::anyhow!("not everything adds up: see the report")))
}

/// Shown where somebody looks.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = "{elapsed_precise} {bar:24} {pos} of {len} batches  {msg}";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn sql_failed(error: &SqlFailure) -> Failure {
    failed(&errors::trouble(error, "counting"))
}

/// The part of a day that lies in the time asked about.
fn part_of(day: NaiveDate, (since, until): (DateTime<Utc>, DateTime<Utc>)) -> (DateTime<Utc>, DateTime<Utc>) {
    let midnight = day.and_time(NaiveTime::MIN).and_utc();
    (midnight.max(since), (midnight + TimeDelta::days(1)).min(until))
}

fn store_failed(error: StoreError) -> Failure {
    failed(&error.into())
}

/// The seal of a folder below `s3.to_ingest` that is not the batch the ledger has under its id, but another one.
fn another(facts: &Facts) -> Option<&Seal> {
    let seal = facts.seal.as_ref().ok()?.as_ref().filter(|_| facts.place == Place::ToIngest)?;
    let in_ledger = facts.ledger.as_ref()?.content;
    seal.content.zip(in_ledger).filter(|(ours, theirs)| ours != theirs).map(|_| seal)
}

struct Audit<'c> {
    target: Target,
    store: ObjectStore,
    session: Session,
    marks: Marks,
    bar: ProgressBar,
    deep: bool,
    config: &'c Config,
}

impl Audit<'_> {
    /// Counts a day. What moves while it is counted can look wrong: such batches are counted once more, and what is said
    /// of them then is reported.
    async fn day(
        &self,
        day: NaiveDate,
        time: (DateTime<Utc>, DateTime<Utc>),
        report: &mut Report,
    ) -> Result<(), Failure> {
        let mut doubtful = BTreeSet::new();
        for facts in self.gather(day, time, None).await? {
            if faults(&facts).is_empty() {
                report.add(&facts, Vec::new());
            } else {
                doubtful.insert(facts.batch);
            }
        }
        if !doubtful.is_empty() {
            for facts in self.gather(day, time, Some(&doubtful)).await? {
                report.add(&facts, faults(&facts));
            }
        }
        if let Some((times, why)) = match self.received(day, time).await? {
            Some(_) => self.received(day, time).await?,
            None => None,
        } {
            report.day(day, times, why);
        }
        Ok(())
    }

    /// All batches of a day, or these.
    async fn gather(
        &self,
        day: NaiveDate,
        (since, until): (DateTime<Utc>, DateTime<Utc>),
        only: Option<&BTreeSet<BatchId>>,
    ) -> Result<Vec<Facts>, Failure> {
        let (from, to) = part_of(day, (since, until));
        // S3 is looked at before the ledger: a batch leaves `to_ingest` only when the ledger has it.
        let s3 = &self.config.s3;
        let waiting = self.batches_below(&s3.to_ingest, day).await?;
        let archived = self.batches_below(&s3.ingested, day).await?;
        let quarantine = self.batches_below(&s3.quarantine, day).await?;
        let rows = ledger::read(&self.session, &self.target, from, to).await;
        let rows = rows.map_err(|error| sql_failed(&error))?;
        let ledger: BTreeMap<BatchId, LedgerRow> = rows.into_iter().map(|row| (row.batch, row)).collect();
        let table = match &self.marks.batch {
            Some(column) => {
                let counts = counts::of_batches(&self.session, &self.target, column, (from, to)).await;
                let mut counts = counts.map_err(|error| sql_failed(&error))?;
                share_out(&mut counts, &ledger);
                Some(counts)
            }
            None => None,
        };
        let in_time = |batch: &BatchId| {
            (from..to).contains(&batch.opened_at()) && only.is_none_or(|only| only.contains(batch))
        };
        let in_table = table.iter().flat_map(BTreeMap::keys);
        let all = waiting.iter().chain(&archived).chain(&quarantine).chain(ledger.keys()).chain(in_table);
        let all: BTreeSet<BatchId> = all.copied().filter(in_time).collect();
        if only.is_none() {
            self.bar.inc_length(all.len() as u64);
        }
        let one = |batch: BatchId| {
            let place = match (archived.contains(&batch), waiting.contains(&batch)) {
                (true, _) => Place::Ingested,
                (false, true) => Place::ToIngest,
                (false, false) => Place::Nowhere,
            };
            let counted = table.as_ref().map(|counts| counts.get(&batch).copied().unwrap_or_default());
            self.facts(batch, place, quarantine.contains(&batch), &ledger, counted)
        };
        let mut gathering = futures_util::stream::iter(all.into_iter().map(one)).buffered(s3.uploads);
        let mut gathered = Vec::new();
        while let Some(facts) = gathering.next().await {
            gathered.push(facts?);
            if only.is_none() {
                self.bar.inc(1);
            }
        }
        Ok(gathered)
    }

    /// What is wrong with the rows of one day's batches together, where rows tell when they were received and not which
    /// batch they are of; and the times they were received between.
    async fn received(
        &self,
        day: NaiveDate,
        (since, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Option<((DateTime<Utc>, DateTime<Utc>), String)>, Failure> {
        let (None, Some(column)) = (&self.marks.batch, &self.marks.received) else { return Ok(None) };
        let (from, to) = part_of(day, (since, until));
        let rows = ledger::read(&self.session, &self.target, from, to).await;
        let rows = rows.map_err(|error| sql_failed(&error))?;
        let first = rows.iter().filter_map(|row| row.first_received).min();
        let last = rows.iter().filter_map(|row| row.last_received).max();
        let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
        let received = counts::received(&self.session, &self.target, column, (first, last)).await;
        Ok(received.map_err(|error| sql_failed(&error))?.fault().map(|why| ((first, last), why)))
    }

    async fn batches_below(&self, prefix: &str, day: NaiveDate) -> Result<BTreeSet<BatchId>, Failure> {
        let day = layout::day_folder(prefix, day);
        let folders = self.store.folders(&day).await.map_err(store_failed)?;
        let id = |folder: &String| folder.strip_prefix(&day)?.strip_suffix('/')?.parse().ok();
        Ok(folders.iter().filter_map(id).collect())
    }

    async fn facts(
        &self,
        batch: BatchId,
        place: Place,
        quarantine: bool,
        entries: &BTreeMap<BatchId, LedgerRow>,
        table: Option<u64>,
    ) -> Result<Facts, Failure> {
        let s3 = &self.config.s3;
        let folder = match place {
            Place::ToIngest => layout::folder(&s3.to_ingest, batch),
            Place::Ingested | Place::Nowhere => layout::folder(&s3.ingested, batch),
        };
        let mut facts = Facts {
            batch,
            place,
            seal: Ok(None),
            objects: Vec::new(),
            counted: Vec::new(),
            quarantine: 0,
            ledger: entries.get(&batch).cloned(),
            table,
            unmarked: false,
            other_waits: false,
        };
        if place != Place::Nowhere {
            self.look(&folder, &mut facts).await.map_err(store_failed)?;
        }
        if let Some(other) = another(&facts).map(derived_id) {
            facts.other_waits = !entries.contains_key(&other);
            (facts.place, facts.seal) = (Place::Nowhere, Ok(None));
            facts.objects.clear();
            facts.counted.clear();
        }
        if let (Some(row), Some(mark)) = (&facts.ledger, &self.marks.batch) {
            let seal = facts.seal.as_ref().ok().and_then(Option::as_ref);
            facts.unmarked = is_unmarked(row, seal, mark, &self.target.fingerprint);
        }
        if quarantine {
            let set = facts.ledger.as_ref().and_then(|row| row.set.as_deref());
            facts.quarantine = self.quarantined(batch, set).await.map_err(store_failed)?;
        }
        Ok(facts)
    }

    async fn look(&self, folder: &str, facts: &mut Facts) -> Result<(), StoreError> {
        let key = format!("{folder}{SEAL}");
        let seal = match self.store.get_at_most(&key, SMALL).await {
            Ok(json) => Seal::read(facts.batch, &json),
            Err(error) if error.is_not_found() => {
                if facts.place == Place::ToIngest
                    && self.store.list_where(folder, layout::is_of_batch).await?.is_empty()
                {
                    // The batch was put away; what lies there is somebody else's.
                    facts.place = Place::Nowhere;
                    return Ok(());
                }
                // Without seal it is no batch yet; one that is archived or in the ledger had it.
                if facts.place == Place::Ingested || facts.ledger.is_some() {
                    facts.seal = Err(format!("{key} is missing"));
                }
                return Ok(());
            }
            Err(error) if error.is_too_large() => {
                facts.seal = Err(error.to_string());
                return Ok(());
            }
            // It sleeps in an archive class, and so may its files.
            Err(error) if error.is_asleep() => return Ok(()),
            Err(error) => return Err(error),
        };
        let seal = match seal {
            Ok(seal) => seal,
            Err(error) => {
                facts.seal = Err(error.to_string());
                return Ok(());
            }
        };
        facts.objects = crate::facts::folder::file_faults(&self.store, folder, &seal).await?;
        if self.deep {
            for file in &seal.files {
                let key = format!("{folder}{}", file.name);
                let content = match self.store.get_at_most(&key, file.bytes.min(MAX_OBJECT_BYTES)).await {
                    Ok(content) => content,
                    Err(error) if error.is_too_large() => {
                        facts.counted.push((file.name.clone(), Err(error.to_string())));
                        continue;
                    }
                    // Named already.
                    Err(error) if error.is_not_found() || error.is_asleep() => continue,
                    Err(error) => return Err(error),
                };
                let compression = seal.compression;
                let read = tokio::task::spawn_blocking(move || {
                    rows::read(&content, compression, Watched::default())
                });
                let counted = match read.await {
                    Ok(Ok(contents)) => Ok(contents.rows),
                    Ok(Err(why)) => Err(why),
                    Err(fault) => Err(fault.to_string()),
                };
                facts.counted.push((file.name.clone(), counted));
                self.bar.set_message(file.name.clone());
            }
        }
        facts.seal = Ok(Some(seal));
        Ok(())
    }

    /// Rows of the quarantine's set that the ledger names, by its description; others are left-overs.
    async fn quarantined(&self, batch: BatchId, set: Option<&str>) -> Result<u64, StoreError> {
        #[derive(Deserialize)]
        struct Description {
            rows: u64,
        }
        let Some(set) = set else { return Ok(0) };
        let folder = layout::folder(&self.config.s3.quarantine, batch);
        match self.store.get_at_most(&format!("{folder}{set}/quarantine.json"), SMALL).await {
            Ok(json) => Ok(serde_json::from_slice::<Description>(&json).map_or(0, |set| set.rows)),
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => Err(error),
        }
    }
}
