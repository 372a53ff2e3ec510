//! `ingester adopt`: makes a batch of a folder that nobody will seal any more.
//!
//! The seal is made of what is in S3, and written as the producer would: manifest first, seal last, and the seal only if
//! there is none. Cut short anywhere it is simply repeated. Whatever it writes is loaded by the ordinary load, which
//! loads every batch once. The seal does not say what its rows were compared with, so the load compares them with the
//! table.

use std::io::Write;

use chrono::{DateTime, Utc};
use shared::clock::Clock;
use shared::compress::decompress;
use shared::config::Config;
use shared::content::Content;
use shared::exit::{Exit, Failure};
use shared::human;
use shared::ids::{BatchId, Instance};
use shared::layout::{self, Compression, MANIFEST, SEAL, parse_file_name};
use shared::object_store::{Object, ObjectStore, SMALL};
use shared::schema::Schema;
use shared::seal::{Counts, SEAL_FORMAT, Seal, SealedFile, believed};
use state::log::BatchStatus;
use state::status::feed::Republish;

use crate::commands::confirm::confirm;
use crate::commands::reconcile::{self, connect, failed};
use crate::facts::rows::{self, Contents, Watched};
use crate::identity::Identity;
use crate::producer_link::{Producer, outlook};
use crate::redshift::look::{self, There};
use crate::redshift::{Session, Target, errors, ledger};

/// Bytes of the rows of a file of which a checksum is made: they are held in memory. Without one a batch is known by its
/// rows and times.
const MAX_BYTES: u64 = 1 << 30;

/// `ingester adopt`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The batch: the name of its folder.
    pub batch: BatchId,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// Adopt it although it is so young that a producer elsewhere may still be at it.
    #[arg(long)]
    pub young: bool,
    /// The producer that made it, for the ledger; as the rows say if the schema has a column for that.
    #[arg(long, value_name = "NAME", value_parser = instance)]
    pub instance: Option<Instance>,
}

