//! Decides whether a folder may be adopted, asks, and writes manifest and seal.

use std::io::Write;

use chrono::{DateTime, Utc};
use shared::clock::Clock;
use shared::config::Config;
use shared::exit::Failure;
use shared::human;
use shared::ids::{BatchId, Instance};
use shared::layout::{self, MANIFEST, SEAL};
use shared::object_store::{Object, ObjectStore};
use shared::seal::Seal;
use state::log::BatchStatus;
use state::status::feed::Republish;

use crate::commands::adopt::seal::{missing, read_all, refused, seal};
use crate::commands::connect::{connect_as_owner, sql_failed, store_failed};
use crate::commands::terminal::confirm;
use crate::facts::folder::{SealRead, read_seal};
use crate::facts::judge::young;
use crate::producer_link::{Producer, outlook};
use crate::redshift::doing::Doing;
use crate::redshift::ledger_lookup::{self, InLedger};
use crate::redshift::{Session, Target};

/// `ingester adopt`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Adopt this batch: the name of its folder.
    pub batch: BatchId,
    /// Do not ask for confirmation.
    #[arg(long)]
    pub yes: bool,
    /// Adopt it although it is so young that a producer elsewhere may still be at it.
    #[arg(long)]
    pub young: bool,
    /// Name the producer that made it, for the ledger; without it as the rows say, if the schema has a column for that.
    #[arg(long, value_name = "NAME", value_parser = |text: &str| Instance::try_from(text.to_owned()))]
    pub instance: Option<Instance>,
}

/// 65 when it cannot be adopted as it is or its producer is at it, 66 when there is no such folder, 64 when nobody can
/// be asked and `--yes` was not given.
pub(crate) async fn command(
    config: &Config,
    args: &Args,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let batch = args.batch;
    let schema = config.schema.load()?;
    let target = Target::new(config, &schema, "ingester adopt".to_owned());
    let store = ObjectStore::connect(&config.s3).await;
    let session = connect_as_owner(config, clock, &store, &target).await?;
    let waiting = Folder::list(&store, &config.s3.to_ingest, batch).await?;
    let archived = Folder::list(&store, &config.s3.ingested, batch).await?;
    for folder in [&waiting, &archived] {
        if folder.sealed
            && let SealRead::Usable(seal) =
                read_seal(&store, &folder.key, batch).await.map_err(store_failed)?
            && is_loaded(&session, &target, &seal).await?
        {
            return loaded_already(batch, out);
        }
    }
    if waiting.sealed {
        usable_seal(&store, &waiting.key, batch).await?;
        writeln!(out, "{batch} has a seal already: the ingester loads it.")?;
        return Ok(());
    }
    if archived.sealed {
        return bring_back(&store, args, &archived, &waiting.key, out).await;
    }
    if waiting.objects.is_empty() && archived.objects.is_empty() {
        // Only the id is left to ask for.
        let rows = session.run(&target.select_known(&[batch])).await;
        if !rows.map_err(sql_failed(Doing::ReadLedger))?.0.is_empty() {
            return loaded_already(batch, out);
        }
    }
    if let Producers::Handled = ask_producer(config, clock, batch, out).await? {
        return Ok(());
    }
    let found = read_all(&store, &waiting.key, &waiting.objects, &schema).await?;
    refuse_young(config, args, clock.wall())?;
    let seal = seal(batch, args.instance.clone(), &schema, found, clock.wall())?;
    // A seal that nobody reads would only be in the way.
    seal.check().map_err(|error| refused(format!("{} cannot be sealed: {error}", waiting.key)))?;
    if is_loaded(&session, &target, &seal).await? {
        return loaded_already(batch, out);
    }
    drop(session);
    confirm_seal(args, &waiting.key, &seal, out)?;
    put_seal(&store, &waiting.key, &seal, out).await
}

