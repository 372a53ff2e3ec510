//! The seal of a folder, made of its files.

use chrono::{DateTime, Utc};
use shared::blocking::blocking;
use shared::compress::decompress;
use shared::content::Content;
use shared::exit::{Exit, Failure};
use shared::ids::{BatchId, Instance};
use shared::layout::{self, Compression, parse_file_name};
use shared::object_store::{Object, ObjectStore};
use shared::schema::Schema;
use shared::seal::{Counts, SEAL_FORMAT, Seal, SealedFile, believed};

use crate::commands::connect::store_failed;
use crate::facts::rows::{self, Contents, Watched};
use crate::redshift::read_moment;

/// Bytes of a file, and of its rows if a checksum is made of them: both are held in memory.
const MAX_BYTES: u64 = 1 << 30;

/// What stands in S3 cannot become a batch.
pub(super) fn refused(why: String) -> Failure {
    Failure::new(Exit::Data, anyhow::anyhow!(why))
}

/// A file, its number in the batch, and its content.
pub(super) struct Found {
    number: u32,
    compression: Compression,
    object: Object,
    contents: Contents,
    /// Checksum of its rows, if memory could hold them.
    content: Option<Content>,
}

pub(super) async fn read_all(
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
        let content = store.get_at_most(&object.key, object.size).await.map_err(store_failed)?;
        let read = blocking(move || {
            let whole = decompress(&content, compression, MAX_BYTES);
            (rows::read(&content, compression, watched), whole.ok().map(|rows| Content::of_rows(&rows)))
        });
        let (contents, content) = read.await?;
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
pub(super) fn seal(
    batch: BatchId,
    named: Option<Instance>,
    schema: &Schema,
    found: Vec<Found>,
    now: DateTime<Utc>,
) -> Result<Seal, Failure> {
    let compression = found.first().map_or(Compression::None, |file| file.compression);
    let (mut instance, mut files) = (named, Vec::with_capacity(found.len()));
    let (mut first, mut last): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = (None, None);
    let checksums: Option<Vec<Content>> = found.iter().map(|file| file.content).collect();
    for Found { object, compression: this, contents, .. } in found {
        if let Some(why) = unfit(batch, schema, &contents, this == compression) {
            return Err(refused(format!("{} {why}", object.key)));
        }
        if let (None, Some((name, _))) = (&instance, contents.instance) {
            instance = Instance::try_from(name).ok();
        }
        // As a producer believes them: one odd row must not make the batch overlap with all others.
        let time = |text: &str| read_moment(text).filter(|at| believed(*at, now));
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
    let adopted = || Instance::try_from("adopted".to_owned());
    let instance = instance.map_or_else(adopted, Ok).map_err(|error| Failure::new(Exit::Software, error))?;
    let rows = files.iter().map(|file| file.rows).sum();
    Ok(Seal {
        format: SEAL_FORMAT,
        batch,
        instance,
        created: batch.opened_at(),
        sealed: now,
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
        pseudonym_key: None,
        forgotten: None,
    })
}

fn unfit(batch: BatchId, schema: &Schema, contents: &Contents, compressed_alike: bool) -> Option<String> {
    if !compressed_alike {
        return Some("is not compressed as the files before it: one COPY cannot read both".to_owned());
    }
    let (columns, wanted) = (contents.columns, schema.in_row().count());
    if contents.rows > 0 && columns != wanted {
        return Some(format!(
            "has rows of {columns} columns, [schema] has {wanted}: adopt it with the configuration it was made with"
        ));
    }
    let ids = contents.batch.iter().flat_map(|(low, high)| [low, high]);
    let other = ids.into_iter().find(|id| **id != batch.to_string())?;
    Some(match other.parse::<BatchId>() {
        Ok(other) => format!("has rows of batch {other}"),
        Err(_) => format!("has rows of something that is no batch id ({} bytes)", other.len()),
    })
}

/// The files that must have been before the last one that is there.
pub(super) fn missing(seal: &Seal) -> Vec<String> {
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