fn instance(text: &str) -> Result<Instance, String> {
    Instance::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// Adopts a batch.
///
/// # Errors
/// 65 when it cannot be adopted as it is or its producer is at it, 66 when there is no such folder, 64 when nobody can
/// be asked and `--yes` was not given.
pub(crate) async fn command(config: &Config, args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let batch = args.batch;
    let schema = config.schema.load()?;
    let target = Target::new(config, &schema, "ingester adopt".to_owned());
    let store = ObjectStore::connect(&config.s3).await;
    let session = connect(config).await?;
    let foreign = Identity::new(config, store.clone()).refuse_foreign(&session, &target).await;
    foreign.map_err(|trouble| failed(&trouble))?;
    let folder = layout::folder(&config.s3.to_ingest, batch);
    let objects = list(&store, &folder).await?;
    let archive = layout::folder(&config.s3.ingested, batch);
    let archived = list(&store, &archive).await?;
    for (folder, objects) in [(&folder, &objects), (&archive, &archived)] {
        let key = format!("{folder}{SEAL}");
        if !objects.iter().any(|object| object.key == key) {
            continue;
        }
        let json = store.get_at_most(&key, SMALL).await.map_err(|error| failed(&error.into()))?;
        if let Ok(seal) = Seal::read(batch, &json)
            && is_loaded(&session, &target, &seal).await?
        {
            return loaded_already(batch, out);
        }
    }
    if objects.iter().any(|object| object.key == format!("{folder}{SEAL}")) {
        return sealed_already(&store, batch, &folder, out).await;
    }
    if archived.iter().any(|object| object.key == format!("{archive}{SEAL}")) {
        return bring_back(&store, args, (&archive, &archived), &folder, out).await;
    }
    if objects.is_empty() && archived.is_empty() {
        // Nothing tells what it held.
        let rows = session.run(&target.look_up(&[batch])).await;
        let rows = rows.map_err(|error| failed(&errors::trouble(&error, "reading the ledger")))?;
        if !rows.0.is_empty() {
            return loaded_already(batch, out);
        }
    }
    if let Some(ended) = of_its_producer(config, batch, out).await? {
        return ended;
    }
    let found = read_all(&store, &folder, &objects, &schema).await?;
    refuse_young(config, args)?;
    let seal = seal(args, &schema, found)?;
    // A seal that nobody reads would only be in the way.
    seal.check().map_err(|error| refused(format!("{folder} cannot be sealed: {error}")))?;
    if is_loaded(&session, &target, &seal).await? {
        return loaded_already(batch, out);
    }
    drop(session);
    let missing = missing(&seal);
    writeln!(out, "{folder}")?;
    for file in &seal.files {
        let (rows, bytes) = (human::count(file.rows), human::bytes(file.bytes));
        writeln!(out, "  {:16} {rows:>9} rows, {bytes}", file.name)?;
    }
    if !missing.is_empty() {
        let last = "the rows of these were never uploaded, and go with their producer's log";
        writeln!(out, "missing: {}; {last}", missing.join(", "))?;
    }
    let (rows, files) = (human::count(seal.rows), seal.files.len());
    confirm(
        args.yes,
        &format!("Seal {batch} with these {rows} rows in {files} files, made by {}?", seal.instance),
        out,
    )?;
    let [manifest, sealed] = seal.ending(store.bucket(), &folder);
    store
        .put(&format!("{folder}{MANIFEST}"), manifest.into())
        .await
        .map_err(|error| failed(&error.into()))?;
    let sealed = store.put_new(&format!("{folder}{SEAL}"), sealed.into()).await;
    match sealed.map_err(|error| failed(&error.into()))? {
        Some(_) => writeln!(out, "{batch} is sealed: the ingester loads it.")?,
        None => {
            // The manifest that was written above may be another than that of the seal.
            let key = format!("{folder}{SEAL}");
            let json = store.get_at_most(&key, SMALL).await.map_err(|error| failed(&error.into()))?;
            let seal = Seal::read(batch, &json).map_err(|error| refused(format!("{key}: {error}")))?;
            let [manifest, _] = seal.ending(store.bucket(), &folder);
            let put = store.put(&format!("{folder}{MANIFEST}"), manifest.into()).await;
            put.map_err(|error| failed(&error.into()))?;
            writeln!(out, "{batch} was sealed by somebody else meanwhile: the ingester loads that.")?;
        }
    }
    Ok(())
}

/// Whether the ledger has the batch. What it holds decides, not its id.
async fn is_loaded(session: &Session, target: &Target, seal: &Seal) -> Result<bool, Failure> {
    let entries = look::entries(session, target, &[seal]).await;
    let entries = entries.map_err(|error| failed(&errors::trouble(&error, "reading the ledger")))?;
    Ok(matches!(look::judge(seal, &entries), There::Yes(_)))
}

fn loaded_already(batch: BatchId, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "{batch} is loaded already, says the ledger: there is nothing to adopt.")?;
    Ok(())
}

async fn list(store: &ObjectStore, folder: &str) -> Result<Vec<Object>, Failure> {
    store.list_where(folder, layout::is_of_batch).await.map_err(|error| failed(&error.into()))
}

fn refused(why: String) -> Failure {
    Failure::new(Exit::Data, anyhow::anyhow!(why))
}

async fn sealed_already(
    store: &ObjectStore,
    batch: BatchId,
    folder: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let key = format!("{folder}{SEAL}");
    let json = store.get_at_most(&key, SMALL).await.map_err(|error| failed(&error.into()))?;
    match Seal::read(batch, &json) {
        Ok(_) => {
            writeln!(out, "{batch} has a seal already: the ingester loads it.")?;
            Ok(())
        }
        Err(error) => Err(refused(format!(
            "{key} cannot be used: {error}. Restore it from an older version; if there is none, delete it and adopt again"
        ))),
    }
}

/// Copies an archived batch that the ledger does not know back to where it is loaded from, the seal last.
async fn bring_back(
    store: &ObjectStore,
    args: &Args,
    (archive, objects): (&str, &[Object]),
    folder: &str,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let batch = args.batch;
    writeln!(
        out,
        "{archive} is archived, and the ledger does not know it. Should its rows be in the table all the same, those with \
         hit id and time are left out, the others will stand there twice."
    )?;
    confirm(args.yes, &format!("Copy {batch} back to {folder}, to be loaded?"), out)?;
    let (seal, others): (Vec<&str>, Vec<&str>) =
        objects.iter().filter_map(|object| object.key.strip_prefix(archive)).partition(|name| *name == SEAL);
    for name in others {
        let copied = store.copy(&format!("{archive}{name}"), &format!("{folder}{name}")).await;
        copied.map_err(|error| failed(&error.into()))?;
    }
    for name in seal {
        let key = format!("{archive}{name}");
        let json = store.get_at_most(&key, SMALL).await.map_err(|error| failed(&error.into()))?;
        let seal = Seal::read(batch, &json).map_err(|error| refused(format!("{key}: {error}")))?;
        // What its rows were compared with then says nothing of what was loaded since.
        let [_, sealed] = Seal { compared: None, ..seal }.ending(store.bucket(), folder);
        let put = store.put(&format!("{folder}{name}"), sealed.into()).await;
        put.map_err(|error| failed(&error.into()))?;
    }
    writeln!(out, "{batch} is back: the ingester loads it.")?;
    Ok(())
}