fn confirm_seal(args: &Args, folder: &str, seal: &Seal, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "{folder}")?;
    for file in &seal.files {
        let (rows, bytes) = (human::count(file.rows), human::bytes(file.bytes));
        writeln!(out, "  {:16} {rows:>9} rows, {bytes}", file.name)?;
    }
    let missing = missing(seal);
    if !missing.is_empty() {
        let last = "the rows of these were never uploaded, and go with their producer's log";
        writeln!(out, "missing: {}; {last}", missing.join(", "))?;
    }
    let batch = seal.batch;
    let rows = human::counted(seal.rows, "row", "rows");
    let files = human::counted(seal.files.len() as u64, "file", "files");
    let question = format!("Seal {batch} with {rows} in {files}, made by {}?", seal.instance);
    confirm(args.yes, &question, out)
}

async fn put_seal(
    store: &ObjectStore,
    folder: &str,
    seal: &Seal,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (batch, manifest_key) = (seal.batch, format!("{folder}{MANIFEST}"));
    let [manifest, sealed] = seal.manifest_and_seal(store.bucket(), folder);
    store.put(&manifest_key, manifest.into()).await.map_err(store_failed)?;
    let put = store.put_new(&format!("{folder}{SEAL}"), sealed.into()).await.map_err(store_failed)?;
    if put.is_some() {
        writeln!(out, "{batch} is sealed: the ingester loads it.")?;
        return Ok(());
    }
    // The manifest that was written above may be another than that of the seal.
    let [manifest, _] = usable_seal(store, folder, batch).await?.manifest_and_seal(store.bucket(), folder);
    store.put(&manifest_key, manifest.into()).await.map_err(store_failed)?;
    writeln!(out, "{batch} was sealed by somebody else meanwhile: the ingester loads that.")?;
    Ok(())
}

/// The folder of a batch below a prefix, and what stands in it.
struct Folder {
    key: String,
    objects: Vec<Object>,
    sealed: bool,
}

impl Folder {
    async fn list(store: &ObjectStore, prefix: &str, batch: BatchId) -> Result<Self, Failure> {
        let key = layout::folder(prefix, batch);
        let objects = store.list_where(&key, layout::is_of_batch).await.map_err(store_failed)?;
        let sealed = objects.iter().any(|object| object.key.strip_prefix(&key) == Some(SEAL));
        Ok(Self { key, objects, sealed })
    }
}

async fn usable_seal(store: &ObjectStore, folder: &str, batch: BatchId) -> Result<Seal, Failure> {
    match read_seal(store, folder, batch).await.map_err(store_failed)? {
        SealRead::Usable(seal) => Ok(*seal),
        SealRead::Unusable(why) => Err(refused(format!(
            "{folder}{SEAL} cannot be used: {why}. Restore it from an older version; if there is none, delete it and adopt again"
        ))),
        SealRead::Missing => Err(refused(format!("{folder}{SEAL} has just gone"))),
    }
}

/// Whether the ledger has the batch. Its content decides, not its id.
async fn is_loaded(session: &Session, target: &Target, seal: &Seal) -> Result<bool, Failure> {
    let entries = ledger_lookup::fetch_entries(session, target, &[seal]).await;
    let entries = entries.map_err(sql_failed(Doing::ReadLedger))?;
    Ok(matches!(ledger_lookup::find(seal, &entries), InLedger::Yes(_)))
}

fn loaded_already(batch: BatchId, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "{batch} is loaded already, says the ledger: there is nothing to adopt.")?;
    Ok(())
}

