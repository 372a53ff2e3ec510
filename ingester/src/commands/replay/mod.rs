//! `ingester replay`: loads rows out of the quarantine, once the table or the schema is mended. Exactly once, and beside
//! running ingesters: see [`crate::redshift::release`].

mod one;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use crate::redshift::said;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::human::count;
use shared::ids::{BatchId, BatchPrefix};
use shared::layout;
use shared::object_store::{ObjectStore, REFUSED_ADVICE, StoreErrorKind};
use state::loads::ErrorClass;

use crate::commands::reconcile::{connect, failed};
use crate::commands::replay::one::{Ending, Replaying};
use crate::failure::LoadFailure;
use crate::quarantine::Quarantine;
use crate::quarantine::set::Refusal;
use crate::redshift::{Connector, Target, errors, release};

/// Reasons named in the report of a batch.
const NAMED: usize = 5;

/// What to replay.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Batches, by their ids or the first 8 characters of them or more.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    batches: Vec<BatchPrefix>,
    /// Every batch with rows in quarantine.
    #[arg(long)]
    all: bool,
}

/// Loads the rows in quarantine of the batches asked for, and says on `out` what became of them.
///
/// # Errors
/// 65 when rows are still refused or a quarantine is damaged, 66 when a batch has none, and as Redshift and S3 answer.
pub(crate) async fn replay(
    config: &Config,
    args: &Args,
    _clock: &shared::clock::Clock,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let target = Target::new(config, &schema, String::new());
    let connector = Connector::new(config, "livestream ingester replay")?;
    let store = ObjectStore::connect(&config.s3).await;
    let quarantine = Quarantine::new(config);
    let mut there = batches_in(&store, &quarantine.prefix).await?;
    // Those whose objects were deleted are not passed over.
    let session = connect(config).await?;
    let counted = release::all(&session, &target).await;
    there.extend(counted.map_err(|error| failed(&errors::trouble(&error, "reading the ledger")))?);
    drop(session);
    let batches = if args.all { there.into_iter().collect() } else { asked_for(&args.batches, &there)? };
    if batches.is_empty() {
        writeln!(out, "nothing is in quarantine in s3://{}/{}", store.bucket(), quarantine.prefix)?;
        return Ok(());
    }
    let (first, longest) = (config.ingester.retry_first.0, config.ingester.retry_max.0);
    let mut replaying = Replaying::new(target, connector, store, quarantine, (first, longest));
    let mut worst = None;
    let several = batches.len();
    for (number, batch) in batches.into_iter().enumerate() {
        if several > 1 {
            write!(out, "{}/{several}  ", number + 1)?;
        }
        let ended = replaying.batch(batch).await;
        let exit = report(out, batch, &ended, &replaying)?;
        if let Err(trouble) = ended
            && trouble.scope == crate::failure::Scope::Whole
        {
            // The next one would meet it too.
            return Err(Failure::new(exit.unwrap_or(Exit::Unavailable), anyhow::anyhow!("{trouble}")));
        }
        worst = [worst, exit].into_iter().flatten().max_by_key(|exit| *exit as u8);
    }
    match worst {
        None => Ok(()),
        Some(exit) => {
            Err(Failure::new(exit, anyhow::anyhow!("not everything was loaded: see the lines above")))
        }
    }
}

/// Whether an object of this name behind the prefix of the quarantine lies in the folder of a batch.
fn is_of_a_batch(name: &str) -> bool {
    layout::parse_key("", name).is_some()
}

/// The batches that have a folder in quarantine.
async fn batches_in(store: &ObjectStore, prefix: &str) -> Result<BTreeSet<BatchId>, Failure> {
    let listed = store.list_where(prefix, is_of_a_batch).await;
    let listed = listed.map_err(|error| {
        let (exit, advice) = match error.kind() {
            StoreErrorKind::Configuration => (Exit::Config, format!(": {REFUSED_ADVICE}")),
            _ => (Exit::Unavailable, String::new()),
        };
        Failure::new(exit, anyhow::anyhow!("the quarantine cannot be listed: {error}{advice}"))
    })?;
    Ok(listed.iter().filter_map(|object| layout::parse_key(prefix, &object.key)).map(|(id, _)| id).collect())
}

/// The one batch that each prefix begins.
fn asked_for(prefixes: &[BatchPrefix], there: &BTreeSet<BatchId>) -> Result<Vec<BatchId>, Failure> {
    let mut batches = Vec::new();
    for prefix in prefixes {
        let found: Vec<_> = there.iter().filter(|batch| prefix.begins(**batch)).copied().collect();
        let fault = |exit, text: String| Err(Failure::new(exit, anyhow::anyhow!(text)));
        match found.as_slice() {
            [batch] if batches.contains(batch) => {}
            [batch] => batches.push(*batch),
            [] => {
                return fault(
                    Exit::NoInput,
                    format!(
                        "no row of a batch {prefix} is in quarantine: `ingester replay --all` loads what there is, \
                         `state dump` shows it; a batch without any was loaded whole, or waits whole"
                    ),
                );
            }
            several => {
                let ids: String = several.iter().take(NAMED).map(|id| format!("\n  {id}")).collect();
                return fault(Exit::Usage, format!("{} batches begin with {prefix}:{ids}", several.len()));
            }
        }
    }
    Ok(batches)
}