/// Whether its producer has a say in it: then how the command ends.
async fn of_its_producer(
    config: &Config,
    batch: BatchId,
    out: &mut impl Write,
) -> Result<Option<Result<(), Failure>>, Failure> {
    let asked = state::inspect::dump::ask_producer(config, &Clock::system()).await;
    let (running, batches) = match asked {
        Ok(part) => (part.pid.is_some(), part.snapshot.map(|log| log.batches)),
        Err(failure) => {
            writeln!(out, "The producer's log could not be asked: {failure}")?;
            (false, None)
        }
    };
    let known = batches.iter().flatten().find(|known| known.batch == batch);
    match known.map(|known| known.status) {
        None => {
            let log =
                if batches.is_some() { "The log here does not know it" } else { "No producer's log is here" };
            writeln!(out, "{log}: make sure that no producer elsewhere is still at this batch.")?;
            Ok(None)
        }
        Some(status @ (BatchStatus::Filling | BatchStatus::Sealed)) => {
            let state = if status == BatchStatus::Filling { "filling" } else { "sealed" };
            let what = if running {
                "is at it and will finish it"
            } else {
                "will finish it when it is started again"
            };
            Err(refused(format!("{batch} is {state} in the log of {}, which {what}", config.instance.name)))
        }
        Some(BatchStatus::Published) => {
            let answer = Producer::new(config.producer_socket()).republish(batch).await;
            match answer {
                Ok(Republish::UnderWay) => {
                    writeln!(out, "Its producer published it: {}.", outlook(&answer))?;
                    Ok(Some(Ok(())))
                }
                Ok(Republish::Gone | Republish::Unknown) => {
                    writeln!(out, "Its producer published it: {}.", outlook(&answer))?;
                    Ok(None)
                }
                // It may have every row still, also those that are not here.
                Ok(Republish::NotPublished) | Err(_) => Err(refused(format!(
                    "{batch} is published in the log of {}: {}. Adopt it when the producer says that it has no copy",
                    config.instance.name,
                    outlook(&answer)
                ))),
            }
        }
    }
}