/// Copies an archived batch that the ledger does not know back to where it is loaded from, the seal last.
async fn bring_back(
    store: &ObjectStore,
    args: &Args,
    archived: &Folder,
    folder: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (batch, archive) = (args.batch, &archived.key);
    // Its rows were compared with the table of then: other batches were loaded since.
    let seal = Seal { compared: None, ..usable_seal(store, archive, batch).await? };
    if seal.files.is_empty() {
        writeln!(out, "{archive} has no row any more, all were forgotten: there is nothing to load.")?;
        return Ok(());
    }
    writeln!(
        out,
        "{archive} is archived, and the ledger does not know it. Should its rows be in the table all the same, those with \
         hit id and time are left out, the others will stand there twice."
    )?;
    confirm(args.yes, &format!("Copy {batch} back to {folder}, to be loaded?"), out)?;
    let names = archived.objects.iter().filter_map(|object| object.key.strip_prefix(archive.as_str()));
    // No other file is loaded, and one that `ingester forget` left behind is not to multiply.
    for name in names.filter(|name| seal.files.iter().any(|file| file.name == *name)) {
        store.copy(&format!("{archive}{name}"), &format!("{folder}{name}")).await.map_err(store_failed)?;
    }
    // The archived manifest may be that of before rows were forgotten.
    let [manifest, sealed] = seal.manifest_and_seal(store.bucket(), folder);
    store.put(&format!("{folder}{MANIFEST}"), manifest.into()).await.map_err(store_failed)?;
    store.put(&format!("{folder}{SEAL}"), sealed.into()).await.map_err(store_failed)?;
    writeln!(out, "{batch} is back: the ingester loads it.")?;
    Ok(())
}

enum Producers {
    /// It uploads the batch once more.
    Handled,
    /// It does not know the batch, or has no copy of it.
    Gone,
}

/// Asks the producer about the batch. Refuses while the producer is going to finish it.
async fn ask_producer(
    config: &Config,
    clock: &Clock,
    batch: BatchId,
    out: &mut impl Write,
) -> Result<Producers, Failure> {
    let asked = state::inspect::dump::ask_producer(config, clock).await;
    let (running, batches) = match asked {
        Ok(part) => (part.pid.is_some(), part.snapshot.map(|log| log.batches)),
        Err(failure) => {
            writeln!(out, "The producer's log could not be asked: {failure}")?;
            (false, None)
        }
    };
    match batches.iter().flatten().find(|known| known.batch == batch).map(|known| known.status) {
        None => {
            let log =
                if batches.is_some() { "The log here does not know it" } else { "No producer's log is here" };
            writeln!(out, "{log}: make sure that no producer elsewhere is still at this batch.")?;
            Ok(Producers::Gone)
        }
        Some(status @ (BatchStatus::Filling | BatchStatus::Sealed)) => {
            let state = if status == BatchStatus::Filling { "filling" } else { "sealed" };
            let when = if running {
                "is at it and will finish it"
            } else {
                "will finish it when it is started again"
            };
            Err(refused(format!("{batch} is {state} in the log of {}, which {when}", config.instance.name)))
        }
        Some(BatchStatus::Published) => {
            let answer = Producer::new(config.producer_socket()).republish(batch).await;
            let outlook = outlook(&answer);
            let producers = match answer {
                Ok(Republish::UnderWay) => Producers::Handled,
                Ok(Republish::Gone | Republish::Unknown) => Producers::Gone,
                // It may have every row still, also those that are not here.
                Ok(Republish::NotPublished) | Err(_) => {
                    return Err(refused(format!(
                        "{batch} is published in the log of {}: {outlook}. Adopt it when the producer says that it has no \
                         copy",
                        config.instance.name
                    )));
                }
            };
            writeln!(out, "Its producer published it: {outlook}.")?;
            Ok(producers)
        }
    }
}

/// What a producer elsewhere uploads later would never be loaded: the ledger would have the batch.
fn refuse_young(config: &Config, args: &Args, now: DateTime<Utc>) -> Result<(), Failure> {
    let (batch, age, young) = (args.batch, now - args.batch.opened_at(), young(config));
    if args.young || age >= young {
        return Ok(());
    }
    let minutes = young.num_minutes();
    Err(refused(format!(
        "{batch} was opened {} ago: a producer elsewhere may still be at it, and what it uploads later would never be \
         loaded. Wait until it is {minutes} minutes old, or give --young if its producer is gone for good",
        human::Span(age.to_std().unwrap_or_default())
    )))
}
