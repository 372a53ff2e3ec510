//! Counts again what an audit compares: the objects and rows of a batch in S3, and its rows in the table.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use shared::ids::BatchId;
use shared::layout::{self, SEAL};
use shared::object_store::ObjectStoreError;
use shared::seal::{MAX_OBJECT_BYTES, Seal};

use crate::facts::batch::{Facts, InFolder, Place};
use crate::facts::faults::{is_unmarked, share_out};
use crate::facts::folder::{file_faults, get_if_there};
use crate::facts::gather::{Databases, Part, Seals, Sources};
use crate::facts::rows::{self, Watched};
use crate::failure::LoadFailure;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::table_counts::{self, KeyColumns};

pub(crate) struct Counter<'a> {
    pub sources: Sources<'a>,
    /// The columns of the table that tell its rows apart.
    pub key_columns: &'a KeyColumns,
    /// Whether every file is read.
    pub deep: bool,
}

impl Counter<'_> {
    /// All batches of a part of a day, or `only` these, with their rows in the table. S3 is read before the ledger: a
    /// batch leaves `to_ingest` only when the ledger has it.
    pub(crate) async fn batches(
        &self,
        part: Part,
        only: Option<&BTreeSet<BatchId>>,
    ) -> Result<Vec<Facts>, LoadFailure> {
        let sources = &self.sources;
        let mut batches = sources.batches(part, &Databases::default(), Seals::All(only)).await?;
        if let Some(column) = &self.key_columns.batch {
            let counts = table_counts::of_batches(sources.session, sources.target, column, part).await;
            let mut counts = counts.doing(Doing::Count)?;
            let rows = batches.values().filter_map(|facts| Some((facts.batch, facts.ledger.clone()?)));
            share_out(&mut counts, &rows.collect::<BTreeMap<_, _>>());
            for batch in counts.keys() {
                batches.entry(*batch).or_insert_with(|| Facts::nothing_of(*batch));
            }
            for (batch, facts) in &mut batches {
                facts.counts.table = Some(counts.get(batch).copied().unwrap_or_default());
            }
        }
        let wanted = |batch: &BatchId| {
            (part.0..part.1).contains(&batch.opened_at()) && only.is_none_or(|only| only.contains(batch))
        };
        Ok(batches.into_values().filter(|facts| wanted(&facts.batch)).collect())
    }

    pub(crate) async fn count(&self, mut facts: Facts) -> Result<Facts, LoadFailure> {
        let s3 = &self.sources.config.s3;
        let prefix = if facts.place() == Place::ToIngest { &s3.to_ingest } else { &s3.ingested };
        let folder = layout::folder(prefix, facts.batch);
        match facts.folder() {
            InFolder::Read(seal) => {
                let seal = seal.clone();
                facts.counts.objects = file_faults(self.sources.store, &folder, &seal).await?;
                if self.deep {
                    facts.counts.files = self.count_files(&folder, &seal).await?;
                }
            }
            // Without seal it is no batch yet; one that is archived or in the ledger had it.
            InFolder::NoSeal if facts.place() == Place::Ingested || facts.ledger.is_some() => {
                facts.counts.no_seal = Some(format!("{folder}{SEAL} is missing"));
            }
            _ => {}
        }
        if let (Some(row), Some(column)) = (&facts.ledger, &self.key_columns.batch) {
            let fingerprint = &self.sources.target.fingerprint;
            facts.counts.unmarked = is_unmarked(row, facts.folder().seal(), column, fingerprint);
        }
        if facts.quarantine.sets
            && let Some(set) = facts.ledger.as_ref().and_then(|row| row.set.as_deref())
        {
            facts.counts.quarantined = self.count_quarantined(facts.batch, set).await?;
        }
        Ok(facts)
    }

    /// Reads the files of a batch and counts their rows. Files that are missing or asleep are left out.
    async fn count_files(
        &self,
        folder: &str,
        seal: &Seal,
    ) -> Result<Vec<(String, Result<u64, String>)>, ObjectStoreError> {
        let mut files = Vec::new();
        for file in &seal.files {
            let key = format!("{folder}{}", file.name);
            let limit = file.bytes.min(MAX_OBJECT_BYTES);
            let counted = match self.sources.store.get_at_most(&key, limit).await {
                Ok(content) => {
                    let compression = seal.compression;
                    let read = move || rows::read(&content, compression, Watched::default());
                    let read = tokio::task::spawn_blocking(read).await.map_err(|fault| fault.to_string());
                    read.flatten().map(|contents| contents.rows)
                }
                Err(error) if error.is_too_large() => Err(error.to_string()),
                Err(error) if error.is_not_found() || error.is_in_archive() => continue,
                Err(error) => return Err(error),
            };
            files.push((file.name.clone(), counted));
        }
        Ok(files)
    }

    /// Rows of the quarantine's set that the ledger names, by its description; others are left-overs.
    async fn count_quarantined(&self, batch: BatchId, set: &str) -> Result<u64, ObjectStoreError> {
        #[derive(Deserialize)]
        struct Description {
            rows: u64,
        }
        let folder = layout::folder(&self.sources.config.s3.quarantine, batch);
        let json = get_if_there(self.sources.store, &format!("{folder}{set}/quarantine.json")).await?;
        let set = json.and_then(|json| serde_json::from_slice::<Description>(&json).ok());
        Ok(set.map_or(0, |set| set.rows))
    }
}