/// Says what became of a batch; the code it is worth, if it is not all loaded.
fn report(
    out: &mut impl Write,
    batch: BatchId,
    ended: &Result<Ending, LoadFailure>,
    replaying: &Replaying,
) -> Result<Option<Exit>, Failure> {
    write!(out, "{batch}  ")?;
    let ending = match ended {
        Ok(ending) => ending,
        Err(trouble) => {
            writeln!(out, "as far as is known nothing was loaded; asking again does no harm: {trouble}")?;
            return Ok(Some(match trouble.class {
                ErrorClass::Data => Exit::Data,
                ErrorClass::Configuration => Exit::Config,
                _ => Exit::Unavailable,
            }));
        }
    };
    match ending {
        Ending::Loaded { rows, known, untidy } => {
            writeln!(out, "{} rows loaded{}, none is left in quarantine", count(*rows), there(*known))?;
            if let Some(trouble) = untidy {
                writeln!(
                    out,
                    "    its objects there stay until `ingester reconcile` deletes them: {trouble}"
                )?;
            }
        }
        Ending::Nothing => writeln!(out, "its rows were loaded before; its quarantine is tidied")?,
        Ending::NotLoaded => {
            writeln!(out, "is not loaded yet: the ingester loads it, and decides what stays in quarantine")?;
            return Ok(Some(Exit::NoInput));
        }
        Ending::Refused { loaded, known, left, reasons } => {
            let refused = left.len() as u64;
            writeln!(
                out,
                "{} rows loaded{}, {} still refused",
                count(*loaded),
                there(*known),
                count(refused)
            )?;
            for (reason, rows) in common(left).into_iter().take(NAMED) {
                writeln!(out, "    {} rows: {reason}", count(rows))?;
            }
            writeln!(out, "    each row's reason: {}", replaying.url(reasons))?;
            return Ok(Some(Exit::Data));
        }
    }
    Ok(None)
}

/// What is said of rows that the table had already.
fn there(known: u64) -> String {
    if known == 0 { String::new() } else { format!(", {} were in the table already", count(known)) }
}

/// Reasons, the most frequent first. Values are not shown.
fn common(refusals: &[Refusal]) -> Vec<(String, u64)> {
    let mut counts = BTreeMap::<String, u64>::new();
    for Refusal { column, code, .. } in refusals {
        let column = column.as_deref().unwrap_or("(none named)");
        let code = code.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
        *counts.entry(format!("column {column}, code {code}")).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
    // The text of the reason belongs to the code.
    let text = |(place, rows): (String, u64)| {
        let of = |refusal: &&Refusal| {
            place.starts_with(&format!("column {}, ", refusal.column.as_deref().unwrap_or("(none named)")))
        };
        let reason =
            refusals.iter().find(of).map(|refusal| said::reason(&refusal.reason)).unwrap_or_default();
        (format!("{place}: {reason}"), rows)
    };
    counts.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_named_by_enough_of_its_id() {
        let (a, b) = (BatchId::new(), BatchId::new());
        let there = BTreeSet::from([a, b]);
        let prefix = |text: &str| text.parse::<BatchPrefix>().unwrap();
        let ask = |text: &str| asked_for(&[prefix(text), prefix(text)], &there);
        assert_eq!(ask(&a.to_string()).unwrap(), [a]);
        // Made within a moment, they begin alike.
        assert_eq!(ask(&a.to_string()[..8]).unwrap_err().exit(), Exit::Usage);
        assert_eq!(ask("00000000").unwrap_err().exit(), Exit::NoInput);
    }

    #[test]
    fn what_lies_in_no_folder_of_a_batch_is_not_listed() {
        let batch = BatchId::new();
        let folder = layout::folder("", batch);
        assert!(is_of_a_batch(&format!("{folder}0123456789abcdef/rows.csv.zst")));
        for other in
            ["notes.txt", "20260101/notes.txt", "20260101/x/0.csv", &folder, &format!("old/{folder}0.csv")]
        {
            assert!(!is_of_a_batch(other), "{other}");
        }
    }

    #[test]
    fn reasons_are_counted_by_column_and_code() {
        let refusal = |column: &str, code| Refusal {
            file: "0.csv".to_owned(),
            row: 1,
            line: 1,
            column: Some(column.to_owned()),
            value: Some("secret".to_owned()),
            code: Some(code),
            reason: format!("reason {code}"),
        };
        let all = [refusal("a", 1204), refusal("b", 1213), refusal("b", 1213)];
        assert_eq!(
            common(&all),
            [
                ("column b, code 1213: reason 1213".to_owned(), 2),
                ("column a, code 1204: reason 1204".to_owned(), 1)
            ]
        );
    }
}
