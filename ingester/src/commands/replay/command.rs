//! Which batches to replay, and the exit code.

use std::collections::BTreeSet;
use std::io::Write;

use shared::clock::Clock;
use shared::config::Config;
use shared::exit::{Exit, Failure};
use shared::ids::{BatchId, BatchPrefix};
use shared::layout;
use shared::object_store::ObjectStore;

use crate::commands::connect::{connect, sql_failed};
use crate::failure::{LoadFailure, Scope};
use crate::redshift::doing::Doing;
use crate::redshift::{Connector, Target, quarantine_release};

use super::batch::{Ending, Replayer};
use super::report::{NAMED, report};

/// What to replay.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Replay these batches, by their ids or the first 8 characters of them or more.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    batches: Vec<BatchPrefix>,
    /// Replay every batch with rows in quarantine.
    #[arg(long)]
    all: bool,
}

/// 65 when rows are still refused or a quarantine is damaged, 66 when a batch has none; else as Redshift and S3 answer.
pub(crate) async fn replay(
    config: &Config,
    args: &Args,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let schema = config.schema.load()?;
    let target = Target::new(config, &schema, String::new());
    let connector = Connector::new(config, "livestream ingester replay", clock.clone())?;
    let (store, prefix) = (ObjectStore::connect(&config.s3).await, &config.s3.quarantine);
    let mut there = batches_in(&store, prefix).await?;
    // Those whose objects were deleted are not passed over.
    let session = connect(config, clock).await?;
    let counted = quarantine_release::fetch_batches(&session, &target).await;
    there.extend(counted.map_err(sql_failed(Doing::ReadLedger))?);
    drop(session);
    let batches = if args.all { there.into_iter().collect() } else { asked_for(&args.batches, &there)? };
    if batches.is_empty() {
        writeln!(out, "nothing is in quarantine in s3://{}/{prefix}", store.bucket())?;
        return Ok(());
    }
    let mut replayer = Replayer::new(config, target, connector, store, clock);
    let (mut worst, several) = (None, batches.len());
    for (number, batch) in batches.into_iter().enumerate() {
        if several > 1 {
            write!(out, "{}/{several}  ", number + 1)?;
        }
        let ended = replayer.batch(batch).await;
        let exit = report(out, batch, &ended)?;
        if let Some(left) = ended.as_ref().ok().and_then(Ending::left)
            && let Err(failure) = state::status::note_replayed(config, clock, batch, left).await
        {
            tracing::warn!(%batch, %failure, "cannot tell the ingester of this machine; `state dump` shows the rows until it asks the ledger");
        }
        if let Err(failure) = ended
            && failure.scope == Scope::Whole
        {
            // The next one would meet it too.
            let error =
                anyhow::anyhow!("stopped at batch {batch}: the next would fail too, as the line above says");
            return Err(Failure::new(exit.unwrap_or(Exit::Unavailable), error));
        }
        worst = [worst, exit].into_iter().flatten().max_by_key(|exit| *exit as u8);
    }
    let refused =
        |exit| Failure::new(exit, anyhow::anyhow!("not everything was loaded: see the lines above"));
    worst.map_or(Ok(()), |exit| Err(refused(exit)))
}

/// Whether an object of this name behind the prefix of the quarantine lies in the folder of a batch.
fn is_of_a_batch(name: &str) -> bool {
    layout::parse_key("", name).is_some()
}

/// The batches that have a folder in quarantine.
async fn batches_in(store: &ObjectStore, prefix: &str) -> Result<BTreeSet<BatchId>, Failure> {
    let listed = store.list_where(prefix, is_of_a_batch).await.map_err(|error| {
        let failure = LoadFailure::from(error);
        LoadFailure { why: format!("the quarantine cannot be listed: {}", failure.why), ..failure }
    })?;
    Ok(listed.iter().filter_map(|object| layout::parse_key(prefix, &object.key)).map(|(id, _)| id).collect())
}

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
}
