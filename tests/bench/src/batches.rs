//! Batches as the producer publishes them, written straight into the folder of the S3 stand-in.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use shared::config::{Config, Secrets};
use shared::content::Content;
use shared::ids::{BatchId, Instance};
use shared::layout::{self, Compression, MANIFEST, SEAL};
use shared::object_store::{ObjectStore, crc32};
use shared::seal::{Compared, Counts, Manifest, SEAL_FORMAT, Seal, SealedFile};

/// A batch that is to be written.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The rows of each file, and how many they are.
    pub files: Vec<(&'a [u8], u64)>,
    /// Fingerprint of the columns its rows were made for.
    pub schema: &'a str,
    /// First and last time of its rows.
    pub received: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// What its rows were compared with.
    pub compared: Compared,
}

/// Writes it into the folder of the bucket with this name; the seal lacks the `ETag`s, which [`note_etags`] adds.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder_of_bucket: &Path, bucket: &str, batch: &Batch<'_>) -> anyhow::Result<BatchId> {
    let id = BatchId::new();
    let key = layout::folder("ToIngest/", id);
    let folder = folder_of_bucket.join(&key);
    fs::create_dir_all(&folder)?;
    let mut files = Vec::new();
    for (number, (rows, count)) in (0..).zip(&batch.files) {
        let name = layout::file_name(number, Compression::None);
        fs::write(folder.join(&name), rows)?;
        files.push(SealedFile {
            name,
            rows: *count,
            bytes: rows.len() as u64,
            crc32: crc32(rows),
            etag: String::new(),
        });
    }
    let keys: Vec<String> = files.iter().map(|file| format!("{key}{}", file.name)).collect();
    let manifest = Manifest::of(bucket, keys.iter().map(String::as_str));
    fs::write(folder.join(MANIFEST), serde_json::to_vec(&manifest)?)?;
    let rows = files.iter().map(|file| file.rows).sum();
    let seal = Seal {
        format: SEAL_FORMAT,
        batch: id,
        instance: Instance::try_from("bench".to_owned())?,
        created: Utc::now(),
        sealed: Utc::now(),
        schema: batch.schema.to_owned(),
        pseudonym_key: None,
        forgotten: None,
        columns: None,
        compression: Compression::None,
        rows,
        bytes: files.iter().map(|file| file.bytes).sum(),
        files,
        first_received: batch.received.map(|(first, _)| first),
        last_received: batch.received.map(|(_, last)| last),
        counts: Counts { received: rows, rows, ..Counts::default() },
        content: Some(Content::of_files(batch.files.iter().map(|(rows, _)| Content::of_rows(rows)))),
        compared: Some(batch.compared.clone()),
    };
    fs::write(folder.join(SEAL), serde_json::to_vec(&seal)?)?;
    Ok(id)
}

/// Puts the `ETag`s into the seals, as the producer does, which has them from the answers to its uploads.
///
/// # Errors
/// When the stand-in does not answer, or a seal cannot be read.
pub async fn note_etags(config: &Path, bucket: &Path) -> anyhow::Result<()> {
    let config = Config::load(config, Secrets::Ingester)?;
    let objects = ObjectStore::connect(&config.s3).await.list("ToIngest/", None).await?;
    let etags: HashMap<&str, &str> =
        objects.iter().map(|object| (object.key.as_str(), object.etag.as_str())).collect();
    for key in etags.keys().filter(|key| key.ends_with(SEAL)) {
        let path = bucket.join(key);
        let mut seal: Seal = serde_json::from_slice(&fs::read(&path)?)?;
        let folder = key.trim_end_matches(SEAL);
        for file in &mut seal.files {
            let etag = etags.get(format!("{folder}{}", file.name).as_str());
            file.etag = (*etag.with_context(|| format!("{key}: no object {}", file.name))?).to_owned();
        }
        fs::write(path, serde_json::to_vec(&seal)?)?;
    }
    Ok(())
}
