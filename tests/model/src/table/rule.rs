//! Which way a batch is loaded, and the rules that must be found wanting.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use ingester::{LedgerRange, RunInLedger, stage_reasons};
use shared::ids::{BatchId, Instance, RunId};
use shared::layout::Compression;
use shared::seal::{Compared, Counts, KnownRun, SEAL_FORMAT, Seal};

use super::log::Batch;
use super::warehouse::Entry;

/// The product's rule, or one that lacks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// As the product has it.
    Product,
    /// Everything goes the plain way.
    NoStage,
    /// The staged way compares with the table between first and last time, without these two.
    EdgesLeftOut,
    /// The look comes before LOCK, and so does the snapshot.
    LookBeforeLock,
    /// What other runs loaded does not matter.
    RunsIgnored,
    /// Rows that were not compared do not matter.
    UncomparedIgnored,
    /// A copy of a log goes on under the run of the log.
    SameRunInCopies,
    /// A log that is opened says of the batch that fills that it is known.
    FillingIsKnown,
    /// It does not matter from when on the ledger knows everything.
    KnowsFromIgnored,
    /// A later batch of the same run does not matter, whether it was compared or not.
    LaterIsTrusted,
    /// A trimmed ledger claims to know the last time that was deleted.
    TrimmedTooLittle,
    /// A ledger that speaks for no time yet is trimmed all the same.
    TrimmedTooEarly,
    /// Batches that share a COPY are compared with the ledger only.
    PairsIgnored,
}

static RUNS: LazyLock<Vec<RunId>> = LazyLock::new(|| {
    let text = |n: u8| format!("00000000-0000-7000-8000-0000000000{n:02x}");
    (0..=u8::MAX).filter_map(|n| text(n).parse().ok()).collect()
});

static BLANK: LazyLock<Option<Seal>> = LazyLock::new(|| {
    Some(Seal {
        format: SEAL_FORMAT,
        batch: BatchId::new(),
        instance: Instance::try_from("model".to_owned()).ok()?,
        created: DateTime::UNIX_EPOCH,
        sealed: DateTime::UNIX_EPOCH,
        schema: String::new(),
        columns: None,
        compression: Compression::None,
        files: Vec::new(),
        rows: 0,
        bytes: 0,
        first_received: None,
        last_received: None,
        counts: Counts::default(),
        content: None,
        compared: None,
        pseudonym_key: None,
        forgotten: None,
    })
});

fn run_id(run: u8) -> Option<RunId> {
    RUNS.get(usize::from(run)).copied()
}

fn at(time: u8) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(i64::from(time))
}

/// What the seal of this batch says, as far as it matters here.
fn seal(rule: Rule, batch: &Batch) -> Option<Seal> {
    let known = batch
        .known
        .iter()
        .filter_map(|known| Some(KnownRun { run: run_id(known.run)?, until: u64::from(known.until) }));
    let uncompared = if rule == Rule::UncomparedIgnored { 0 } else { batch.uncompared };
    let compared = Compared {
        run: run_id(batch.run)?,
        number: u64::from(batch.number),
        known: known.collect(),
        uncompared: u64::from(uncompared),
    };
    let (first, last) = batch.rows.times()?;
    let (first_received, last_received) = (Some(at(first)), Some(at(last)));
    Some(Seal { first_received, last_received, compared: Some(compared), ..BLANK.clone()? })
}

/// What the look finds about the time of these batches.
fn ground(rule: Rule, parts: &[&Batch], ledger: &[Entry], knows_from: Option<u8>) -> LedgerRange {
    let times: Vec<(u8, u8)> = parts.iter().filter_map(|batch| batch.rows.times()).collect();
    let first = times.iter().map(|(first, _)| *first).min().unwrap_or_default();
    let last = times.iter().map(|(_, last)| *last).max().unwrap_or_default();
    let mut runs: BTreeMap<u8, Vec<&Entry>> = BTreeMap::new();
    for entry in ledger.iter().filter(|entry| entry.last >= first && entry.first <= last) {
        runs.entry(entry.run).or_default().push(entry);
    }
    if rule == Rule::RunsIgnored {
        runs.clear();
    }
    let knows_from = if rule == Rule::KnowsFromIgnored { Some(0) } else { knows_from };
    let seen = |(run, entries): (u8, Vec<&Entry>)| {
        let uncompared = entries.iter().filter(|entry| entry.uncompared > 0 && rule != Rule::LaterIsTrusted);
        Some(RunInLedger {
            run: run_id(run),
            number: entries.iter().map(|entry| u64::from(entry.number)).max(),
            uncompared: uncompared.map(|entry| u64::from(entry.number)).max(),
            first: at(entries.iter().map(|entry| entry.first).min()?),
            last: at(entries.iter().map(|entry| entry.last).max()?),
        })
    };
    LedgerRange { knows_from: knows_from.map(at), runs: runs.into_iter().filter_map(seen).collect() }
}

/// Which of these batches must be loaded alone the staged way, given what the look found: the product decides.
pub(crate) fn must_be_staged(
    rule: Rule,
    parts: &[&Batch],
    ledger: &[Entry],
    knows_from: Option<u8>,
) -> Vec<bool> {
    let seals: Vec<Seal> = parts.iter().filter_map(|batch| seal(rule, batch)).collect();
    let seals: Vec<&Seal> = seals.iter().collect();
    let ground = ground(rule, parts, ledger, knows_from);
    match rule {
        Rule::NoStage => vec![false; parts.len()],
        Rule::RunsIgnored | Rule::PairsIgnored => {
            seals.iter().flat_map(|seal| stage_reasons(&[*seal], &ground)).map(|why| why.is_some()).collect()
        }
        _ => stage_reasons(&seals, &ground).iter().map(Option::is_some).collect(),
    }
}