/// What a producer elsewhere uploads later would never be loaded: the ledger would have the batch.
fn refuse_young(config: &Config, args: &Args) -> Result<(), Failure> {
    let (batch, age) = (args.batch, Utc::now() - args.batch.opened_at());
    let young = reconcile::young(config);
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

/// A file, its number in the batch, and what is in it.
struct Found {
    number: u32,
    compression: Compression,
    object: Object,
    contents: Contents,
    /// Checksum of its rows, if they could be held in memory.
    content: Option<Content>,
}

async fn read_all(
    store: &ObjectStore,
    folder: &str,
    objects: &[Object],
    schema: &Schema,
) -> Result<Vec<Found>, Failure> {
    let watched = Watched::of(schema);
    let mut found = Vec::new();
    for object in objects {
        let name = object.key.strip_prefix(folder).unwrap_or_default();
        let Some((number, compression)) = parse_file_name(name) else { continue };
        if object.size > MAX_BYTES {
            let (key, size) = (&object.key, object.size);
            return Err(refused(format!(
                "{key} has {size} bytes, more than a file of rows may have ({MAX_BYTES})"
            )));
        }
        let content = store.get_at_most(&object.key, object.size).await;
        let content = content.map_err(|error| failed(&error.into()))?;
        let read = tokio::task::spawn_blocking(move || {
            let whole = decompress(&content, compression, MAX_BYTES);
            (rows::read(&content, compression, watched), whole.ok().map(|rows| Content::of_rows(&rows)))
        });
        let (contents, content) = read.await.map_err(|fault| Failure::new(Exit::Software, fault))?;
        let contents = contents.map_err(|why| {
            let key = &object.key;
            refused(format!("{key}: {why}. It is not whole: restore or delete it, then adopt again"))
        })?;
        found.push(Found { number, compression, object: object.clone(), contents, content });
    }
    if found.is_empty() {
        let error = anyhow::anyhow!("there are no files of rows below {folder}: is the id right?");
        return Err(Failure::new(Exit::NoInput, error));
    }
    found.sort_by_key(|file| file.number);
    Ok(found)
}

/// The seal of these files. What became of other records is not known: their counts are 0.
fn seal(args: &Args, schema: &Schema, found: Vec<Found>) -> Result<Seal, Failure> {
    let batch = args.batch;
    let wanted = schema.in_row().count();
    let compression = found.first().map_or(Compression::None, |file| file.compression);
    let (mut instance, mut files) = (args.instance.clone(), Vec::with_capacity(found.len()));
    let (mut first, mut last): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = (None, None);
    let checksums: Option<Vec<Content>> = found.iter().map(|file| file.content).collect();
    for Found { object, compression: this, contents, .. } in found {
        let key = &object.key;
        if this != compression {
            return Err(refused(format!(
                "{key} is not compressed as the files before it: one COPY cannot read both"
            )));
        }
        if contents.rows > 0 && contents.columns != wanted {
            let columns = contents.columns;
            return Err(refused(format!(
                "{key} has rows of {columns} columns, [schema] has {wanted}: adopt it with the configuration it was made with"
            )));
        }
        let other =
            contents.batch.iter().flat_map(|(low, high)| [low, high]).find(|id| **id != batch.to_string());
        if let Some(other) = other {
            let other = other.parse::<BatchId>().map_or_else(
                |_| format!("something that is no batch id ({} bytes)", other.len()),
                |other| format!("batch {other}"),
            );
            return Err(refused(format!("{key} has rows of {other}")));
        }
        if let (None, Some((name, _))) = (&instance, contents.instance) {
            instance = Instance::try_from(name).ok();
        }
        // As a producer believes them: one odd row must not make the batch overlap with all others.
        let time = |text: &str| ledger::moment(text).filter(|at| believed(*at, Utc::now()));
        let times = contents.received.map(|(low, high)| (time(&low), time(&high)));
        let (low, high) = times.unwrap_or_default();
        first = [first, low].into_iter().flatten().min();
        last = last.max(high);
        files.push(SealedFile {
            name: object.key.rsplit('/').next().unwrap_or_default().to_owned(),
            rows: contents.rows,
            bytes: contents.bytes,
            crc32: contents.crc32,
            etag: object.etag,
        });
    }
    let instance = match instance {
        Some(instance) => instance,
        None => {
            Instance::try_from("adopted".to_owned()).map_err(|error| Failure::new(Exit::Software, error))?
        }
    };
    let rows = files.iter().map(|file| file.rows).sum();
    Ok(Seal {
        format: SEAL_FORMAT,
        batch,
        instance,
        created: batch.opened_at(),
        sealed: Utc::now(),
        schema: schema.fingerprint(),
        columns: Some(schema.in_row().map(|column| column.name.clone()).collect()),
        compression,
        rows,
        bytes: files.iter().map(|file| file.bytes).sum(),
        files,
        first_received: first,
        last_received: last,
        counts: Counts { received: rows, rows, ..Counts::default() },
        content: checksums.map(Content::of_files),
        compared: None,
    })
}

/// The files that must have been before the last one that is there.
fn missing(seal: &Seal) -> Vec<String> {
    let there: Vec<u32> = seal.files.iter().filter_map(|file| Some(parse_file_name(&file.name)?.0)).collect();
    let last = there.last().copied().unwrap_or_default();
    let gone = (0..last).filter(|number| !there.contains(number));
    gone.map(|number| layout::file_name(number, seal.compression)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::folder::tests::seal;

    #[test]
    fn files_that_must_have_been_are_named() {
        let mut seal = seal();
        assert!(missing(&seal).is_empty());
        seal.files[1].name = "3.csv.zst".to_owned();
        assert_eq!(missing(&seal), ["1.csv.zst", "2.csv.zst"]);
    }
}
