//! Loads a batch whose COPY met a load error: finds the rows that Redshift refuses, puts them into quarantine, and loads the
//! others.

use shared::ids::BatchId;
use shared::layout;
use shared::object_store::ObjectStore;
use shared::seal::{Seal, SealedFile};
use state::loads::{ErrorClass, Refused};

use crate::failure::LoadFailure;
use crate::redshift::doing::Doing;
use crate::redshift::errors::OrLoadFailure;
use crate::redshift::ledger_lookup::{self, InLedger};
use crate::redshift::transaction::{Loaded, LoadedBatch, Loading, Part, load};
use crate::redshift::{Session, Target, redact};

use super::row_files::{RowFile, RowFiles};
use super::search::BadRowSearch;
use super::set::{Quarantine, Set};
use super::tidy::{LEFT_OVER, drop_scratch, tidy};
use super::trial::{How, Warehouse};

/// Loads the batch of `seal`, whose COPY met a load error, without the rows that are refused. Returns how the ledger has
/// it, how many rows the ledger counts in quarantine, and what Redshift said of the first.
///
/// On failure the batch is probably not loaded: Redshift refused too many rows, or Redshift or S3 failed. It is safe to
/// retry: nothing is loaded twice.
pub(crate) async fn load_good_rows(
    warehouse: Warehouse<'_>,
    store: &ObjectStore,
    quarantine: &Quarantine,
    seal: &Seal,
) -> Result<(LoadedBatch, u64, Option<Refused>), LoadFailure> {
    let (session, target) = (warehouse.session, &warehouse.target.for_rows_of(seal));
    let warehouse = Warehouse { target, ..warehouse };
    let id = ledger_id(session, target, seal).await?;
    let loaded = search_and_load(warehouse, store, quarantine, seal, id).await;
    if loaded.as_ref().is_err_and(|failure| failure.class == ErrorClass::Data) {
        drop_scratch(store, &quarantine.scratch(id)).await;
    }
    let (loaded, refused, first) = loaded?;
    match tidy(session, target, store, quarantine, loaded.entered).await {
        Ok(entry) => Ok((loaded, entry.map_or(refused, |entry| entry.rows), first)),
        // It is loaded all the same.
        Err(failure) => {
            tracing::warn!(batch = %seal.batch, "{LEFT_OVER}: {failure}");
            Ok((loaded, refused, first))
        }
    }
}

async fn ledger_id(session: &Session, target: &Target, seal: &Seal) -> Result<BatchId, LoadFailure> {
    let entries = ledger_lookup::fetch_entries(session, target, &[seal]).await.doing(Doing::ReadLedger)?;
    Ok(match ledger_lookup::find(seal, &entries) {
        InLedger::No => seal.batch,
        InLedger::Yes(row) => row.id,
        InLedger::Other(_) => ledger_lookup::derived_id(seal),
    })
}

async fn search_and_load(
    warehouse: Warehouse<'_>,
    store: &ObjectStore,
    quarantine: &Quarantine,
    seal: &Seal,
    id: BatchId,
) -> Result<(LoadedBatch, u64, Option<Refused>), LoadFailure> {
    let Warehouse { session, target, .. } = warehouse;
    let from = layout::folder(&target.to_ingest, seal.batch);
    let file = |SealedFile { name, rows, bytes, crc32, .. }: &SealedFile| RowFile {
        key: format!("{from}{name}"),
        rows: *rows,
        bytes: *bytes,
        crc32: Some(crc32.clone()),
    };
    let files = seal.files.iter().map(file).collect();
    let files = RowFiles::new(store, files, seal.compression, quarantine.scratch(id));
    let mut search = BadRowSearch::new(warehouse, files, Some(quarantine.max_share));
    let mut how = How::NoLoad;
    loop {
        search.search(how).await?;
        let bad_rows = search.bad_rows().await?;
        let mut told = None;
        let mut part = Part { id, ..Part::whole(seal.clone()) };
        if let Some(first) = bad_rows.1.first().cloned() {
            let columns = target.columns.clone();
            let mut set = Set::new(id, seal.schema.clone(), columns, seal.compression, bad_rows);
            // If the batch has a ledger row by now, the transaction names no set.
            match set.written_before(store, &quarantine.prefix).await? {
                Some(name) => set.name = name,
                None => set.put(store, &quarantine.prefix).await?,
            }
            let refused = set.description.rows;
            tracing::warn!(batch = %seal.batch, refused, rows = seal.rows, set = %set.name, file = first.file,
                row = first.row, column = first.column.as_deref(), reason = redact::reason(&first.reason),
                "Redshift refuses rows of the batch: they go into quarantine, the others are loaded");
            told = Some(Refused { column: first.column, reason: redact::reason(&first.reason) });
            part = Part { quarantined: refused, set: Some(set.name), ..part };
        }
        let quarantined = part.quarantined;
        let manifest = search.good_rows().await?;
        let loading = Loading { manifest, compression: seal.compression, parts: vec![part] };
        match load(session, target, &loading).await {
            // NOLOAD does not see everything that a load refuses.
            Err(failure) if failure.class == ErrorClass::Data && how == How::NoLoad => how = How::RolledBack,
            Err(failure) => return Err(failure),
            Ok(Loaded::Batches(loaded)) => {
                let before = || LoadedBatch::before(seal.batch, id, 0);
                return Ok((loaded.into_iter().next().unwrap_or_else(before), quarantined, told));
            }
            // Of a COPY of one batch, none is isolated.
            Ok(Loaded::Isolated(_)) => {
                return Err(LoadFailure::of_batch(ErrorClass::Passing, "it was to be loaded with others"));
            }
        }
    }
}
